//! The stream tier of this process: from the configuration to its plan, its listeners, its life.

use std::collections::BTreeMap;
use std::sync::Arc;

use outgrow_core::settings::Name;
use outgrow_core::{Clock, Snapshot};
use outgrow_edge::settings::AccessFormat;
use outgrow_edge::{RecordSink, RecordWriter};
use outgrow_message::Ledger;
use outgrow_stream::hello::{Asked, Routes};
use outgrow_stream::settings::{EndpointDown, TcpSettings, UdpSettings};
use outgrow_stream::udp::sessions::Limits;
use outgrow_stream::{
    ListenerPlan, ListenerSlot, Record, Records, Shared, Streams, Target, UdpPlan,
};
use outgrow_upstream::Registry;

use super::listeners::{Sockets, tcp_key, udp_key};
use crate::config::Config;

/// The tier, once it was wanted.
#[derive(Debug, Default)]
pub(super) struct Tier {
    running: Option<Streams>,
    slots: BTreeMap<String, ListenerSlot>,
    lines: Option<Arc<Lines>>,
    /// Whether connections end with their endpoint somewhere, or did: they keep their listener's plan.
    resets: bool,
}

/// The records of connections, among those of requests.
#[derive(Debug)]
struct Lines {
    /// One for each worker.
    sinks: Box<[RecordSink]>,
}

impl Records for Lines {
    fn is_on(&self) -> bool {
        self.sinks.first().is_some_and(RecordSink::is_on)
    }

    fn put(&self, worker: usize, record: &Record<'_>) {
        let sink = &self.sinks[worker % self.sinks.len()];
        sink.put_line(|format, line| match format {
            AccessFormat::Text => record.write_text(line),
            AccessFormat::Json => record.write_json(line),
        });
    }
}

/// What the tier has of the process.
pub(super) struct Surroundings<'a> {
    pub(super) registry: &'a Registry,
    pub(super) sockets: &'a Sockets,
    pub(super) ledger: &'a Arc<Ledger>,
    pub(super) records: &'a Arc<RecordWriter>,
    pub(super) clock: Clock,
    pub(super) workers: usize,
}

impl Tier {
    /// Brings it to what is configured. The registry must know the services already.
    pub(super) async fn apply(
        &mut self,
        config: &Config,
        around: Surroundings<'_>,
    ) -> Result<(), String> {
        let is_wanted = !config.tcp.is_empty() || !config.udp.is_empty();
        if self.running.is_none() && is_wanted {
            self.start(&around)?;
        }
        let Some(running) = &self.running else {
            return Ok(());
        };
        let mut listeners = config.tcp.values();
        self.resets |= listeners.any(|one| one.endpoint_down == EndpointDown::Reset);
        let shared = &running.shared;
        let mut wanted = Vec::new();
        let mut problems = Vec::new();
        for (name, settings) in &config.tcp {
            let key = tcp_key(&settings.address.to_string());
            let plan = listener(name, settings, config, shared, around.registry);
            if let Some(ListenerSlot::Tcp(slot)) = self.slots.get(&key) {
                slot.publish(Arc::new(plan));
            } else {
                let slot = ListenerSlot::Tcp(Arc::new(Snapshot::new(plan)));
                match listen(running, around.sockets, &key, &slot).await {
                    Ok(()) => _ = self.slots.insert(key.clone(), slot),
                    Err(problem) => problems.push(problem),
                }
            }
            wanted.push(key);
        }
        for (name, settings) in &config.udp {
            let key = udp_key(&settings.address.to_string());
            let plan = datagrams(name, settings, config, shared, around.registry);
            if let Some(ListenerSlot::Udp(slot)) = self.slots.get(&key) {
                slot.publish(Arc::new(plan));
            } else {
                let slot = ListenerSlot::Udp(Arc::new(Snapshot::new(plan)));
                match listen(running, around.sockets, &key, &slot).await {
                    Ok(()) => _ = self.slots.insert(key.clone(), slot),
                    Err(problem) => problems.push(problem),
                }
            }
            wanted.push(key);
        }
        let gone: Vec<String> = self.slots.keys().cloned().collect();
        for key in gone.into_iter().filter(|key| !wanted.contains(key)) {
            running.unlisten(&key).await;
            self.slots.remove(&key);
        }
        let is_kept = |name: &str| config.tcp.keys().any(|known| known.as_str() == name);
        shared.metrics.retire(&is_kept);
        let is_kept = |name: &str| config.udp.keys().any(|known| known.as_str() == name);
        shared.datagrams.retire(&is_kept);
        match problems.is_empty() {
            true => Ok(()),
            false => Err(problems.join("\n")),
        }
    }

