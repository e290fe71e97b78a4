//! What the admin listener shows and does. The numbers' exposition is in [`super::numbers`].

mod boxes;
mod certificates;
mod postgres;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outgrow_admin::{
    Action, ActionProblem, ActionReport, AdminPlan, AdminSocket, MetricFamily, PromoteRequest,
    Readiness, Source,
};
use outgrow_core::Snapshot;
use outgrow_core::settings::Name;
use outgrow_edge::{RecordWriter, Shared};
use outgrow_fleet::protocol::InstanceState;
use outgrow_postgres::promotion::Told;
use outgrow_tls::{ServerTls, Staples};
use outgrow_upstream::{Registry, ServiceState};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::control::{Parts, Request};
use super::discover::{self, Discoveries};
use super::http3::Http3;
use super::instances::{DeployView, Instances, Known};
use super::leader::LeaderView;
use super::measure::{self, MachineUsed, Measurements, Used};
use super::readiness::NodeReadiness;
use super::register::{self, Registrations};
use super::{acme, listeners, log, numbers, resources};

/// How long answers of the admin listener may take when this process is about to end.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// How long an action may take before the one who asked is told that it goes on without them.
const PATIENCE: Duration = Duration::from_secs(120);

/// One instance with what it uses.
#[derive(Clone, Debug)]
pub(super) struct InstanceView {
    pub(super) known: Known,
    pub(super) used: Option<Used>,
}

/// The state that the admin listener reads.
pub(super) struct View {
    pub(super) shared: Arc<Shared>,
    pub(super) http3: Http3,
    pub(super) registry: Arc<Registry>,
    pub(super) records: Arc<RecordWriter>,
    asks: mpsc::Sender<Request>,
    plan: Arc<Snapshot<AdminPlan>>,
    instances: Mutex<Vec<Known>>,
    pub(super) measured: Mutex<Measurements>,
    deploys: Mutex<BTreeMap<String, DeployView>>,
    discoveries: Arc<Mutex<Discoveries>>,
    registrations: Arc<Mutex<Registrations>>,
    leader: Mutex<Option<LeaderView>>,
    certificates: Mutex<BTreeMap<Name, Arc<ServerTls>>>,
    acme: acme::Views,
    staples: Arc<Staples>,
    postgres: Mutex<Option<Arc<outgrow_postgres::Shared>>>,
    streams: Mutex<Option<Arc<outgrow_stream::Shared>>>,
    promotions: Mutex<BTreeMap<String, Told>>,
    box_name: String,
    readiness: NodeReadiness,
    pub(super) reloads: AtomicU64,
    pub(super) refused_reloads: AtomicU64,
    generation: u64,
    keeper: u32,
    data_restarts: u32,
    serving: Mutex<Option<Serving>>,
}

