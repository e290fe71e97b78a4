//! All services of a process, interned by name.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outgrow_core::settings::Address;
use outgrow_core::{Clock, Ticks};
use outgrow_net::ticker::Ticker;
use tokio::sync::{mpsc, watch};

use crate::endpoint::EndpointId;
use crate::event::{Event, Events};
use crate::service::Service;
use crate::settings::ServiceSettings;
use crate::state::ServiceState;
use crate::{check, resolve};

/// From one look at what time alone changes (ejections, drained endpoints) to the next.
const TICK: Duration = Duration::from_millis(100);

/// What all services have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) workers: usize,
    pub(crate) events: Events,
    last_id: AtomicU64,
    changes: watch::Sender<u64>,
    /// The zone that this process is in; empty is none.
    zone: Mutex<Arc<str>>,
    /// See [`Registry::set_parting_over`].
    parting_over_nanos: AtomicU64,
}

impl Shared {
    pub(crate) fn next_id(&self) -> EndpointId {
        EndpointId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The zone that this process is in.
    pub(crate) fn zone(&self) -> Arc<str> {
        Arc::clone(&self.zone.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Within which time long connections to endpoints that are taken out have to end.
    pub(crate) fn parting_over(&self) -> Duration {
        Duration::from_nanos(self.parting_over_nanos.load(Ordering::Relaxed))
    }

    /// Tells checks and resolution that endpoints came, went or have other settings.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|epoch| *epoch += 1);
    }
}

/// The services of a process.
#[derive(Debug)]
pub struct Registry {
    shared: Arc<Shared>,
    services: Mutex<Services>,
}

#[derive(Debug, Default)]
struct Services {
    current: BTreeMap<String, Arc<Service>>,
    /// Those that are not in the configuration any more, until their last request ended.
    retired: Vec<Arc<Service>>,
}

impl Registry {
    /// A registry without services, for this many workers (at least one).
    pub fn new(workers: usize) -> Self {
        let shared = Shared {
            workers: workers.max(1),
            events: Events::default(),
            last_id: AtomicU64::new(0),
            changes: watch::Sender::new(0),
            zone: Mutex::new("".into()),
            parting_over_nanos: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
            services: Mutex::default(),
        }
    }

    /// Says which zone this process is in; empty, as at first, is none. Counts from the next
    /// [`Registry::apply`] on.
    pub fn set_zone(&self, zone: &str) {
        *self
            .shared
            .zone
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = zone.into();
    }

    /// Says within which time long connections to endpoints that are taken out of the configuration have
    /// to end; zero, as at first, is at once. Counts from the next [`Registry::apply`] on.
    pub fn set_parting_over(&self, over: Duration) {
        let nanos = u64::try_from(over.as_nanos()).unwrap_or(u64::MAX);
        let place = &self.shared.parting_over_nanos;
        place.store(nanos, Ordering::Relaxed);
    }

    /// Takes over the services of a configuration. What stays keeps its state; services and
    /// endpoints that are gone get no new requests, their idle connections are closed, and they
    /// are forgotten when their last request ended.
    pub fn apply(&self, settings: &BTreeMap<String, ServiceSettings>, now: Ticks) {
        let mut services = self.lock();
        let mut gone = Vec::new();
        services.current.retain(|name, service| {
            let stays = settings.contains_key(name);
            if !stays {
                gone.push(Arc::clone(service));
            }
            stays
        });
        services.retired.extend(gone.iter().cloned());
        for (name, settings) in settings {
            let settings = Arc::new(settings.clone());
            let service = services.current.entry(name.clone()).or_insert_with(|| {
                Service::new(name, Arc::clone(&self.shared), Arc::clone(&settings))
            });
            service.apply(settings, now);
        }
        drop(services);
        for service in gone {
            service.retire(now);
        }
    }

    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<Arc<Service>> {
        self.lock().current.get(name).cloned()
    }

    /// All services, by name.
    pub fn services(&self) -> Vec<Arc<Service>> {
        self.lock().current.values().cloned().collect()
    }

    /// Whether users still leave the endpoint one after the other, so that it is needed.
    pub fn is_being_left(&self, service: &str, address: &Address) -> bool {
        self.service(service).is_some_and(|service| {
            let set = service.endpoints().load();
            let mut at_address = set.all.iter().filter(|one| one.address() == address);
            at_address.any(|endpoint| endpoint.leaving().is_some())
        })
    }

    /// Requests in flight at an address of a service, also of one that is not in the configuration
    /// any more.
    pub fn active(&self, name: &str, address: &Address) -> u32 {
        let all = self.of_name(name);
        all.iter().map(|service| service.active(address)).sum()
    }

    /// Those of this name: the one that is in the configuration, and those that were and are not gone yet.
    fn of_name(&self, name: &str) -> Vec<Arc<Service>> {
        let services = self.lock();
        let retired = services.retired.iter().filter(|one| one.name() == name);
        retired.chain(services.current.get(name)).cloned().collect()
    }

    /// Has long connections to an address of a service end by `until`, since its instance is to stop then;
    /// also of a service that is not in the configuration any more.
    pub fn part_endpoint(&self, name: &str, address: &Address, until: Ticks) {
        for service in self.of_name(name) {
            service.part_endpoint(address, until);
        }
    }

    /// Services that are not in the configuration any more and still have requests in flight.
    pub fn retired(&self) -> usize {
        self.lock().retired.len()
    }

    /// What can be told about all services, by name.
    pub fn state(&self, now: Ticks) -> Vec<ServiceState> {
        self.services()
            .iter()
            .map(|service| service.state(now))
            .collect()
    }

    /// Events from now on, to one receiver (an earlier one gets no more). An event that does not
    /// fit into `capacity` is dropped and counted: see [`Registry::events_lost`].
    pub fn subscribe(&self, capacity: usize) -> mpsc::Receiver<Event> {
        self.shared.events.subscribe(capacity)
    }

    /// Events that were dropped because nobody took them in time.
    pub fn events_lost(&self) -> u64 {
        self.shared.events.lost()
    }

    /// Closes worker `worker`'s idle connections that are too old or that the server closed. To be
    /// called by each worker each second.
    pub fn sweep(&self, worker: usize, now: Ticks) {
        for service in self.services() {
            service.sweep(worker, now);
        }
    }

    /// Ends ejections whose time is over and forgets drained endpoints. [`run`] calls it.
    pub fn tick(&self, now: Ticks) {
        let retired = self.lock().retired.clone();
        for service in self.services().iter().chain(&retired) {
            service.tick(now);
        }
        self.lock().retired.retain(|service| !service.is_empty());
    }

    /// Changes whenever endpoints come, go or get other settings.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Services> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All control work of the room: checks, names, ejections that end, endpoints that are drained.
/// To be spawned on the control runtime; runs until it is dropped.
pub async fn run(registry: Arc<Registry>, clock: Clock) {
    let ticks = async {
        let mut ticker = Ticker::new(TICK);
        loop {
            ticker.tick().await;
            registry.tick(clock.now());
        }
    };
    tokio::join!(
        ticks,
        check::run(Arc::clone(&registry), clock),
        resolve::run(Arc::clone(&registry))
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Outcome;
    use crate::service::Wish;
    use crate::settings::{Endpoint, OutlierSettings};

    /// The control work as a whole: an ejection ends by itself, a drained endpoint is forgotten.
    #[tokio::test]
    async fn time_alone_ends_ejections_and_drains() {
        let endpoint = |port| Endpoint::at(Address::tcp("127.0.0.1", port));
        let mut settings = ServiceSettings {
            endpoints: vec![endpoint(1), endpoint(2)],
            outlier: OutlierSettings {
                consecutive_failures: 1,
                eject: Duration::from_millis(20),
                ..OutlierSettings::default()
            },
            ..ServiceSettings::default()
        };
        let clock = Clock::start();
        let registry = Arc::new(Registry::new(1));
        let mut events = registry.subscribe(10);
        let apply = |settings: &ServiceSettings| {
            let services = BTreeMap::from([("web".to_owned(), settings.clone())]);
            registry.apply(&services, clock.now());
        };
        apply(&settings);
        let control = tokio::spawn(run(Arc::clone(&registry), clock));
        let web = registry.service("web").expect("it was applied");
        let first = Arc::clone(&web.endpoints().load().all[0]);
        first.report(Outcome::ServerError, clock.now());
        assert!(!first.is_usable());
        assert!(matches!(events.recv().await, Some(Event::Ejected { .. })));
        assert!(matches!(events.recv().await, Some(Event::Returned(_))));
        assert!(first.is_usable());
        let mut view = web.view(0);
        let mut random = outgrow_core::Random::from_seed(1);
        let permit = loop {
            let permit = web
                .choose(&mut view, clock.now(), &mut random, Wish::default())
                .expect("both are usable");
            if permit.endpoint().id() == first.id() {
                break permit;
            }
        };
        settings.endpoints.remove(0);
        apply(&settings);
        assert_eq!(registry.state(clock.now())[0].endpoints.len(), 2);
        drop(permit);
        let mut changes = registry.changes();
        while web.endpoints().load().all.len() > 1 {
            changes.changed().await.expect("the registry lives");
        }
        control.abort();
    }
}
