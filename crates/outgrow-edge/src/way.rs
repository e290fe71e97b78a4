//! The way of a request, top to bottom: route → filters → admit → endpoint → connection → send →
//! response → relay → record.
//!
//! What a stage does is in its own module; here is their order, and what follows from a fault.

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outgrow_core::context::Context;
use outgrow_core::settings::Address;
use outgrow_core::{Cause, Fault, Phase, Side, Ticks};
use outgrow_http::{Downstream, Tunnel};
use outgrow_message::{BodyLength, Known, Span};
use outgrow_net::Timer;
use outgrow_upstream::settings::ServiceTimeouts;
use outgrow_upstream::{Connection, Endpoint, Freshness, Outcome, Permit, Service, Unavailable};

use crate::forward::{self, Attempt, Done, Patience, Surroundings};
use crate::identity::{self, Peer};
use crate::plan::{self, Action, Chooser, ListenerPlan, RoutePlan};
use crate::respond;
use crate::tunnel::{Relay, RelayState};
use crate::worker::{Drain, Exchange, Worker};

use self::retry::{Failure, Retries};

mod record;
mod retry;

/// A request that cannot be sent twice takes an idle connection only if it was used this recently:
/// servers close idle connections without a word, and then nobody knows what was executed.
const FRESH: Duration = Duration::from_secs(1);

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
    permit_label: Option<Arc<Endpoint>>,
    /// The authority that the client asked for, where the route sends another one on.
    asked: Option<Span>,
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
            asked: None,
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
        let deadline = plan::deadline(context.stages.start, target.timeouts.request);
        destination.asked = Some(self.exchange.request.authority);
        self.prepare_request(context, target.route);
        let request = &self.exchange.request;
        let repeatable = request.may_repeat(target.route.idempotency_key);
        let mut retries = Retries::new(repeatable, deadline);
        let mut now = context.stages.start;
        loop {
            let (permit, admitted) = self.admit(target, &retries, now).await?;
            let endpoint = Arc::clone(permit.endpoint());
            destination.permit_label = Some(Arc::clone(&endpoint));
            context.stages.admitted = admitted;
            let attempt = self.attempt(context, target, &permit, &retries).await;
            let Err((fault, reused)) = attempt else {
                return Ok(());
            };
            let progress = &self.exchange.progress;
            now = self.worker.now();
            let failure = Failure {
                fault,
                reused,
                silent: !progress.any_received && !progress.interim_forwarded,
                took: now.since(progress.began),
            };
            if !failure.is_stale() {
                endpoint.report(Outcome::Fault(fault), now);
            }
            let whole = self.keep_unsent_body();
            let again = retries.again(&failure, endpoint.id(), context.retries, now);
            if !(again && whole && !self.down.has_responded()) {
                return Err(fault);
            }
            context.retries += 1;
            target.route.cells.of(self.worker.index).retries.add(1);
        }
    }

    /// Keeps what was taken of the body and went nowhere; whether all of it is at hand.
    fn keep_unsent_body(&mut self) -> bool {
        let exchange = &mut *self.exchange;
        let framed = exchange.request.length == BodyLength::Unknown;
        let outgoing = &exchange.side.outgoing.buffer;
        exchange
            .replay
            .recover(outgoing, framed, &self.worker.blocks)
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
        retries: &Retries,
        now: Ticks,
    ) -> Result<(Permit, Ticks), Fault> {
        let chosen = {
            let mut chooser = target.view.lock().unwrap_or_else(PoisonError::into_inner);
            let Chooser { view, random } = &mut *chooser;
            target.service.choose(view, now, random, &retries.avoid)
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
        let patience = now + target.timeouts.queue;
        self.timer.set(patience.min(retries.deadline));
        let over = if retries.deadline < patience {
            Cause::RequestTimeout
        } else {
            Cause::QueueTimeout
        };
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
            timed.map(|()| Err(refused(over)))
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
        retries: &Retries,
    ) -> Result<(), (Fault, bool)> {
        let endpoint = permit.endpoint();
        let now = context.stages.admitted;
        self.exchange.progress.begin(now);
        let freshness = if retries.repeatable {
            Freshness::Any
        } else {
            Freshness::UsedWithin(FRESH)
        };
        let pooled = match retries.new_connection {
            true => None,
            false => endpoint.checkout(self.worker.index, now, freshness),
        };
        let reused = pooled.is_some();
        context.reused = reused;
        let mut connection = match pooled {
            Some(connection) => connection,
            None => {
                let connected = connect(endpoint, target.timeouts.connect, now, retries.deadline);
                connected.await.map_err(|fault| (fault, false))?
            }
        };
        context.stages.connected = if reused { now } else { self.worker.now() };
        self.exchange.progress.begin(context.stages.connected);
        if context.stages.connected >= retries.deadline {
            // Nobody waits for it any more: it is not executed either.
            return Err((too_late(Phase::Connect), reused));
        }
        // A path is no host; most servers take this one from whoever reaches their socket.
        let label = match endpoint.address() {
            Address::Unix(_) => "localhost",
            _ => endpoint.label(),
        };
        let done = self
            .exchange_with(&mut connection, label, target, retries)
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
        retries: &Retries,
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
            request_deadline: retries.deadline,
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
            keep_body: retries.repeatable,
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
            Err(fault)
                if fault.cause == Cause::MemoryLimit && self.down.respond_without_memory() =>
            {
                context.status = 503;
                let sent = respond::send(self.down, b"", clock, self.timer, patience);
                if sent.await.is_err() {
                    self.down.abort();
                }
            }
            Err(_) => self.down.abort(),
        }
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

/// A new connection, for which there is time until `deadline` at most.
async fn connect(
    endpoint: &Endpoint,
    timeout: Duration,
    now: Ticks,
    deadline: Ticks,
) -> Result<Connection, Fault> {
    let left = deadline.since(now);
    let connected = outgrow_upstream::connect(endpoint, timeout.min(left), now).await;
    match connected {
        Err(fault) if fault.cause == Cause::ConnectTimeout && left < timeout => {
            Err(too_late(Phase::Connect))
        }
        connected => connected,
    }
}

fn too_late(phase: Phase) -> Fault {
    Fault::outgrow(phase, Cause::RequestTimeout)
}

fn protocol_of(version: outgrow_message::Version) -> outgrow_core::context::Protocol {
    use outgrow_core::context::Protocol;
    match version {
        outgrow_message::Version::Http10 => Protocol::Http10,
        outgrow_message::Version::Http11 => Protocol::Http11,
        outgrow_message::Version::Http2 => Protocol::Http2,
    }
}
