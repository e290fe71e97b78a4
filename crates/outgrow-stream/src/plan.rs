//! What the workers need of the configuration, compiled. A connection holds its listener's plan for
//! as long as it lives, and goes on by it whatever is read anew.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use outgrow_core::settings::Network;
use outgrow_core::{Random, Snapshot};
use outgrow_net::proxy_header::{AcceptProxy, Version};
use outgrow_upstream::settings::{ServiceSettings, ServiceTimeouts};
use outgrow_upstream::{Service, ServiceView};

use crate::hello::Routes;
use crate::metrics::ListenerMetrics;
use crate::settings::{EndpointDown, TcpTimeouts};
use crate::udp::sessions::Limits;

/// A listener as it is known to all workers.
pub type Slot = Arc<Snapshot<ListenerPlan>>;

/// One listener.
#[derive(Debug)]
pub struct ListenerPlan {
    /// Its name in the configuration.
    pub name: String,
    /// Where connections go.
    pub routes: Routes<Arc<Target>>,
    /// Whether proxies say whose connection it is.
    pub proxy_protocol: AcceptProxy,
    /// Which ones are believed.
    pub trusted: Vec<Network>,
    /// Most connections of all workers together.
    pub max_connections: u32,
    /// Most of one address; 0 is no limit.
    pub max_of_address: u32,
    /// Endpoints that are tried.
    pub tries: u32,
    /// What becomes of connections to an endpoint that is down.
    pub endpoint_down: EndpointDown,
    /// When the system asks a client's machine for a sign; zero: never.
    pub keep_alive: std::time::Duration,
    /// How long things may take.
    pub timeouts: TcpTimeouts,
    /// Its metric cells.
    pub metrics: Arc<ListenerMetrics>,
}

impl ListenerPlan {
    /// Whether what `peer` says of its client is believed.
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            Some(address) => self.trusted.iter().any(|network| network.contains(address)),
            // Who can reach a Unix socket is on this machine; believed where proxies are at all.
            None => !self.trusted.is_empty(),
        }
    }
}

/// A listener of either kind, as it is known to all workers.
#[derive(Clone, Debug)]
pub enum ListenerSlot {
    /// Of connections.
    Tcp(Slot),
    /// Of datagrams.
    Udp(UdpSlot),
}

/// A listener of datagrams as it is known to all workers.
pub type UdpSlot = Arc<Snapshot<UdpPlan>>;

/// One listener of datagrams. A session holds it for as long as it lives.
#[derive(Debug)]
pub struct UdpPlan {
    /// Its name in the configuration.
    pub name: String,
    /// Where datagrams go.
    pub target: Option<Arc<Target>>,
    /// The bounds of a worker's sessions.
    pub limits: Limits,
    /// Its metric cells.
    pub metrics: Arc<ListenerMetrics>,
}

/// A service as connections are sent to it.
#[derive(Debug)]
pub struct Target {
    /// The route that leads to it; empty for the listener's own service.
    pub route: String,
    /// The service.
    pub service: Arc<Service>,
    /// How long its things may take.
    pub timeouts: ServiceTimeouts,
    /// The version of the PROXY header that its endpoints are told clients by; none where they are not.
    pub(crate) proxy: Option<Version>,
    /// Whether connections are kept together by the client's address.
    pub(crate) hashes: bool,
    /// Whether it is noted how long endpoints take to connect.
    pub(crate) measures: bool,
    choosers: Box<[Mutex<Chooser>]>,
}

/// What one worker chooses endpoints with.
#[derive(Debug)]
pub(crate) struct Chooser {
    pub(crate) view: ServiceView,
    pub(crate) random: Random,
}

impl Target {
    /// `service` with its settings, for so many workers.
    pub fn new(
        route: &str,
        service: Arc<Service>,
        settings: &ServiceSettings,
        workers: usize,
    ) -> Self {
        let algorithm = settings.balance.algorithm(&settings.hash);
        let chooser = |worker| {
            Mutex::new(Chooser {
                view: service.view(worker),
                random: Random::from_system(),
            })
        };
        Self {
            route: route.to_owned(),
            timeouts: settings.timeouts.clone(),
            proxy: settings.proxy_protocol.version(),
            hashes: algorithm.uses_key(),
            measures: algorithm.uses_latency() || settings.outlier.slow_responses.is_some(),
            choosers: (0..workers.max(1)).map(chooser).collect(),
            service,
        }
    }

    /// That of a worker.
    #[inline]
    pub(crate) fn chooser(&self, worker: usize) -> &Mutex<Chooser> {
        &self.choosers[worker % self.choosers.len()]
    }
}
