//! The server's side of an HTTP/1.1 connection: heads in, bodies in, responses out, one exchange
//! after the other.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use outgrow_core::{Cause, Fault, Phase};
use outgrow_message::{
    Blocks, BodyLength, BodySource, Fields, Method, Need, RequestHead, ResponseHead, Version,
};
use outgrow_net::Transport;

use super::incoming::{Incoming, Problem};
use super::outgoing::Outgoing;
use crate::downstream::{Downstream, Tunnel};
use crate::h1::encode::{self, Connection, Framing};
use crate::h1::scan::Scan;
use crate::h1::{Limits, Parsed, Reject, refused, request};

/// A connection of a client.
#[derive(Debug)]
pub struct ServerConnection<T> {
    io: T,
    blocks: Arc<Blocks>,
    limits: Limits,
    incoming: Incoming,
    outgoing: Outgoing,
    scan: Scan,
    version: Version,
    keep_alive: bool,
    /// Whether the client said that it sends no further request.
    is_last: bool,
    /// Whether the client closed its side.
    half_closed: bool,
    responded: bool,
    /// Whether the response was cut off.
    aborted: bool,
    /// Whether the response ends where the connection does.
    until_close: bool,
    /// What is left of an answer that needs no buffer.
    ready_made: &'static [u8],
    detail: &'static str,
}

/// The answer when there is no buffer for any other.
const NO_MEMORY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\
    Retry-After: 1\r\nConnection: close\r\n\r\n";
/// How much is read at a time of what nobody will look at.
const DISCARD_BYTES: usize = 2 * 1024;

/// Why there is no next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRequest {
    /// The client closed between two requests: the usual end.
    Closed,
    /// The client closed, or broke off, within a head.
    Gone,
    /// What came is refused.
    Reject(Reject),
}

impl<T: Transport> ServerConnection<T> {
    /// A connection on which nothing was read yet.
    pub fn new(io: T, blocks: Arc<Blocks>, limits: Limits) -> Self {
        Self {
            io,
            blocks,
            limits,
            incoming: Incoming::default(),
            outgoing: Outgoing::default(),
            scan: Scan::default(),
            version: Version::Http11,
            keep_alive: true,
            is_last: false,
            half_closed: false,
            responded: false,
            aborted: false,
            until_close: false,
            ready_made: b"",
            detail: "",
        }
    }

    /// The transport.
    pub fn transport(&self) -> &T {
        &self.io
    }

    /// Takes the connection apart: the transport, and the bytes that arrived already.
    pub fn into_parts(self) -> (T, Incoming) {
        (self.io, self.incoming)
    }

    /// The bytes at hand before the next head.
    pub fn peek(&self) -> &[u8] {
        self.incoming.buffer.bytes()
    }

