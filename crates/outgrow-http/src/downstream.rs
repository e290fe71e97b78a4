//! What a tier needs of the client's side of an exchange, whatever the protocol.

use std::task::{Context, Poll};

use outgrow_core::Fault;
use outgrow_message::{BodyLength, BodySource, Fields, Known, Method, ResponseHead, Version};

use crate::h1::framing::parse_length;

/// The client's side of one exchange: its request body, and where the response goes.
pub trait Downstream: BodySource + Send {
    /// Sends an interim response (1xx but 101).
    fn interim(&mut self, head: &ResponseHead) -> Result<(), Fault>;

    /// Begins the final response to a request of `method`. The head's hop-by-hop fields must have
    /// been removed; `length` is that of the body that will be pushed.
    fn respond(
        &mut self,
        head: &ResponseHead,
        length: BodyLength,
        method: Method,
    ) -> Result<(), Fault>;

    /// Takes some of `data`, which is not empty; how much.
    fn poll_push(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>>;

    /// Ends the response: all of its body was pushed.
    fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Fault>;

    /// Hands all that was pushed to the kernel.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>>;

    /// Whether the response's end, once it was finished, is with the client's connection, which needs
    /// nothing but [`Downstream::poll_flush`] any more. False for one that changes what passes, as long
    /// as it has some of it itself.
    fn has_end(&self) -> bool {
        true
    }

    /// How many bytes the client took, ever: by this a client that is slow is told from one that
    /// takes nothing.
    fn written(&self) -> u64;

    /// Ends the response visibly early: its body was cut off.
    fn abort(&mut self);

    /// Ready when the client went away. To be asked while nothing else is awaited of it.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Fault>;

    /// Whether the client that is gone ([`Downstream::poll_gone`]) closed its side in order, and so may still
    /// read: who does and who does not looks the same (RFC 9293 section 3.6). Only where a connection has one
    /// request after the other.
    fn is_half_closed(&self) -> bool {
        false
    }

    /// Whether anything of the final response was handed over yet.
    fn has_responded(&self) -> bool;

    /// Forbids a further request on the connection where the protocol has one request after the
    /// other; the response says so.
    fn close_after(&mut self) {}

    /// Answers 503 without a buffer, then to be flushed; false where there is no such answer.
    fn respond_without_memory(&mut self) -> bool {
        false
    }

    /// Nothing of the request's body is taken for now, which may change without it: what waits may move to
    /// where it costs less, and is not to cost others their turn. To be called at each poll meanwhile.
    fn settle(&mut self, _: &mut Context<'_>) {}

    /// What exactly was wrong with what the client sent; empty when nothing was.
    fn detail(&self) -> &'static str {
        ""
    }
}

/// A client whose connection can leave HTTP: after a 101 both directions are plain bytes.
pub trait Tunnel: Downstream {
    /// Answers 101 for `protocol`, after which the connection is a plain stream.
    fn switch(&mut self, head: &ResponseHead, protocol: &[u8]) -> Result<(), Fault>;

    /// Waits for bytes of the tunnel (true) or the end of the client's direction (false).
    fn poll_tunnel_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>>;

    /// Ready when the client takes nothing more, which where each direction of a stream ends by itself it may
    /// say while it is silent.
    fn poll_unwanted(&mut self, _: &mut Context<'_>) -> Poll<Fault> {
        Poll::Pending
    }

    /// Ends our direction.
    fn poll_tunnel_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.finish(None)?;
        self.poll_flush(cx)
    }

    /// Whether the protocol can do this at all.
    fn can_tunnel(&self) -> bool;
}

/// What a response's `Content-Length` says where the protocol has frames for the body (HTTP/2, HTTP/3).
pub(crate) fn told_length(head: &ResponseHead, length: BodyLength, method: Method) -> Option<u64> {
    let own = || head.fields.get(Known::ContentLength).and_then(parse_length);
    match length {
        // RFC 9110 section 8.6: no length for 204.
        _ if head.status == 204 => None,
        // A HEAD or 304 response carries the length that a GET would have had.
        BodyLength::Empty if ResponseHead::never_has_body(head.status, method) => own(),
        // It may end with its head, and say so by that alone (gRPC's are such).
        BodyLength::Empty if head.version == Version::Http2 => own(),
        BodyLength::Empty => Some(0),
        BodyLength::Known(bytes) => Some(bytes),
        BodyLength::Unknown => None,
    }
}
