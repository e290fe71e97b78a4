//! The services that a route sends requests to, compiled: one, or several that share them.

use std::sync::{Arc, Mutex};

use outgrow_core::Random;
use outgrow_upstream::settings::{Balance, HttpVersion, ServiceSettings, ServiceTimeouts, Weights};
use outgrow_upstream::{Seal, Service, ServiceView};

use crate::floors::FloorPlan;
use crate::settings::{AffinitySettings, RequestKey};
use crate::shapes::Shapes;
use crate::split::Split;
use crate::sticky::{StickyPlan, Tags};

/// What the choice of an endpoint looks at besides requests in flight.
#[derive(Clone, Debug, Default)]
pub struct Picking {
    /// What requests are kept together by; none where the algorithm does not hash.
    pub key: Option<RequestKey>,
    /// Whether response times are looked at, so that they are to be noted.
    pub measures: bool,
    /// Whether the endpoints report their load with their answers.
    pub takes_reports: bool,
    /// Sticky sessions.
    pub sticky: Option<Arc<StickyPlan>>,
    /// Tickets of what users wrote, where reads go to replicas.
    pub floors: Option<Arc<FloorPlan>>,
    /// The shapes of requests, where it matters which ones an instance has in flight.
    pub shapes: Option<Arc<Shapes>>,
    /// How connections are encrypted.
    pub seal: Option<Arc<dyn Seal>>,
    /// Whether the endpoints are spoken to by HTTP/2.
    pub http2: bool,
}

impl Picking {
    /// What the way of balancing of service `name` looks at; `secret` signs its sticky cookies when
    /// the settings have no secret of their own.
    pub fn new(
        name: &str,
        service: &ServiceSettings,
        affinity: &AffinitySettings,
        secret: &[u8; 32],
    ) -> Self {
        let algorithm = service.balance.algorithm(&service.hash);
        let key = match service.balance {
            Balance::IpHash => RequestKey::Address,
            _ => affinity.hash_by.clone(),
        };
        Self {
            key: algorithm.uses_key().then_some(key),
            measures: algorithm.uses_latency() || service.outlier.slow_responses.is_some(),
            takes_reports: service.weights == Weights::Reported,
            sticky: affinity
                .sticky
                .as_ref()
                .map(|sticky| Arc::new(StickyPlan::new(name, sticky, secret))),
            floors: None,
            shapes: None,
            seal: None,
            http2: service.http_version == HttpVersion::Two,
        }
    }
}

/// What one worker chooses endpoints with.
#[derive(Debug)]
pub struct Chooser {
    /// Its view of the service.
    pub view: ServiceView,
    /// Its generator.
    pub random: Random,
    pub(crate) tags: Tags,
}

/// A service as a route sends requests to it.
#[derive(Debug)]
pub struct Backend {
    /// The service.
    pub service: Arc<Service>,
    /// How long things may take.
    pub timeouts: ServiceTimeouts,
    /// What the choice of an endpoint looks at.
    pub picking: Picking,
    /// Each worker's view of the service.
    views: Box<[Mutex<Chooser>]>,
}

impl Backend {
    /// `service` for so many workers.
    pub fn new(
        service: Arc<Service>,
        timeouts: ServiceTimeouts,
        picking: Picking,
        workers: usize,
    ) -> Self {
        let chooser = |worker| {
            let random = Random::from_system();
            Mutex::new(Chooser {
                view: service.view(worker),
                random,
                tags: Tags::default(),
            })
        };
        let views = (0..workers.max(1)).map(chooser).collect();
        Self {
            service,
            timeouts,
            picking,
            views,
        }
    }

    /// The view of a worker.
    #[inline]
    pub(crate) fn view(&self, worker: usize) -> &Mutex<Chooser> {
        &self.views[worker % self.views.len()]
    }
}

/// The services of a route.
#[derive(Debug)]
pub struct Backends {
    list: Vec<Backend>,
    split: Option<Split>,
}

impl Backends {
    /// One service.
    pub fn one(backend: Backend) -> Self {
        Self {
            list: vec![backend],
            split: None,
        }
    }

    /// Several, in the order of the split's shares; at least one.
    pub fn several(list: Vec<Backend>, split: Split) -> Self {
        Self {
            list,
            split: Some(split),
        }
    }

    /// How requests are shared, when there are several services.
    #[inline]
    pub(crate) fn split(&self) -> Option<&Split> {
        self.split.as_ref()
    }

    /// The service at a place.
    #[inline]
    pub(crate) fn at(&self, index: usize) -> Option<&Backend> {
        self.list.get(index)
    }
}
