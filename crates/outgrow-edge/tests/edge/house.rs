//! An edge in this process, with one worker, one listener and one endpoint, for tests that talk to
//! it over loopback.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use outgrow_core::settings::{Address, Network};
use outgrow_core::{Clock, Snapshot};
use outgrow_edge::backend::{Backend, Backends};
use outgrow_edge::rewrite::Rewrite;
use outgrow_edge::router::Routers;
use outgrow_edge::settings::{AccessFormat, HeaderEdits, ListenerTimeouts, RouteSettings, SplitBy};
use outgrow_edge::split::Split;
use outgrow_edge::{
    Action, Drain, Edge, Edits, ListenerPlan, Picking, Plan, RecordWriter, RoutePlan, Shared,
};
use outgrow_http::h1::Limits;
use outgrow_message::Ledger;
use outgrow_upstream::settings::{Endpoint, OutlierSettings, ServiceSettings, ServiceTimeouts};
use outgrow_upstream::{Registry, Service};

/// What a test may want otherwise than usual.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) limits: Limits,
    pub(crate) timeouts: ListenerTimeouts,
    pub(crate) service_timeouts: ServiceTimeouts,
    pub(crate) idempotency_key: bool,
    pub(crate) body_limit: Option<u64>,
    pub(crate) memory_bytes: u64,
    /// Most requests in flight at the endpoint.
    pub(crate) max_connections: u32,
    /// Whether access records are made.
    pub(crate) records: bool,
    /// Whether HTTP/2 is spoken, by prior knowledge.
    pub(crate) http2: bool,
    /// Whose word about the client is taken.
    pub(crate) trusted: Vec<Network>,
    /// The Host that endpoints are told.
    pub(crate) set_host: Option<&'static str>,
    /// The route answers itself, with this status.
    pub(crate) status: Option<u16>,
    /// What the route matches and rewrites, and by what it splits.
    pub(crate) route: RouteSettings,
}

impl Options {
    fn edits(&self) -> Edits {
        let set = self.set_host.map(|host| {
            let name = "Host".parse().expect("a field name");
            (name, host.parse().expect("a field value"))
        });
        Edits::new(&HeaderEdits {
            set: set.into_iter().collect(),
            ..HeaderEdits::default()
        })
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            timeouts: ListenerTimeouts::default(),
            service_timeouts: ServiceTimeouts::default(),
            idempotency_key: false,
            body_limit: None,
            memory_bytes: 256 * 1024 * 1024,
            max_connections: 1_024,
            records: true,
            http2: false,
            trusted: Vec::new(),
            set_host: None,
            status: None,
            route: RouteSettings::default(),
        }
    }
}

/// The running edge. Its worker ends when it is dropped.
pub(crate) struct House {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    pub(crate) shared: Arc<Shared>,
    service: Arc<Service>,
    records: Arc<Mutex<Vec<u8>>>,
    edge: Option<Edge>,
    control: tokio::runtime::Runtime,
}

impl House {
    /// Starts an edge that sends everything to `endpoints`.
    pub(crate) fn start(endpoints: &[SocketAddr], options: &Options) -> io::Result<Self> {
        let tcp = |address: &SocketAddr| Address::tcp(address.ip().to_string(), address.port());
        Self::start_at(endpoints.iter().map(tcp).collect(), options)
    }

    /// The same for addresses of any kind.
    pub(crate) fn start_at(endpoints: Vec<Address>, options: &Options) -> io::Result<Self> {
        let control = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let clock = Clock::start();
        let ledger = Ledger::new(options.memory_bytes);
        let shared = Shared::new(clock, Arc::clone(&ledger), 1);
        let registry = Arc::new(Registry::new(1));
        registry.apply(&services(endpoints, options), clock.now());
        let service = registry.service("app").expect("it was just made");
        let backend = || {
            let (service, timeouts) = (Arc::clone(&service), options.service_timeouts.clone());
            Backend::new(service, timeouts, Picking::default(), 1)
        };
        let forward = || {
            Action::Forward(match options.route.split_by.clone() {
                SplitBy::Random => Backends::one(backend()),
                by @ SplitBy::Key(_) => {
                    Backends::several(vec![backend(), backend()], Split::new(by, [1, 1]))
                }
            })
        };
        let respond = |status| Action::Respond {
            status,
            body: Vec::new(),
            fields: Vec::new(),
        };
        let action = options.status.map_or_else(forward, respond);
        let route = RoutePlan {
            body_rate: None,
            send_rate: None,
            name: "app".into(),
            action,
            rewrite: Rewrite::new(&options.route),
            mirror: None,
            request_edits: options.edits(),
            response_edits: Edits::default(),
            idempotency_key: options.idempotency_key,
            grpc_web: false,
            body_limit: options.body_limit,
            error_pages: outgrow_edge::pages::Pages::default(),
            decompress: None,
            compress: None,
            cells: shared.metrics.route("app"),
        };
        let plan = Plan {
            routers: Routers::compile([&options.route]),
            routes: vec![Arc::new(route)],
        };
        shared.plan.publish(Arc::new(plan));
        let records = RecordWriter::start()?;
        let kept: Arc<Mutex<Vec<u8>>> = Arc::default();
        if options.records {
            let keep = Keep(Arc::clone(&kept));
            records.direct(Some(Box::new(keep)), AccessFormat::Json);
        }
        let edge = Edge::start(Arc::clone(&shared), &registry, &records)?;
        let socket = TcpListener::bind(("127.0.0.1", 0))?;
        let address = socket.local_addr()?;
        let listener = listener(options, &shared);
        let slot = Arc::new(Snapshot::new(listener));
        control.block_on(edge.listen("main", vec![OwnedFd::from(socket)], &slot));
        Ok(Self {
            address,
            shared,
            service,
            records: kept,
            edge: Some(edge),
            control,
        })
    }