    fn start(&mut self, around: &Surroundings<'_>) -> Result<(), String> {
        let shared = Shared::new(around.clock, Arc::clone(around.ledger), around.workers);
        let sinks = (0..around.workers).map(|_| RecordSink::new(Arc::clone(around.records)));
        let lines = Arc::new(Lines {
            sinks: sinks.collect(),
        });
        shared.set_records(Arc::clone(&lines) as Arc<dyn Records>);
        let running = Streams::start(shared);
        self.running = Some(running.map_err(|error| format!("no thread: {error}"))?);
        self.lines = Some(lines);
        Ok(())
    }

    /// Whether its workers accept from the sockets of this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.slots.contains_key(key)
    }

    /// What can be told of it, once it was wanted.
    pub(super) fn shared(&self) -> Option<Arc<Shared>> {
        let running = self.running.as_ref()?;
        Some(Arc::clone(&running.shared))
    }

    /// Connections that are open.
    pub(super) fn connections(&self) -> usize {
        let running = self.running.as_ref();
        running.map_or(0, |running| running.shared.connections())
    }

    /// Has connections look whether their endpoint is down.
    pub(super) async fn look_at_endpoints(&self) {
        if let Some(running) = &self.running
            && self.resets
        {
            running.look_at_endpoints().await;
        }
    }

    /// Sends the records that there are to the writer. To be called a few times a second.
    pub(super) fn flush(&self) {
        for sink in self.lines.iter().flat_map(|lines| &lines.sinks) {
            sink.flush();
        }
    }

    /// Accepts no more; connections go on.
    pub(super) async fn drain(&self) {
        if let Some(running) = &self.running {
            running.drain().await;
        }
    }

    /// Ends it with all its connections.
    pub(super) async fn end(self) {
        let Self { running, lines, .. } = self;
        if let Some(running) = running {
            running.end().await;
        }
        for sink in lines.iter().flat_map(|lines| &lines.sinks) {
            sink.flush();
        }
    }
}

/// Begins to listen, with copies of the sockets.
async fn listen(
    running: &Streams,
    sockets: &Sockets,
    key: &str,
    slot: &ListenerSlot,
) -> Result<(), String> {
    let copies = sockets.copies(key);
    let copies = copies.map_err(|error| format!("{key}: {error}"))?;
    running.listen(key, copies, slot).await;
    Ok(())
}

fn datagrams(
    name: &Name,
    settings: &UdpSettings,
    config: &Config,
    shared: &Shared,
    registry: &Registry,
) -> UdpPlan {
    let workers = shared.loads.len();
    let service = registry.service(settings.service.as_str());
    let known = config.service.get(&settings.service);
    let target = service
        .zip(known)
        .map(|(service, known)| Arc::new(Target::new("", service, &known.upstream, workers)));
    UdpPlan {
        name: name.as_str().to_owned(),
        target,
        limits: Limits {
            sessions: (settings.max_sessions as usize).div_ceil(workers),
            of_address: settings.max_sessions_per_address as usize,
            idle: settings.idle,
            responses: settings.responses,
        },
        metrics: shared.datagrams.listener(name.as_str()),
    }
}

fn listener(
    name: &Name,
    settings: &TcpSettings,
    config: &Config,
    shared: &Shared,
    registry: &Registry,
) -> ListenerPlan {
    let workers = shared.loads.len();
    let target = |route: &str, service: &Name| {
        let found = registry.service(service.as_str())?;
        let known = config.service.get(service)?;
        let target = Target::new(route, found, &known.upstream, workers);
        Some(Arc::new(target))
    };
    let routes = settings.route.iter().filter_map(|(name, route)| {
        let asked = Asked {
            server_names: route.server_name.to_vec(),
            protocols: route.alpn.to_vec(),
        };
        Some((asked, target(name.as_str(), &route.service)?))
    });
    let rest = settings.service.as_ref();
    ListenerPlan {
        name: name.as_str().to_owned(),
        routes: Routes::new(
            routes.collect(),
            rest.and_then(|service| target("", service)),
        ),
        proxy_protocol: settings.proxy_protocol,
        trusted: settings.trusted_proxies.clone(),
        max_connections: settings.max_connections,
        max_of_address: settings.max_connections_per_address,
        tries: settings.tries,
        endpoint_down: settings.endpoint_down,
        keep_alive: settings.keep_alive,
        timeouts: settings.timeouts.clone(),
        metrics: shared.metrics.listener(name.as_str()),
    }
}