    /// Waits until there are bytes of a next request (true), or the client closed (false).
    ///
    /// True also when there is no buffer for them: [`ServerConnection::poll_head`] tells.
    #[inline]
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if !self.incoming.buffer.is_empty() {
            return Poll::Ready(true);
        }
        let count = ready!(self.poll_fill_head(cx));
        Poll::Ready(matches!(count, Ok(1..) | Err(Problem::Memory)))
    }

    /// Takes the one empty line that may stand before a request, when nothing else is at hand: no
    /// request has begun with it (RFC 9112 section 2.2).
    pub fn pass_over_empty_line(&mut self) -> bool {
        let alone = self.incoming.buffer.bytes() == b"\r\n" && !self.scan.passed_empty_line;
        if alone {
            self.incoming.buffer.consume(2);
            self.scan.passed_empty_line = true;
        }
        alone
    }

    #[inline]
    fn poll_fill_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Problem>> {
        self.incoming
            .buffer
            .poll_fill_for(Need::Head, cx, &mut self.io, &self.blocks)
    }

    /// Reads more bytes even though some are there; 0 at the end.
    pub fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let count = ready!(self.poll_fill_head(cx));
        Poll::Ready(count.unwrap_or(0))
    }

    /// Waits for a whole head. Afterwards the request's body can be read, and it can be answered.
    #[inline]
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut RequestHead,
    ) -> Poll<Result<(), NoRequest>> {
        // The last exchange is over: a head that is refused is still to be answered.
        self.responded = false;
        self.aborted = false;
        self.until_close = false;
        loop {
            let bytes = self.incoming.buffer.bytes();
            if !bytes.is_empty() {
                match request::parse(bytes, &mut self.scan, &self.limits, head) {
                    Ok(Parsed::Complete(length)) => {
                        self.begin(head, length);
                        return Poll::Ready(Ok(()));
                    }
                    Ok(Parsed::Incomplete) => {}
                    Err(reject) => {
                        self.detail = reject.detail;
                        self.keep_alive = false;
                        return Poll::Ready(Err(NoRequest::Reject(reject)));
                    }
                }
            }
            let some = !bytes.is_empty();
            match ready!(self.poll_fill_head(cx)) {
                Ok(0) | Err(Problem::Closed) if !some => {
                    return Poll::Ready(Err(NoRequest::Closed));
                }
                Ok(0) | Err(Problem::Closed | Problem::Reset) => {
                    return Poll::Ready(Err(NoRequest::Gone));
                }
                Ok(_) => {}
                Err(Problem::Reject(reject)) => return Poll::Ready(Err(NoRequest::Reject(reject))),
                Err(Problem::Full)
                    if self.limits.head_bytes > self.incoming.buffer.bytes().len()
                        && self.incoming.buffer.grow(&self.blocks) => {}
                Err(Problem::Full) => {
                    let reject = Reject {
                        cause: Cause::HeadTooLarge,
                        detail: "the head is too large",
                    };
                    self.keep_alive = false;
                    return Poll::Ready(Err(NoRequest::Reject(reject)));
                }
                Err(Problem::Memory) => {
                    let reject = Reject {
                        cause: Cause::MemoryLimit,
                        detail: "out of buffers",
                    };
                    self.keep_alive = false;
                    return Poll::Ready(Err(NoRequest::Reject(reject)));
                }
            }
        }
    }

    /// Puts what can be told of a request that [`Self::poll_head`] refused into `head`, for the record:
    /// at most its method and its target.
    pub fn refused(&self, head: &mut RequestHead) {
        refused::line_of(self.incoming.buffer.bytes(), head);
    }

    fn begin(&mut self, head: &RequestHead, length: usize) {
        self.incoming.buffer.consume(length);
        self.incoming.begin(head.length, false);
        self.scan = Scan::default();
        self.version = head.version;
        self.keep_alive = head.keep_alive;
        self.is_last = !head.keep_alive;
        self.responded = false;
        self.detail = "";
    }

    /// Whether another request may follow the exchange that has ended: the client may send one,
    /// and the body of the last one was read to its end.
    pub fn can_continue(&self) -> bool {
        self.keep_alive && self.incoming.is_done()
    }

    /// Whether closing at once could take the response away from the client: when it may still be
    /// sending (RFC 9112 section 9.6). Not when it has sent all that it announced.
    pub fn needs_linger(&self) -> bool {
        !(self.is_last
            && !self.io.must_say_end()
            && self.responded
            && self.incoming.is_done()
            && self.incoming.buffer.is_empty()
            && self.outgoing.buffer.is_empty())
    }

    /// Whether the end of the connection would make a response look whole that was cut off: then
    /// it is reset, which nobody takes for an end.
    pub fn reset_if_cut_off(&mut self) -> bool {
        let reset = self.aborted && self.until_close;
        if reset {
            self.io.reset();
        }
        reset
    }

    /// Gives buffers back that hold nothing, when an exchange has ended.
    #[inline]
    pub fn rest(&mut self) {
        self.incoming.buffer.release();
    }

    /// Waits until all is written, then says the end and reads what the client still sends, so
    /// that it gets the response rather than a reset (RFC 9112 section 9.6). To be bounded in
    /// time by the caller.
    pub fn poll_linger(&mut self, cx: &mut Context<'_>, shut: &mut bool) -> Poll<()> {
        if !*shut {
            if ready!(self.outgoing.poll_flush(cx, &mut self.io)).is_err() {
                return Poll::Ready(());
            }
            let _ = ready!(self.io.poll_shutdown(cx));
            *shut = true;
        }
        let waiting = self.incoming.buffer.bytes().len();
        self.incoming.buffer.consume(waiting);
        self.incoming.buffer.release();
        let mut discarded = [0; DISCARD_BYTES];
        loop {
            match ready!(self.io.poll_read(cx, &mut discarded)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
    }

    fn fault(problem: Problem) -> Fault {
        let cause = match problem {
            Problem::Closed | Problem::Reset => Cause::ClientGone,
            Problem::Reject(reject) => reject.cause,
            Problem::Full => Cause::BadRequest,
            Problem::Memory => return Fault::outgrow(Phase::RequestBody, Cause::MemoryLimit),
        };
        Fault::client(Phase::RequestBody, cause)
    }

    fn gone(error: io::Error) -> Fault {
        match error.kind() {
            // No buffer of ours: the client is not to blame.
            io::ErrorKind::OutOfMemory => Fault::outgrow(Phase::ResponseBody, Cause::MemoryLimit),
            _ => Fault::client(Phase::ResponseBody, Cause::ClientGone),
        }
    }

    fn poll_ready_made(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ready_made.is_empty() {
            let count = ready!(self.io.poll_write(cx, self.ready_made))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.ready_made = &self.ready_made[count..];
        }
        self.io.poll_flush(cx)
    }

    fn put_head(
        &mut self,
        head: &ResponseHead,
        framing: Framing,
        connection: Connection<'_>,
    ) -> Result<(), Fault> {
        let size = head.fields.bytes().len() + 4 * head.fields.len() + 256;
        let buffer = &mut self.outgoing.buffer;
        if !buffer.reserve_for(Need::Head, size, &self.blocks) {
            return Err(Fault::outgrow(Phase::ResponseHead, Cause::MemoryLimit));
        }
        encode::response(head, framing, connection, buffer);
        Ok(())
    }
}

impl<T: Transport> BodySource for ServerConnection<T> {
    #[inline]
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        let data = ready!(self.incoming.poll_data(cx, &mut self.io, &self.blocks));
        if let Err(Problem::Reject(reject)) = data {
            self.detail = reject.detail;
        }
        if data.is_err() {
            self.keep_alive = false;
        }
        Poll::Ready(data.map_err(Self::fault))
    }

    #[inline]
    fn data(&self) -> &[u8] {
        self.incoming.data()
    }

    #[inline]
    fn consume(&mut self, count: usize) {
        self.incoming.consume(count);
    }

    fn trailers(&mut self) -> Option<&mut Fields> {
        self.incoming.trailers()
    }
}

