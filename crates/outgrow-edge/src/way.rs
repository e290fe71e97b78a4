//! The way of a request, top to bottom: route → filters → admit → endpoint → connection → send →
//! response → relay → record.
//!
//! What a stage does is in its own module; here is their order, and what follows from a fault.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use outgrow_core::context::Context;
use outgrow_core::{Cause, Fault, Phase, Side, Ticks};
use outgrow_http::h1::framing;
use outgrow_http::{Downstream, Tunnel, grpc};
use outgrow_message::fields::list_members;
use outgrow_message::{BodyLength, Fields, Known, Method, RequestHead, Span, Version};
use outgrow_net::{Timer, network_of};
use outgrow_upstream::settings::ServiceTimeouts;
use outgrow_upstream::{Endpoint, Outcome, Service};

use crate::backend::{Chooser, Picking};
use crate::decompress;
use crate::floors::Passage;
use crate::grpc_web::{self, Decoder};
use crate::identity::{self, Peer};
use crate::mirror::Copy;
use crate::plan::{self, Action, ListenerPlan, RoutePlan};
use crate::respond;
use crate::worker::{Call, Drain, Exchange, Worker};

use self::retry::{Failure, Retries};

mod admit;
mod attempt;
mod choose;
mod deliver;
mod files;
mod page;
mod record;
mod retry;

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
    /// Which of the route's services.
    backend: usize,
    permit_label: Option<Arc<Endpoint>>,
    /// The authority that the client asked for, where the route sends another one on.
    asked: Option<Span>,
}

