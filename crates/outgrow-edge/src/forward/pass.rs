//! A response's body on its way to the client: from the endpoint's connection, or, once the endpoint has done
//! its part, from what of it is at hand.

use std::task::{Context, Poll, ready};

use outgrow_core::Fault;
use outgrow_http::Downstream;
use outgrow_message::BodySource;

use super::{Progress, Turn};
use crate::compress::{self, Compressing};

/// Where it goes, and what is done with it.
pub(crate) struct Pass<'a, D> {
    pub(crate) down: &'a mut D,
    pub(crate) compressing: &'a mut Compressing,
    pub(crate) progress: &'a mut Progress,
    pub(crate) is_grpc: bool,
}

impl<D: Downstream> Pass<'_, D> {
    /// Moves it as far as it goes, to its end; then it is known whether the client is waited for.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl BodySource,
    ) -> Poll<Result<(), Fault>> {
        self.progress.client_behind = true;
        let mut turn = Turn::default();
        while !self.progress.response_ended {
            if turn.poll_next(cx).is_pending() {
                self.progress.client_behind = false;
                return Poll::Pending;
            }
            match source.poll_data(cx) {
                Poll::Ready(Ok(true)) => {
                    let data = source.data();
                    let taken = ready!(self.compressing.poll_push(cx, self.down, data))?;
                    source.consume(taken);
                    self.progress.response_bytes += taken as u64;
                    self.progress.last = self.progress.now;
                }
                Poll::Ready(Ok(false)) => {
                    ready!(self.compressing.poll_finish(cx, self.down))?;
                    self.progress.response_ended = true;
                    let mut trailers = source.trailers();
                    self.progress
                        .note_trailers(self.is_grpc, trailers.as_deref());
                    if let (Some(trailers), true) =
                        (&mut trailers, self.compressing.told.coding.is_some())
                    {
                        compress::remove_digests(trailers);
                    }
                    self.down.finish(trailers.map(|fields| &*fields))?;
                }
                Poll::Ready(Err(fault)) => {
                    // What came of it still goes out, then the end is told.
                    ready!(self.down.poll_flush(cx))?;
                    return Poll::Ready(Err(fault));
                }
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
}
