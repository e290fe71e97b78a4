//! Drain: what happens between the word that this process is to end and its end.

use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_edge::Drain;
use outgrow_fleet::protocol::{DataMessage, DrainReason};
use outgrow_postgres::handover::Account;

use super::super::listeners::{self, Sockets};
use super::super::log;
use super::{Control, Draining};

/// How long nothing may have happened to clients before it is said what did.
const QUIET: Duration = Duration::from_secs(1);
/// How long the last access records may take.
const LAST_RECORDS: Duration = Duration::from_secs(2);

/// What became of the Postgres clients of a process that leaves.
#[derive(Debug, Default)]
pub(super) struct HandedOver {
    seen: Account,
    changed: Ticks,
    logged: Account,
}

impl HandedOver {
    fn line(&self, left: usize) -> String {
        let Account { given, told } = &self.seen;
        let mut line = format!("postgres: {given} clients were handed to the next data process");
        let reasons: Vec<String> = told
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        if !reasons.is_empty() {
            let sum: u64 = told.values().sum();
            line += &format!(", {sum} told to reconnect ({})", reasons.join(", "));
        }
        if left > 0 {
            line += &format!(", {left} are still at work here");
        }
        line
    }
}

impl Control {
    /// Ends the workers, and waits for what they have still to tell.
    pub(super) async fn end(self) {
        self.postgres.end().await;
        self.streams.end().await;
        self.parts.edge.end().await;
        let lost = self.parts.records.finish(LAST_RECORDS);
        if lost > 0 {
            log::warn(&format!("{lost} access records are lost: nobody took them"));
        }
    }

    pub(super) fn begin_drain(&mut self, reason: DrainReason, now: Ticks) {
        let process = &self.parts.config.process;
        let (delay, limit) = match reason {
            DrainReason::Stop => (process.drain_delay, process.drain_timeout),
            DrainReason::Upgrade => (Duration::ZERO, process.upgrade_drain_timeout),
        };
        // A stop overtakes the drain of an upgrade, not the other way.
        if self
            .drain
            .as_ref()
            .is_some_and(|drain| drain.reason == DrainReason::Stop)
        {
            return;
        }
        self.view.set_draining(true);
        self.ocsp.stop();
        match reason {
            DrainReason::Stop => {
                if let Some(shared) = self.postgres.shared() {
                    shared.end_handover();
                }
                self.begin_leaving();
            }
            DrainReason::Upgrade => self.hand_boxes_over(),
        }
        self.drain = Some(Draining {
            reason,
            began: now,
            stops_at: now + delay,
            withdrawn: None,
            limit,
            ends_at: None,
        });
    }

    /// Two processes together must not have more connections to a database than one may.
    pub(super) async fn step_overlap(&mut self, now: Ticks) {
        let shared = self.postgres.shared();
        let message = match self.drain.as_ref().map(|drain| drain.reason) {
            None => self.overlap.step(shared.as_deref(), now),
            Some(DrainReason::Upgrade) => self.overlap.leave(shared.as_deref()),
            Some(DrainReason::Stop) => None,
        };
        if let Some(message) = message {
            self.tell(&message).await;
        }
    }

    /// After an upgrade the next process must not stop an instance under requests that are still
    /// this one's.
    pub(super) async fn tell_in_flight(&mut self) {
        let instances = self.instances.in_flight(&self.parts.registry);
        if instances != self.in_flight {
            self.in_flight.clone_from(&instances);
            self.tell(&DataMessage::InFlight { instances }).await;
        }
    }

    /// Says what became of the Postgres clients, once nothing has happened for a moment, and at the
    /// end.
    pub(super) fn step_handover(&mut self, now: Ticks, is_over: bool) {
        let Some(shared) = self.postgres.shared() else {
            return;
        };
        shared.step_handover(now);
        let account = shared.handover_account();
        let told = &mut self.handed_over;
        if told.seen != account {
            (told.seen, told.changed) = (account, now);
        }
        let is_quiet = is_over || now.since(told.changed) >= QUIET;
        if is_quiet && told.logged != told.seen {
            log::info(&told.line(shared.clients()));
            told.logged = told.seen.clone();
        }
    }

    pub(super) async fn go_on_draining(&mut self, now: Ticks) {
        self.step_handover(now, false);
        let has_left = self.has_left(now);
        let Some(drain) = &mut self.drain else { return };
        if drain.ends_at.is_some() || now < drain.stops_at || !has_left {
            return;
        }
        let until = now + drain.limit;
        drain.ends_at = Some(until);
        let how = match drain.reason {
            DrainReason::Stop => Drain::Now,
            DrainReason::Upgrade => Drain::Gently,
        };
        let open = self.open();
        log::info(&format!("draining: {open} connections are open"));
        self.postgres.drain().await;
        self.streams.drain().await;
        self.parts.edge.drain(how, until).await;
        match how {
            Drain::Gently => {
                self.view.stop_serving();
                // The next data process has them. A copy that stays here for as long as a
                // WebSocket lives would go on listening after that one has released them.
                self.parts.sockets = Sockets::default();
            }
            _ => self.release_public().await,
        }
    }

    /// Closes the public listeners for good: who comes now is refused at once and can go
    /// elsewhere, instead of waiting in a queue that nobody will serve.
    async fn release_public(&mut self) {
        for key in self.parts.sockets.keys() {
            if !listeners::is_admin(&key) {
                self.parts.sockets.remove(&key);
                self.tell(&DataMessage::Release { key }).await;
            }
        }
    }

    /// Connections that are open, of all tiers.
    fn open(&self) -> usize {
        let edge = self.parts.edge.shared.connections();
        edge + self.postgres.clients() + self.streams.connections()
    }

    pub(super) fn is_drained(&self) -> bool {
        let Some(drain) = &self.drain else {
            return false;
        };
        let shared = &self.parts.edge.shared;
        let open = self.open();
        let is_over = |end: Ticks| open == 0 || shared.clock.now() >= end;
        drain.ends_at.is_some_and(is_over)
    }
}