impl<D: Downstream + Tunnel> Way<'_, D> {
    /// Handles the request whose head is in the exchange, from routing to the record.
    pub(crate) async fn process(mut self, start: Ticks) {
        let Exchange {
            request, matched, ..
        } = &mut *self.exchange;
        let (mut context, route) = self.worker.begin(start, |plan| {
            let routed = self.listener.https_port.is_none();
            routed.then(|| matched.route(plan, &self.listener.name, request))?
        });
        context.protocol = protocol_of(request.version);
        self.exchange.call = Call::default();
        if self.worker.shared.drain() != Drain::No {
            self.down.close_after();
        }
        let mut destination = Destination {
            route,
            ..Destination::default()
        };
        let outcome = self.answer(&mut context, &mut destination).await;
        if let Err(fault) = outcome {
            let route = destination.route.as_deref();
            self.fail(&mut context, fault, route).await;
        }
        self.exchange.passage = None;
        self.exchange.in_flight = None;
        context.stages.end = self.worker.now();
        self.exchange.ended = context.stages.end;
        self.record(&context, &destination);
        self.exchange.progress.forget_client();
        self.exchange.decompressing.clear();
        self.exchange.compressing.clear();
    }

    /// Answers bytes that are no acceptable request, and records them, with the method and the path where
    /// these are known.
    pub(crate) async fn refuse(mut self, start: Ticks, fault: Fault, detail: &'static str) {
        let (mut context, _) = self.worker.begin(start, |_| None);
        self.exchange.request.keep_line();
        self.exchange.call = Call::default();
        self.detail = detail;
        self.down.close_after();
        self.fail(&mut context, fault, None).await;
        context.stages.end = self.worker.now();
        self.exchange.ended = context.stages.end;
        self.record(&context, &Destination::default());
    }

    async fn answer(
        &mut self,
        context: &mut Context,
        destination: &mut Destination,
    ) -> Result<(), Fault> {
        if let Some(answer) = self.answer_of_authority() {
            // Whatever the routes say, and whatever they redirect.
            destination.route = None;
            return self.respond(context, 200, &answer, &[]).await;
        }
        if let Some(port) = self.listener.https_port {
            return self.redirect_to_https(context, port).await;
        }
        let Some(route) = destination.route.clone() else {
            let cause = match self.exchange.matched.only_method {
                true => Cause::MethodNotAllowed,
                false => Cause::NoRoute,
            };
            return Err(Fault::outgrow(Phase::Route, cause));
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
            Action::Redirect(redirect) => self.redirect(context, &route, redirect).await,
            // Boxed: rare, and large.
            Action::Files(files) => Box::pin(self.send_file(context, &route, files)).await,
            Action::Forward(backends) => {
                destination.backend = self.choose_backend(context, backends);
                let Some(backend) = backends.at(destination.backend) else {
                    return Err(Fault::outgrow(Phase::Route, Cause::NoEndpoint));
                };
                let target = Target {
                    service: &backend.service,
                    timeouts: &backend.timeouts,
                    picking: &backend.picking,
                    view: backend.view(self.worker.index),
                    route: &route,
                    body_limit,
                };
                match hops_left(&mut self.exchange.request) {
                    Some(0) if self.exchange.request.method == Method::Options => {
                        self.respond(context, 200, b"", &[]).await
                    }
                    Some(0) => Err(Fault::client(Phase::RequestHead, Cause::NotImplemented)),
                    _ => self.forward(context, &target, destination).await,
                }
            }
        }
    }

    /// What a certificate authority asks for, if that is what this request is.
    fn answer_of_authority(&self) -> Option<Arc<[u8]>> {
        let request = &self.exchange.request;
        let answer = self.worker.shared.answers.of(request.path())?;
        matches!(request.method, Method::Get | Method::Head).then_some(answer)
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
        self.answer_with(context, status, body).await
    }

    /// Answers with the head in the exchange.
    async fn answer_with(
        &mut self,
        context: &mut Context,
        status: u16,
        body: &[u8],
    ) -> Result<(), Fault> {
        context.status = status;
        let head = &mut self.exchange.response;
        self.worker.put_date(&mut head.fields);
        self.listener.put_own(&mut head.fields);
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
        let mut is_clients = false;
        let mut deadline = plan::deadline(context.stages.start, target.timeouts.request);
        let request = &mut self.exchange.request;
        let web = match target.route.grpc_web {
            true => grpc_web::take(request),
            false => None,
        };
        let is_grpc = is_call(request);
        // What its client may do follows from more than a field that anybody can send.
        let is_of_streams = matches!(request.version, Version::Http2 | Version::Http3);
        let is_streaming = is_grpc && target.picking.http2 && (is_of_streams || web.is_some());
        if target.picking.http2 && (web.is_some() || !asks_for_websocket(request)) {
            // Nothing else is known to be there; what cannot be had may be ignored (RFC 9110 section 7.8).
            request.wants_upgrade = false;
        }
        self.exchange.call = Call {
            is_grpc,
            is_streaming,
            web,
        };
        self.exchange.decoder = Decoder::default();
        if self.exchange.call.is_grpc
            && let Some(patience) = grpc::timeout(&self.exchange.request.fields)
        {
            let clients = context.stages.start + patience;
            is_clients = clients < deadline;
            deadline = deadline.min(clients);
        }
        self.decompress(target)?;
        destination.asked = Some(self.exchange.request.authority);
        let asked = self.asked(target);
        let exchange = &mut *self.exchange;
        let compress = target.route.compress.as_ref();
        exchange.compressing.ask(compress, &mut exchange.request);
        exchange.compressing.drop_range(&mut exchange.request);
        self.exchange.shape = target.picking.shapes.as_ref().map(|shapes| {
            let Exchange {
                request, matched, ..
            } = &*self.exchange;
            shapes.of(self.worker.index, request, &matched.captures)
        });
        if let Some(floors) = &target.picking.floors {
            let (request, times) = (&self.exchange.request, (context.stages.start, context.wall));
            let cells = &self.worker.cells().floors;
            let passage = Passage::new(floors, request, times, self.peer.secure, cells);
            self.exchange.passage = Some(passage);
        }
        self.prepare_request(context, target.route)?;
        let request = &self.exchange.request;
        let repeatable = request.may_repeat(target.route.idempotency_key);
        let mut retries = Retries::new(repeatable, asked.stays(), (deadline, is_clients));
        let mut now = context.stages.start;
        loop {
            let (permit, admitted) = self.admit(target, asked, &retries, now).await?;
            let endpoint = Arc::clone(permit.endpoint());
            destination.permit_label = Some(Arc::clone(&endpoint));
            context.stages.admitted = admitted;
            let attempt = self.attempt(context, target, &permit, &retries).await;
            let Err((fault, reused)) = attempt else {
                // The endpoint has done its part.
                drop(permit);
                self.exchange.decompressing.close();
                self.exchange.in_flight = None;
                return match self.exchange.progress.replaced {
                    true => self.answer_instead(context, target.route).await,
                    false if self.exchange.progress.delivering => {
                        let rate = attempt::send_rate(self.listener, target.route);
                        let times = (rate, deadline, is_clients);
                        self.deliver(context, times).await
                    }
                    false => Ok(()),
                };
            };
            // Another attempt may wait for a permit that others have, who are not to wait for this one meanwhile.
            self.exchange.decompressing.rest();
            let progress = &self.exchange.progress;
            now = self.worker.now();
            let failure = Failure {
                fault,
                reused,
                // An answer that only says so is as good as none, unless it is all that there is.
                silent: (!progress.any_received || fault.cause == Cause::UpstreamUnavailable)
                    && !progress.interim_forwarded,
                took: now.since(progress.began),
            };
            // An upgrade goes by HTTP/1.1, which an endpoint that is spoken to by HTTP/2 need not know.
            let is_its_own = !(target.picking.http2 && self.exchange.request.wants_upgrade);
            if !failure.is_stale() && is_its_own {
                endpoint.report(Outcome::Fault(fault), now);
                if endpoint.sample().is_on() && fault.blames_endpoint() {
                    let elapsed = now.since(context.stages.admitted);
                    endpoint.sample().add(true, elapsed);
                }
                if target.picking.measures && fault.blames_endpoint() {
                    let elapsed = now.since(context.stages.admitted);
                    endpoint.note_response_time(elapsed, true, now);
                }
            }
            let whole = self.keep_unsent_body();
            let again = retries.again(&failure, endpoint.id(), now);
            if !(again && whole && !self.down.has_responded()) {
                return Err(fault);
            }
            context.retries = retries.sent_again;
            target.route.cells.of(self.worker.index).retries.add(1);
        }
    }

    /// Sees to it that the endpoint gets a plain body, where that is wanted.
    fn decompress(&mut self, target: &Target<'_>) -> Result<(), Fault> {
        let exchange = &mut *self.exchange;
        exchange.decompressing.clear();
        let Some(settings) = &target.route.decompress else {
            return Ok(());
        };
        if exchange.call.is_streaming {
            // It compresses message by message, and says so in another field.
            return Ok(());
        }
        let (request, limit) = (&mut exchange.request, target.body_limit);
        let (listener, peer) = (self.listener, self.peer);
        let client = |request: &RequestHead| network_of_client(listener, peer, &request.fields);
        let begun = exchange
            .decompressing
            .begin(settings, request, limit, self.worker, client);
        begun.map_err(|refused| {
            self.detail = refused.detail;
            refused.fault
        })
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

    /// What is changed in the request, once for all attempts, and a copy of it for a mirror.
    fn prepare_request(&mut self, context: &Context, route: &Arc<RoutePlan>) -> Result<(), Fault> {
        let Exchange {
            request,
            matched,
            copy,
            ..
        } = &mut *self.exchange;
        request.takes_trailers |= {
            let options = list_members(request.fields.values(Known::Te));
            let mut names = options.map(|option| option.split(|&byte| byte == b';').next());
            names.any(|name| name.is_some_and(|name| name.eq_ignore_ascii_case(b"trailers")))
        };
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
        if let Some(rewrite) = &route.rewrite {
            rewrite.apply(request, &matched.captures, &mut matched.text)?;
        }
        *copy = Copy::begin(self.worker, route, request, context.id.points().1);
        Ok(())
    }

    /// Answers a fault, or ends the response visibly early when it has begun.
    async fn fail(&mut self, context: &mut Context, fault: Fault, route: Option<&RoutePlan>) {
        context.fault = Some(fault);
        self.worker.cells().count_fault(fault.cause);
        // Its client may take its time with the answer.
        self.exchange.decompressing.close();
        if self.down.has_responded() {
            self.down.abort();
            return;
        }
        context.status = 0;
        if self.detail.is_empty() && fault.side == Side::Client {
            self.detail = match self.exchange.decompressing.detail() {
                "" => self.down.detail(),
                detail => detail,
            };
        }
        let head = &mut self.exchange.response;
        let mut body = Vec::new();
        if fault.side == Side::Client && fault.phase == Phase::RequestBody {
            self.down.close_after();
        }
        let content_type = content_type_of_call(&self.exchange.request, self.exchange.call);
        let told = match content_type {
            Some(kind) => respond::grpc_error(fault, self.detail, context, kind, head),
            None => respond::error(fault, self.detail, context, head, &mut body),
        };
        if !told {
            self.down.abort();
            return;
        }
        // For as long as it is sent. Without memory for it our own short text is.
        let _charge = self.listener.page(head.status, route).and_then(|page| {
            let ledger = &self.worker.shared.ledger;
            let asked = (context.id, self.exchange.request.method);
            page.write(asked, head, &mut body, ledger)
        });
        if fault.cause == Cause::MethodNotAllowed {
            head.fields.push(b"Allow", &self.exchange.matched.text);
        }
        let taken = route.and_then(|route| route.decompress.as_ref());
        if let (Cause::UnsupportedCoding, Some(settings)) = (fault.cause, taken) {
            let accepted = decompress::accepted(settings);
            head.fields.push(b"Accept-Encoding", accepted.as_bytes());
        }
        self.worker.put_date(&mut head.fields);
        self.listener.put_own(&mut head.fields);
        if let Some(passage) = &mut self.exchange.passage {
            // The endpoint may have written before it failed.
            let cells = &self.worker.cells().floors;
            poll_fn(|cx| passage.poll_head(cx, &mut head.fields, cells)).await;
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

/// Whose share of what there is for all a request takes. All who have no address, at a Unix socket, are one.
fn network_of_client(listener: &ListenerPlan, peer: &Peer, fields: &Fields) -> IpAddr {
    let trusts = |address| listener.trusts(Some(address));
    let client = identity::client(fields, peer, trusts);
    let address = std::str::from_utf8(client).ok();
    let address = address.and_then(|address| address.parse().ok());
    address.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), network_of)
}

fn asks_for_websocket(request: &RequestHead) -> bool {
    // Over HTTP/2 and HTTP/3 it is the one thing that can be asked for, and no field says so.
    if request.wants_upgrade && matches!(request.version, Version::Http2 | Version::Http3) {
        return true;
    }
    let mut asked = list_members(request.fields.values(Known::Upgrade));
    asked.any(|one| one.eq_ignore_ascii_case(b"websocket"))
}

/// Whether a request is a gRPC call. Nearly all requests that are none have another method.
fn is_call(request: &RequestHead) -> bool {
    request.method == Method::Post
        && matches!(grpc::kind(&request.fields), Some((grpc::Kind::Grpc, _)))
}

/// The content type of an answer to a call; none when the request is none.
fn content_type_of_call(request: &RequestHead, call: Call) -> Option<&'static [u8]> {
    let kind = call.web.or_else(|| {
        let kind = grpc::kind(&request.fields);
        kind.map(|(kind, _)| kind)
            .filter(|_| request.method == Method::Post)
    })?;
    Some(kind.content_type())
}

