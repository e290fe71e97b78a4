//! After a 101: bytes both ways until both sides have ended (WebSocket and its like).
//!
//! Of a WebSocket the borders of frames are followed, so that it can be told its end (`websocket`);
//! what its frames hold is nobody's business here. Other protocols are bytes.

mod fault;
pub(crate) mod handshake;
pub(crate) mod leaving;
mod websocket;

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use outgrow_core::{Clock, Fault, Ticks};
use outgrow_http::conn::ClientSide;
use outgrow_http::{Downstream, Tunnel};
use outgrow_message::{Blocks, BodyLength};
use outgrow_net::{Link, Timer, Transport};
use outgrow_upstream::LongStay;

use crate::metrics::TunnelCells;
use crate::worker::Shared;
use fault::{idle_fault, push_fault, read_fault, upstream_gone};

pub(crate) use websocket::WebSocket;

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
    pub(crate) shared: &'a Shared,
    /// Its endpoint, which may have to be left.
    pub(crate) stay: LongStay,
    /// Silence on both sides after which it ends.
    pub(crate) idle: Duration,
    pub(crate) state: RelayState,
}

/// How far a tunnel is.
#[derive(Debug, Default)]
pub(crate) struct RelayState {
    client_ended: bool,
    client_shut: bool,
    upstream_ended: bool,
    upstream_shut: bool,
    /// The client takes nothing more, and may still say something. What the endpoint says is thrown away.
    unwanted: Option<Fault>,
    /// When something moved last, or a side ended: then the other's time to end begins.
    last: Ticks,
    pub(crate) to_upstream: u64,
    pub(crate) to_client: u64,
    /// What is known of it, if it is one.
    pub(crate) websocket: Option<Box<WebSocket>>,
}

impl RelayState {
    /// Of a WebSocket, or of something that is not known.
    pub(crate) fn new(websocket: Option<WebSocket>) -> Self {
        Self {
            websocket: websocket.map(Box::new),
            ..Self::default()
        }
    }

    fn deadline(&self, idle: Duration) -> Ticks {
        let half_open = self.is_half_open();
        let silence = self.last + if half_open { HALF_OPEN_IDLE } else { idle };
        match &self.websocket {
            Some(websocket) if !half_open => websocket.deadline(silence),
            _ => silence,
        }
    }

    fn is_half_open(&self) -> bool {
        self.client_ended || self.upstream_ended || self.unwanted.is_some()
    }

    fn client_ends(&mut self, now: Ticks) {
        self.client_ended = true;
        self.last = now;
    }

    fn upstream_ends(&mut self, now: Ticks) {
        self.upstream_ended = true;
        self.last = now;
    }

    fn client_wants_no_more(&mut self, why: Fault, now: Ticks) {
        self.unwanted = Some(why);
        self.last = now;
    }

    /// Both sides are ended, whatever they still say.
    fn both_end(&mut self, now: Ticks) {
        self.client_ends(now);
        self.upstream_ends(now);
    }