impl<T: Transport> Downstream for ServerConnection<T> {
    fn interim(&mut self, head: &ResponseHead) -> Result<(), Fault> {
        if self.version == Version::Http10 {
            return Ok(());
        }
        self.put_head(head, Framing::None, Connection::Implied)
    }

    fn respond(
        &mut self,
        head: &ResponseHead,
        length: BodyLength,
        method: Method,
    ) -> Result<(), Fault> {
        let framing = match length {
            // A HEAD or 304 response carries the length that a GET would have had.
            BodyLength::Empty if ResponseHead::never_has_body(head.status, method) => {
                let told = head.fields.get(outgrow_message::Known::ContentLength);
                match told.and_then(crate::h1::framing::parse_length) {
                    Some(bytes) => Framing::Length(bytes),
                    None => Framing::None,
                }
            }
            BodyLength::Empty => Framing::Length(0),
            BodyLength::Known(bytes) => Framing::Length(bytes),
            BodyLength::Unknown if self.version == Version::Http11 => Framing::Chunked,
            BodyLength::Unknown => {
                self.keep_alive = false;
                Framing::UntilClose
            }
        };
        let connection = Connection::to_client(self.version, self.keep_alive);
        self.put_head(head, framing, connection)?;
        self.outgoing.begin(framing == Framing::Chunked);
        self.until_close = framing == Framing::UntilClose;
        self.responded = true;
        Ok(())
    }