/// Where a route sends requests, and with which patience.
struct Target<'a> {
    service: &'a Service,
    timeouts: &'a ServiceTimeouts,
    picking: &'a Picking,
    view: &'a Mutex<Chooser>,
    route: &'a Arc<RoutePlan>,
    body_limit: Option<u64>,
}

/// How many proxies an OPTIONS or TRACE may still pass, this one included: at 0 the answer is ours
/// (RFC 9110 section 7.6.2). The next one is told one less.
fn hops_left(request: &mut RequestHead) -> Option<u64> {
    let counted = matches!(request.method, Method::Options | Method::Trace);
    if !counted || !request.fields.may_have(Known::MaxForwards) {
        return None;
    }
    let text = request.fields.get(Known::MaxForwards)?;
    let left = framing::parse_length(text)?;
    if left > 0 {
        let less = (left - 1).to_string();
        request.fields.set(b"Max-Forwards", less.as_bytes());
    }
    Some(left)
}

fn protocol_of(version: Version) -> outgrow_core::context::Protocol {
    use outgrow_core::context::Protocol;
    match version {
        Version::Http10 => Protocol::Http10,
        Version::Http11 => Protocol::Http11,
        Version::Http2 => Protocol::Http2,
        Version::Http3 => Protocol::Http3,
    }
}
