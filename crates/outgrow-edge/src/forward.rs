//! One attempt at an exchange: the request goes to an endpoint's connection while the response
//! comes back, in one poll function, full duplex.
//!
//! Choosing endpoints, retries and error answers are not here: see [`crate::way`].

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use outgrow_core::{Cause, Fault, Phase, Sent, Ticks};
use outgrow_http::{Downstream, Upstream, grpc, h1};
use outgrow_message::fields::list_members;
use outgrow_message::{Blocks, BodyLength, Fields, Known, RequestHead, ResponseHead};
use outgrow_net::Timer;
use outgrow_upstream::Endpoint;

use crate::compress::Compressing;
use crate::decompress::Decompressing;
use crate::floors::Passage;
use crate::mirror::Copy;
use crate::plan::{ListenerPlan, RoutePlan};
use crate::worker::Worker;

pub(crate) use self::pass::Pass;
pub(crate) use self::replay::Replay;
use self::turns::Turn;
pub(crate) use self::waits::{Credit, Patience};
use self::waits::{HalfClosed, Waits};

mod pass;
mod replace;
mod replay;
mod reports;
mod turns;
mod waits;

#[cfg(test)]
mod tests;

/// Interim responses to one request; an endpoint that sends more does not come to the point.
const INTERIM_LIMIT: usize = 64;

/// What an attempt needs that outlives it.
pub(crate) struct Surroundings<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) blocks: &'a Arc<Blocks>,
    pub(crate) timer: &'a mut Timer,
    pub(crate) patience: Patience,
    pub(crate) route: &'a RoutePlan,
    /// Where the client came; none where the answer is nobody's.
    pub(crate) listener: Option<&'a ListenerPlan>,
    /// The largest request body.
    pub(crate) body_limit: Option<u64>,
}

/// How an attempt ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// The response has ended and is with the client, or, where [`Progress::delivering`] says so, what is
    /// left of it is here; the endpoint's connection can be used again or not.
    Answered { reusable: bool },
    /// Its answer is an error in whose place a page goes: nothing of it went to the client.
    Replaced { reusable: bool },
    /// The endpoint answered 101: both sides are plain bytes now.
    Switched,
}

/// What an attempt works with of the exchange's state.
pub(crate) struct Rest<'a> {
    pub(crate) request: &'a RequestHead,
    /// Whether it is a gRPC call, whose status stands in the response's trailers.
    pub(crate) is_grpc: bool,
    /// Whether the client may send its body as it likes: a call, between sides that can have one.
    pub(crate) is_streaming: bool,
    pub(crate) response: &'a mut ResponseHead,
    pub(crate) replay: &'a mut Replay,
    pub(crate) progress: &'a mut Progress,
    /// The copy for a mirror, until the request has ended.
    pub(crate) copy: &'a mut Option<Box<Copy>>,
    /// A `Set-Cookie` of ours; empty is none.
    pub(crate) set_cookie: &'a [u8],
    /// What is known of the user's writes.
    pub(crate) passage: &'a mut Option<Box<Passage>>,
    /// How the request's body is decompressed.
    pub(crate) decompressing: &'a mut Decompressing,
    /// How the response is compressed.
    pub(crate) compressing: &'a mut Compressing,
}

/// One attempt under way.
pub(crate) struct Attempt<'a, D, U> {
    pub(crate) around: Surroundings<'a>,
    pub(crate) rest: Rest<'a>,
    /// Whose reports of load are taken from the answers, where that is wanted.
    pub(crate) reporter: Option<&'a Endpoint>,
    /// The endpoint's side, on which the request's head is on its way.
    pub(crate) up: &'a mut U,
    pub(crate) down: &'a mut D,
    /// Whether the request may be sent again, so that its body is worth keeping.
    pub(crate) keep_body: bool,
    /// Whether a gRPC call that was answered UNAVAILABLE, and nothing else, may be sent again.
    pub(crate) may_repeat: bool,
}

