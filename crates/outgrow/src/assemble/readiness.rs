//! Whether traffic should come to this node: what `/readyz` says.
//!
//! One service that is dead is no reason to take the others out as well: it is dead on every node
//! at once, and then a load balancer has none left. So the node is ready as long as any service
//! could answer, and says which could not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outgrow_admin::Readiness;
use outgrow_core::Ticks;
use outgrow_upstream::{Registry, Service};

use crate::config::Config;

/// How long a source of endpoints may take for its first answer before the start is over without
/// it.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// What decides.
#[derive(Debug)]
pub(super) struct NodeReadiness {
    draining: AtomicBool,
    /// Services whose instances were not ready yet since this process began, with the time that
    /// they may take: their `start_timeout`.
    starting: Mutex<BTreeMap<String, Duration>>,
}

impl NodeReadiness {
    /// That of a process that begins with this configuration.
    pub(super) fn new(config: &Config) -> Self {
        let supervised = config.service.iter().filter_map(|(name, service)| {
            let instances = service.instances.as_ref().map(|own| own.start_timeout);
            let limit = instances.or(service.discover.as_ref().map(|_| FIRST_ANSWER))?;
            Some((name.as_str().to_owned(), limit))
        });
        Self {
            draining: AtomicBool::new(false),
            starting: Mutex::new(supervised.collect()),
        }
    }

    /// Not ready from now on.
    pub(super) fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Takes note of services that have started: what becomes of them later is not the start's. To
    /// be called a few times a second.
    pub(super) fn note_started(&self, registry: &Registry) {
        let mut starting = self.lock();
        if !starting.is_empty() {
            starting.retain(|name, _| registry.service(name).is_some_and(|one| !is_usable(&one)));
        }
    }

    /// What it is now.
    pub(super) fn of(&self, services: &[Arc<Service>], now: Ticks) -> Readiness {
        let not_ready = |reason: String| Readiness::NotReady { reason };
        if self.is_draining() {
            return not_ready("draining".to_owned());
        }
        let starts = |service: &&Arc<Service>| {
            let starting = self.lock();
            let limit = starting.get(service.name());
            limit.is_some_and(|limit| now.since(Ticks::ZERO) < *limit) && !is_usable(service)
        };
        if let Some(service) = services.iter().find(starts) {
            return not_ready(format!("service {} is starting", service.name()));
        }
        let dead: Vec<&str> = services
            .iter()
            .filter(|service| !is_usable(service))
            .map(|service| service.name())
            .collect();
        let names = dead.join(", ");
        match dead.len() {
            0 => Readiness::Ready,
            all if all == services.len() => not_ready(format!(
                "no service has an endpoint that could answer: {names}"
            )),
            _ => Readiness::ReadyWithout {
                reason: format!("without an endpoint that could answer: {names}"),
            },
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Duration>> {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_usable(service: &Service) -> bool {
    !service.endpoints().load().usable.is_empty()
}

#[cfg(test)]
mod tests {
    use outgrow_core::settings::Address;
    use outgrow_upstream::EndpointOptions;

    use super::*;
    use crate::assemble::compile;
    use crate::assemble::discover::Discoveries;
    use crate::config::{Surroundings, load};

    const CONFIG: &str = r#"
[listener.l]
address = "127.0.0.1:80"
[service.app]
command = "serve"
start_timeout = "60s"
[service.worker]
command = "work"
start_timeout = "10s"
[service.list]
endpoints = ["127.0.0.1:1"]
[route.r]
service = "app"
"#;

    fn at(seconds: u64) -> Ticks {
        Ticks::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_node_is_ready_while_anything_works() {
        let surroundings = Surroundings {
            environment: &|_| None,
            readable: &|_| Ok(()),
            machine: None,
        };
        let mut config = load(CONFIG, &surroundings).expect("good").config;
        let registry = Registry::new(1);
        compile::services(&config, &registry, &Discoveries::default(), at(0));
        let node = NodeReadiness::new(&config);
        let check = |now: u64, expected: &str| {
            node.note_started(&registry);
            let text = match node.of(&registry.services(), at(now)) {
                Readiness::Ready => "ready".to_owned(),
                Readiness::ReadyWithout { reason } => format!("ready {reason}"),
                Readiness::NotReady { reason } => format!("not ready: {reason}"),
            };
            assert_eq!(text, expected, "after {now} s");
        };
        let address = Address::tcp("127.0.0.1", 2);
        let app = registry.service("app").expect("a service");
        check(1, "not ready: service app is starting");
        app.set_endpoint(address.clone(), EndpointOptions::default(), at(2));
        check(2, "not ready: service worker is starting");
        // It had its time.
        check(10, "ready without an endpoint that could answer: worker");
        // One that was there and is gone takes nobody along.
        app.fail_endpoint(&address, "exited");
        check(
            11,
            "ready without an endpoint that could answer: app, worker",
        );
        config.service.retain(|name, _| name.as_str() != "list");
        compile::services(&config, &registry, &Discoveries::default(), at(12));
        check(
            12,
            "not ready: no service has an endpoint that could answer: app, worker",
        );
        config.service.clear();
        compile::services(&config, &registry, &Discoveries::default(), at(13));
        check(13, "ready");
        node.set_draining(true);
        check(14, "not ready: draining");
    }
}