    /// Time has passed; whether something is to be done that was not before.
    fn time_passes(&mut self, now: Ticks, idle: Duration) -> bool {
        if self.is_half_open() {
            return false;
        }
        let is_idle = self.last + idle <= now;
        let Some(websocket) = &mut self.websocket else {
            return false;
        };
        if websocket.is_over(now) {
            websocket.give_up();
            self.both_end(now);
            return true;
        }
        websocket.time_passes(now, is_idle)
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
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        cells: &TunnelCells,
    ) -> Poll<Result<(), Fault>> {
        loop {
            let now = self.clock.now();
            if let Some(websocket) = &mut self.state.websocket {
                let part = self.stay.part(cx);
                websocket.look(leaving::sooner(self.shared.draining(), part), now);
            }
            let up = self.poll_up(cx)?;
            let down = self.poll_down(cx, cells)?;
            if up.is_ready() && down.is_ready() {
                let told = self.state.websocket.as_ref().and_then(|one| one.fault());
                return Poll::Ready(self.state.unwanted.or(told).map_or(Ok(()), Err));
            }
            if self.state.unwanted.is_none() && self.is_unwanted(cx) {
                // What the endpoint has said may have waited for the client.
                continue;
            }
            self.timer.set(self.state.deadline(self.idle));
            let now = self.clock.now();
            ready!(self.timer.poll(cx, now));
            if !self.state.time_passes(now, self.idle) {
                return Poll::Ready(Err(self.state.unwanted.unwrap_or_else(idle_fault)));
            }
        }
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
                    let Poll::Ready(pushed) = pushed else {
                        self.down.settle(cx);
                        return Poll::Pending;
                    };
                    let taken = pushed.map_err(|error| push_fault(&error))?;
                    if let Some(websocket) = &mut self.state.websocket {
                        websocket.from_client.pass(&data[..taken]);
                    }
                    self.down.consume(taken);
                    self.state.to_upstream += taken as u64;
                    self.state.last = self.clock.now();
                    self.end_if_answered();
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
            ready!(self.poll_close_upstream(cx))?;
            let flushed = self.side.outgoing.poll_flush(cx, self.stream);
            ready!(flushed).map_err(|_| upstream_gone())?;
            // A peer that is gone already cannot be told the end.
            let _ = ready!(self.stream.poll_shutdown(cx));
            self.state.upstream_shut = true;
        }
        Poll::Ready(Ok(()))
    }

    /// A client that was told and has answered says nothing more.
    fn end_if_answered(&mut self) {
        if self.is_answered() {
            self.state.client_ends(self.clock.now());
        }
    }

    fn is_answered(&self) -> bool {
        let websocket = self.state.websocket.as_ref();
        websocket.is_some_and(|one| one.is_answered())
    }

    /// It has nothing more to hear either. The endpoint is read to its end all the same: closed with
    /// something unread, the connection would be reset, and what the client said last be lost.
    fn poll_shut_answered(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if self.is_answered() && !self.state.client_shut {
            ready!(self.down.poll_flush(cx))?;
            let _ = ready!(self.down.poll_tunnel_end(cx));
            self.state.client_shut = true;
            if !self.state.client_ended {
                self.state.client_ends(self.clock.now());
                // The other direction has been looked at already.
                cx.waker().wake_by_ref();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The Close frame for an endpoint whose client has not sent one.
    fn poll_close_upstream(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let close = self.state.websocket.as_mut();
        let Some(close) = close.and_then(|one| one.to_endpoint.as_mut()) else {
            return Poll::Ready(Ok(()));
        };
        while !close.rest().is_empty() {
            let pushed = self
                .side
                .outgoing
                .poll_push(cx, self.stream, self.blocks, close.rest());
            let taken = ready!(pushed).map_err(|error| push_fault(&error))?;
            close.take(taken);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_down(&mut self, cx: &mut Context<'_>, cells: &TunnelCells) -> Poll<Result<(), Fault>> {
        if self.state.unwanted.is_none() {
            match self.poll_to_client(cx, cells) {
                Poll::Ready(Err(_)) if self.is_unwanted(cx) => {}
                moved => return moved,
            }
        }
        self.poll_to_nobody(cx)
    }

    /// Looks whether the client takes nothing more.
    fn is_unwanted(&mut self, cx: &mut Context<'_>) -> bool {
        let Poll::Ready(why) = self.down.poll_unwanted(cx) else {
            return false;
        };
        self.state.client_wants_no_more(why, self.clock.now());
        true
    }

    /// What the client said last still reaches an endpoint that is slow, or that says something before it
    /// hears: it is read to its end. That is nothing that moves: it may go on for ever.
    fn poll_to_nobody(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        while !self.state.upstream_ended {
            let read = self.side.incoming.poll_data(cx, self.stream, self.blocks);
            if ready!(read).map_err(|problem| read_fault(&problem))? {
                self.throw_away();
            } else {
                self.state.upstream_ends(self.clock.now());
            }
        }
        self.state.client_shut = true;
        Poll::Ready(Ok(()))
    }

    fn throw_away(&mut self) {
        let count = self.side.incoming.data().len();
        self.side.incoming.consume(count);
    }

    fn poll_to_client(
        &mut self,
        cx: &mut Context<'_>,
        cells: &TunnelCells,
    ) -> Poll<Result<(), Fault>> {
        while !self.state.upstream_ended {
            ready!(self.poll_tell(cx, cells))?;
            ready!(self.poll_shut_answered(cx))?;
            match self.side.incoming.poll_data(cx, self.stream, self.blocks) {
                Poll::Ready(Ok(true)) => {
                    let data = self.side.incoming.data();
                    let websocket = self.state.websocket.as_ref();
                    let count = websocket.map_or(data.len(), |one| one.how_many(data));
                    if count == 0 {
                        // It was told its end: nothing may follow.
                        self.throw_away();
                        continue;
                    }
                    let Poll::Ready(taken) = self.down.poll_push(cx, &data[..count]) else {
                        self.side.incoming.buffer.settle(self.blocks);
                        return Poll::Pending;
                    };
                    let taken = taken?;
                    if let Some(websocket) = &mut self.state.websocket {
                        websocket.from_endpoint.pass(&data[..taken]);
                    }
                    self.side.incoming.consume(taken);
                    self.state.to_client += taken as u64;
                    self.state.last = self.clock.now();
                }
                Poll::Ready(Ok(false)) => self.state.upstream_ends(self.clock.now()),
                Poll::Ready(Err(problem)) => return Poll::Ready(Err(read_fault(&problem))),
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

    /// Tells the client its end, when that is due and a frame has just ended.
    fn poll_tell(&mut self, cx: &mut Context<'_>, cells: &TunnelCells) -> Poll<Result<(), Fault>> {
        let Some(websocket) = &mut self.state.websocket else {
            return Poll::Ready(Ok(()));
        };
        let Some(close) = websocket.due_close() else {
            return Poll::Ready(Ok(()));
        };
        while !close.rest().is_empty() {
            let taken = ready!(self.down.poll_push(cx, close.rest()))?;
            close.take(taken);
        }
        websocket.told();
        cells.told.add(1);
        self.down.poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(3_600);

    #[test]
    fn the_time_of_the_other_side_begins_when_one_ends() {
        let quiet = Ticks::ZERO + IDLE / 2;
        let wants_no_more: fn(&mut _, _) =
            |state: &mut RelayState, now| state.client_wants_no_more(upstream_gone(), now);
        let ends = [RelayState::client_ends, RelayState::upstream_ends];
        for ends in ends.into_iter().chain([wants_no_more]) {
            let mut state = RelayState::default();
            assert_eq!(state.deadline(IDLE), Ticks::ZERO + IDLE);
            ends(&mut state, quiet);
            assert_eq!(state.deadline(IDLE), quiet + HALF_OPEN_IDLE);
            assert!(!state.time_passes(quiet + HALF_OPEN_IDLE, IDLE));
        }
    }

    #[test]
    fn an_idle_websocket_is_told_and_then_ended() {
        let mut state = RelayState::new(Some(WebSocket::new(1)));
        let idle = Ticks::ZERO + IDLE;
        assert!(state.time_passes(idle, IDLE));
        let websocket = state.websocket.as_mut().expect("it is one");
        assert!(websocket.due_close().is_some() && websocket.fault().is_some());
        websocket.told();
        assert_eq!(state.deadline(IDLE), idle + Duration::from_secs(5));
        assert!(state.time_passes(idle + Duration::from_secs(5), IDLE));
        assert!(state.client_ended && state.upstream_ended);
    }
}
