//! The way of a request, top to bottom: route → filters → admit → endpoint → connection → send →
//! response → relay → record.
//!
//! What a stage does is in its own module; here is their order, and what follows from a fault.

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outgrow_core::context::Context;
use outgrow_core::{Cause, Fault, Phase, Sent, Side, Ticks};
use outgrow_http::{Downstream, Tunnel};
use outgrow_message::{BodyLength, Known};
use outgrow_net::Timer;
use outgrow_upstream::settings::ServiceTimeouts;
use outgrow_upstream::{Connection, EndpointId, Freshness, Outcome, Permit, Service, Unavailable};

use crate::forward::{self, Attempt, Done, Patience, Surroundings};
use crate::identity::{self, Peer};
use crate::plan::{self, Action, Chooser, ListenerPlan, RoutePlan};
use crate::record::Line;
use crate::respond;
use crate::tunnel::{Relay, RelayState};
use crate::worker::{Drain, Exchange, Worker};

/// A request that cannot be sent twice takes an idle connection only if it was used this recently:
/// servers close idle connections without a word, and then nobody knows what was executed.
const FRESH: Duration = Duration::from_secs(1);
/// Attempts at one request, whatever the reasons.
const ATTEMPTS: usize = 4;

/// One request on its way.
pub(crate) struct Way<'a, D> {
    pub(crate) worker: &'a Worker,
    pub(crate) listener: &'a ListenerPlan,
    pub(crate) peer: &'a Peer,
    pub(crate) exchange: &'a mut Exchange,
    pub(crate) timer: &'a mut Timer,
    pub(crate) down: &'a mut D,
    /// What exactly was wrong with the client's bytes; empty when nothing was.
    pub(crate) detail: &'static str,
}

/// What the record says about where a request went.
#[derive(Default)]
struct Destination {
    route: Option<Arc<RoutePlan>>,
    permit_label: Option<Arc<outgrow_upstream::Endpoint>>,
}

