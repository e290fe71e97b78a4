//! What the keeper holds of the lease, and what a data process says of it at its end.

use outgrow_discover::lease::LeaseSettings;
use outgrow_fleet::protocol::DataMessage;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::command::Group;
use super::phase::Phase;

/// Under which name the keeper holds it.
pub(super) const KEY: &str = "leader";

/// What the next data process is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    /// Which lease it is about.
    pub(super) lease: String,
    /// Where that is.
    pub(super) places: Vec<String>,
    pub(super) identity: String,
    pub(super) phase: Phase,
    /// Until when it is held, in nanoseconds since the machine was started.
    pub(super) until: Option<u64>,
    /// Since when, in milliseconds since 1970.
    pub(super) since_ms: Option<u64>,
    /// The command that is under way.
    pub(super) command: Option<Group>,
    /// Whether the process that says it does nothing more about it.
    pub(super) is_last: bool,
}

impl Kept {
    /// What cannot be read is nothing.
    pub(super) fn read(value: Value) -> Option<Self> {
        serde_json::from_value(value).ok()
    }

    pub(super) fn is_of(&self, lease: &LeaseSettings) -> bool {
        lease.is_same_lease(&self.lease, &self.places)
    }

    /// For the keeper.
    pub(super) fn message(&self) -> DataMessage {
        DataMessage::Keep {
            key: KEY.to_owned(),
            value: serde_json::to_value(self).unwrap_or_default(),
        }
    }
}
