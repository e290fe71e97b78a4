//! A process in the simulation: its hub, with a shared connection.

use std::sync::Arc;

use outgrow_core::{Clock, Random};
use outgrow_message::Ledger;

use super::super::{Hub, TOO_MUCH};
use super::server::{Connection, Log};
use crate::problem::Refusal;
use crate::seen::{ClientEntry, Far};
use crate::shared::Shared;

/// A process.
pub(super) struct Process {
    pub(super) shared: Arc<Shared>,
    pub(super) hub: Hub,
    connection: Connection,
    pub(super) is_alive: bool,
}

impl Process {
    pub(super) fn new() -> Self {
        let hub = Hub::default();
        hub.lock().is_running = true;
        Self {
            shared: Shared::new(Clock::start(), Ledger::new(1 << 20), 1),
            hub,
            connection: Connection::default(),
            is_alive: true,
        }
    }

    pub(super) fn entry(&self) -> ClientEntry {
        let far = Far::Unix {
            process: 1,
            port: 0,
        };
        ClientEntry::new(&self.shared, far, None)
    }

    /// One step of its shared connection; what it is told may fail.
    pub(super) fn step(&mut self, log: &mut Log, random: &mut Random, fails: bool) {
        let is_running = self.hub.lock().is_running;
        if self.is_alive && is_running {
            self.connection.step(&self.hub, log, random, fails);
        }
    }

    /// Until everything was said and heard.
    pub(super) fn settle(&mut self, log: &mut Log, random: &mut Random) {
        for _ in 0..1_000_000 {
            let inner = self.hub.lock();
            let is_asked = inner.board.has_more() || !inner.marks.is_empty();
            if !self.is_alive || !inner.is_running || !is_asked && self.connection.is_quiet(log) {
                return;
            }
            drop(inner);
            self.step(log, random, false);
        }
        panic!("it comes to no end");
    }

    pub(super) fn lose_connection(&mut self) {
        self.connection.end();
        self.hub.end(&Refusal::new(TOO_MUCH, "lost"), None);
    }

    /// There is a shared connection again, if there was none; whether that is so.
    pub(super) fn reconnect(&mut self) -> bool {
        let mut inner = self.hub.lock();
        !std::mem::replace(&mut inner.is_running, true)
    }

    /// Up to where in the log its clients were told.
    pub(super) fn heard(&self) -> usize {
        self.connection.heard
    }

    pub(super) fn failed_batches(&self) -> usize {
        self.connection.failed
    }
}
