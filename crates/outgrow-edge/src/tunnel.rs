//! After a 101: plain bytes both ways until both sides have ended (WebSocket and its like).

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use outgrow_core::{Cause, Clock, Fault, Phase, Sent, Ticks};
use outgrow_http::conn::{ClientSide, Problem};
use outgrow_http::{Downstream, Tunnel};
use outgrow_message::{Blocks, BodyLength};
use outgrow_net::{Link, Timer, Transport};

/// Silence on both sides after which a tunnel ends: longer than any heartbeat in use.
const IDLE: Duration = Duration::from_secs(3_600);
/// One side has ended and the other is silent: it is given this long.
const HALF_OPEN_IDLE: Duration = Duration::from_secs(30);

/// A tunnel under way.
pub(crate) struct Relay<'a, D> {
    pub(crate) down: &'a mut D,
    pub(crate) side: &'a mut ClientSide,
    pub(crate) stream: &'a mut Link,
    pub(crate) blocks: &'a Arc<Blocks>,
    pub(crate) timer: &'a mut Timer,
    pub(crate) clock: Clock,
    pub(crate) state: RelayState,
}

/// How far a tunnel is.
#[derive(Debug, Default)]
pub(crate) struct RelayState {
    client_ended: bool,
    client_shut: bool,
    upstream_ended: bool,
    upstream_shut: bool,
    /// When something moved last, or a side ended: then the other's time to end begins.
    last: Ticks,
    pub(crate) to_upstream: u64,
    pub(crate) to_client: u64,
}

impl RelayState {
    fn deadline(&self) -> Ticks {
        let half_open = self.client_ended || self.upstream_ended;
        self.last + if half_open { HALF_OPEN_IDLE } else { IDLE }
    }

    fn client_ends(&mut self, now: Ticks) {
        self.client_ended = true;
        self.last = now;
    }

    fn upstream_ends(&mut self, now: Ticks) {
        self.upstream_ended = true;
        self.last = now;
    }
}

impl<D: Downstream + Tunnel> Relay<'_, D> {
    /// Prepares both sides. What the endpoint sent behind its 101 is part of the tunnel.
    pub(crate) fn begin(&mut self) {
        self.side.incoming.begin(BodyLength::Unknown, true);
        self.side.outgoing.begin(false);
        self.state.last = self.clock.now();
    }

    /// Moves bytes until both sides have ended, or one broke, or nothing moved for too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let up = self.poll_up(cx)?;
        let down = self.poll_down(cx)?;
        if up.is_ready() && down.is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.timer.set(self.state.deadline());
        let timed = self.timer.poll(cx, self.clock.now());
        timed.map(|()| Err(Fault::outgrow(Phase::Tunnel, Cause::StreamIdleTimeout)))
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        while !self.state.client_ended {
            match self.down.poll_tunnel_data(cx)? {
                Poll::Ready(true) => {
                    let data = self.down.data();
                    let pushed = self
                        .side
                        .outgoing
                        .poll_push(cx, self.stream, self.blocks, data);
                    let taken = ready!(pushed).map_err(|error| push_fault(&error))?;
                    self.down.consume(taken);
                    self.state.to_upstream += taken as u64;
                    self.state.last = self.clock.now();
                }
                Poll::Ready(false) => self.state.client_ends(self.clock.now()),
                Poll::Pending => {
                    let flushed = self.side.outgoing.poll_flush(cx, self.stream);
                    ready!(flushed).map_err(|_| upstream_gone())?;
                    return Poll::Pending;
                }
            }
        }
        if !self.state.upstream_shut {
            let flushed = self.side.outgoing.poll_flush(cx, self.stream);
            ready!(flushed).map_err(|_| upstream_gone())?;
            // A peer that is gone already cannot be told the end.
            let _ = ready!(self.stream.poll_shutdown(cx));
            self.state.upstream_shut = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        while !self.state.upstream_ended {
            match self.side.incoming.poll_data(cx, self.stream, self.blocks) {
                Poll::Ready(Ok(true)) => {
                    let Poll::Ready(taken) = self.down.poll_push(cx, self.side.incoming.data())
                    else {
                        self.side.incoming.buffer.settle(self.blocks);
                        return Poll::Pending;
                    };
                    let taken = taken?;
                    self.side.incoming.consume(taken);
                    self.state.to_client += taken as u64;
                    self.state.last = self.clock.now();
                }
                Poll::Ready(Ok(false)) => self.state.upstream_ends(self.clock.now()),
                Poll::Ready(Err(Problem::Memory)) => return Poll::Ready(Err(no_memory())),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(upstream_gone())),
                Poll::Pending => {
                    ready!(self.down.poll_flush(cx))?;
                    return Poll::Pending;
                }
            }
        }
        if !self.state.client_shut {
            ready!(self.down.poll_flush(cx))?;
            let _ = ready!(self.down.poll_tunnel_end(cx));
            self.state.client_shut = true;
        }
        Poll::Ready(Ok(()))
    }
}

fn push_fault(error: &std::io::Error) -> Fault {
    match error.kind() {
        std::io::ErrorKind::OutOfMemory => no_memory(),
        _ => upstream_gone(),
    }
}

fn no_memory() -> Fault {
    Fault::outgrow(Phase::Tunnel, Cause::MemoryLimit)
}

fn upstream_gone() -> Fault {
    Fault::upstream(Phase::Tunnel, Cause::UpstreamReset, Sent::Maybe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_other_side_begins_when_one_ends() {
        let quiet = Ticks::ZERO + IDLE / 2;
        for ends in [RelayState::client_ends, RelayState::upstream_ends] {
            let mut state = RelayState::default();
            assert_eq!(state.deadline(), Ticks::ZERO + IDLE);
            ends(&mut state, quiet);
            assert_eq!(state.deadline(), quiet + HALF_OPEN_IDLE);
        }
    }
}
