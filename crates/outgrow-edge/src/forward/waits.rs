//! Who is waited for in an exchange, how long that may take, and whose fault it is when it does.

use std::task::{Context, Poll};
use std::time::Duration;

use outgrow_core::{Cause, Fault, Phase, Sent, Side, Ticks};
use outgrow_http::{Downstream, Upstream};

use super::{Attempt, Done};

/// How long things may take, in one exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Between two pieces of the request's body.
    pub(crate) body_idle: Duration,
    /// From the request sent to the response's head.
    pub(crate) first_byte: Duration,
    /// Between two pieces of the response.
    pub(crate) stream_idle: Duration,
    /// The client takes nothing for so long.
    pub(crate) send_idle: Duration,
    /// When the whole exchange must be over.
    pub(crate) request_deadline: Ticks,
    /// Whether the client has said so: then nobody is to blame.
    pub(crate) is_clients: bool,
}

/// What a poll waits for, which decides how long it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    ClientBody,
    UpstreamWrite,
    UpstreamHead,
    UpstreamBody,
    ClientWrite,
}

impl<D: Downstream, U: Upstream> Attempt<'_, D, U> {
    pub(super) fn request_waits_for_client(&self) -> bool {
        !self.rest.progress.request_ended && self.up.is_flushed()
    }

    pub(super) fn response_waits(&self) -> Waits {
        if !self.rest.progress.answering && self.rest.progress.has_head {
            // What is waited for ends by itself, and the endpoint has nothing to do with it.
            Waits::UpstreamBody
        } else if !self.rest.progress.answering {
            Waits::UpstreamHead
        } else if self.rest.progress.client_behind {
            Waits::ClientWrite
        } else {
            Waits::UpstreamBody
        }
    }

    /// Which timeouts run, and whether one is over.
    pub(super) fn poll_time(
        &mut self,
        cx: &mut Context<'_>,
        request: Option<Waits>,
        response: Waits,
    ) -> Poll<Result<Done, Fault>> {
        let took = self.down.written();
        if response == Waits::ClientWrite && took != self.rest.progress.client_took {
            self.rest.progress.client_took = took;
            self.rest.progress.last = self.rest.progress.now;
        }
        let patience = &self.around.patience;
        let (idle, fault) = match (response, request) {
            (Waits::ClientWrite, _) => (
                patience.send_idle,
                Fault::client(Phase::ResponseBody, Cause::SendTimeout),
            ),
            // Both sides of a call may have nothing to say for a while, and none owes anything.
            (Waits::UpstreamBody, Some(Waits::ClientBody)) if self.rest.is_grpc => (
                patience.body_idle.max(patience.stream_idle),
                Fault::upstream(Phase::ResponseBody, Cause::StreamIdleTimeout, Sent::Maybe),
            ),
            // An endpoint that waits for the client is not to blame for its silence.
            (_, Some(Waits::ClientBody)) => (
                patience.body_idle,
                Fault::client(Phase::RequestBody, Cause::BodyTimeout),
            ),
            (Waits::UpstreamBody, _) => (
                patience.stream_idle,
                Fault::upstream(Phase::ResponseBody, Cause::StreamIdleTimeout, Sent::Maybe),
            ),
            (_, Some(_)) => (
                patience.stream_idle,
                Fault::upstream(Phase::Send, Cause::StreamIdleTimeout, Sent::Maybe),
            ),
            (_, None) => (
                patience.first_byte,
                Fault::upstream(Phase::ResponseHead, Cause::FirstByteTimeout, Sent::Maybe),
            ),
        };
        let deadline = (self.rest.progress.last + idle).min(patience.request_deadline);
        self.around.timer.set(deadline);
        let now = self.rest.progress.now;
        if self.around.timer.poll(cx, now).is_pending() {
            return Poll::Pending;
        }
        if now >= patience.request_deadline {
            // Whoever is waited for is the one to blame, unless the client gave too little time.
            let cause = Cause::RequestTimeout;
            if patience.is_clients {
                return Poll::Ready(Err(Fault {
                    side: Side::Outgrow,
                    cause,
                    ..fault
                }));
            }
            return Poll::Ready(Err(Fault { cause, ..fault }));
        }
        Poll::Ready(Err(fault))
    }
}
