//! Discovery brought together with the services: which sources run, what of their answers is put
//! in force, and what the keeper holds of it for the next data process, so that one that starts
//! while a registry is down has the endpoints that this one had.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use outgrow_core::{Clock, Ticks};
use outgrow_discover::discovery::News;
use outgrow_discover::{Discovery, Found, State, Surroundings};
use outgrow_fleet::protocol::{DataMessage, Hello};
use outgrow_upstream::settings::{Endpoint, EndpointTable};
use outgrow_upstream::{Registry, ServiceState};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::log;
use crate::config::Config;

/// Under which name the keeper holds what is known.
const KEY: &str = "discovered";
/// Most endpoints that are handed over; those beyond are found out again.
const KEPT: usize = 2_048;

/// All sources under way, by service.
#[derive(Debug, Default)]
pub(super) struct Discoveries {
    running: BTreeMap<String, Discovery>,
    /// What an earlier process knew, until the sources are started.
    kept: BTreeMap<String, Kept>,
    /// Whether the keeper is to be told.
    is_new: bool,
}

/// What is known of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    source: String,
    endpoints: Vec<KeptEndpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptEndpoint {
    address: String,
    weight: u32,
    priority: u32,
    zone: String,
}

impl Discoveries {
    /// None under way yet, with what the process before this one knew.
    pub(super) fn from_keeper(hello: &Hello) -> Self {
        let kept = hello.kept.get(KEY).cloned();
        Self {
            kept: kept
                .and_then(|kept| serde_json::from_value(kept).ok())
                .unwrap_or_default(),
            ..Self::default()
        }
    }

    /// Brings the sources to what a configuration says. One that stays goes on; one that takes
    /// another's place starts with what the service has.
    pub(super) fn configure(&mut self, config: &Config, registry: &Registry, clock: Clock) {
        let wanted = |name: &str| config.service.get(name)?.discover.as_ref();
        self.running
            .retain(|name, running| wanted(name) == Some(running.settings()));
        let kept = std::mem::take(&mut self.kept);
        let surroundings = surroundings(clock);
        for (name, service) in &config.service {
            let (name, Some(settings)) = (name.as_str(), &service.discover) else {
                continue;
            };
            if self.running.contains_key(name) {
                continue;
            }
            let Some(mut started) = Discovery::start(settings, surroundings) else {
                continue;
            };
            let source = settings.source().map(|source| source.to_string());
            let known = kept
                .get(name)
                .filter(|kept| Some(&kept.source) == source.as_ref());
            started.recall(match known {
                Some(kept) => kept
                    .endpoints
                    .iter()
                    .filter_map(KeptEndpoint::found)
                    .collect(),
                None => present(registry, name),
            });
            self.running.insert(name.to_owned(), started);
            self.is_new = true;
        }
    }

    /// The endpoints of a service as far as they are known.
    pub(super) fn endpoints(&self, service: &str) -> Vec<Endpoint> {
        let running = self.running.get(service);
        running.map_or_else(Vec::new, |running| endpoints(running.endpoints()))
    }

    /// Whether nothing is known yet of a service that is to be discovered.
    pub(super) fn is_awaited(&self, service: &str) -> bool {
        self.running.get(service).is_some_and(Discovery::is_awaited)
    }

    /// Puts in force what changed. To be called a few times a second.
    pub(super) fn step(&mut self, registry: &Registry, now: Ticks) {
        for (name, running) in &mut self.running {
            let was_awaited = running.is_awaited();
            if let Some(discovered) = running.step(now)
                && let Some(service) = registry.service(name)
            {
                let hold = running.settings().parts_after();
                service.set_endpoints(endpoints(discovered.endpoints()), hold, now);
                if was_awaited {
                    service.expect_instance(false);
                }
                self.is_new = true;
                let (count, left_out) = (discovered.endpoints().len(), discovered.left_out());
                let source = running.state(now).source;
                let mut line = format!("service {name}: {count} endpoints of {source}");
                if left_out > 0 {
                    line.push_str(&format!("; {left_out} more cannot be used"));
                }
                log::info(&line);
            }
            match running.news() {
                Some(News::Fails(problem)) => log::warn(&format!(
                    "service {name}: {}: {problem}; the {} endpoints that are known stay",
                    running.state(now).source,
                    running.endpoints().len()
                )),
                Some(News::Answers) => log::info(&format!(
                    "service {name}: {} answers again",
                    running.state(now).source
                )),
                None => {}
            }
        }
    }