    #[inline]
    fn poll_push(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>> {
        self.outgoing
            .poll_push(cx, &mut self.io, &self.blocks, data)
            .map_err(Self::gone)
    }

    fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Fault> {
        if self.outgoing.finish(&self.blocks, trailers) {
            Ok(())
        } else {
            Err(Fault::outgrow(Phase::ResponseBody, Cause::MemoryLimit))
        }
    }

    #[inline]
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if !self.ready_made.is_empty() {
            ready!(self.poll_ready_made(cx)).map_err(Self::gone)?;
        }
        self.outgoing
            .poll_flush(cx, &mut self.io)
            .map_err(Self::gone)
    }

    #[inline]
    fn written(&self) -> u64 {
        self.outgoing.buffer.written()
    }

    fn abort(&mut self) {
        self.keep_alive = false;
        self.aborted = true;
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        // Pipelined requests may come in; as long as there is room they are taken.
        while !self.half_closed && !self.incoming.buffer.is_full() {
            match ready!(
                self.incoming
                    .buffer
                    .poll_fill(cx, &mut self.io, &self.blocks)
            ) {
                Ok(1..) => {}
                Err(Problem::Full | Problem::Memory) => return Poll::Pending,
                Ok(0) => {
                    self.half_closed = true;
                    // Nothing comes that would need the block.
                    self.incoming.buffer.settle(&self.blocks);
                }
                Err(_) => {
                    self.keep_alive = false;
                    return Poll::Ready(Fault::client(Phase::ResponseHead, Cause::ClientGone));
                }
            }
        }
        if !self.half_closed {
            return Poll::Pending;
        }
        // What it sent before is answered.
        self.keep_alive &= !self.incoming.buffer.is_empty();
        Poll::Ready(Fault::client(Phase::ResponseHead, Cause::ClientGone))
    }

    fn is_half_closed(&self) -> bool {
        self.half_closed
    }

    fn has_responded(&self) -> bool {
        self.responded
    }

    fn close_after(&mut self) {
        self.keep_alive = false;
    }

    fn respond_without_memory(&mut self) -> bool {
        if self.responded || !self.outgoing.buffer.is_empty() {
            return false;
        }
        self.ready_made = NO_MEMORY;
        self.keep_alive = false;
        self.responded = true;
        true
    }

    fn detail(&self) -> &'static str {
        self.detail
    }
}

impl<T: Transport> Tunnel for ServerConnection<T> {
    fn switch(&mut self, head: &ResponseHead, protocol: &[u8]) -> Result<(), Fault> {
        self.keep_alive = false;
        self.put_head(head, Framing::None, Connection::Upgrade(protocol))?;
        self.outgoing.begin(false);
        self.incoming.begin(BodyLength::Unknown, true);
        self.responded = true;
        Ok(())
    }

    fn poll_tunnel_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        let data = ready!(self.incoming.poll_data(cx, &mut self.io, &self.blocks));
        Poll::Ready(data.map_err(|problem| match problem {
            Problem::Memory => Fault::outgrow(Phase::Tunnel, Cause::MemoryLimit),
            _ => Fault::client(Phase::Tunnel, Cause::ClientGone),
        }))
    }

    fn poll_tunnel_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.io.poll_shutdown(cx).map_err(Self::gone)
    }

    fn can_tunnel(&self) -> bool {
        self.version == Version::Http11
    }
}
