//! Whether a request is sent again, and where to. Pure: the way asks it after each failure.

use std::time::Duration;

use outgrow_core::{Cause, Fault, Phase, Sent, Side, Ticks};
use outgrow_upstream::EndpointId;

/// Attempts at one request, whatever the reasons.
const ATTEMPTS: u8 = 4;
/// A connection that ends this soon after a request was put on it had been closed by then, as far
/// as can be told. Later the request itself may be the reason.
const STALE_WITHIN: Duration = Duration::from_millis(50);

/// How an attempt failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    /// It was made on a connection of the pool.
    pub(super) reused: bool,
    /// Not a byte of a response came.
    pub(super) silent: bool,
    /// From the connection being there to the failure.
    pub(super) took: Duration,
}

impl Failure {
    /// Whether the server had closed a connection that was idle: no sign of trouble.
    pub(super) fn is_stale(&self) -> bool {
        self.reused
            && self.silent
            && self.took < STALE_WITHIN
            && self.fault.phase != Phase::Connect
            && self.fault.side == Side::Upstream
            && matches!(
                self.fault.cause,
                Cause::UpstreamClosed | Cause::UpstreamReset
            )
    }
}

/// What is known after the attempts so far.
#[derive(Debug)]
pub(super) struct Retries {
    /// Whether it may be executed twice.
    pub(super) repeatable: bool,
    /// The client stays at an endpoint.
    stays: bool,
    /// A failed attempt may have been executed: there is one more at most.
    repeated: bool,
    /// Times that it was sent again.
    pub(super) sent_again: u8,
    /// The next attempt takes no connection of the pool: what closed one may have closed all.
    pub(super) new_connection: bool,
    /// Endpoints at which it failed; empty, and without memory, for nearly all requests.
    pub(super) avoid: Vec<EndpointId>,
    pub(super) deadline: Ticks,
    /// Whether the client has said when.
    pub(super) is_clients: bool,
}

impl Retries {
    pub(super) fn new(
        repeatable: bool,
        stays: bool,
        (deadline, is_clients): (Ticks, bool),
    ) -> Self {
        Self {
            repeatable,
            stays,
            repeated: false,
            sent_again: 0,
            new_connection: false,
            avoid: Vec::new(),
            deadline,
            is_clients,
        }
    }

    /// Whether it may be executed once more.
    pub(super) fn may_repeat(&self) -> bool {
        self.repeatable && !self.repeated && self.sent_again + 1 < ATTEMPTS
    }

    /// Whether the request may be sent again after `failure` at `endpoint`. That its body is at hand, and
    /// that nothing of a response went to the client, is the caller's to know.
    pub(super) fn again(&mut self, failure: &Failure, endpoint: EndpointId, now: Ticks) -> bool {
        let fault = failure.fault;
        let untouched = fault.sent == Sent::None;
        let again = (untouched || (self.repeatable && !self.repeated))
            && failure.silent
            && fault.another_may_help()
            && self.sent_again + 1 < ATTEMPTS
            && now < self.deadline;
        self.repeated |= !untouched;
        let stale = failure.is_stale();
        self.new_connection |= stale;
        // An instance that was killed takes connections until its last socket is closed: another
        // one is the better choice. A user who stays is not moved for an old connection's sake.
        if !(stale && self.stays) {
            self.avoid.push(endpoint);
        }
        self.sent_again += u8::from(again);
        again
    }
}