/// What happened in an attempt, for the record and for what follows from a fault.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    replayed: usize,
    request_ended: bool,
    request_sent: bool,
    send_broken: bool,
    has_head: bool,
    answering: bool,
    response_ended: bool,
    /// When the attempt began: its connection was there.
    pub(crate) began: Ticks,
    /// A page goes in the place of the answer.
    pub(crate) replaced: bool,
    /// When something moved last.
    last: Ticks,
    /// Since when the request waits for ourselves and nothing of it has moved; zero while it does not.
    ours_since: Ticks,
    /// What had moved of it by then: as it was sent, and as it goes on.
    ours_moved: (u64, u64),
    /// All that is left of the response is here and waits for the client: the endpoint has done its part.
    pub(crate) delivering: bool,
    /// The client has not taken all that it was given.
    client_behind: bool,
    /// What the client had taken when that was looked at last.
    client_took: u64,
    /// The client has closed its side.
    closed: HalfClosed,
    /// For how long it may yet be waited for to take what it is given.
    pub(crate) taking: Credit,
    /// The same for its body.
    sending: Credit,
    /// What had come of its body, as it was sent, when that was looked at last.
    client_sent: u64,
    /// When this poll began: read once, exact enough for all that is timed here.
    pub(crate) now: Ticks,
    /// Interim responses that came.
    interim: usize,
    /// An interim response went to the client.
    pub(crate) interim_forwarded: bool,
    /// Any byte of a response came.
    pub(crate) any_received: bool,
    /// When the request was sent whole.
    pub(crate) sent_at: Ticks,
    /// When the response's head was there.
    pub(crate) first_byte_at: Ticks,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    /// The status of a gRPC call.
    pub(crate) grpc_status: Option<u8>,
    /// How long the endpoint says it keeps the connection.
    pub(crate) keep_alive: Option<Duration>,
}

impl Progress {
    /// Begins an attempt at `now`, which sends what is kept of the body first.
    pub(crate) fn begin(&mut self, now: Ticks, kept: &Replay) {
        *self = Self {
            began: now,
            last: now,
            closed: self.closed,
            request_bytes: kept.bytes().len() as u64,
            ..Self::default()
        };
    }

    /// The exchange is over: what its client has closed is not the next one's.
    pub(crate) fn forget_client(&mut self) {
        self.closed = HalfClosed::default();
    }

    /// Takes note of the status that stands behind a call.
    fn note_trailers(&mut self, is_grpc: bool, trailers: Option<&Fields>) {
        if let (true, Some(trailers)) = (is_grpc, trailers) {
            self.grpc_status = grpc::status(trailers);
        }
    }

    /// An interim answer of ours waits to be handed over.
    pub(crate) fn note_interim(&mut self) {
        self.interim += 1;
    }
}