impl<D: Downstream + Tunnel> Way<'_, D> {
    /// Handles the request whose head is in the exchange, from routing to the record.
    pub(crate) async fn process(mut self, start: Ticks) {
        let request = &self.exchange.request;
        let (mut context, route) = self.worker.begin(start, |plan| {
            let found = plan
                .router
                .find(request.text(request.authority), request.path());
            found.and_then(|index| plan.routes.get(index)).cloned()
        });
        context.protocol = protocol_of(request.version);
        if self.worker.shared.drain() != Drain::No {
            self.down.close_after();
        }
        let mut destination = Destination {
            route,
            permit_label: None,
        };
        let outcome = self.answer(&mut context, &mut destination).await;
        if let Err(fault) = outcome {
            self.fail(&mut context, fault).await;
        }
        context.stages.end = self.worker.now();
        self.record(&context, &destination);
    }

    /// Answers bytes that are no acceptable request, and records them.
    pub(crate) async fn refuse(mut self, start: Ticks, fault: Fault, detail: &'static str) {
        let (mut context, _) = self.worker.begin(start, |_| None);
        // What was read of a head that is refused is not to be relied on.
        self.exchange.request.clear();
        self.detail = detail;
        self.down.close_after();
        self.fail(&mut context, fault).await;
        context.stages.end = self.worker.now();
        self.record(&context, &Destination::default());
    }

    async fn answer(
        &mut self,
        context: &mut Context,
        destination: &mut Destination,
    ) -> Result<(), Fault> {
        let Some(route) = destination.route.clone() else {
            return Err(Fault::outgrow(Phase::Route, Cause::NoRoute));
        };
        let body_limit = self.listener.body_limit_with(route.body_limit);
        if let (BodyLength::Known(length), Some(limit)) = (self.exchange.request.length, body_limit)
            && length > limit
        {
            return Err(Fault::client(Phase::RequestBody, Cause::BodyTooLarge));
        }
        match &route.action {
            Action::Respond {
                status,
                body,
                fields,
            } => self.respond(context, *status, body, fields).await,
            Action::Forward {
                service,
                timeouts,
                views,
            } => {
                let view = &views[self.worker.index % views.len()];
                let target = Target {
                    service,
                    timeouts,
                    view,
                    route: &route,
                    body_limit,
                };
                self.forward(context, &target, destination).await
            }
        }
    }

    async fn respond(
        &mut self,
        context: &mut Context,
        status: u16,
        body: &[u8],
        fields: &[(String, String)],
    ) -> Result<(), Fault> {
        let head = &mut self.exchange.response;
        head.clear();
        head.status = status;
        for (name, value) in fields {
            head.fields.push(name.as_bytes(), value.as_bytes());
        }
        if !body.is_empty() && !head.fields.may_have(Known::ContentType) {
            head.fields
                .push(b"Content-Type", b"text/plain; charset=utf-8");
        }
        context.status = status;
        let method = self.exchange.request.method;
        let clock = self.worker.shared.clock;
        let patience = self.listener.timeouts.send_idle;
        context.response_bytes =
            respond::answer(self.down, head, body, method, clock, self.timer, patience).await?;
        Ok(())
    }

    /// Sends the request to an endpoint; again to another one where that is safe.
    async fn forward(
        &mut self,
        context: &mut Context,
        target: &Target<'_>,
        destination: &mut Destination,
    ) -> Result<(), Fault> {
        let request_deadline = plan::deadline(context.stages.start, target.timeouts.request);
        self.prepare_request(context, target.route);
        let repeatable = self
            .exchange
            .request
            .may_repeat(target.route.idempotency_key);
        // Endpoints at which it failed; empty, and without memory, for nearly all requests.
        let mut avoid = Vec::new();
        let mut repeated = false;
        let mut now = context.stages.start;
        loop {
            let (permit, admitted) = self.admit(target, &avoid, now).await?;
            let endpoint = Arc::clone(permit.endpoint());
            destination.permit_label = Some(Arc::clone(&endpoint));
            context.stages.admitted = admitted;
            let attempt = self.attempt(context, target, &permit, repeatable, request_deadline);
            let (fault, reused) = match attempt.await {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            let progress = &self.exchange.progress;
            let silent = !progress.any_received && !progress.interim_forwarded;
            // The server closed a connection that was idle: no sign of trouble, and as good as
            // never sent when the request may be repeated.
            let stale = reused
                && silent
                && fault.phase != Phase::Connect
                && fault.side == Side::Upstream
                && matches!(fault.cause, Cause::UpstreamClosed | Cause::UpstreamReset);
            now = self.worker.now();
            if !stale {
                endpoint.report(Outcome::Fault(fault), now);
            }
            let safe = fault.sent == Sent::None || (repeatable && (stale || !repeated));
            let again = safe
                && silent
                && fault.another_may_help()
                && self.exchange.replay.is_whole()
                && !self.down.has_responded()
                && usize::from(context.retries) + 1 < ATTEMPTS
                && now < request_deadline;
            if !again {
                return Err(fault);
            }
            repeated |= fault.sent == Sent::Maybe && !stale;
            if !stale {
                avoid.push(endpoint.id());
            }
            context.retries += 1;
            target.route.cells.of(self.worker.index).retries.add(1);
        }
    }

    /// What is changed in the request, once for all attempts.
    fn prepare_request(&mut self, context: &Context, route: &RoutePlan) {
        let request = &mut self.exchange.request;
        if request.wants_upgrade {
            // Kept aside before hop-by-hop fields go: the protocols that were asked for.
            let joined = request.fields.get(Known::Upgrade).map(<[u8]>::to_vec);
            request.fields.remove_hop_by_hop();
            if let Some(protocols) = joined {
                request.upgrade_to = request.fields.push_bytes(&protocols);
            }
        } else {
            request.fields.remove_hop_by_hop();
        }
        identity::tell_endpoint(request, self.peer, context.id);
        route.request_edits.apply(&mut request.fields);
        if let Some(host) = route.request_edits.host() {
            request.authority = request.fields.push_bytes(host.as_bytes());
        }
    }

    /// An endpoint and the right to send to it; waits in line when all are busy.
    async fn admit(
        &mut self,
        target: &Target<'_>,
        avoid: &[EndpointId],
        now: Ticks,
    ) -> Result<(Permit, Ticks), Fault> {
        let chosen = {
            let mut chooser = target.view.lock().unwrap_or_else(PoisonError::into_inner);
            let Chooser { view, random } = &mut *chooser;
            target.service.choose(view, now, random, avoid)
        };
        match chosen {
            Ok(permit) => return Ok((permit, now)),
            Err(Unavailable::NoEndpoint) => {
                return Err(Fault::outgrow(Phase::Admit, Cause::NoEndpoint));
            }
            Err(Unavailable::Busy) => {}
        }
        let refused = |cause| Fault::outgrow(Phase::Admit, cause);
        let mut wait = target.service.wait().map_err(refused)?;
        self.timer.set(now + target.timeouts.queue);
        let clock = self.worker.shared.clock;
        let body_ended = self.exchange.request.length.is_empty();
        let permit = poll_fn(|cx| {
            use std::task::Poll;
            if let Poll::Ready(answer) = std::pin::Pin::new(&mut wait).poll(cx) {
                return Poll::Ready(answer.map_err(refused));
            }
            if body_ended && let Poll::Ready(fault) = self.down.poll_gone(cx) {
                return Poll::Ready(Err(fault));
            }
            let timed = self.timer.poll(cx, clock.now());
            timed.map(|()| Err(refused(target.service.why_waited())))
        })
        .await?;
        Ok((permit, clock.now()))
    }

    /// One attempt at one endpoint. The fault comes with whether a pooled connection was used.
    async fn attempt(
        &mut self,
        context: &mut Context,
        target: &Target<'_>,
        permit: &Permit,
        repeatable: bool,
        request_deadline: Ticks,
    ) -> Result<(), (Fault, bool)> {
        let endpoint = permit.endpoint();
        let now = context.stages.admitted;
        self.exchange.progress.begin(now);
        let freshness = if repeatable {
            Freshness::Any
        } else {
            Freshness::UsedWithin(FRESH)
        };
        let pooled = endpoint.checkout(self.worker.index, now, freshness);
        let reused = pooled.is_some();
        context.reused = reused;
        let mut connection = match pooled {
            Some(connection) => connection,
            None => {
                let connect = outgrow_upstream::connect(endpoint, target.timeouts.connect, now);
                connect.await.map_err(|fault| (fault, false))?
            }
        };
        context.stages.connected = if reused { now } else { self.worker.now() };
        self.exchange.progress.begin(context.stages.connected);
        let done = self
            .exchange_with(
                &mut connection,
                endpoint.label(),
                target,
                repeatable,
                request_deadline,
            )
            .await;
        self.note_progress(context);
        match done {
            Ok(Done::Answered { reusable }) => {
                self.finish_attempt(context, permit, connection, reusable);
                Ok(())
            }
            Ok(Done::Switched) => {
                endpoint.report(Outcome::Success, self.worker.now());
                self.tunnel(context, connection)
                    .await
                    .map_err(|fault| (fault, reused))
            }
            Err(fault) => Err((fault, reused)),
        }
    }

    async fn exchange_with(
        &mut self,
        connection: &mut Connection,
        host_if_none: &str,
        target: &Target<'_>,
        repeatable: bool,
        request_deadline: Ticks,
    ) -> Result<Done, Fault> {
        let exchange = &mut *self.exchange;
        exchange.side = forward::UpstreamSide::default();
        let request = &exchange.request;
        let upgrade = request
            .wants_upgrade
            .then(|| request.text(request.upgrade_to));
        let blocks = &self.worker.blocks;
        let host = host_if_none.as_bytes();
        if !forward::begin(request, host, upgrade, &mut exchange.side, blocks) {
            return Err(Fault::outgrow(Phase::Send, Cause::MemoryLimit));
        }
        let patience = Patience {
            body_idle: self.listener.timeouts.body_idle,
            first_byte: target.timeouts.first_byte,
            stream_idle: target.timeouts.stream_idle,
            send_idle: self.listener.timeouts.send_idle,
            request_deadline,
        };
        let mut attempt = Attempt {
            around: Surroundings {
                clock: self.worker.shared.clock,
                blocks,
                timer: self.timer,
                patience,
                route: target.route,
                body_limit: target.body_limit,
            },
            request,
            response: &mut exchange.response,
            side: &mut exchange.side,
            stream: &mut connection.stream,
            down: self.down,
            replay: &mut exchange.replay,
            keep_body: repeatable,
            progress: &mut exchange.progress,
        };
        poll_fn(|cx| attempt.poll(cx)).await
    }

    fn note_progress(&mut self, context: &mut Context) {
        let progress = &self.exchange.progress;
        context.stages.sent = progress.sent_at;
        context.stages.first_byte = progress.first_byte_at;
        context.request_bytes = context.request_bytes.max(progress.request_bytes);
        context.response_bytes = progress.response_bytes;
        if self.down.has_responded() || progress.first_byte_at != Ticks::ZERO {
            context.status = self.exchange.response.status;
        }
    }

    fn finish_attempt(
        &mut self,
        context: &Context,
        permit: &Permit,
        connection: Connection,
        reusable: bool,
    ) {
        let now = self.exchange.progress.now;
        let endpoint = permit.endpoint();
        let outcome = match context.status {
            502..=504 => Outcome::ServerError,
            _ => Outcome::Success,
        };
        endpoint.report(outcome, now);
        if reusable {
            let keep = self.exchange.progress.keep_alive;
            endpoint.release(self.worker.index, connection, now, keep);
        }
    }

    async fn tunnel(
        &mut self,
        context: &mut Context,
        mut connection: Connection,
    ) -> Result<(), Fault> {
        let head = &mut self.exchange.response;
        let protocol = head
            .fields
            .get(Known::Upgrade)
            .map(<[u8]>::to_vec)
            .unwrap_or_default();
        head.fields.remove_hop_by_hop();
        self.down.switch(head, &protocol)?;
        let mut relay = Relay {
            down: self.down,
            side: &mut self.exchange.side,
            stream: &mut connection.stream,
            blocks: &self.worker.blocks,
            timer: self.timer,
            clock: self.worker.shared.clock,
            state: RelayState::default(),
        };
        relay.begin();
        let result = poll_fn(|cx| relay.poll(cx)).await;
        context.request_bytes = relay.state.to_upstream;
        context.response_bytes = relay.state.to_client;
        // A tunnel ends when somebody leaves: only its reason is of interest, nobody is to blame.
        if let Err(fault) = result {
            context.fault = Some(fault);
        }
        Ok(())
    }

    /// Answers a fault, or ends the response visibly early when it has begun.
    async fn fail(&mut self, context: &mut Context, fault: Fault) {
        context.fault = Some(fault);
        self.worker.cells().count_fault(fault.cause);
        if self.down.has_responded() {
            self.down.abort();
            return;
        }
        context.status = 0;
        if self.detail.is_empty() && fault.side == Side::Client {
            self.detail = self.down.detail();
        }
        let head = &mut self.exchange.response;
        let mut body = Vec::new();
        if fault.side == Side::Client && fault.phase == Phase::RequestBody {
            self.down.close_after();
        }
        if !respond::error(fault, self.detail, context, head, &mut body) {
            self.down.abort();
            return;
        }
        context.status = head.status;
        let method = self.exchange.request.method;
        let clock = self.worker.shared.clock;
        let patience = self.listener.timeouts.send_idle;
        match respond::answer(self.down, head, &body, method, clock, self.timer, patience).await {
            Ok(bytes) => context.response_bytes = bytes,
            Err(_) => self.down.abort(),
        }
    }

    fn record(&self, context: &Context, destination: &Destination) {
        let worker = self.worker;
        let listener = self.listener.metrics.workers.of(worker.index);
        listener.received_bytes.add(context.request_bytes);
        listener.sent_bytes.add(context.response_bytes);
        let route = destination.route.as_deref();
        if let Some(route) = route {
            let cells = route.cells.of(worker.index);
            cells.by_class[usize::from(context.status / 100).min(5)].add(1);
            cells
                .duration
                .record(context.stages.end.micros_since(context.stages.start));
            if context.stages.first_byte != Ticks::ZERO {
                let micros = context.stages.first_byte.micros_since(context.stages.sent);
                cells.first_byte.record(micros);
            }
            let cut = context.fault.is_some_and(|fault| {
                fault.side == Side::Upstream && fault.phase == Phase::ResponseBody
            });
            cells.truncated.add(u64::from(cut));
        }
        if !worker.records.is_on() {
            return;
        }
        let request = &self.exchange.request;
        let endpoint = destination.permit_label.as_deref();
        let service = match route.map(|route| &route.action) {
            Some(Action::Forward { service, .. }) => service.name(),
            _ => "",
        };
        worker.records.put(&Line {
            context,
            client: self.peer.address(),
            method: request.text(request.method_text),
            host: request.text(request.authority),
            path: request.text(request.raw_path),
            query: request.query.map(|query| request.text(query)),
            route: route.map_or("", |route| &route.name),
            service,
            endpoint: endpoint.map_or("", |endpoint| {
                endpoint.instance().unwrap_or_else(|| endpoint.label())
            }),
            detail: self.detail,
            user_agent: request.fields.get(Known::UserAgent).unwrap_or_default(),
            given_id: identity::given_id(&request.fields, self.peer),
        });
    }
}

/// Where a route sends requests, and with which patience.
struct Target<'a> {
    service: &'a Service,
    timeouts: &'a ServiceTimeouts,
    view: &'a Mutex<Chooser>,
    route: &'a RoutePlan,
    body_limit: Option<u64>,
}

fn protocol_of(version: outgrow_message::Version) -> outgrow_core::context::Protocol {
    use outgrow_core::context::Protocol;
    match version {
        outgrow_message::Version::Http10 => Protocol::Http10,
        outgrow_message::Version::Http11 => Protocol::Http11,
        outgrow_message::Version::Http2 => Protocol::Http2,
    }
}
