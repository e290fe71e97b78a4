//! One stream: the client's side of one exchange.

mod body;
mod response;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use http::HeaderValue;
use outgrow_core::{Cause, Fault, Phase};
use outgrow_message::{Blocks, BodyLength, Fields, RequestHead};
use quinn::{RecvStream, SendStream, StoppedError, VarInt};

use super::account::Unfinished;
use super::code::Code;
use super::qpack::Broken;
use super::receive::{NO_REQUEST, Next, Receive, WRONG_LENGTH, Wrong};
use super::request;
use super::send::Outgoing;
use super::shared::Shared;
use crate::downstream::Downstream;
use crate::h1::{Limits, Reject};
use crate::h2::RequestParts;

/// Why there is no request on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHead {
    /// The client went away, or broke the protocol: nobody is to be answered.
    Gone,
    /// It is no acceptable request, which is to be told.
    Reject(Reject),
}

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync>>;

/// A request's body, and where its response goes.
///
/// Dropped before the response was finished it resets the stream, so that the client never takes
/// a part for the whole. Dropped after it, with the request's body not read to its end, it tells
/// the client to stop sending (RFC 9114 section 4.1).
pub struct H3Stream {
    receive: Receive,
    reading: Reading,
    /// The head that was read, until it is known whether a body follows.
    head: Option<RequestParts>,
    trailers: Fields,
    has_trailers: bool,
    /// What is not read yet lies in the buffer, with the end behind it.
    is_at_hand: bool,
    out: Outgoing,
    sending: Sending,
    /// Tells when the client wants no more.
    stopped: Option<Stopped>,
    is_early: bool,
    blocks: Arc<Blocks>,
    limits: Limits,
    shared: Arc<Shared>,
    /// What QUIC may hold of the request while it is not there as a whole.
    unfinished: Option<Unfinished>,
    /// It was opened by CONNECT: what follows the head is a tunnel's, and a success opens it.
    is_tunnel: bool,
    /// The body is not taken for now: the connection's window has to do without what waits of it.
    is_stalled: bool,
    /// The request is malformed.
    is_malformed: bool,
    /// The client reset the stream before it was answered.
    reset_early: bool,
    detail: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Open,
    Done,
    Failed(Fault),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// No final response yet.
    Nothing,
    Body,
    /// Finished or aborted.
    Ended,
}

impl std::fmt::Debug for H3Stream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (reading, sending) = (self.reading, self.sending);
        write!(formatter, "H3Stream({reading:?}, {sending:?})")
    }
}

impl H3Stream {
    pub(super) fn new(
        (send, receive): (SendStream, RecvStream),
        blocks: Arc<Blocks>,
        limits: Limits,
        shared: Arc<Shared>,
    ) -> Self {
        shared.open.fetch_add(1, Ordering::Relaxed);
        let is_early = receive.is_0rtt();
        Self {
            receive: Receive::of_stream(receive, section_limit(&limits)),
            reading: Reading::Open,
            head: None,
            trailers: Fields::default(),
            has_trailers: false,
            is_at_hand: false,
            out: Outgoing::new(send, Arc::clone(&shared)),
            sending: Sending::Nothing,
            stopped: None,
            is_early,
            blocks,
            limits,
            shared,
            unfinished: None,
            is_tunnel: false,
            is_stalled: false,
            is_malformed: false,
            reset_early: false,
            detail: "",
        }
    }

    /// Whether it came before the handshake was complete: anybody who saw it may have sent it again
    /// (RFC 8470).
    pub fn is_early(&self) -> bool {
        self.is_early
    }

