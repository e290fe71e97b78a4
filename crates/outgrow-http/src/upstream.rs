//! What a tier needs of the endpoint's side of an exchange, whatever the protocol.

use std::task::{Context, Poll};

use outgrow_core::Fault;
use outgrow_message::{BodySource, Fields, RequestHead, ResponseHead};

/// The endpoint's side of one exchange, whose request head is on its way already: where the
/// request's body goes, and the response. Faults say whether the endpoint may have seen the request.
pub trait Upstream: BodySource + Send {
    /// Takes some of the request's body, which is not empty; how much.
    fn poll_push(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>>;

    /// Ends the request: all of its body was pushed.
    fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Fault>;

    /// Hands all that was pushed to the kernel.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>>;

    /// Whether nothing waits to be handed over.
    fn is_flushed(&self) -> bool;

    /// Waits for the next head of the response to `request`: interim ones, then the final one,
    /// after which the body can be read.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        request: &RequestHead,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), Fault>>;

    /// Whether any byte of a response came.
    fn any_received(&self) -> bool;

    /// Begins the body of the response whose final head is `head`.
    fn begin_body(&mut self, head: &ResponseHead);

    /// Nobody takes the data at hand: it is kept in as little memory as it needs.
    fn settle(&mut self) {}

    /// Whether all that is left of the response is at hand, and nothing beyond it: then nothing more is needed
    /// of the endpoint. To be asked once the request was sent, where nobody takes the data at hand.
    fn is_whole(&mut self, cx: &mut Context<'_>) -> bool;

    /// Whether nothing came that belongs to no response: then the connection can be used again.
    fn is_clean(&self) -> bool;
}
