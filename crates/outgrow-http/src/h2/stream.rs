//! One stream: the client's side of one exchange.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};

use ::h2::server::SendResponse;
use ::h2::{Reason, RecvStream, SendStream};
use bytes::{Buf, Bytes};
use http::{HeaderMap, StatusCode};
use outgrow_core::{Cause, Fault, Phase};
use outgrow_message::{
    Blocks, BodyLength, BodySource, Fields, Known, Method, ResponseHead, Version,
};

use super::connection::Shared;
use super::piece::{Piece, Unsent};
use super::request::check_field;
use super::response;
use super::send::{self, NotSent};
use crate::downstream::{Downstream, Tunnel, told_length};
use crate::h1::chunk::is_forbidden_trailer;

/// A request's body, and where its response goes.
///
/// Dropped before the response was finished it resets the stream, so that the client never takes
/// a part for the whole. Dropped after it, with the request's body not read to its end, it tells
/// the client to stop sending (RFC 9113 section 8.1).
#[derive(Debug)]
pub struct H2Stream {
    body: RecvStream,
    reading: Reading,
    data: Bytes,
    trailers: Fields,
    has_trailers: bool,
    respond: SendResponse<Piece>,
    sending: Sending,
    /// What is left of a body whose length is known and that no trailers follow.
    left: Option<u64>,
    blocks: Arc<Blocks>,
    shared: Arc<Shared>,
    unsent: Arc<Unsent>,
    /// What a connection may hold before a stream has to wait for its own piece.
    held_bytes: usize,
    /// The client reset the stream before it was answered.
    reset_early: bool,
    /// It was opened by CONNECT: what follows the head is a tunnel's, and a success opens it.
    is_tunnel: bool,
    /// Its data wait, since nobody takes them for now.
    is_stalled: bool,
    detail: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Data,
    Trailers,
    Done,
    Failed(Fault),
}

#[derive(Debug)]
enum Sending {
    /// No final response yet.
    Nothing,
    Body(SendStream<Piece>),
    /// Finished or aborted.
    Ended,
}

impl H2Stream {
    pub(super) fn new(
        body: RecvStream,
        respond: SendResponse<Piece>,
        blocks: Arc<Blocks>,
        shared: Arc<Shared>,
        held_bytes: usize,
    ) -> Self {
        shared.open.fetch_add(1, Ordering::Relaxed);
        let reading = if body.is_end_stream() {
            Reading::Done
        } else {
            Reading::Data
        };
        Self {
            body,
            reading,
            data: Bytes::new(),
            trailers: Fields::default(),
            has_trailers: false,
            respond,
            sending: Sending::Nothing,
            left: None,
            blocks,
            unsent: Unsent::new(Arc::clone(&shared)),
            shared,
            held_bytes,
            reset_early: false,
            is_tunnel: false,
            is_stalled: false,
            detail: "",
        }
    }

    /// It was opened by CONNECT.
    pub(super) fn be_tunnel(&mut self) {
        self.is_tunnel = true;
    }

    /// The number of the stream, for records.
    pub fn id(&self) -> u32 {
        self.respond.stream_id().as_u32()
    }

    fn fail(&mut self, cause: Cause) -> Fault {
        let fault = Fault::client(Phase::RequestBody, cause);
        self.reading = Reading::Failed(fault);
        fault
    }

    /// The fault that ends a body. What the crate itself resets a stream for is the client's
    /// breach of the protocol: more or less data than `content-length` said, mostly.
    fn body_fault(&mut self, error: &::h2::Error) -> Fault {
        if error.is_reset() && error.is_library() {
            self.detail = "the body does not have the length that Content-Length says";
            return self.fail(Cause::BadFraming);
        }
        self.reset_early |= !self.has_responded();
        self.fail(Cause::ClientGone)
    }