/// The admin listener under way.
struct Serving {
    address: String,
    /// Dropped to end it: exchanges under way still end.
    until: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl View {
    /// The state of a process that starts.
    pub(super) fn new(
        parts: &Parts,
        asks: mpsc::Sender<Request>,
        sources: (Arc<Mutex<Discoveries>>, Arc<Mutex<Registrations>>),
        acme: acme::Views,
    ) -> Arc<Self> {
        let (discoveries, registrations) = sources;
        let view = Arc::new(Self {
            shared: Arc::clone(&parts.edge.shared),
            http3: parts.http3.clone(),
            registry: Arc::clone(&parts.registry),
            records: Arc::clone(&parts.records),
            asks,
            plan: Arc::new(Snapshot::new(AdminPlan::new(&parts.config.admin))),
            instances: Mutex::default(),
            measured: Mutex::default(),
            deploys: Mutex::default(),
            discoveries,
            registrations,
            leader: Mutex::default(),
            certificates: Mutex::default(),
            acme,
            staples: Arc::clone(&parts.staples),
            postgres: Mutex::default(),
            streams: Mutex::default(),
            promotions: Mutex::default(),
            box_name: parts.box_name.clone(),
            readiness: NodeReadiness::new(&parts.config),
            reloads: AtomicU64::new(0),
            refused_reloads: AtomicU64::new(0),
            generation: parts.hello.generation,
            keeper: parts.hello.keeper,
            data_restarts: parts.hello.data_restarts,
            serving: Mutex::default(),
        });
        tokio::spawn(measure::measure(Arc::clone(&view)));
        view
    }

    /// Brings the listener to what the configuration says.
    pub(super) fn serve(self: &Arc<Self>, parts: &Parts) -> Result<(), String> {
        self.plan
            .publish(Arc::new(AdminPlan::new(&parts.config.admin)));
        let address = parts.config.admin.listen.address().map(ToString::to_string);
        let mut serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        if serving.as_ref().map(|serving| &serving.address) == address.as_ref() {
            return Ok(());
        }
        // Dropping the sender ends the listener that was there.
        *serving = None;
        let Some(address) = address else {
            return Ok(());
        };
        let copies = parts.sockets.copies(&listeners::admin_key(&address));
        let copies = copies.map_err(|error| format!("admin listener: {error}"))?;
        let sockets: Result<Vec<AdminSocket>, _> =
            copies.into_iter().map(AdminSocket::from_fd).collect();
        let sockets = sockets.map_err(|problem| problem.to_string())?;
        let (until, ended) = oneshot::channel();
        let source: Arc<dyn Source> = Arc::clone(self) as _;
        let plan = Arc::clone(&self.plan);
        let task = tokio::spawn(outgrow_admin::serve(sockets, plan, source, async {
            let _ = ended.await;
        }));
        *serving = Some(Serving {
            address,
            until: Some(until),
            task,
        });
        Ok(())
    }

    /// Whether the admin listener takes connections from the sockets of this key.
    pub(super) fn serves(&self, key: &str) -> bool {
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        let mut serving = serving.iter();
        serving.any(|serving| listeners::admin_key(&serving.address) == key)
    }

    /// Takes no more connections at the admin listener: the next data process does.
    pub(super) fn stop_serving(&self) {
        let mut serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(serving) = serving.as_mut() {
            serving.until = None;
        }
    }

    /// Ends the admin listener when everybody who asked has their answer: who asked for the
    /// upgrade or the stop that ends this process is one of them.
    pub(super) async fn finish_serving(&self) {
        let serving = self
            .serving
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(Serving { until, task, .. }) = serving else {
            return;
        };
        drop(until);
        // Whoever does not take the answer is left.
        let _ = tokio::time::timeout(LAST_ANSWERS, task).await;
    }

    /// Shows these instances.
    pub(super) fn set_instances(&self, instances: &Instances) {
        *self.deploys.lock().unwrap_or_else(PoisonError::into_inner) = instances.standings();
        *self
            .instances
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = instances.all().cloned().collect();
    }

    /// Shows the stream tier from now on.
    pub(super) fn set_streams(&self, shared: Option<Arc<outgrow_stream::Shared>>) {
        *self.streams.lock().unwrap_or_else(PoisonError::into_inner) = shared;
    }

    /// The stream tier, once it was wanted.
    pub(super) fn streams(&self) -> Option<Arc<outgrow_stream::Shared>> {
        let streams = self.streams.lock();
        streams.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `/readyz` fails from now on.
    pub(super) fn set_draining(&self, draining: bool) {
        self.readiness.set_draining(draining);
    }

    /// Takes note of services that have started.
    pub(super) fn note_started(&self) {
        self.readiness.note_started(&self.registry);
    }

    /// Counts a reload.
    pub(super) fn count_reload(&self, done: bool) {
        let counter = if done {
            &self.reloads
        } else {
            &self.refused_reloads
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The instances as they are now.
    pub(super) fn instances(&self) -> Vec<InstanceView> {
        let known = self
            .instances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let view = |known: Known| InstanceView {
            used: known.report.shim.and_then(|shim| measured.of(shim)),
            known,
        };
        known.into_iter().map(view).collect()
    }

    /// What the machine does.
    pub(super) fn machine(&self) -> Option<MachineUsed> {
        self.measured
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .machine()
    }

    /// What can be told of the sources of endpoints, by service.
    pub(super) fn discoveries(&self) -> BTreeMap<String, outgrow_discover::State> {
        self.discoveries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .states(self.shared.clock.now())
    }

    fn ask(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<String, String>>) -> Request,
    ) -> Action<'_> {
        self.ask_for(make, ActionReport::new)
    }

    /// Asks the control loop; what it answers is made a report.
    fn ask_for<A: Send + 'static>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<A, String>>) -> Request,
        report: fn(A) -> ActionReport,
    ) -> Action<'_> {
        let (answer, answered) = oneshot::channel();
        let request = make(answer);
        let asks = self.asks.clone();
        Box::pin(async move {
            let gone = || ActionProblem::Failed("the control loop has ended".to_owned());
            asks.send(request).await.map_err(|_| gone())?;
            match tokio::time::timeout(PATIENCE, answered).await {
                Ok(Ok(Ok(answer))) => Ok(report(answer)),
                Ok(Ok(Err(problem))) => {
                    let mut lines = problem.lines().map(str::to_owned);
                    let message = lines.next().unwrap_or_default();
                    Err(ActionProblem::Refused {
                        message,
                        details: lines.collect(),
                    })
                }
                Ok(Err(_)) => Err(gone()),
                Err(_) => Err(ActionProblem::Failed(
                    "it takes long; see the log".to_owned(),
                )),
            }
        })
    }
}

