//! What is told of the leader lease.

use outgrow_discover::BootTime;
use serde_json::{Value, json};

use super::phase::Phase;

/// How it is; whether it is held depends on when it is asked.
#[derive(Clone, Debug)]
pub(in super::super) struct LeaderView {
    pub(super) lease: String,
    pub(super) identity: String,
    pub(super) until: Option<BootTime>,
    pub(super) holder: Option<String>,
    pub(super) since_ms: Option<u64>,
    pub(super) phase: Phase,
    pub(super) answered: Option<BootTime>,
    pub(super) problem: Option<String>,
    pub(super) failures: u64,
    pub(in super::super) changes: u64,
}

impl LeaderView {
    /// Whether this box holds it.
    pub(in super::super) fn is_held(&self, now: BootTime) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// For people and programs.
    pub(in super::super) fn told(&self, now: BootTime) -> Value {
        let is_held = self.is_held(now);
        let holder = self.holder.as_deref();
        // That this box held it once says nothing about who does now.
        let holder = holder.filter(|holder| is_held || *holder != self.identity);
        json!({
            "leader": is_held,
            "lease": self.lease,
            "identity": self.identity,
            "holder": holder,
            "since_ms": self.since_ms.filter(|_| is_held),
            "command": self.phase.word(),
            "age_ms": self.answered.map(|at| now.since(at).as_millis() as u64),
            "problem": self.problem,
            "failures": self.failures,
            "changes": self.changes,
        })
    }
}