    fn take_trailers(&mut self, map: &HeaderMap) -> Result<(), Fault> {
        for (name, value) in map {
            if let Err(reject) = check_field(name, value) {
                self.detail = reject.detail;
                return Err(self.fail(reject.cause));
            }
            let name = name.as_str().as_bytes();
            if !is_forbidden_trailer(Known::of(name), name) {
                self.trailers.push(name, value.as_bytes());
            }
        }
        self.has_trailers = !self.trailers.is_empty();
        Ok(())
    }

    /// Waits for data of the stream, or its end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        while self.data.is_empty() {
            match self.reading {
                Reading::Done => return Poll::Ready(Ok(false)),
                Reading::Failed(fault) => return Poll::Ready(Err(fault)),
                Reading::Data => match ready!(self.body.poll_data(cx)) {
                    Some(Ok(data)) => self.data = data,
                    Some(Err(error)) => return Poll::Ready(Err(self.body_fault(&error))),
                    None => self.reading = Reading::Trailers,
                },
                Reading::Trailers => match ready!(self.body.poll_trailers(cx)) {
                    Ok(map) => {
                        self.reading = Reading::Done;
                        if let Some(map) = map {
                            self.take_trailers(&map)?;
                        }
                    }
                    Err(error) => return Poll::Ready(Err(self.body_fault(&error))),
                },
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Whether the client has gone, by what is known now.
    fn is_gone(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        self.poll_gone(&mut nobody).is_ready()
    }

    /// Gives the window back for data that was never taken.
    fn release_data(&mut self) {
        let left = self.data.len();
        self.consume(left);
    }
}

impl BodySource for H2Stream {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        // What follows the head of a CONNECT is no body, and stays where it is until it is asked
        // for as what it is.
        match self.is_tunnel {
            true => Poll::Ready(Ok(false)),
            false => self.poll_more(cx),
        }
    }

    fn data(&self) -> &[u8] {
        &self.data
    }

    fn consume(&mut self, count: usize) {
        let count = count.min(self.data.len());
        self.data.advance(count);
        if count > 0 && std::mem::take(&mut self.is_stalled) {
            self.shared.stalled.fetch_sub(1, Ordering::Relaxed);
        }
        // It fails only for more than was received.
        let _ = self.body.flow_control().release_capacity(count);
    }

    fn trailers(&mut self) -> Option<&mut Fields> {
        self.has_trailers.then_some(&mut self.trailers)
    }
}

fn gone(phase: Phase) -> Fault {
    Fault::client(phase, Cause::ClientGone)
}

impl Downstream for H2Stream {
    fn interim(&mut self, head: &ResponseHead) -> Result<(), Fault> {
        if self.has_responded() {
            return Ok(());
        }
        let response = response::response(head, None)?;
        self.respond
            .send_informational(response)
            .map_err(|_| gone(Phase::ResponseHead))
    }

    fn respond(
        &mut self,
        head: &ResponseHead,
        length: BodyLength,
        method: Method,
    ) -> Result<(), Fault> {
        if self.is_tunnel && (200..300).contains(&head.status) {
            // To the client it would say that the tunnel is open. Nobody is to blame: who does not know
            // the protocol that a client asks for answers as to any other request.
            return Err(Fault::outgrow(
                Phase::ResponseHead,
                Cause::UpstreamBadResponse,
            ));
        }
        let told = told_length(head, length, method);
        let ends = ResponseHead::never_has_body(head.status, method) || length.is_empty();
        let response = response::response(head, told)?;
        let stream = self
            .respond
            .send_response(response, ends)
            .map_err(|_| gone(Phase::ResponseHead))?;
        self.sending = if ends {
            Sending::Ended
        } else {
            Sending::Body(stream)
        };
        self.left = match length {
            // A response of HTTP/2 may have trailers nevertheless.
            BodyLength::Known(bytes) if head.version != Version::Http2 => Some(bytes),
            _ => None,
        };
        Ok(())
    }