impl Source for View {
    fn ready(&self) -> Readiness {
        let services = self.registry.services();
        let ready = self.readiness.of(&services, self.shared.clock.now());
        self.without_certificates(ready)
    }

    fn families(&self) -> Vec<MetricFamily> {
        numbers::families(self)
    }

    fn state(&self) -> Value {
        let now = self.shared.clock.now();
        let deploys = self
            .deploys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let (discoveries, registrations) = (self.discoveries(), self.registrations());
        let leader = self.leader().map(|(_, told)| told);
        let states = self.registry.state(now);
        let (views, machine) = (self.instances(), self.machine());
        let services: Vec<Value> = states
            .iter()
            .map(|state| {
                let name = &state.name;
                let mut told = service(state, deploys.get(name), discoveries.get(name));
                told["registration"] = registrations.get(name).map(register::told).into();
                told["room"] = resources::service_room(name, machine.as_ref(), &views);
                told
            })
            .collect();
        let instances: Vec<Value> = views.iter().map(instance).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "box": self.box_name,
            "leader": leader,
            "keeper": { "pid": self.keeper, "data_restarts": self.data_restarts },
            "data": {
                "pid": std::process::id(),
                "generation": self.generation,
                "workers": self.shared.loads.len(),
                "connections": self.shared.connections(),
                "draining": self.readiness.is_draining(),
                "buffer_bytes": self.shared.ledger.used_bytes(),
                "plan_epoch": self.shared.plan.epoch(),
                "reloads": self.reloads.load(Ordering::Relaxed),
                "refused_reloads": self.refused_reloads.load(Ordering::Relaxed),
                "uptime_ms": now.0 / 1_000_000,
            },
            "machine": resources::machine(machine.as_ref(), &views),
            "services": services,
            "instances": instances,
            "routes": numbers::routes(self),
            "certificates": self.certificates_state(),
            "ocsp": self.ocsp_state(),
            "tcp": numbers::streams::state(self.streams().as_deref()),
            "udp": numbers::datagrams::state(self.streams().as_deref()),
            "postgres": self.postgres_state(),
        })
    }

    fn endpoints(&self, name: &str) -> Option<Value> {
        let state = self.registry.service(name)?.state(self.shared.clock.now());
        Some(discover::look_up(&state))
    }

    fn leader(&self) -> Option<(bool, Value)> {
        self.leader_told()
    }

    fn reload(&self) -> Action<'_> {
        self.ask(Request::Reload)
    }

    fn upgrade(&self, binary: Option<PathBuf>) -> Action<'_> {
        log::info("an upgrade is asked for");
        self.ask(move |answer| Request::Upgrade(binary, answer))
    }

    fn deploy(&self, service: String) -> Action<'_> {
        self.ask(move |answer| Request::Deploy(service, answer))
    }

    fn promote(&self, request: PromoteRequest) -> Action<'_> {
        if !request.dry_run {
            log::info("a promotion is asked for");
        }
        self.ask_for(
            move |answer| Request::Promote(request, answer),
            |(message, begun)| {
                let report = ActionReport::new(message);
                match begun {
                    None => report,
                    Some((service, number)) => {
                        report.with_details(json!({ "service": service, "number": number }))
                    }
                }
            },
        )
    }

    fn stop(&self) -> Action<'_> {
        self.ask(Request::Stop)
    }
}

