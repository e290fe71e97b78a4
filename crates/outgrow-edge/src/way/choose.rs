//! What a route does besides sending to its only service: which service of a split, and redirects.

use outgrow_core::Fault;
use outgrow_core::context::Context;
use outgrow_http::{Downstream, Tunnel};

use super::Way;
use crate::backend::Backends;
use crate::plan::RoutePlan;
use crate::rewrite::{self, Redirect};
use crate::worker::Exchange;

impl<D: Downstream + Tunnel> Way<'_, D> {
    /// Which of the route's services the request goes to.
    pub(super) fn choose_backend(&self, context: &Context, backends: &Backends) -> usize {
        let request = &self.exchange.request;
        let trusts = |address| self.listener.trusts(Some(address));
        backends.split().map_or(0, |split| {
            split.pick(split.point(request, self.peer, trusts, context.id.points().0))
        })
    }

    /// Sends the client elsewhere.
    pub(super) async fn redirect(
        &mut self,
        context: &mut Context,
        route: &RoutePlan,
        redirect: &Redirect,
    ) -> Result<(), Fault> {
        let Exchange {
            request,
            response: head,
            matched,
            ..
        } = &mut *self.exchange;
        redirect.location(request, &matched.captures, &mut matched.text)?;
        head.clear();
        head.status = redirect.status;
        head.fields.push(b"Location", &matched.text);
        route.edit_response(&mut head.fields);
        self.answer_with(context, redirect.status, &[]).await
    }

    /// Sends the client to the same URL with TLS.
    pub(super) async fn redirect_to_https(
        &mut self,
        context: &mut Context,
        port: u16,
    ) -> Result<(), Fault> {
        let Exchange {
            request,
            response: head,
            matched,
            ..
        } = &mut *self.exchange;
        rewrite::https(request, port, &mut matched.text)?;
        head.clear();
        head.status = 308;
        head.fields.push(b"Location", &matched.text);
        self.answer_with(context, 308, &[]).await
    }
}
