//! An endpoint's error in whose place a page of ours goes.

use std::task::{Context, Poll};

use outgrow_http::{Downstream, Upstream, h1};

use super::{Attempt, Done, reports};
use crate::compress;

/// Longer error bodies are not passed over: a new connection costs less.
const WORTH_KEEPING: usize = 64 * 1024;

impl<D: Downstream, U: Upstream> Attempt<'_, D, U> {
    /// Whether a page goes in the place of the answer.
    pub(super) fn is_replaced(&self) -> bool {
        let status = self.rest.response.status;
        status >= 400
            && self
                .around
                .listener
                .is_some_and(|listener| listener.page_instead(status, self.around.route).is_some())
            && !self.rest.is_grpc
            && !compress::is_grpc(&self.rest.response.fields)
    }

    /// Passes over the answer's body as far as it is at hand: then the connection can be kept.
    pub(super) fn replace(&mut self, cx: &mut Context<'_>) -> Done {
        self.rest.progress.replaced = true;
        self.rest.progress.first_byte_at = self.rest.progress.last;
        self.rest.progress.keep_alive =
            h1::response::keep_alive_timeout(&self.rest.response.fields);
        if let Some(endpoint) = self.reporter {
            reports::take(&mut self.rest.response.fields, endpoint);
        }
        self.up.begin_body(self.rest.response);
        let (mut is_over, mut passed) = (false, 0);
        while passed < WORTH_KEEPING {
            let Poll::Ready(Ok(more)) = self.up.poll_data(cx) else {
                break;
            };
            is_over = !more;
            if is_over {
                break;
            }
            let count = self.up.data().len();
            self.up.consume(count);
            passed += count;
        }
        let reusable = is_over
            && self.rest.response.keep_alive
            && self.rest.progress.request_sent
            && self.up.is_clean();
        Done::Replaced { reusable }
    }
}
