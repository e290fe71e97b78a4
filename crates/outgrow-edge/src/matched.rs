//! What routing found out about a request, kept with the exchange so that nothing is allocated.

use std::sync::Arc;

use outgrow_message::RequestHead;

use crate::plan::{Plan, RoutePlan};
use crate::router::{Captures, Router};

/// What the route's path captured, and a text that is made of the request: a rewritten path, a
/// redirect's target, the methods that would have been allowed.
#[derive(Debug, Default)]
pub(crate) struct Matched {
    pub(crate) captures: Captures,
    pub(crate) text: Vec<u8>,
    /// Nothing but the method keeps the request from a route; `text` is the list of those that
    /// would have one.
    pub(crate) only_method: bool,
}

impl Matched {
    /// Finds the route of a request that came to this listener.
    #[inline]
    pub(crate) fn route(
        &mut self,
        plan: &Plan,
        listener: &str,
        request: &RequestHead,
    ) -> Option<Arc<RoutePlan>> {
        self.only_method = false;
        let router = plan.routers.of(listener);
        let Some(index) = router.find(request, &mut self.captures) else {
            self.none(router, request);
            return None;
        };
        plan.routes.get(index).cloned()
    }

    #[cold]
    fn none(&mut self, router: &Router, request: &RequestHead) {
        if let Some(methods) = router.allowed(request) {
            self.only_method = true;
            self.text.clear();
            self.text.extend_from_slice(methods.as_bytes());
        }
    }

    /// Memory held, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.text.capacity()
    }
}
