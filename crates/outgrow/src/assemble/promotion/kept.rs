//! What the keeper holds of promotions: the last primary of each service, so that a data process that
//! starts while it is gone knows what there was, and the command that is under way.

use std::collections::BTreeMap;
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_fleet::protocol::{DataMessage, Hello};
use outgrow_postgres::promotion::Known;
use outgrow_postgres::standing::Lsn;
use serde::{Deserialize, Serialize};

use super::super::command::Group;
use super::work::Doing;

/// Under which name the keeper holds it.
const KEY: &str = "promotion";
/// How often it is told how far a primary is, when nothing else is new.
const TELL: Duration = Duration::from_secs(1);

/// What is held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    services: BTreeMap<String, OfService>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct OfService {
    primary: String,
    timeline: u32,
    lsn: u64,
    synchronous: u32,
    command: Option<Group>,
}

impl Kept {
    /// What cannot be read is nothing.
    pub(super) fn from_keeper(hello: &Hello) -> Self {
        let kept = hello.kept.get(KEY).cloned();
        let kept = kept.and_then(|value| serde_json::from_value(value).ok());
        kept.unwrap_or_default()
    }

    /// The last primary of a service.
    pub(super) fn known(&self, service: &str) -> Option<Known> {
        let kept = self.services.get(service)?;
        (!kept.primary.is_empty()).then(|| Known {
            address: kept.primary.clone(),
            timeline: kept.timeline,
            lsn: Lsn(kept.lsn),
            synchronous: kept.synchronous,
        })
    }

    /// Commands that were under way.
    pub(super) fn take_commands(&mut self) -> Vec<Group> {
        let services = self.services.values_mut();
        services.filter_map(|one| one.command.take()).collect()
    }

    /// Takes note of how a service is.
    pub(super) fn note(&mut self, service: &str, known: Option<&Known>, doing: Option<&Doing>) {
        let of = match self.services.get_mut(service) {
            Some(of) => of,
            None => self.services.entry(service.to_owned()).or_default(),
        };
        if let Some(known) = known {
            if of.primary != known.address {
                of.primary.clone_from(&known.address);
            }
            (of.timeline, of.lsn, of.synchronous) =
                (known.timeline, known.lsn.0, known.synchronous);
        }
        of.command = doing.and_then(Doing::group);
    }

    /// For the keeper, when something is new.
    pub(super) fn message(
        &self,
        told: &mut Option<(Ticks, Self)>,
        now: Ticks,
    ) -> Option<DataMessage> {
        if let Some((at, told)) = told {
            let mut same = told.clone();
            for (name, of) in &mut same.services {
                of.lsn = self.services.get(name).map_or(of.lsn, |own| own.lsn);
            }
            let is_only_further = same == *self;
            if told == self || (is_only_further && now.since(*at) < TELL) {
                return None;
            }
        }
        *told = Some((now, self.clone()));
        Some(DataMessage::Keep {
            key: KEY.to_owned(),
            value: serde_json::to_value(self).unwrap_or_default(),
        })
    }
}
