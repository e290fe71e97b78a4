//! One exchange on a shared connection: the endpoint's side of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use ::h2::client::ResponseFuture;
use ::h2::{Reason, RecvStream, SendStream};
use bytes::{Buf, Bytes};
use http::HeaderMap;
use outgrow_core::{Cause, Fault, Phase, Sent};
use outgrow_message::{Blocks, BodySource, Fields, Known, RequestHead, ResponseHead};

use super::client_request;
use super::connection::Shared;
use super::piece::{Piece, Unsent};
use super::request::check_field;
use super::send::{self, NotSent};
use crate::conn::Incoming;
use crate::h1::chunk::is_forbidden_trailer;
use crate::upstream::Upstream;

/// A request under way, and its response.
///
/// Dropped before both have ended it resets the stream, so that the endpoint stops working for it.
#[derive(Debug)]
pub struct ClientStream {
    response: ResponseFuture,
    /// The final head came.
    answered: bool,
    body: Option<RecvStream>,
    reading: Reading,
    data: Bytes,
    /// What came after that.
    ahead: VecDeque<Bytes>,
    /// What is left of the response, once nothing more is needed of the endpoint.
    rest: Option<Incoming>,
    trailers: Fields,
    has_trailers: bool,
    sending: SendStream<Piece>,
    /// The request's end was given to the connection.
    sent: bool,
    unsent: Arc<Unsent>,
    blocks: Arc<Blocks>,
    shared: Arc<Shared>,
    held_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Data,
    Trailers,
    Done,
    Failed(Fault),
}

impl ClientStream {
    pub(super) fn new(
        response: ResponseFuture,
        sending: SendStream<Piece>,
        sent: bool,
        blocks: &Arc<Blocks>,
        shared: Arc<Shared>,
        held_bytes: usize,
    ) -> Self {
        shared.open.fetch_add(1, Ordering::Relaxed);
        Self {
            response,
            answered: false,
            body: None,
            reading: Reading::Data,
            data: Bytes::new(),
            ahead: VecDeque::new(),
            rest: None,
            trailers: Fields::default(),
            has_trailers: false,
            sending,
            sent,
            unsent: Unsent::new(Arc::clone(&shared)),
            blocks: Arc::clone(blocks),
            shared,
            held_bytes,
        }
    }

    fn take_trailers(&mut self, map: &HeaderMap) -> Result<(), Fault> {
        for (name, value) in map {
            if check_field(name, value).is_err() {
                return Err(self.fail(body_fault(Cause::UpstreamBadResponse)));
            }
            let name = name.as_str().as_bytes();
            if !is_forbidden_trailer(Known::of(name), name) {
                self.trailers.push(name, value.as_bytes());
            }
        }
        self.has_trailers = !self.trailers.is_empty();
        Ok(())
    }

    fn fail(&mut self, fault: Fault) -> Fault {
        self.reading = Reading::Failed(fault);
        fault
    }

    /// Takes what is left of a response that is whole ([`Upstream::is_whole`]).
    pub fn take_rest(&mut self) -> Option<Incoming> {
        self.rest.take()
    }

    /// Waits for the next piece of data that comes, or the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Fault>> {
        loop {
            let Some(body) = &mut self.body else {
                return Poll::Ready(Ok(None));
            };
            let error = match self.reading {
                Reading::Done => return Poll::Ready(Ok(None)),
                Reading::Failed(fault) => return Poll::Ready(Err(fault)),
                Reading::Data => match ready!(body.poll_data(cx)) {
                    Some(Ok(data)) if data.is_empty() => continue,
                    Some(Ok(data)) => return Poll::Ready(Ok(Some(data))),
                    Some(Err(error)) => error,
                    None => {
                        self.reading = Reading::Trailers;
                        continue;
                    }
                },
                Reading::Trailers => match ready!(body.poll_trailers(cx)) {
                    Ok(map) => {
                        self.reading = Reading::Done;
                        if let Some(map) = map {
                            self.take_trailers(&map)?;
                        }
                        continue;
                    }
                    Err(error) => error,
                },
            };
            let cause = match error.is_io() || error.is_remote() {
                true => Cause::UpstreamTruncated,
                false => Cause::UpstreamBadResponse,
            };
            return Poll::Ready(Err(self.fail(body_fault(cause))));
        }
    }
}

/// What an error before the end of a response means. Streams that the endpoint has not looked at are
/// told by GOAWAY and by `REFUSED_STREAM` (RFC 9113 sections 6.8 and 8.7).
fn fault_of(error: &::h2::Error, phase: Phase) -> Fault {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    let (cause, sent) = if error.is_go_away() && error.is_remote() {
        (Cause::UpstreamClosed, Sent::None)
    } else if refused && error.is_remote() {
        (Cause::UpstreamReset, Sent::None)
    } else if error.is_io() || error.is_remote() {
        (Cause::UpstreamReset, Sent::Maybe)
    } else {
        (Cause::UpstreamBadResponse, Sent::Maybe)
    };
    Fault::upstream(phase, cause, sent)
}

