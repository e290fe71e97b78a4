//! What is known of a WebSocket that passes: where its frames end, and how far its own end is.

use outgrow_core::{Fault, Ticks};
use outgrow_http::websocket::{Close, Frames, GOING_AWAY, SERVICE_RESTART};

use super::fault::idle_fault;
use super::leaving::Leaving;
use crate::worker::{Drain, Draining};

/// A WebSocket.
#[derive(Debug)]
pub(crate) struct WebSocket {
    pub(super) from_client: Frames,
    pub(super) from_endpoint: Frames,
    leaving: Leaving,
    /// The drain that was last looked at.
    seen: Option<Draining>,
    /// Its share of chance: the moment within a drain, and a mask.
    chance: u64,
    /// The Close frame for the client, while it is being sent.
    close: Option<Close>,
    /// The Close frame for an endpoint whose client has not answered.
    pub(super) to_endpoint: Option<Close>,
    is_idle: bool,
}

impl WebSocket {
    /// A new one.
    pub(crate) fn new(chance: u64) -> Self {
        Self {
            from_client: Frames::default(),
            from_endpoint: Frames::default(),
            leaving: Leaving::No,
            seen: None,
            chance,
            close: None,
            to_endpoint: None,
            is_idle: false,
        }
    }

    /// Looks whether it has to end with its process or its endpoint, or otherwise than before.
    pub(super) fn look(&mut self, draining: Draining, now: Ticks) {
        let is_new = match self.seen {
            Some(seen) => seen != draining,
            None => draining.how != Drain::No,
        };
        if is_new {
            self.seen = Some(draining);
            self.leaving.drain(draining, self.chance, now);
        }
        self.leaving.step(now);
    }

    /// Whether something is due now.
    pub(super) fn time_passes(&mut self, now: Ticks, is_idle: bool) -> bool {
        let before = self.leaving;
        self.leaving.step(now);
        if is_idle && !self.leaving.is_due() && !self.leaving.is_told() {
            self.is_idle = true;
            self.leaving.begin(now);
        }
        self.leaving != before
    }

    /// When something is due, where `silence` ends one that is not ending already.
    pub(super) fn deadline(&self, silence: Ticks) -> Ticks {
        let is_ending = self.leaving.is_due() || self.leaving.is_told();
        match self.leaving.deadline() {
            Some(end) if is_ending => end,
            Some(moment) => moment.min(silence),
            None => silence,
        }
    }

    /// Whether its time to answer is over.
    pub(super) fn is_over(&self, now: Ticks) -> bool {
        self.leaving.is_over(now)
    }

    /// What the record says.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.is_idle.then(idle_fault)
    }

    /// The Close frame for the client, when it may be sent at this point of what it gets.
    pub(super) fn due_close(&mut self) -> Option<&mut Close> {
        let may = self.from_endpoint.is_at_boundary() && !self.from_endpoint.is_closed();
        if !self.leaving.is_due() || !may {
            return None;
        }
        let (code, reason) = match self.is_idle {
            true => (GOING_AWAY, "idle"),
            false => (SERVICE_RESTART, "service restart"),
        };
        Some(
            self.close
                .get_or_insert_with(|| Close::to_client(code, reason)),
        )
    }

    /// The client has its Close frame.
    pub(super) fn told(&mut self) {
        self.leaving.told();
    }

    /// Whether the client was told and has said its own Close, whichever came first.
    pub(super) fn is_answered(&self) -> bool {
        self.leaving.is_told() && self.from_client.is_closed()
    }

    /// How many of these bytes of the endpoint's may go to the client.
    pub(super) fn how_many(&self, data: &[u8]) -> usize {
        if self.leaving.is_told() {
            0
        } else if self.leaving.is_due() {
            self.from_endpoint.until_boundary(data)
        } else {
            data.len()
        }
    }

    /// The client has not answered: the endpoint is told that it is gone, where a frame of the
    /// client's has ended.
    pub(super) fn give_up(&mut self) {
        if self.from_client.is_at_boundary() && !self.from_client.is_closed() {
            let key = (self.chance as u32).to_be_bytes();
            self.to_endpoint = Some(Close::to_server(GOING_AWAY, "", key));
        }
    }
}
