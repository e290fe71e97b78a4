//! One attempt at an exchange: the request goes to an endpoint's connection while the response
//! comes back, in one poll function, full duplex.
//!
//! Choosing endpoints, retries and error answers are not here: see [`crate::way`].

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use outgrow_core::{Cause, Fault, Phase, Sent, Ticks};
use outgrow_http::Downstream;
use outgrow_http::conn::{Incoming, Outgoing, Problem};
use outgrow_http::h1::scan::Scan;
use outgrow_http::h1::{self, Limits, Parsed};
use outgrow_message::fields::list_members;
use outgrow_message::{Blocks, BodyLength, Known, RequestHead, ResponseHead};
use outgrow_net::{Link, Timer};
use outgrow_upstream::Endpoint;

use crate::compress::Compressing;
use crate::floors::Passage;
use crate::mirror::Copy;
use crate::plan::{ListenerPlan, RoutePlan};
use crate::worker::Worker;

pub(crate) use self::replay::Replay;
pub(crate) use self::waits::Patience;
use self::waits::Waits;

mod replace;
mod replay;
mod reports;
mod waits;

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
    /// The response is with the client; the endpoint's connection can be used again or not.
    Answered { reusable: bool },
    /// Its answer is an error in whose place a page goes: nothing of it went to the client.
    Replaced { reusable: bool },
    /// The endpoint answered 101: both sides are plain bytes now.
    Switched,
}

/// The endpoint's side of an exchange.
#[derive(Debug)]
pub(crate) struct UpstreamSide {
    pub(crate) incoming: Incoming,
    pub(crate) outgoing: Outgoing,
}

impl Default for UpstreamSide {
    fn default() -> Self {
        Self {
            incoming: Incoming::for_passing_on(),
            outgoing: Outgoing::default(),
        }
    }
}

/// One attempt under way.
pub(crate) struct Attempt<'a, D> {
    pub(crate) around: Surroundings<'a>,
    pub(crate) request: &'a RequestHead,
    pub(crate) response: &'a mut ResponseHead,
    pub(crate) side: &'a mut UpstreamSide,
    /// Whose reports of load are taken from the answers, where that is wanted.
    pub(crate) reporter: Option<&'a Endpoint>,
    /// What is known of the user's writes.
    pub(crate) passage: &'a mut Option<Box<Passage>>,
    /// How the response is compressed.
    pub(crate) compressing: &'a mut Compressing,
    /// A `Set-Cookie` of ours; empty is none.
    pub(crate) set_cookie: &'a [u8],
    pub(crate) stream: &'a mut Link,
    pub(crate) down: &'a mut D,
    pub(crate) replay: &'a mut Replay,
    /// Whether the request may be repeated, so that its body is worth keeping.
    pub(crate) keep_body: bool,
    /// The copy for a mirror, until the request has ended.
    pub(crate) copy: &'a mut Option<Box<Copy>>,
    pub(crate) progress: &'a mut Progress,
}

/// What happened in an attempt, for the record and for what follows from a fault.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    scan: Scan,
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
    /// The client has not taken all that it was given.
    client_behind: bool,
    /// What the client had taken when that was looked at last.
    client_took: u64,
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
    /// How long the endpoint says it keeps the connection.
    pub(crate) keep_alive: Option<Duration>,
}

impl Progress {
    /// Begins an attempt at `now`.
    pub(crate) fn begin(&mut self, now: Ticks) {
        *self = Self {
            began: now,
            last: now,
            ..Self::default()
        };
    }
}

