//! Both directions of a connection in one poll function, until both have ended or one side broke,
//! or one of the times is over.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_net::{Stream, Timer};
use outgrow_upstream::{Endpoint, connect};

use super::flow::{Broken, Flow, Supply};
use crate::end::End;
use crate::metrics::Cells;
use crate::plan::ListenerPlan;
use crate::settings::EndpointDown;
use crate::shared::Drain;
use crate::worker::Worker;

/// When memory is asked for again, after none was to be had.
const SHORT: Duration = Duration::from_millis(50);

/// How old a connection is when the system is told to watch its endpoint's machine: system calls that
/// those which are soon over do without. What is asked for is in force from the beginning, since the
/// system counts from what was heard last.
const WATCH_AFTER: Duration = Duration::from_secs(2);

/// For how long the system tries to send what is not acknowledged, if nobody says anything else
/// (`tcp_retries2`): about.
const SYSTEM_TRIES: Duration = Duration::from_secs(15 * 60);

/// When the endpoint's machine is to be watched, and how.
///
/// What is sent may stay unacknowledged for as long as the system tries, or for the idle time where that is
/// shorter (`TCP_USER_TIMEOUT`). A limit below it would take a peer whose window is full for one that is
/// silent; and where there is one, the system goes by it also when it asks who has nothing to acknowledge,
/// however often that one has not answered (`tcp_keepalive_timer`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Vigil {
    at: Ticks,
    unacknowledged: Duration,
    silence: Option<Duration>,
}

impl Vigil {
    /// For a connection that begins now, and may be idle for so long. `unacknowledged` zero: by the
    /// system's own times.
    pub(super) fn new(unacknowledged: Duration, idle: Duration, now: Ticks) -> Self {
        let at = match unacknowledged {
            Duration::ZERO => Ticks::NEVER,
            _ => now + WATCH_AFTER.min(unacknowledged),
        };
        Self {
            at,
            unacknowledged,
            silence: Some(idle.max(unacknowledged)).filter(|silence| *silence < SYSTEM_TRIES),
        }
    }

    fn look(&mut self, upstream: &Stream, now: Ticks) {
        if now >= self.at {
            self.at = Ticks::NEVER;
            connect::watch_idle_peer(upstream, self.unacknowledged);
            if let Some(silence) = self.silence {
                connect::limit_silence(upstream, silence);
            }
        }
    }
}

/// A connection under way.
pub(super) struct Relay<'a> {
    pub(super) worker: &'a Worker,
    pub(super) plan: &'a ListenerPlan,
    pub(super) endpoint: &'a Arc<Endpoint>,
    pub(super) client: &'a mut Stream,
    pub(super) upstream: &'a mut Stream,
    pub(super) timer: &'a mut Timer,
    pub(super) vigil: Vigil,
    pub(super) cells: &'a Cells,
    /// From the client to the endpoint.
    pub(super) up: Flow,
    /// From the endpoint to the client.
    pub(super) down: Flow,
    /// When something moved last.
    pub(super) last: Ticks,
    /// When it has been open for as long as it may.
    pub(super) until: Ticks,
}

impl Relay<'_> {
    /// Moves bytes until it is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let now = self.worker.now();
            if let Poll::Ready(end) = self.poll_once(cx, now) {
                return Poll::Ready(end);
            }
            if let Some(end) = self.ordered(now) {
                return Poll::Ready(end);
            }
            self.vigil.look(self.upstream, now);
            let mut wanted = self.deadline().min(self.vigil.at);
            if self.up.is_short || self.down.is_short {
                wanted = wanted.min(now + SHORT);
            }
            self.timer.set(wanted);
            // Due: what it is due for is looked at anew.
            if self.timer.poll(cx, now).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn poll_once(&mut self, cx: &mut Context<'_>, now: Ticks) -> Poll<End> {
        let supply = Supply {
            blocks: &self.worker.blocks,
            pipes: &self.worker.pipes,
        };
        let before = (self.up.bytes, self.down.bytes, self.has_half_ended());
        self.up.is_last = self.down.has_passed_on_end();
        let up = self.up.poll(cx, self.client, self.upstream, supply);
        self.down.is_last = self.up.has_passed_on_end();
        let down = self.down.poll(cx, self.upstream, self.client, supply);
        let after = (self.up.bytes, self.down.bytes, self.has_half_ended());
        if after != before {
            self.last = now;
            self.cells.received_bytes.add(after.0 - before.0);
            self.cells.sent_bytes.add(after.1 - before.1);
        }
        match (up, down) {
            // What the endpoint said before it broke is with the client, as far as it could be.
            (_, Poll::Ready(Err(_))) => Poll::Ready(End::EndpointReset),
            (Poll::Ready(Err(Broken::Forged)), _) => Poll::Ready(End::ProxyUntrusted),
            (Poll::Ready(Err(_)), _) => Poll::Ready(End::ClientReset),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                Poll::Ready(match (self.up.is_broken, self.down.is_broken) {
                    (false, false) => End::Finished,
                    (true, _) => End::EndpointReset,
                    (_, true) => End::ClientReset,
                })
            }
            _ => Poll::Pending,
        }
    }

    /// Whether one side has ended its direction.
    fn has_half_ended(&self) -> bool {
        self.up.has_ended() || self.down.has_ended()
    }

    fn deadline(&self) -> Ticks {
        let timeouts = &self.plan.timeouts;
        let idle = match timeouts.half_closed {
            Some(half_closed) if self.has_half_ended() => half_closed,
            _ => timeouts.idle,
        };
        self.until.min(self.last + idle)
    }

    /// Why it is to end now, if it is.
    fn ordered(&self, now: Ticks) -> Option<End> {
        if now >= self.until {
            return Some(End::Lifetime);
        }
        if now >= self.deadline() {
            return Some(End::IdleTimeout);
        }
        if self.worker.shared.drain() == Drain::Over {
            return Some(End::Drained);
        }
        let resets = self.plan.endpoint_down == EndpointDown::Reset;
        (resets && self.endpoint.is_down()).then_some(End::EndpointDown)
    }
}