fn service(
    state: &ServiceState,
    deploy: Option<&DeployView>,
    discovery: Option<&outgrow_discover::State>,
) -> Value {
    let endpoints: Vec<Value> = state
        .endpoints
        .iter()
        .map(|endpoint| {
            json!({
                "address": endpoint.address,
                "instance": endpoint.instance,
                "weight": endpoint.weight,
                "reported_weight": endpoint.reported_weight,
                "health": endpoint.health,
                "reason": endpoint.reason,
                "usable": endpoint.usable,
                "ejected_for_ms": endpoint.ejected_for.map(|time| time.as_millis() as u64),
                "ejected_because": endpoint.ejected_because,
                "active": endpoint.active,
                "limit": endpoint.limit,
                "requests": endpoint.requests,
                "failures": endpoint.failures,
                "ejections": endpoint.ejections,
                "connects": endpoint.connects,
                "idle": endpoint.idle,
            })
        })
        .collect();
    json!({
        "name": state.name,
        "balance": state.balance,
        "panic": state.panic,
        "deploy": deploy.map(|deploy| json!({
            "state": deploy.word,
            "ready": deploy.ready,
            "old": deploy.old,
            "count": deploy.count,
            "revision": deploy.revision,
        })),
        "advice": state.advice,
        "unevenness": state.unevenness(),
        "queue": state.queue,
        "queue_limit": state.queue_limit,
        "discovery": discovery.map(discover::told),
        "endpoints": endpoints,
    })
}

/// An instance's state in one word, with the word for ready, which only the checks know.
pub(super) fn word(known: &Known) -> &'static str {
    match &known.report.state {
        InstanceState::Running if known.ready => "ready",
        InstanceState::Running => "running",
        InstanceState::Starting => "starting",
        InstanceState::Stopping => "stopping",
        InstanceState::Exited { .. } => "exited",
        InstanceState::Backoff { .. } => "backoff",
        InstanceState::CrashLoop { .. } => "crash_loop",
        InstanceState::Stopped => "stopped",
        InstanceState::Unknown => "unknown",
    }
}

fn instance(view: &InstanceView) -> Value {
    let report = &view.known.report;
    let delay = match &report.state {
        InstanceState::Backoff { delay_ms } | InstanceState::CrashLoop { delay_ms } => {
            Some(*delay_ms)
        }
        _ => None,
    };
    json!({
        "name": report.spec.name,
        "service": report.spec.service,
        "state": word(&view.known),
        "restart_delay_ms": delay,
        "restart_held": view.known.held,
        "address": report.address,
        "pid": report.pid,
        "restarts": report.restarts,
        "last_exit": report.last_exit,
        "cpu_ms": view.used.map(|used| used.resources.cpu.as_millis() as u64),
        "cpu_cores": view.used.and_then(|used| used.cpu_thousandths).map(|cpu| cpu as f64 / 1e3),
        "memory_bytes": view.used.map(|used| used.resources.resident_bytes),
        "processes": view.used.map(|used| used.resources.processes),
        "limits": resources::limits(view),
    })
}
