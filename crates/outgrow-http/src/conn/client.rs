//! The client's side of an HTTP/1.1 exchange: a request on an endpoint's connection, and its
//! response.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use outgrow_core::{Cause, Fault, Phase, Sent};
use outgrow_message::{Blocks, BodyLength, BodySource, Fields, RequestHead, ResponseHead};
use outgrow_net::Transport;

use super::incoming::{Incoming, Problem};
use super::outgoing::Outgoing;
use crate::h1::scan::Scan;
use crate::h1::{self, Limits, Parsed};
use crate::upstream::Upstream;

/// What an endpoint may send as a head: more than clients may, since it is trusted more.
pub const RESPONSE_LIMITS: Limits = Limits {
    head_bytes: 64 * 1024,
    fields: 256,
    target_bytes: 16 * 1024,
};

/// Both directions of an exchange, reused from one to the next.
#[derive(Debug)]
pub struct ClientSide {
    /// The response.
    pub incoming: Incoming,
    /// The request.
    pub outgoing: Outgoing,
    scan: Scan,
    any_received: bool,
}

impl Default for ClientSide {
    fn default() -> Self {
        Self {
            incoming: Incoming::for_passing_on(),
            outgoing: Outgoing::default(),
            scan: Scan::default(),
            any_received: false,
        }
    }
}

impl ClientSide {
    /// One for a client whose connection may have many exchanges under way at once (HTTP/2, HTTP/3): less
    /// is read ahead of what it takes.
    pub fn one_of_many() -> Self {
        Self {
            incoming: Incoming::for_passing_on_one_of_many(),
            ..Self::default()
        }
    }

    /// Writes the request's head into the buffer; false when there is none for it. `upgrade`: the
    /// protocols that it asks for.
    pub fn begin(
        &mut self,
        request: &RequestHead,
        host_if_none: &[u8],
        upgrade: Option<&[u8]>,
        blocks: &Arc<Blocks>,
    ) -> bool {
        let size = request.fields.bytes().len() + 4 * request.fields.len() + 512;
        if !self.outgoing.buffer.reserve(size, blocks) {
            return false;
        }
        h1::encode::request(request, host_if_none, upgrade, &mut self.outgoing.buffer);
        self.outgoing.begin(request.length == BodyLength::Unknown);
        true
    }
}

/// An exchange under way on a connection.
#[derive(Debug)]
pub struct ClientExchange<'a, T> {
    /// Both directions; the request's head is in its buffer.
    pub side: &'a mut ClientSide,
    /// The connection.
    pub io: &'a mut T,
    /// Where buffers come from.
    pub blocks: &'a Arc<Blocks>,
}

impl<T: Transport> ClientExchange<'_, T> {
    fn no_answer(&self, cause: Cause) -> Fault {
        let sent = if self.side.outgoing.buffer.written() > 0 {
            Sent::Maybe
        } else {
            Sent::None
        };
        Fault::upstream(Phase::ResponseHead, cause, sent)
    }
}

impl<T: Transport> BodySource for ClientExchange<'_, T> {
    #[inline]
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        let data = ready!(self.side.incoming.poll_data(cx, self.io, self.blocks));
        Poll::Ready(data.map_err(cut_off))
    }

    #[inline]
    fn data(&self) -> &[u8] {
        self.side.incoming.data()
    }

    #[inline]
    fn consume(&mut self, count: usize) {
        self.side.incoming.consume(count);
    }

    fn trailers(&mut self) -> Option<&mut Fields> {
        self.side.incoming.trailers()
    }
}

/// What is left of a body whose connection is needed no more ([`Upstream::is_whole`]).
#[derive(Debug)]
pub struct AtHand<'a>(pub &'a mut Incoming);

impl AtHand<'_> {
    /// It has to wait: it goes to the smallest block that holds it.
    pub fn settle(&mut self, blocks: &Arc<Blocks>) {
        self.0.buffer.settle(blocks);
    }
}