    /// Everything is to end within so long.
    pub(crate) fn drain(&self, within: Duration) {
        let until = self.shared.clock.now() + within;
        if let Some(edge) = &self.edge {
            self.control.block_on(edge.drain(Drain::Now, until));
        }
    }

    /// Upgraded connections: open, all, told their end.
    pub(crate) fn upgraded(&self) -> (i64, u64, u64) {
        let cells = self.shared.metrics.route("app");
        let cells = &cells.of(0).tunnels;
        (cells.open.get(), cells.begun.get(), cells.told.get())
    }

    /// Bytes that are in buffers now.
    pub(crate) fn buffered_bytes(&self) -> u64 {
        self.shared.ledger.used_bytes()
    }

    /// How often each reason occurred.
    pub(crate) fn faults(&self) -> BTreeMap<&'static str, u64> {
        let cells = self.shared.metrics.worker[0].faults();
        cells
            .filter(|(_, count)| *count > 0)
            .map(|(cause, count)| (cause.reason(), count))
            .collect()
    }

    /// Failures that count against the endpoints.
    pub(crate) fn failures(&self) -> u64 {
        let endpoints = self.service.endpoints().load();
        endpoints.all.iter().map(|one| one.failures()).sum()
    }

    /// The access records, once there are so many.
    pub(crate) fn records(&self, count: usize) -> Vec<String> {
        let read = || {
            let bytes = self.records.lock().expect("nobody panicked");
            let text = String::from_utf8_lossy(&bytes).into_owned();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        wait(|| read().len() >= count);
        read()
    }

    /// Waits until so many bytes are in buffers; false when there never are.
    pub(crate) fn becomes_full(&self, bytes: u64) -> bool {
        wait(|| self.buffered_bytes() >= bytes)
    }

    /// Waits until no client is connected.
    pub(crate) fn becomes_lonely(&self) -> bool {
        wait(|| self.shared.connections() == 0)
    }

    /// Waits until a reason has occurred so often.
    pub(crate) fn becomes_faulty(&self, reason: &str, count: u64) -> bool {
        wait(|| self.faults().get(reason) == Some(&count))
    }

    /// Waits until a reason has occurred at least so often.
    pub(crate) fn becomes_at_least(&self, reason: &str, count: u64) -> bool {
        wait(|| self.faults().get(reason).is_some_and(|&seen| seen >= count))
    }

    /// Tasks that panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.shared.metrics.worker[0].panics.get()
    }

    /// Waits until nothing is buffered any more; false when something stays.
    pub(crate) fn becomes_empty(&self) -> bool {
        wait(|| self.buffered_bytes() == 0)
    }
}

/// Waits for what the worker's thread is about to do; false when it does not.
fn wait(mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

/// Keeps the newest records.
struct Keep(Arc<Mutex<Vec<u8>>>);

impl io::Write for Keep {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        const MOST_BYTES: usize = 1 << 20;
        let mut kept = self.0.lock().map_err(|_| io::Error::other("poisoned"))?;
        if kept.len() > MOST_BYTES {
            kept.clear();
        }
        kept.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(edge) = self.edge.take() {
            self.control.block_on(edge.end());
        }
    }
}

fn services(endpoints: Vec<Address>, options: &Options) -> BTreeMap<String, ServiceSettings> {
    let endpoints = endpoints.into_iter().map(Endpoint::at);
    let settings = ServiceSettings {
        endpoints: endpoints.collect(),
        max_connections: options.max_connections,
        timeouts: options.service_timeouts.clone(),
        // A test that provokes failures wants to see each of them.
        outlier: OutlierSettings {
            consecutive_failures: 0,
            ..OutlierSettings::default()
        },
        ..ServiceSettings::default()
    };
    BTreeMap::from([("app".to_owned(), settings)])
}

fn listener(options: &Options, shared: &Shared) -> ListenerPlan {
    ListenerPlan {
        alt_svc: Arc::default(),
        #[cfg(feature = "http3")]
        http3: None,
        accept_proxy: outgrow_net::proxy_header::AcceptProxy::Off,
        name: "main".to_owned(),
        limits: options.limits,
        timeouts: options.timeouts.clone(),
        max_connections: 10_000,
        body_limit: None,
        http1: true,
        http2: options.http2,
        trusted: options.trusted.clone(),
        tls: None,
        client_facts: Vec::new(),
        hsts: None,
        https_port: None,
        error_pages: outgrow_edge::pages::Pages::default(),
        metrics: shared.metrics.listener("main"),
    }
}