    fn poll_push(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>> {
        let Sending::Body(stream) = &mut self.sending else {
            return Poll::Ready(Err(gone(Phase::ResponseBody)));
        };
        let room = (&self.unsent, self.held_bytes);
        let data = (data, self.left);
        let pushed = ready!(send::poll_push(stream, room, &self.blocks, data, cx));
        let pushed = pushed.map_err(|problem| match problem {
            NotSent::Ended(_) => gone(Phase::ResponseBody),
            NotSent::Memory => Fault::outgrow(Phase::ResponseBody, Cause::MemoryLimit),
        })?;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(pushed as u64);
            if *left == 0 {
                self.sending = Sending::Ended;
            }
        }
        Poll::Ready(Ok(pushed))
    }

    fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Fault> {
        let Sending::Body(stream) = &mut self.sending else {
            return Ok(());
        };
        let sent = send::finish(stream, trailers);
        self.sending = Sending::Ended;
        sent.map_err(|_| gone(Phase::ResponseBody))
    }

    /// What was pushed is with the connection, which writes it as the client's windows allow: it
    /// counts as sent when that has happened.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        ready!(self.unsent.poll_empty(cx));
        if self.unsent.is_cut() {
            return Poll::Ready(Err(gone(Phase::ResponseBody)));
        }
        Poll::Ready(Ok(()))
    }

    fn written(&self) -> u64 {
        self.unsent.written()
    }

    fn abort(&mut self) {
        match &mut self.sending {
            Sending::Nothing => {
                // A reset that nobody has asked for yet is noted before our own hides it.
                self.is_gone();
                self.respond.send_reset(Reason::INTERNAL_ERROR);
            }
            Sending::Body(stream) => stream.send_reset(Reason::INTERNAL_ERROR),
            // Its end waits behind bytes that the client does not take.
            Sending::Ended if !self.unsent.is_empty() => {
                self.respond.send_reset(Reason::INTERNAL_ERROR);
            }
            Sending::Ended => {}
        }
        self.sending = Sending::Ended;
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        let reset = match &mut self.sending {
            Sending::Body(stream) => stream.poll_reset(cx),
            Sending::Nothing | Sending::Ended => self.respond.poll_reset(cx),
        };
        let fault = ready!(reset.map(|_| gone(Phase::ResponseHead)));
        self.reset_early |= !self.has_responded();
        Poll::Ready(fault)
    }

    fn has_responded(&self) -> bool {
        !matches!(self.sending, Sending::Nothing)
    }

    fn settle(&mut self, cx: &mut Context<'_>) {
        if self.data.is_empty() && self.reading == Reading::Data {
            // Whoever waits is told when there is something; a fault is for who takes it.
            let _ = self.poll_more(cx).is_ready();
        }
        // Also what the crate holds counts, and what somebody has taken and not passed over.
        if !self.is_stalled && self.body.flow_control().used_capacity() > 0 {
            self.is_stalled = true;
            self.shared.stall();
        }
    }

    fn detail(&self) -> &'static str {
        self.detail
    }
}

/// Of an extended CONNECT (RFC 8441): the stream's data are the tunnel's, and 200 says what 101 says
/// in HTTP/1.1.
impl Tunnel for H2Stream {
    fn switch(&mut self, head: &ResponseHead, _: &[u8]) -> Result<(), Fault> {
        if !self.is_tunnel {
            return Err(Fault::outgrow(Phase::Tunnel, Cause::NotImplemented));
        }
        let mut response = response::response(head, None)?;
        *response.status_mut() = StatusCode::OK;
        let stream = self
            .respond
            .send_response(response, false)
            .map_err(|_| gone(Phase::Tunnel))?;
        self.sending = Sending::Body(stream);
        Ok(())
    }

    fn poll_tunnel_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        self.poll_more(cx)
    }

    fn can_tunnel(&self) -> bool {
        self.is_tunnel
    }
}

impl Drop for H2Stream {
    fn drop(&mut self) {
        self.release_data();
        if self.is_stalled {
            self.shared.stalled.fetch_sub(1, Ordering::Relaxed);
        }
        if !matches!(self.sending, Sending::Ended) && !self.is_gone() {
            self.abort();
        }
        if self.reset_early {
            self.shared.resets.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}