    /// Waits for the request's head, and where no body is likely for what follows, by which it is known
    /// that none does: see [`H3Stream::take_head`]. To be bounded in time by the caller.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<RequestParts, NoHead>> {
        let head = self.poll_parts(cx);
        let has_ended = self.reading != Reading::Open || self.sending == Sending::Ended;
        if has_ended || self.is_at_hand || self.count_unfinished() {
            return head;
        }
        self.head = None;
        self.shared.account.note_refused();
        Poll::Ready(self.refused(OUT_OF_BUFFERS))
    }

    /// Whether the head is there, and only what follows is waited for.
    pub fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// The head that is there, for who waits no longer for what follows: a body may.
    pub fn take_head(&mut self) -> Option<RequestParts> {
        self.head.take()
    }

    /// Counts what QUIC may hold of the request from now on; false where there is no memory for it.
    fn count_unfinished(&mut self) -> bool {
        if self.unfinished.is_none() {
            self.unfinished = self.shared.unfinished();
        }
        self.unfinished.is_some()
    }

    fn poll_parts(&mut self, cx: &mut Context<'_>) -> Poll<Result<RequestParts, NoHead>> {
        loop {
            let next = match self.receive.poll_next(cx, &self.blocks) {
                Poll::Ready(next) => next,
                Poll::Pending => {
                    // It is not known yet whether a body follows: only where one is likely, or
                    // nobody could tell the difference, the request goes on without waiting.
                    return match self.head.take_if(|head| head.may_have_body()) {
                        Some(head) => Poll::Ready(Ok(head)),
                        None => Poll::Pending,
                    };
                }
            };
            match (next, self.head.take()) {
                (Ok(Next::Section(length)), None) => {
                    let section = self.receive.section(length);
                    let parts = request::parts(section, false, self.limits);
                    self.receive.take_section(length);
                    match parts {
                        Ok(parts) => {
                            self.is_tunnel = parts.is_tunnel();
                            let values = parts.fields().get_all(PRIORITY);
                            let values = values.iter().map(HeaderValue::as_bytes);
                            self.out.prioritise(values);
                            self.head = Some(parts);
                        }
                        Err(Broken::Stopped(reject)) => return Poll::Ready(self.refused(reject)),
                        Err(Broken::Coding) => {
                            return Poll::Ready(self.broken(Code::DECOMPRESSION_FAILED, CODING));
                        }
                    }
                }
                (Ok(Next::End), None) => {
                    let incomplete = Reject::bad(NO_REQUEST);
                    return Poll::Ready(self.refused(incomplete));
                }
                (Ok(Next::End), Some(head)) => {
                    self.reading = Reading::Done;
                    self.unfinished = None;
                    return Poll::Ready(Ok(head.ended()));
                }
                (Ok(_), Some(head)) => match self.receive.look_for_end(cx, &self.blocks) {
                    Ok(is_at_hand) => {
                        self.is_at_hand = is_at_hand;
                        return Poll::Ready(Ok(head));
                    }
                    Err(wrong) => return Poll::Ready(self.wrong(wrong)),
                },
                // The receiving side lets no body come before a head.
                (Ok(Next::Data), None) => return Poll::Ready(Err(NoHead::Gone)),
                (Err(wrong), _) => return Poll::Ready(self.wrong(wrong)),
            }
        }
    }

    fn wrong(&mut self, wrong: Wrong) -> Result<RequestParts, NoHead> {
        match wrong {
            Wrong::Reject(reject) => self.refused(reject),
            Wrong::Memory => self.refused(OUT_OF_BUFFERS),
            Wrong::Connection(code, reason) => self.broken(code, reason),
            Wrong::Gone => {
                self.reset_early = true;
                self.sending = Sending::Ended;
                Err(NoHead::Gone)
            }
        }
    }

    /// Tells what the head, which was accepted, says of the body's length.
    pub fn begin_body(&mut self, head: &RequestHead) {
        let BodyLength::Known(length) = head.length else {
            return;
        };
        if self.reading == Reading::Open {
            self.receive.declare(length);
        } else if self.reading == Reading::Done && length > 0 {
            self.body_fault(Wrong::Reject(Reject::framing(WRONG_LENGTH)));
        }
    }

    /// Takes note of why the request is refused: a client that goes on sending one that is malformed is
    /// told so after the answer (RFC 9114 section 4.1.2).
    pub fn note(&mut self, reject: Reject) {
        self.is_malformed |= matches!(
            reject.cause,
            Cause::BadRequest | Cause::BadFraming | Cause::BadTarget | Cause::BadHost
        );
    }

    /// Nothing more of the request is read, or kept by QUIC, however long the answer may take (RFC 9114
    /// section 4.1).
    fn refused(&mut self, reject: Reject) -> Result<RequestParts, NoHead> {
        self.note(reject);
        let fault = Fault::client(Phase::RequestHead, reject.cause);
        self.reading = Reading::Failed(fault);
        self.stop();
        Err(NoHead::Reject(reject))
    }

    /// Tells the client to send no more. What it sends all the same is thrown away.
    fn stop(&mut self) {
        let code = match self.is_malformed {
            true => Code::MESSAGE,
            false => Code::NO_ERROR,
        };
        // It fails where nothing more can come, or the client was told so before.
        let _ = self.receive.stream().stop(code.number());
        self.unfinished = None;
    }

    fn broken(&mut self, code: Code, reason: &str) -> Result<RequestParts, NoHead> {
        self.shared.break_off(code, reason);
        self.sending = Sending::Ended;
        Err(NoHead::Gone)
    }

    /// What was asked for is not looked at: the client may ask somebody else.
    pub fn reject(mut self) {
        self.sending = Sending::Ended;
        self.out.reset(Code::REQUEST_REJECTED);
        let _ = self.receive.stream().stop(Code::REQUEST_REJECTED.number());
    }

    fn fail(&mut self, fault: Fault) -> Fault {
        self.reading = Reading::Failed(fault);
        fault
    }

    /// With what a response is ended that the client is not to take for the whole.
    fn abort_code(&self) -> Code {
        match self.is_malformed {
            true => Code::MESSAGE,
            false => Code::INTERNAL,
        }
    }

    /// Whether the client has gone, by what is known now.
    fn is_gone(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        self.poll_gone(&mut nobody).is_ready()
    }
}

/// The field that says how urgent a response is (RFC 9218 section 5).
const PRIORITY: &str = "priority";
const OUT_OF_BUFFERS: Reject = Reject::new(Cause::MemoryLimit, "out of buffers");
const CODING: &str = "a field section cannot be read";

/// The longest field section on the wire: Huffman's code and the static table make most shorter, none
/// longer by more than a few bytes for each field.
pub(super) fn section_limit(limits: &Limits) -> usize {
    const FIELD_BYTES: usize = 8;
    limits.head_bytes + limits.fields * FIELD_BYTES
}

fn gone(phase: Phase) -> Fault {
    Fault::client(phase, Cause::ClientGone)
}

impl H3Stream {
    fn set_stalled(&mut self, is_stalled: bool) {
        if self.is_stalled != is_stalled {
            self.is_stalled = is_stalled;
            self.shared.note_stalled(is_stalled);
        }
    }
}

impl Drop for H3Stream {
    fn drop(&mut self) {
        self.set_stalled(false);
        if !self.out.has_ended() && self.sending != Sending::Ended && !self.is_gone() {
            self.abort();
        } else if !self.out.has_ended() {
            // Its end waits behind bytes that the client does not take, or nobody wants it.
            self.out.reset(self.abort_code());
        }
        if self.reading != Reading::Done {
            self.stop();
        }
        if self.reset_early {
            self.shared.resets.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        self.shared.sent.wake();
    }
}