fn body_fault(cause: Cause) -> Fault {
    Fault::upstream(Phase::ResponseBody, cause, Sent::Maybe)
}

impl BodySource for ClientStream {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        while self.data.is_empty() {
            self.data = match self.ahead.pop_front() {
                Some(data) => data,
                None => match ready!(self.poll_piece(cx))? {
                    Some(data) => data,
                    None => return Poll::Ready(Ok(false)),
                },
            };
        }
        Poll::Ready(Ok(true))
    }

    fn data(&self) -> &[u8] {
        &self.data
    }

    fn consume(&mut self, count: usize) {
        let count = count.min(self.data.len());
        self.data.advance(count);
        if let Some(body) = &mut self.body {
            // It fails only for more than was received.
            let _ = body.flow_control().release_capacity(count);
        }
    }

    fn trailers(&mut self) -> Option<&mut Fields> {
        match &mut self.rest {
            Some(rest) => rest.trailers(),
            None => self.has_trailers.then_some(&mut self.trailers),
        }
    }
}

impl Upstream for ClientStream {
    fn poll_push(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>> {
        let room = (&self.unsent, self.held_bytes);
        let pushed = send::poll_push(&mut self.sending, room, &self.blocks, (data, None), cx);
        Poll::Ready(ready!(pushed).map_err(|problem| match problem {
            NotSent::Memory => Fault::outgrow(Phase::Send, Cause::MemoryLimit),
            NotSent::Ended(Some(error)) => fault_of(&error, Phase::Send),
            NotSent::Ended(None) => send_fault(),
        }))
    }

    fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Fault> {
        if self.sent {
            return Ok(());
        }
        self.sent = true;
        let finished = send::finish(&mut self.sending, trailers);
        finished.map_err(|error| fault_of(&error, Phase::Send))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        ready!(self.unsent.poll_empty(cx));
        match self.unsent.is_cut() {
            true => Poll::Ready(Err(send_fault())),
            false => Poll::Ready(Ok(())),
        }
    }

    fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        request: &RequestHead,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), Fault>> {
        if let Poll::Ready(Some(interim)) = self.response.poll_informational(cx) {
            let interim = interim.map_err(|error| fault_of(&error, Phase::ResponseHead))?;
            let (parts, ()) = interim.into_parts();
            return Poll::Ready(client_request::fill(&parts, true, request, head));
        }
        let response = ready!(std::pin::Pin::new(&mut self.response).poll(cx));
        let response = response.map_err(|error| fault_of(&error, Phase::ResponseHead))?;
        self.answered = true;
        let (parts, body) = response.into_parts();
        let filled = client_request::fill(&parts, body.is_end_stream(), request, head);
        if ResponseHead::never_has_body(head.status, request.method) {
            // Whatever follows, it is no body (a Content-Length here is that of another answer).
            self.reading = Reading::Done;
        }
        self.body = Some(body);
        Poll::Ready(filled)
    }

    fn any_received(&self) -> bool {
        self.answered
    }

    fn begin_body(&mut self, _: &ResponseHead) {}

    /// What came lies within the stream's window, which is given back as it moves to a block of ours: the
    /// connection has other streams.
    fn is_whole(&mut self, cx: &mut Context<'_>) -> bool {
        while let Poll::Ready(Ok(Some(data))) = self.poll_piece(cx) {
            self.ahead.push_back(data);
        }
        if self.reading != Reading::Done {
            return false;
        }
        let bytes = self.data.len() + self.ahead.iter().map(Bytes::len).sum::<usize>();
        let pieces = std::iter::once(&self.data).chain(&self.ahead);
        let trailers = self.has_trailers.then_some(&mut self.trailers);
        self.rest = Incoming::whole(bytes, pieces.map(|piece| &**piece), trailers, &self.blocks);
        self.rest.is_some()
    }

    /// Another exchange has a stream of its own.
    fn is_clean(&self) -> bool {
        true
    }
}

fn send_fault() -> Fault {
    Fault::upstream(Phase::Send, Cause::UpstreamReset, Sent::Maybe)
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        let left = self.data.len() + self.ahead.iter().map(Bytes::len).sum::<usize>();
        if let Some(body) = &mut self.body {
            let _ = body.flow_control().release_capacity(left);
        }
        let ended = self.sent && self.unsent.is_empty() && self.reading == Reading::Done;
        if !ended {
            self.sending.send_reset(Reason::CANCEL);
        }
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}