    /// For the keeper, when something is new.
    pub(super) fn message(&mut self) -> Option<DataMessage> {
        if !std::mem::take(&mut self.is_new) {
            return None;
        }
        let mut left = KEPT;
        let mut kept = BTreeMap::new();
        for (name, running) in &self.running {
            let known = running.endpoints();
            // Half a list would look like endpoints that are gone.
            if known.is_empty() || known.len() > left {
                continue;
            }
            left -= known.len();
            let source = running.settings().source();
            let one = Kept {
                source: source.map(|source| source.to_string()).unwrap_or_default(),
                endpoints: known.iter().map(KeptEndpoint::new).collect(),
            };
            kept.insert(name.as_str(), one);
        }
        Some(DataMessage::Keep {
            key: KEY.to_owned(),
            // Maps with texts as keys: always JSON.
            value: serde_json::to_value(kept).unwrap_or_default(),
        })
    }

    /// What can be told, by service.
    pub(super) fn states(&self, now: Ticks) -> BTreeMap<String, State> {
        let state = |(name, running): (&String, &Discovery)| (name.clone(), running.state(now));
        self.running.iter().map(state).collect()
    }
}

/// A source's state for people and programs.
pub(super) fn told(state: &State) -> Value {
    json!({
        "source": state.source,
        "endpoints": state.endpoints,
        "left_out": state.left_out,
        "age_ms": state.age.map(|age| age.as_millis() as u64),
        "problem": state.problem,
        "failures": state.failures,
        "changes": state.changes,
        "empty_for_ms": state.doubted_for.map(|time| time.as_millis() as u64),
    })
}

/// A service's endpoints for clients that choose themselves: all but those that drain.
pub(super) fn look_up(state: &ServiceState) -> Value {
    let staying = state
        .endpoints
        .iter()
        .filter(|one| one.health != "draining");
    let endpoints: Vec<Value> = staying
        .map(|endpoint| {
            json!({
                "address": endpoint.address,
                "weight": endpoint.weight,
                "health": endpoint.health,
                "usable": endpoint.usable,
            })
        })
        .collect();
    json!({ "service": state.name, "endpoints": endpoints })
}

impl KeptEndpoint {
    fn new(found: &Found) -> Self {
        Self {
            address: found.address.to_string(),
            weight: found.weight,
            priority: found.priority,
            zone: found.zone.clone(),
        }
    }

    fn found(&self) -> Option<Found> {
        Some(Found {
            address: self.address.parse().ok()?,
            weight: self.weight,
            priority: self.priority,
            zone: self.zone.clone(),
        })
    }
}

fn endpoints(found: &[Found]) -> Vec<Endpoint> {
    let endpoint = |found: &Found| {
        Endpoint(EndpointTable {
            address: found.address.clone(),
            weight: found.weight,
            priority: found.priority,
            zone: found.zone.clone(),
            ..EndpointTable::default()
        })
    };
    found.iter().map(endpoint).collect()
}

/// What the service has now, from wherever.
fn present(registry: &Registry, service: &str) -> Vec<Found> {
    let Some(service) = registry.service(service) else {
        return Vec::new();
    };
    let found = |endpoint: &Endpoint| Found {
        address: endpoint.address.clone(),
        weight: endpoint.weight,
        priority: endpoint.priority(),
        zone: endpoint.zone.clone(),
    };
    service.settings().endpoints.iter().map(found).collect()
}

/// What everything that speaks to registries is given of the outside.
pub(super) fn surroundings(clock: Clock) -> Surroundings {
    Surroundings {
        clock,
        read_file,
        variable: |name| std::env::var(name).ok(),
    }
}

fn read_file(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(limit as u64)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