impl BodySource for AtHand<'_> {
    fn poll_data(&mut self, _: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        Poll::Ready(self.0.rest().map_err(cut_off))
    }

    fn data(&self) -> &[u8] {
        self.0.data()
    }

    fn consume(&mut self, count: usize) {
        self.0.consume(count);
    }

    fn trailers(&mut self) -> Option<&mut Fields> {
        self.0.trailers()
    }
}

impl<T: Transport> Upstream for ClientExchange<'_, T> {
    #[inline]
    fn poll_push(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>> {
        let pushed = self.side.outgoing.poll_push(cx, self.io, self.blocks, data);
        pushed.map_err(|error| send_fault(&error))
    }

    #[inline]
    fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Fault> {
        match self.side.outgoing.finish(self.blocks, trailers) {
            true => Ok(()),
            false => Err(memory_fault(Phase::Send)),
        }
    }

    #[inline]
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let flushed = self.side.outgoing.poll_flush(cx, self.io);
        flushed.map_err(|error| send_fault(&error))
    }

    #[inline]
    fn is_flushed(&self) -> bool {
        self.side.outgoing.buffer.is_empty()
    }

    #[inline]
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        request: &RequestHead,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), Fault>> {
        loop {
            let side = &mut *self.side;
            let bytes = side.incoming.buffer.bytes();
            if !bytes.is_empty() {
                let scan = &mut side.scan;
                match h1::response::parse(bytes, scan, &RESPONSE_LIMITS, request.method, head) {
                    Ok(Parsed::Complete(length)) => {
                        side.incoming.buffer.consume(length);
                        *scan = Scan::default();
                        return Poll::Ready(Ok(()));
                    }
                    Ok(Parsed::Incomplete) => {}
                    Err(_) => return Poll::Ready(Err(head_fault(Cause::UpstreamBadResponse))),
                }
            }
            let some = !bytes.is_empty();
            let filled = ready!(side.incoming.buffer.poll_fill(cx, self.io, self.blocks));
            return Poll::Ready(Err(match filled {
                // Not of this request: what came before it is no answer to it.
                Ok(1..) if self.side.outgoing.buffer.written() == 0 => {
                    self.no_answer(Cause::UpstreamClosed)
                }
                Ok(1..) => {
                    self.side.any_received = true;
                    continue;
                }
                Ok(0) | Err(Problem::Closed) if some => head_fault(Cause::UpstreamBadResponse),
                Ok(0) | Err(Problem::Closed) => self.no_answer(Cause::UpstreamClosed),
                Err(Problem::Reset) => self.no_answer(Cause::UpstreamReset),
                Err(Problem::Full | Problem::Reject(_)) => head_fault(Cause::UpstreamBadResponse),
                Err(Problem::Memory) => memory_fault(Phase::ResponseHead),
            }));
        }
    }

    #[inline]
    fn any_received(&self) -> bool {
        self.side.any_received
    }

    #[inline]
    fn begin_body(&mut self, head: &ResponseHead) {
        self.side.incoming.begin(head.length, head.until_close);
    }

    fn settle(&mut self) {
        self.side.incoming.buffer.settle(self.blocks);
    }

    fn is_whole(&mut self, cx: &mut Context<'_>) -> bool {
        self.side.incoming.is_whole(cx, self.io, self.blocks)
    }

    #[inline]
    fn is_clean(&self) -> bool {
        self.side.incoming.buffer.is_empty()
    }
}

fn cut_off(problem: Problem) -> Fault {
    let cause = match problem {
        Problem::Memory => return memory_fault(Phase::ResponseBody),
        Problem::Closed | Problem::Reset => Cause::UpstreamTruncated,
        Problem::Reject(_) | Problem::Full => Cause::UpstreamBadResponse,
    };
    Fault::upstream(Phase::ResponseBody, cause, Sent::Maybe)
}

fn send_fault(error: &std::io::Error) -> Fault {
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
