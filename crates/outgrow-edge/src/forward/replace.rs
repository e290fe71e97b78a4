//! An endpoint's error in whose place a page of ours goes.

use std::task::{Context, Poll};

use outgrow_http::Downstream;
use outgrow_http::h1;

use super::{Attempt, Done};
use crate::compress;

/// Longer error bodies are not passed over: a new connection costs less.
const WORTH_KEEPING: usize = 64 * 1024;

impl<D: Downstream> Attempt<'_, D> {
    /// Whether a page goes in the place of the answer.
    pub(super) fn is_replaced(&self) -> bool {
        let status = self.response.status;
        status >= 400
            && self
                .around
                .listener
                .is_some_and(|listener| listener.page_instead(status, self.around.route).is_some())
            && !compress::is_grpc(&self.response.fields)
    }

    /// Passes over the answer's body as far as it is at hand: then the connection can be kept.
    pub(super) fn replace(&mut self, cx: &mut Context<'_>) -> Done {
        self.progress.replaced = true;
        self.progress.first_byte_at = self.progress.last;
        self.progress.keep_alive = h1::response::keep_alive_timeout(&self.response.fields);
        let incoming = &mut self.side.incoming;
        incoming.begin(self.response.length, self.response.until_close);
        let (mut is_over, mut passed) = (false, 0);
        while passed < WORTH_KEEPING {
            let data = incoming.poll_data(cx, self.stream, self.around.blocks);
            let Poll::Ready(Ok(more)) = data else { break };
            is_over = !more;
            if is_over {
                break;
            }
            let count = incoming.data().len();
            incoming.consume(count);
            passed += count;
        }
        let reusable = is_over
            && self.response.keep_alive
            && self.progress.request_sent
            && incoming.buffer.is_empty();
        Done::Replaced { reusable }
    }
}
