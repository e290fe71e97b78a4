//! What this box tells others, and what it takes part in with them: registrations, the leader lease
//! and what only its holder does, at each step, on a reload and at the end.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_fleet::protocol::DrainReason;

use super::super::leader::Leader;
use super::super::register::{self, Registrations};
use super::{Control, STEP};
use crate::config::Config;

/// How long listeners stay open after a registry has said that this box is withdrawn: others are
/// told at once, but take changes over a few times a second only.
const SEEN: Duration = Duration::from_secs(2);
/// How long everything together may take when the keeper is gone: this process must end soon.
const LAST: Duration = Duration::from_secs(5);

/// How long it may take from the word to stop until the listeners close.
pub(in super::super) fn longest_leaving(config: &Config) -> Duration {
    let is_registered = config.service.values().any(|one| one.register.is_some());
    let withdrawal = match is_registered {
        true => register::LIMIT + SEEN,
        false => Duration::ZERO,
    };
    let leader = Leader::patience(config.leader.as_ref());
    config.process.drain_delay.max(withdrawal).max(leader)
}

impl Control {
    fn registrations(&self) -> MutexGuard<'_, Registrations> {
        self.registrations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what the configuration in force says.
    pub(super) fn configure_boxes(&mut self) {
        let clock = self.parts.edge.shared.clock;
        self.registrations().configure(&self.parts.config, clock);
        self.leader.configure(self.parts.config.leader.as_ref());
        let shared = self.postgres.shared();
        self.promotions
            .configure(&self.parts.config, shared.as_deref());
    }

    pub(super) async fn step_boxes(&mut self, now: Ticks) {
        // A flood of events is not worth a look each.
        if now.since(self.registered) >= STEP / 2 {
            self.registered = now;
            let (registry, config) = (&self.parts.registry, &self.parts.config);
            self.registrations().step(registry, config, now);
        }
        if let Some(message) = self.leader.step() {
            self.tell(&message).await;
        }
        self.view.set_leader(self.leader.view());
        let is_leader = self.leader.is_held() != Some(false);
        self.acme.allow(self.drain.is_none() && is_leader);
        let (shared, lease) = (self.postgres.shared(), self.leader.is_held());
        if let Some(message) = self.promotions.step(shared.as_ref(), lease, now) {
            self.tell(&message).await;
        }
        self.view.set_promotions(self.promotions.views(now));
    }

    /// Everything stops: others are told before anybody is refused.
    pub(super) fn begin_leaving(&mut self) {
        self.registrations().withdraw();
        self.promotions.leave(self.postgres.shared().as_deref());
        self.leader.stop();
    }

    /// The next data process tells and holds the same.
    pub(super) fn hand_boxes_over(&mut self) {
        self.registrations().leave();
        self.promotions.leave(self.postgres.shared().as_deref());
        self.leader.leave();
    }

    /// Whether others have seen that this box goes, or cannot be waited for any longer.
    pub(super) fn has_left(&mut self, now: Ticks) -> bool {
        let (is_withdrawn, had_entries) = {
            let registrations = self.registrations();
            (registrations.is_withdrawn(), registrations.had_entries())
        };
        let is_given_back = self.leader.is_given_back();
        let patience = Leader::patience(self.parts.config.leader.as_ref());
        let Some(drain) = &mut self.drain else {
            return false;
        };
        if drain.reason == DrainReason::Upgrade {
            return true;
        }
        let waited = now.since(drain.began);
        if is_withdrawn {
            drain.withdrawn.get_or_insert(now);
        }
        let is_seen = match drain.withdrawn {
            Some(at) => !had_entries || now.since(at) >= SEEN,
            None => waited >= register::LIMIT,
        };
        is_seen && (is_given_back || waited >= patience)
    }

    /// The keeper is gone, and with it the instances: nothing is waited for but the word to others.
    pub(super) async fn leave_boxes(&mut self) {
        self.begin_leaving();
        let clock = self.parts.edge.shared.clock;
        let end = clock.now() + LAST;
        loop {
            let now = clock.now();
            self.registrations()
                .step(&self.parts.registry, &self.parts.config, now);
            // Nobody is there to be told.
            let _ = self.leader.step();
            let is_done = self.registrations().is_withdrawn() && self.leader.is_given_back();
            if is_done || now >= end {
                return;
            }
            tokio::time::sleep(STEP / 4).await;
        }
    }
}
