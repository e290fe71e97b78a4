//! What is shown of the other boxes' world: what they are told, and the lease that one of them holds.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use outgrow_discover::registration::State;
use serde_json::Value;

use super::super::boxes::boot_clock;
use super::super::leader::LeaderView;
use super::View;

impl View {
    /// What can be told of what others are told, by service.
    pub(in super::super) fn registrations(&self) -> BTreeMap<String, State> {
        self.registrations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .states(self.shared.clock.now())
    }

    /// Shows how it is with the leader lease.
    pub(in super::super) fn set_leader(&self, leader: Option<LeaderView>) {
        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = leader;
    }

    /// The leader lease, when there is one.
    pub(in super::super) fn leader_view(&self) -> Option<LeaderView> {
        self.leader
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether this box holds it at this moment, and what can be told.
    pub(super) fn leader_told(&self) -> Option<(bool, Value)> {
        let (view, now) = (self.leader_view()?, boot_clock());
        Some((view.is_held(now), view.told(now)))
    }
}