impl<D: Downstream, U: Upstream> Attempt<'_, D, U> {
    /// Drives both directions until the response is with the client, or something fails.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Done, Fault>> {
        // The first poll follows at once upon the moment at which the attempt began.
        self.rest.progress.now = match self.rest.progress.now {
            Ticks::ZERO => self.rest.progress.began,
            _ => self.around.worker.now(),
        };
        self.rest.progress.taking.stop(self.rest.progress.now);
        self.rest.progress.sending.stop(self.rest.progress.now);
        let waits_for_request = match self.poll_request(cx) {
            Poll::Ready(Ok(())) => None,
            Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
            Poll::Pending => Some(self.request_waits()),
        };
        let waits_for_response = match self.poll_response(cx) {
            Poll::Ready(result) => return Poll::Ready(result),
            Poll::Pending => self.response_waits(),
        };
        let mut closed_until = Ticks::NEVER;
        // Who waits for room is not to get it in the place of others when it has left.
        let waits_for_room = self.rest.decompressing.room_until().is_some();
        if !(self.rest.progress.request_ended || waits_for_room) {
            // Its body is taken again: only when that is over the answer is all that there is for it.
            self.rest.progress.forget_client();
        } else if let Poll::Ready(fault) = self.down.poll_gone(cx) {
            let progress = &mut *self.rest.progress;
            let waits = progress.client_behind.then_some(Waits::ClientWrite);
            let half = self.down.is_half_closed();
            if !half
                || progress
                    .closed
                    .is_over(waits, self.down.written(), progress.now)
            {
                return Poll::Ready(Err(fault));
            }
            closed_until = progress.closed.deadline();
        }
        self.poll_time(cx, (waits_for_request, waits_for_response), closed_until)
    }

    /// Moves the request: what is kept of its body, then what comes from the client.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if self.rest.progress.request_sent || self.rest.progress.send_broken {
            return Poll::Ready(Ok(()));
        }
        let moved = self.poll_request_body(cx);
        match moved {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(fault)) if fault.side == outgrow_core::Side::Upstream => {
                // The endpoint may have answered before it closed: its answer is read first.
                self.rest.progress.send_broken = true;
                self.leave_body();
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
            Poll::Pending => return Poll::Pending,
        }
        self.rest.progress.request_sent = true;
        self.rest.progress.sent_at = self.rest.progress.now;
        self.rest.progress.last = self.rest.progress.now;
        Poll::Ready(Ok(()))
    }

    /// Nothing more of the body is sent in this attempt; where the answer has begun there is no other one.
    fn leave_body(&mut self) {
        match self.rest.progress.answering {
            true => self.rest.decompressing.close(),
            false => self.rest.decompressing.rest(),
        }
    }

    fn poll_request_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let blocks = self.around.blocks;
        while self.rest.progress.replayed < self.rest.replay.bytes().len() {
            let rest = &self.rest.replay.bytes()[self.rest.progress.replayed..];
            let taken = ready!(self.up.poll_push(cx, rest))?;
            self.rest.progress.replayed += taken;
        }
        let mut turn = Turn::default();
        while !self.rest.progress.request_ended {
            ready!(turn.poll_next(cx));
            match self.rest.decompressing.poll_data(cx, self.down) {
                Poll::Ready(Ok(true)) => {
                    let data = self.rest.decompressing.data(self.down);
                    let so_far = self.rest.progress.request_bytes + data.len() as u64;
                    if self.around.body_limit.is_some_and(|limit| so_far > limit) {
                        let fault = Fault::client(Phase::RequestBody, Cause::BodyTooLarge);
                        return Poll::Ready(Err(fault));
                    }
                    let Poll::Ready(taken) = self.up.poll_push(cx, data) else {
                        self.down.settle(cx);
                        return Poll::Pending;
                    };
                    let taken = taken?;
                    self.rest
                        .replay
                        .keep(&data[..taken], self.keep_body, blocks);
                    if let Some(copy) = self.rest.copy
                        && !copy.keep(&data[..taken])
                    {
                        *self.rest.copy = None;
                    }
                    self.rest.progress.replayed = self.rest.replay.bytes().len();
                    self.rest.progress.request_bytes += taken as u64;
                    self.rest.progress.last = self.rest.progress.now;
                    self.rest.decompressing.consume(self.down, taken);
                }
                Poll::Ready(Ok(false)) => {
                    self.rest.progress.request_ended = true;
                    if let Some(copy) = self.rest.copy.take() {
                        copy.send();
                    }
                    let trailers = self.rest.decompressing.trailers(self.down);
                    self.up.finish(trailers.map(|fields| &*fields))?;
                }
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                Poll::Pending => {
                    if self.rest.decompressing.is_stalled() {
                        // Others of the same connection may be who it waits for.
                        self.down.settle(cx);
                    }
                    ready!(self.up.poll_flush(cx))?;
                    return Poll::Pending;
                }
            }
        }
        self.up.poll_flush(cx)
    }

    /// Moves the response: its heads, then its body.
    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<Done, Fault>> {
        while !self.rest.progress.answering {
            if self.rest.progress.interim > 0 {
                // The client may wait for it (100 Continue) before it sends its body.
                ready!(self.down.poll_flush(cx))?;
            }
            if !self.rest.progress.has_head {
                let head = self.up.poll_head(cx, self.rest.request, self.rest.response);
                self.rest.progress.any_received |= self.up.any_received();
                ready!(head)?;
                self.rest.progress.has_head = true;
                self.rest.progress.last = self.rest.progress.now;
            }
            match self.rest.response.status {
                101 => return Poll::Ready(self.switch()),
                100..=199 => {
                    self.rest.progress.has_head = false;
                    self.forward_interim()?;
                }
                _ => {
                    if self.rest.is_grpc {
                        self.note_status()?;
                    }
                    if let Some(passage) = self.rest.passage {
                        let cells = &self.around.worker.cells().floors;
                        ready!(passage.poll_head(cx, &mut self.rest.response.fields, cells));
                    }
                    if self.is_replaced() {
                        return Poll::Ready(Ok(self.replace(cx)));
                    }
                    self.begin_answer()?;
                }
            }
        }
        ready!(self.poll_body(cx))?;
        let progress = &self.rest.progress;
        let is_clean = !progress.response_ended || self.up.is_clean();
        let reusable = self.rest.response.keep_alive && progress.request_sent && is_clean;
        Poll::Ready(Ok(Done::Answered { reusable }))
    }

    fn forward_interim(&mut self) -> Result<(), Fault> {
        if self.rest.progress.interim == INTERIM_LIMIT {
            return Err(head_fault(Cause::UpstreamBadResponse));
        }
        self.rest.progress.interim += 1;
        self.rest.response.fields.remove_hop_by_hop();
        self.down.interim(self.rest.response)?;
        self.rest.progress.interim_forwarded = true;
        Ok(())
    }

    fn switch(&mut self) -> Result<Done, Fault> {
        if self.rest.request.wants_upgrade && self.rest.progress.request_sent && self.is_asked_for()
        {
            self.rest.progress.first_byte_at = self.rest.progress.last;
            return Ok(Done::Switched);
        }
        Err(head_fault(Cause::UpstreamBadResponse))
    }

    /// Whether a 101 names a protocol, and none but those that were asked for.
    fn is_asked_for(&self) -> bool {
        let asked = self.rest.request.text(self.rest.request.upgrade_to);
        let mut named = list_members(self.rest.response.fields.values(Known::Upgrade)).peekable();
        named.peek().is_some()
            && named.all(|one| {
                list_members(std::iter::once(asked)).any(|other| other.eq_ignore_ascii_case(one))
            })
    }

    /// Takes note of the status of a call that ended with its head.
    fn note_status(&mut self) -> Result<(), Fault> {
        let response = &self.rest.response;
        if !response.length.is_empty() {
            return Ok(());
        }
        let status = grpc::status(&response.fields);
        self.rest.progress.grpc_status = status;
        let progress = &self.rest.progress;
        let may_repeat = self.may_repeat
            && !self.rest.replay.is_lost()
            && !progress.interim_forwarded
            && progress.now < self.around.patience.request_deadline;
        if may_repeat && status == Some(grpc::UNAVAILABLE) {
            return Err(head_fault(Cause::UpstreamUnavailable));
        }
        Ok(())
    }

    fn begin_answer(&mut self) -> Result<(), Fault> {
        self.rest.progress.first_byte_at = self.rest.progress.last;
        self.rest.progress.keep_alive =
            h1::response::keep_alive_timeout(&self.rest.response.fields);
        self.rest.response.fields.remove_hop_by_hop();
        if let Some(endpoint) = self.reporter {
            reports::take(&mut self.rest.response.fields, endpoint);
        }
        self.around.worker.put_date(&mut self.rest.response.fields);
        if let Some(listener) = self.around.listener {
            listener.put_own(&mut self.rest.response.fields);
        }
        self.around
            .route
            .edit_response(&mut self.rest.response.fields);
        if !self.rest.set_cookie.is_empty() {
            self.rest
                .response
                .fields
                .push(b"Set-Cookie", self.rest.set_cookie);
        }
        self.up.begin_body(self.rest.response);
        if !self.rest.progress.request_ended {
            // The rest of the request may never be read: the client is told not to send another.
            self.down.close_after();
        }
        let method = self.rest.request.method;
        let compress = self.around.route.compress.as_ref();
        let worker = self.around.worker;
        let response = &mut *self.rest.response;
        let length = self
            .rest
            .compressing
            .begin(compress, response, method, worker);
        self.down.respond(response, length, method)?;
        self.rest.progress.answering = true;
        if self.rest.progress.send_broken {
            self.leave_body();
        }
        if self.rest.progress.replayed == self.rest.replay.bytes().len() {
            // It is not sent again any more.
            self.rest.replay.give_up();
        }
        Ok(())
    }

    /// Moves the body as far as it goes; then it is known who is waited for. Done when the endpoint is:
    /// what the client has still to take is not its concern, as long as that may wait in memory: nothing else
    /// but the permit bounds how much it is.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let rest = &mut self.rest;
        let mut pass = Pass {
            down: self.down,
            compressing: rest.compressing,
            progress: rest.progress,
            is_grpc: rest.is_grpc,
        };
        let passed = pass.poll(cx, self.up);
        if passed.is_ready() || !rest.progress.client_behind {
            return passed;
        }
        self.up.settle();
        // What is left of the request goes on meanwhile: the client may read only after it.
        let is_ours = rest.progress.request_sent && self.down.has_end();
        if !(is_ours && self.around.blocks.ledger().may_let_wait())
            || !(rest.progress.response_ended || self.up.is_whole(cx))
        {
            return Poll::Pending;
        }
        rest.progress.delivering = true;
        let trailers = self.up.trailers();
        rest.progress
            .note_trailers(rest.is_grpc, trailers.map(|fields| &*fields));
        Poll::Ready(Ok(()))
    }
}

fn head_fault(cause: Cause) -> Fault {
    Fault::upstream(Phase::ResponseHead, cause, Sent::Maybe)
}

/// Longest body of a request that an endpoint's machine takes before its application reads: less
/// than the window with which Linux begins (64 KiB).
const UNREAD: u64 = 16 * 1024;

/// Whether an endpoint that is slow to read may leave a part of such a body unsent. Then its
/// machine may not be taken for gone by that, and the exchange's own times have to do.
pub(crate) fn is_long(body: BodyLength) -> bool {
    match body {
        BodyLength::Empty => false,
        BodyLength::Known(length) => length > UNREAD,
        BodyLength::Unknown => true,
    }
}
