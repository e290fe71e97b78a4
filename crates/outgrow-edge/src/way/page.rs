//! Answers with a page of ours instead of the endpoint's error.

use outgrow_core::Fault;
use outgrow_core::context::Context;
use outgrow_http::{Downstream, Tunnel};

use super::Way;
use crate::pages;
use crate::plan::RoutePlan;
use crate::worker::Exchange;

impl<D: Downstream + Tunnel> Way<'_, D> {
    /// Answers with a page instead of the endpoint's error.
    pub(super) async fn answer_instead(
        &mut self,
        context: &mut Context,
        route: &RoutePlan,
    ) -> Result<(), Fault> {
        let listener = self.listener;
        let Exchange {
            request,
            response: head,
            set_cookie,
            ..
        } = &mut *self.exchange;
        let mut body = Vec::new();
        // For as long as it is sent.
        let mut charge = None;
        head.fields.remove_hop_by_hop();
        pages::forget_body(&mut head.fields);
        if let Some(page) = listener.page_instead(head.status, route) {
            let ledger = &self.worker.shared.ledger;
            let asked = (context.id, request.method);
            // Where there is no memory for it, the status alone is sent.
            charge = page.write(asked, head, &mut body, ledger);
        }
        route.edit_response(&mut head.fields);
        if !set_cookie.is_empty() {
            head.fields.push(b"Set-Cookie", set_cookie);
        }
        let status = head.status;
        let answered = self.answer_with(context, status, &body).await;
        drop(charge);
        answered
    }
}
