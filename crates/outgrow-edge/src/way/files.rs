//! Answers a request with a file.

use std::future::poll_fn;
use std::task::{Context as Waiting, Poll, ready};

use outgrow_core::context::Context;
use outgrow_core::{Cause, Fault, Phase, Ticks};
use outgrow_http::{Downstream, Tunnel};
use outgrow_message::{BodySource, Method, RequestHead, ResponseHead};

use super::{Way, attempt, network_of_client};
use crate::files::{self, Answer, FileBody, FilePlan};
use crate::forward::Credit;
use crate::plan::RoutePlan;
use crate::respond;

impl<D: Downstream + Tunnel> Way<'_, D> {
    /// Finds the file and sends it.
    pub(super) async fn send_file(
        &mut self,
        context: &mut Context,
        route: &RoutePlan,
        plan: &FilePlan,
    ) -> Result<(), Fault> {
        let exchange = &mut *self.exchange;
        if !matches!(exchange.request.method, Method::Get | Method::Head) {
            exchange.matched.text.clear();
            exchange.matched.text.extend_from_slice(files::METHODS);
            return Err(Fault::outgrow(Phase::Route, Cause::MethodNotAllowed));
        }
        if let Some(rewrite) = &route.rewrite {
            let (captures, text) = (&exchange.matched.captures, &mut exchange.matched.text);
            rewrite.apply(&mut exchange.request, captures, text)?;
        }
        let compress = route.compress.as_ref();
        exchange.compressing.ask(compress, &mut exchange.request);
        let answer = plan
            .find(&exchange.request, self.worker, self.timer)
            .await?;
        let content = match answer {
            Answer::File(content) => content,
            Answer::LacksSlash => return self.send_to(context, route, files::with_slash).await,
            Answer::Overescaped => return self.send_to(context, route, files::canonical).await,
        };
        respond::abandon_request_body(self.down).await;
        let exchange = &mut *self.exchange;
        let (request, head) = (&exchange.request, &mut exchange.response);
        let moment = context.wall.seconds();
        let listener = self.listener;
        let foreseen = |whole: &ResponseHead| {
            if !files::is_conditional(&request.fields) {
                return false;
            }
            // It is judged as it would be sent.
            let mut whole = whole.clone();
            listener.put_own(&mut whole.fields);
            route.edit_response(&mut whole.fields);
            let compressing = &mut exchange.compressing;
            compressing.foresee(compress, &whole, request.method)
        };
        let range = plan.write_head(&content, request, head, (moment, foreseen));
        let coding = content.coding().unwrap_or_default();
        let reads = (self.worker, plan.owner());
        let client = || network_of_client(listener, self.peer, &request.fields);
        let mut body = FileBody::new(content, range, reads, client)?;
        self.worker.put_date(&mut head.fields);
        self.listener.put_own(&mut head.fields);
        route.edit_response(&mut head.fields);
        let method = request.method;
        let length = exchange
            .compressing
            .begin(compress, head, method, self.worker);
        context.status = head.status;
        context.coding = coding;
        self.down.respond(head, length, method)?;
        let rate = attempt::send_rate(listener, route);
        self.send_body(context, &mut body, rate).await
    }

    /// Sends the client to another path: to the directory's own, which relative links in its pages
    /// need, or to the one form of a path, which routes are matched by.
    async fn send_to(
        &mut self,
        context: &mut Context,
        route: &RoutePlan,
        location: impl FnOnce(&RequestHead, &mut Vec<u8>),
    ) -> Result<(), Fault> {
        let exchange = &mut *self.exchange;
        location(&exchange.request, &mut exchange.matched.text);
        let head = &mut exchange.response;
        head.clear();
        head.status = 308;
        head.fields.push(b"Location", &exchange.matched.text);
        route.edit_response(&mut head.fields);
        self.answer_with(context, 308, b"").await
    }

    /// Sends it to a client that takes `rate` bytes a second, of the time in which it is waited for.
    async fn send_body(
        &mut self,
        context: &mut Context,
        body: &mut FileBody<'_>,
        rate: u64,
    ) -> Result<(), Fault> {
        let patience = self.listener.timeouts.send_idle;
        let (mut taken, mut ended) = (0, false);
        let mut written = self.down.written();
        let mut until = self.worker.now() + patience;
        let mut taking = Credit::default();
        let sent = poll_fn(|cx| {
            if let Poll::Ready(result) = self.poll_file(cx, body, &mut taken, &mut ended) {
                return Poll::Ready(result);
            }
            let now = self.worker.now();
            if self.down.written() != written {
                written = self.down.written();
                until = now + patience;
            }
            taking.stop(now);
            let too_slow = match (body.is_read(), rate) {
                (true, _) | (_, 0) => Ticks::NEVER,
                (false, rate) => taking.start(now, written, (rate, patience)),
            };
            let fault = match body.is_read() {
                true => Fault::outgrow(Phase::ResponseBody, Cause::FileFailed),
                false => Fault::client(Phase::ResponseBody, Cause::SendTimeout),
            };
            self.timer.set(until.min(too_slow));
            self.timer.poll(cx, now).map(|()| Err(fault))
        });
        let sent = sent.await;
        context.response_bytes = taken;
        if let Some((plain, coded)) = self.exchange.compressing.bytes() {
            context.plain_bytes = plain;
            context.response_bytes = coded;
        }
        if let Some(coding) = self.exchange.compressing.told.coding {
            context.coding = coding.as_str();
        }
        sent
    }

    fn poll_file(
        &mut self,
        cx: &mut Waiting<'_>,
        body: &mut FileBody<'_>,
        taken: &mut u64,
        ended: &mut bool,
    ) -> Poll<Result<(), Fault>> {
        let compressing = &mut self.exchange.compressing;
        while !*ended {
            match body.poll_data(cx) {
                Poll::Ready(Ok(true)) => {
                    let count = ready!(compressing.poll_push(cx, self.down, body.data()))?;
                    body.consume(count);
                    *taken += count as u64;
                }
                Poll::Ready(Ok(false)) => {
                    ready!(compressing.poll_finish(cx, self.down))?;
                    self.down.finish(None)?;
                    *ended = true;
                }
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                Poll::Pending => {
                    ready!(compressing.poll_pause(cx, self.down))?;
                    ready!(self.down.poll_flush(cx))?;
                    return Poll::Pending;
                }
            }
        }
        self.down.poll_flush(cx)
    }
}
