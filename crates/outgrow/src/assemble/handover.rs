//! What this process knows of endpoints and instances, held by the keeper for the next one: after
//! an upgrade or a crash a dead endpoint must not get requests until it is found out again, and an
//! instance that was never ready must not be taken for one that is.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outgrow_core::Ticks;
use outgrow_fleet::protocol::{DataMessage, Hello, InstanceReport};
use outgrow_upstream::{EjectionCause, Health, Recollection, Registry};
use serde::{Deserialize, Serialize};

use super::instances::Instances;

/// Under which name the keeper holds it.
const KEY: &str = "health";
/// Most endpoints that are handed over; those beyond are found out again.
const LIMIT: usize = 4_096;

/// The endpoints that were asked, by service and address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Handover {
    services: BTreeMap<String, BTreeMap<String, Entry>>,
}

/// What is known of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    up: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Until when it is ejected, in milliseconds since 1970: the clocks of two processes have
    /// nothing else in common.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ejected_until_ms: Option<u64>,
    /// By which rule, and what it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ejected_because: Option<(String, String)>,
    #[serde(default)]
    ejections: u32,
    /// The pid of the instance: another one at the same address is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
}

impl Handover {
    /// What is known now.
    pub(super) fn new(registry: &Registry, instances: &Instances, now: Ticks) -> Self {
        let mut handover = Self::default();
        let mut left = LIMIT;
        for service in registry.services() {
            let entries: BTreeMap<String, Entry> = service
                .recollections(now)
                .into_iter()
                .take(left)
                .map(|known| {
                    let address = known.address.to_string();
                    let pid = known.instance.as_deref();
                    let pid = pid.and_then(|name| instances.pid(name, &address));
                    (address, Entry::new(known, pid))
                })
                .collect();
            left -= entries.len();
            handover.services.insert(service.name().to_owned(), entries);
        }
        handover
    }

    /// What the process before this one knew; `None` when it was of a version that told nothing.
    pub(super) fn from_keeper(hello: &Hello) -> Option<Self> {
        Self::deserialize(hello.kept.get(KEY)?).ok()
    }

    /// For the keeper.
    pub(super) fn message(&self) -> DataMessage {
        DataMessage::Keep {
            key: KEY.to_owned(),
            // Maps with texts as keys: always JSON.
            value: serde_json::to_value(self).unwrap_or_default(),
        }
    }

    /// What is known of a service's endpoints that are no instances.
    pub(super) fn endpoints(&self, service: &str) -> Vec<Recollection> {
        let entries = self.services.get(service).into_iter().flatten();
        entries
            .filter(|(_, entry)| entry.pid.is_none())
            .filter_map(|(address, entry)| entry.recollection(address))
            .collect()
    }

    /// What is known of an instance, if it is still the same process.
    pub(super) fn instance(&self, report: &InstanceReport) -> Option<Recollection> {
        let address = report.address.as_deref()?;
        let entry = self.services.get(&report.spec.service)?.get(address)?;
        (entry.pid.is_some() && entry.pid == report.pid)
            .then(|| entry.recollection(address))
            .flatten()
    }
}

impl Entry {
    fn new(known: Recollection, pid: Option<u32>) -> Self {
        let until = |left: Duration| wall_millis().saturating_add(left.as_millis() as u64);
        Self {
            up: known.health == Health::Up,
            reason: known.reason,
            ejected_until_ms: known.ejected_for.map(until),
            ejected_because: known
                .ejected_because
                .map(|(cause, why)| (cause.as_str().to_owned(), why)),
            ejections: known.ejections_in_a_row,
            pid,
        }
    }

    fn recollection(&self, address: &str) -> Option<Recollection> {
        let left = |until: u64| Duration::from_millis(until.saturating_sub(wall_millis()));
        Some(Recollection {
            address: address.parse().ok()?,
            instance: None,
            health: if self.up { Health::Up } else { Health::Down },
            reason: self.reason.clone(),
            ejected_for: self.ejected_until_ms.map(left),
            ejected_because: self
                .ejected_because
                .as_ref()
                .and_then(|(cause, why)| Some((EjectionCause::named(cause)?, why.clone()))),
            ejections_in_a_row: self.ejections,
        })
    }
}

fn wall_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| time.as_millis() as u64)
}