impl<D: Downstream> Attempt<'_, D> {
    /// Drives both directions until the response is with the client, or something fails.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Done, Fault>> {
        // The first poll follows at once upon the moment at which the attempt began.
        self.progress.now = match self.progress.now {
            Ticks::ZERO => self.progress.began,
            _ => self.around.worker.now(),
        };
        let waits_for_request = match self.poll_request(cx) {
            Poll::Ready(Ok(())) => None,
            Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
            Poll::Pending if self.request_waits_for_client() => Some(Waits::ClientBody),
            Poll::Pending => Some(Waits::UpstreamWrite),
        };
        let waits_for_response = match self.poll_response(cx) {
            Poll::Ready(result) => return Poll::Ready(result),
            Poll::Pending => self.response_waits(),
        };
        if self.progress.request_ended
            && let Poll::Ready(fault) = self.down.poll_gone(cx)
        {
            return Poll::Ready(Err(fault));
        }
        self.poll_time(cx, waits_for_request, waits_for_response)
    }

    /// Moves the request: what is kept of its body, then what comes from the client.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if self.progress.request_sent || self.progress.send_broken {
            return Poll::Ready(Ok(()));
        }
        let moved = self.poll_request_body(cx);
        match moved {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(fault)) if fault.side == outgrow_core::Side::Upstream => {
                // The endpoint may have answered before it closed: its answer is read first.
                self.progress.send_broken = true;
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
            Poll::Pending => return Poll::Pending,
        }
        self.progress.request_sent = true;
        self.progress.sent_at = self.progress.now;
        self.progress.last = self.progress.now;
        Poll::Ready(Ok(()))
    }

    fn poll_request_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let blocks = self.around.blocks;
        while self.progress.replayed < self.replay.bytes().len() {
            let rest = &self.replay.bytes()[self.progress.replayed..];
            let taken = ready!(self.side.outgoing.poll_push(cx, self.stream, blocks, rest))
                .map_err(send_fault)?;
            self.progress.replayed += taken;
        }
        while !self.progress.request_ended {
            match self.down.poll_data(cx) {
                Poll::Ready(Ok(true)) => {
                    let data = self.down.data();
                    let so_far = self.progress.request_bytes + data.len() as u64;
                    if self.around.body_limit.is_some_and(|limit| so_far > limit) {
                        let fault = Fault::client(Phase::RequestBody, Cause::BodyTooLarge);
                        return Poll::Ready(Err(fault));
                    }
                    let taken = ready!(self.side.outgoing.poll_push(cx, self.stream, blocks, data))
                        .map_err(send_fault)?;
                    self.replay.keep(&data[..taken], self.keep_body, blocks);
                    if let Some(copy) = self.copy
                        && !copy.keep(&data[..taken])
                    {
                        *self.copy = None;
                    }
                    self.progress.replayed = self.replay.bytes().len();
                    self.progress.request_bytes += taken as u64;
                    self.progress.last = self.progress.now;
                    self.down.consume(taken);
                }
                Poll::Ready(Ok(false)) => {
                    self.progress.request_ended = true;
                    if let Some(copy) = self.copy.take() {
                        copy.send();
                    }
                    if !self
                        .side
                        .outgoing
                        .finish(blocks, self.down.trailers().map(|t| &*t))
                    {
                        return Poll::Ready(Err(memory_fault(Phase::Send)));
                    }
                }
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                Poll::Pending => {
                    ready!(self.poll_send(cx))?;
                    return Poll::Pending;
                }
            }
        }
        self.poll_send(cx)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.side
            .outgoing
            .poll_flush(cx, self.stream)
            .map_err(send_fault)
    }

    /// Moves the response: its heads, then its body.
    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<Done, Fault>> {
        while !self.progress.answering {
            if self.progress.interim > 0 {
                // The client may wait for it (100 Continue) before it sends its body.
                ready!(self.down.poll_flush(cx))?;
            }
            if !self.progress.has_head {
                ready!(self.poll_head(cx))?;
                self.progress.has_head = true;
                self.progress.last = self.progress.now;
            }
            match self.response.status {
                101 => return Poll::Ready(self.switch()),
                100..=199 => {
                    self.progress.has_head = false;
                    self.forward_interim()?;
                }
                _ => {
                    if let Some(passage) = self.passage {
                        let cells = &self.around.worker.cells().floors;
                        ready!(passage.poll_head(cx, &mut self.response.fields, cells));
                    }
                    if self.is_replaced() {
                        return Poll::Ready(Ok(self.replace(cx)));
                    }
                    self.begin_answer()?;
                }
            }
        }
        ready!(self.poll_body(cx))?;
        let reusable = self.response.keep_alive
            && self.progress.request_sent
            && self.side.incoming.buffer.is_empty();
        Poll::Ready(Ok(Done::Answered { reusable }))
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        /// What an endpoint may send as a head: more than clients may, since it is trusted more.
        const LIMITS: Limits = Limits {
            head_bytes: 64 * 1024,
            fields: 256,
            target_bytes: 16 * 1024,
        };
        loop {
            let bytes = self.side.incoming.buffer.bytes();
            if !bytes.is_empty() {
                let scan = &mut self.progress.scan;
                let method = self.request.method;
                match h1::response::parse(bytes, scan, &LIMITS, method, self.response) {
                    Ok(Parsed::Complete(length)) => {
                        self.side.incoming.buffer.consume(length);
                        *scan = Scan::default();
                        return Poll::Ready(Ok(()));
                    }
                    Ok(Parsed::Incomplete) => {}
                    Err(_) => return Poll::Ready(Err(head_fault(Cause::UpstreamBadResponse))),
                }
            }
            let some = !bytes.is_empty();
            let filled = ready!(self.side.incoming.buffer.poll_fill(
                cx,
                self.stream,
                self.around.blocks
            ));
            match filled {
                // Not of this request: what came before it is no answer to it.
                Ok(1..) if self.side.outgoing.buffer.written() == 0 => {
                    return Poll::Ready(Err(self.no_answer(Cause::UpstreamClosed)));
                }
                Ok(1..) => self.progress.any_received = true,
                Ok(0) | Err(Problem::Closed) if some => {
                    return Poll::Ready(Err(head_fault(Cause::UpstreamBadResponse)));
                }
                Ok(0) | Err(Problem::Closed) => {
                    return Poll::Ready(Err(self.no_answer(Cause::UpstreamClosed)));
                }
                Err(Problem::Reset) => {
                    return Poll::Ready(Err(self.no_answer(Cause::UpstreamReset)));
                }
                Err(Problem::Full | Problem::Reject(_)) => {
                    return Poll::Ready(Err(head_fault(Cause::UpstreamBadResponse)));
                }
                Err(Problem::Memory) => {
                    return Poll::Ready(Err(memory_fault(Phase::ResponseHead)));
                }
            }
        }
    }

    fn no_answer(&self, cause: Cause) -> Fault {
        let sent = if self.side.outgoing.buffer.written() > 0 {
            Sent::Maybe
        } else {
            Sent::None
        };
        Fault::upstream(Phase::ResponseHead, cause, sent)
    }

    fn forward_interim(&mut self) -> Result<(), Fault> {
        if self.progress.interim == INTERIM_LIMIT {
            return Err(head_fault(Cause::UpstreamBadResponse));
        }
        self.progress.interim += 1;
        self.response.fields.remove_hop_by_hop();
        self.down.interim(self.response)?;
        self.progress.interim_forwarded = true;
        Ok(())
    }

    fn switch(&mut self) -> Result<Done, Fault> {
        if self.request.wants_upgrade && self.progress.request_sent && self.is_asked_for() {
            self.progress.first_byte_at = self.progress.last;
            return Ok(Done::Switched);
        }
        Err(head_fault(Cause::UpstreamBadResponse))
    }

    /// Whether a 101 names a protocol, and none but those that were asked for.
    fn is_asked_for(&self) -> bool {
        let asked = self.request.text(self.request.upgrade_to);
        let mut named = list_members(self.response.fields.values(Known::Upgrade)).peekable();
        named.peek().is_some()
            && named.all(|one| {
                list_members(std::iter::once(asked)).any(|other| other.eq_ignore_ascii_case(one))
            })
    }

    fn begin_answer(&mut self) -> Result<(), Fault> {
        self.progress.first_byte_at = self.progress.last;
        self.progress.keep_alive = h1::response::keep_alive_timeout(&self.response.fields);
        self.response.fields.remove_hop_by_hop();
        if let Some(endpoint) = self.reporter {
            reports::take(&mut self.response.fields, endpoint);
        }
        self.around.worker.put_date(&mut self.response.fields);
        if let Some(listener) = self.around.listener {
            listener.put_own(&mut self.response.fields);
        }
        self.around.route.edit_response(&mut self.response.fields);
        if !self.set_cookie.is_empty() {
            self.response.fields.push(b"Set-Cookie", self.set_cookie);
        }
        self.side
            .incoming
            .begin(self.response.length, self.response.until_close);
        if !self.progress.request_ended {
            // The rest of the request may never be read: the client is told not to send another.
            self.down.close_after();
        }
        let (compress, method) = (self.around.route.compress.as_ref(), self.request.method);
        let worker = self.around.worker;
        let length = self
            .compressing
            .begin(compress, self.response, method, worker);
        self.down.respond(self.response, length, method)?;
        self.progress.answering = true;
        Ok(())
    }

    /// Moves the body as far as it goes; then it is known who is waited for.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let blocks = self.around.blocks;
        self.progress.client_behind = true;
        while !self.progress.response_ended {
            match self.side.incoming.poll_data(cx, self.stream, blocks) {
                Poll::Ready(Ok(true)) => {
                    let data = self.side.incoming.data();
                    let Poll::Ready(taken) = self.compressing.poll_push(cx, self.down, data) else {
                        self.side.incoming.buffer.settle(blocks);
                        return Poll::Pending;
                    };
                    let taken = taken?;
                    self.side.incoming.consume(taken);
                    self.progress.response_bytes += taken as u64;
                    self.progress.last = self.progress.now;
                }
                Poll::Ready(Ok(false)) => {
                    ready!(self.compressing.poll_finish(cx, self.down))?;
                    self.progress.response_ended = true;
                    self.down
                        .finish(self.side.incoming.trailers().map(|fields| &*fields))?;
                }
                Poll::Ready(Err(problem)) => return self.poll_cut_off(cx, problem),
                Poll::Pending => {
                    ready!(self.compressing.poll_pause(cx, self.down))?;
                    ready!(self.down.poll_flush(cx))?;
                    self.progress.client_behind = false;
                    return Poll::Pending;
                }
            }
        }
        self.down.poll_flush(cx)
    }

    /// The endpoint's body ended early: what came of it still goes out, then the end is told.
    fn poll_cut_off(&mut self, cx: &mut Context<'_>, problem: Problem) -> Poll<Result<(), Fault>> {
        ready!(self.down.poll_flush(cx))?;
        let cause = match problem {
            Problem::Memory => return Poll::Ready(Err(memory_fault(Phase::ResponseBody))),
            Problem::Closed | Problem::Reset => Cause::UpstreamTruncated,
            Problem::Reject(_) | Problem::Full => Cause::UpstreamBadResponse,
        };
        Poll::Ready(Err(Fault::upstream(
            Phase::ResponseBody,
            cause,
            Sent::Maybe,
        )))
    }
}

fn send_fault(error: std::io::Error) -> Fault {
    if error.kind() == std::io::ErrorKind::OutOfMemory {
        return memory_fault(Phase::Send);
    }
    Fault::upstream(Phase::Send, Cause::UpstreamReset, Sent::Maybe)
}

fn head_fault(cause: Cause) -> Fault {
    Fault::upstream(Phase::ResponseHead, cause, Sent::Maybe)
}

fn memory_fault(phase: Phase) -> Fault {
    Fault::outgrow(phase, Cause::MemoryLimit)
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

/// Writes the request's head into the endpoint's side; false when there is no buffer for it.
pub(crate) fn begin(
    request: &RequestHead,
    host_if_none: &[u8],
    upgrade: Option<&[u8]>,
    side: &mut UpstreamSide,
    blocks: &Arc<Blocks>,
) -> bool {
    let size = request.fields.bytes().len() + 4 * request.fields.len() + 512;
    if !side.outgoing.buffer.reserve(size, blocks) {
        return false;
    }
    h1::encode::request(request, host_if_none, upgrade, &mut side.outgoing.buffer);
    side.outgoing.begin(request.length == BodyLength::Unknown);
    true
}
