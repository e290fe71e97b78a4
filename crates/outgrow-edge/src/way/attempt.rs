//! One attempt of a request: a connection to the endpoint, the exchange on it, or a tunnel.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::context::Context;
use outgrow_core::serving::Floors;
use outgrow_core::{Cause, Fault, Phase, Sent, Ticks};
use outgrow_http::conn::{ClientExchange, ClientSide};
use outgrow_http::h2::ClientStream;
use outgrow_http::{Downstream, Tunnel, grpc};
use outgrow_message::{Known, Version};
use outgrow_net::Timer;
use outgrow_upstream::{
    Connection, Endpoint, Freshness, LongStay, Opening, Outcome, Permit, Session, Speaks,
};

use super::retry::Retries;
use super::{Target, Way};
use crate::forward::{self, Attempt, Done, Patience, Surroundings};
use crate::grpc_web::Web;
use crate::metrics::TunnelCells;
use crate::plan::{ListenerPlan, RoutePlan};
use crate::session::{Http2, Making, host_of, silence};
use crate::tunnel::{Relay, RelayState, WebSocket, handshake};
use crate::worker::{Exchange, Worker};

/// A request that cannot be sent twice takes an idle connection only if it was used this recently:
/// servers close idle connections without a word, and then nobody knows what was executed.
const FRESH: Duration = Duration::from_secs(1);

impl<D: Downstream + Tunnel> Way<'_, D> {
    /// One attempt at one endpoint. The fault comes with whether a pooled connection was used.
    pub(super) async fn attempt(
        &mut self,
        context: &mut Context,
        target: &Target<'_>,
        permit: &Permit,
        retries: &Retries,
    ) -> Result<(), (Fault, bool)> {
        let endpoint = permit.endpoint();
        let now = context.stages.admitted;
        self.exchange.begin_attempt(now);
        self.enter(target, endpoint, now);
        if target.picking.http2 && !self.exchange.request.wants_upgrade {
            return Box::pin(self.attempt_shared(context, target, permit, retries)).await;
        }
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
                let connected = connect(endpoint, target, now, retries.deadline);
                // Boxed, as is all that is rare: the state of every request is moved as it begins.
                let connected = beside(self.down, Box::pin(connected)).await;
                connected.map_err(|fault| (fault, false))?
            }
        };
        context.stages.connected = if reused { now } else { self.worker.now() };
        self.exchange.begin_attempt(context.stages.connected);
        if context.stages.connected >= retries.deadline {
            // Nobody waits for it any more: it is not executed either.
            return Err((too_late(Phase::Connect), reused));
        }
        let label = host_of(endpoint);
        let reporter = target.picking.takes_reports.then_some(&**endpoint);
        let is_long = forward::is_long(self.exchange.request.length);
        if is_long {
            connection.limit_silence(Duration::ZERO);
        }
        let done = self
            .exchange_with(&mut connection, (label, reporter), target, retries)
            .await;
        if is_long {
            connection.limit_silence(target.timeouts.unacknowledged);
        }
        self.note_progress(context);
        match done {
            Ok(Done::Answered { reusable } | Done::Replaced { reusable }) => {
                self.finish_attempt(context, target, permit);
                if reusable {
                    let progress = &self.exchange.progress;
                    let (now, keep) = (progress.now, progress.keep_alive);
                    endpoint.release(self.worker.index, connection, now, keep);
                }
                Ok(())
            }
            Ok(Done::Switched) => {
                endpoint.report(Outcome::Success, self.worker.now());
                connection.limit_silence(silence(target.timeouts));
                let stay = LongStay::new(Arc::clone(endpoint));
                Box::pin(self.tunnel(context, target, connection, stay))
                    .await
                    .map_err(|fault| (fault, reused))
            }
            Err(fault) => Err((fault, reused)),
        }
    }

    /// The same on a connection that requests share (HTTP/2).
    async fn attempt_shared(
        &mut self,
        context: &mut Context,
        target: &Target<'_>,
        permit: &Permit,
        retries: &Retries,
    ) -> Result<(), (Fault, bool)> {
        let endpoint = permit.endpoint();
        let now = context.stages.admitted;
        let time = target.timeouts.connect.min(retries.deadline.since(now));
        let making = Making {
            worker: self.worker,
            endpoint,
            opening: Opening {
                connect: target.timeouts.connect,
                unacknowledged: target.timeouts.unacknowledged,
                silence: silence(target.timeouts),
            },
            seal: target.picking.seal.as_ref(),
        };
        let made = beside(self.down, Box::pin(making.session(time))).await;
        let made = made.map_err(|fault| {
            let cut_short = time < target.timeouts.connect;
            (in_time(fault, cut_short), false)
        });
        let (session, reused) = made?;
        context.reused = reused;
        context.stages.connected = if reused { now } else { self.worker.now() };
        self.exchange.begin_attempt(context.stages.connected);
        if context.stages.connected >= retries.deadline {
            return Err((too_late(Phase::Connect), reused));
        }
        let received = session.received();
        let done = self.exchange_on(&session, endpoint, target, retries).await;
        self.note_progress(context);
        match done {
            Ok(_) => {
                self.finish_attempt(context, target, permit);
                Ok(())
            }
            Err(fault) => {
                let is_silence = matches!(
                    fault.cause,
                    Cause::FirstByteTimeout | Cause::StreamIdleTimeout
                );
                if is_silence && session.received() == received {
                    // Not one byte for anybody: the next request finds out on another one.
                    let session: Arc<dyn Session> = session;
                    endpoint.drop_session(self.worker.index, &session);
                }
                Err((fault, reused))
            }
        }
    }

    async fn exchange_on(
        &mut self,
        session: &Http2,
        endpoint: &Endpoint,
        target: &Target<'_>,
        retries: &Retries,
    ) -> Result<Done, Fault> {
        // Once: a next attempt finds the client told.
        if std::mem::take(&mut self.exchange.request.expects_continue) {
            // Few servers of HTTP/2 answer it: the body is taken here in any case.
            let head = &mut self.exchange.response;
            head.clear();
            head.status = 100;
            self.down.interim(head)?;
            self.exchange.progress.note_interim();
        }
        let request = &self.exchange.request;
        let host = host_of(endpoint).as_bytes();
        let mut stream = session.begin(request, host, &self.worker.blocks)?;
        let reporter = target.picking.takes_reports.then_some(endpoint);
        let around = surroundings(self.worker, self.timer, self.listener, (target, retries));
        let web = self.exchange.call.web;
        let (side, rest, decoder) = self.exchange.split();
        // What an endpoint has not looked at it says, and that goes elsewhere with its body.
        let (keep_body, may_repeat) = (true, retries.may_repeat());
        let up = &mut stream;
        let Some(kind) = web else {
            let down = &mut *self.down;
            let mut attempt = Attempt {
                around,
                rest,
                reporter,
                up,
                down,
                keep_body,
                may_repeat,
            };
            let done = poll_fn(|cx| attempt.poll(cx)).await;
            keep_rest(&mut stream, side);
            return done;
        };
        let mut attempt = Attempt {
            around,
            rest,
            reporter,
            up,
            down: &mut Web::new(self.down, kind, decoder),
            keep_body,
            may_repeat,
        };
        let done = poll_fn(|cx| attempt.poll(cx)).await;
        keep_rest(&mut stream, side);
        done
    }

    /// The request is in flight at an endpoint from now on, for who wants to know.
    fn enter(&mut self, target: &Target<'_>, endpoint: &Endpoint, now: Ticks) {
        let Exchange {
            passage,
            shape,
            in_flight,
            ..
        } = &mut *self.exchange;
        if let Some(passage) = passage {
            passage.enter(endpoint, shape.as_ref(), now);
        } else if let (Some(shapes), Some(shape)) = (&target.picking.shapes, shape) {
            // Where it was before it is no more.
            *in_flight = None;
            let serving = endpoint.serving(shapes.servings());
            *in_flight = Some(serving.begin(shape, now, Floors::default()));
        }
    }

    async fn exchange_with(
        &mut self,
        connection: &mut Connection,
        (host_if_none, reporter): (&str, Option<&Endpoint>),
        target: &Target<'_>,
        retries: &Retries,
    ) -> Result<Done, Fault> {
        let (side, rest, _) = self.exchange.split();
        let request = rest.request;
        *side = match request.version {
            Version::Http2 | Version::Http3 => ClientSide::one_of_many(),
            Version::Http10 | Version::Http11 => ClientSide::default(),
        };
        let upgrade = request
            .wants_upgrade
            .then(|| request.text(request.upgrade_to));
        let blocks = &self.worker.blocks;
        if !side.begin(request, host_if_none.as_bytes(), upgrade, blocks) {
            return Err(Fault::outgrow(Phase::Send, Cause::MemoryLimit));
        }
        let mut up = ClientExchange {
            side,
            io: &mut connection.link,
            blocks,
        };
        let around = surroundings(self.worker, self.timer, self.listener, (target, retries));
        // What was decompressed comes once. It has no length, so nobody can tell it from its chunks later.
        let keep_body = retries.repeatable || rest.decompressing.told().is_some();
        let mut attempt = Attempt {
            around,
            rest,
            reporter,
            up: &mut up,
            down: self.down,
            keep_body,
            may_repeat: retries.may_repeat(),
        };
        poll_fn(|cx| attempt.poll(cx)).await
    }

    pub(super) fn note_progress(&mut self, context: &mut Context) {
        let progress = &self.exchange.progress;
        context.stages.sent = progress.sent_at;
        context.stages.first_byte = progress.first_byte_at;
        context.request_bytes = context.request_bytes.max(progress.request_bytes);
        context.response_bytes = progress.response_bytes;
        if let Some((coding, coded, plain)) = self.exchange.decompressing.told() {
            context.request_coding = coding.as_str();
            context.request_bytes = coded;
            context.request_plain_bytes = plain;
        }
        let compressing = &self.exchange.compressing;
        context.coding = compressing.told.coding.map_or("", |coding| coding.as_str());
        if let Some((plain, coded)) = compressing.bytes() {
            context.plain_bytes = plain;
            context.response_bytes = coded;
        }
        context.grpc_status = progress.grpc_status;
        if self.down.has_responded() || progress.first_byte_at != Ticks::ZERO {
            context.status = self.exchange.response.status;
        }
    }

    fn finish_attempt(&mut self, context: &Context, target: &Target<'_>, permit: &Permit) {
        let now = self.exchange.progress.now;
        let endpoint = permit.endpoint();
        let outcome = match context.status {
            502..=504 => Outcome::ServerError,
            _ if context.grpc_status == Some(grpc::UNAVAILABLE) => Outcome::ServerError,
            _ => Outcome::Success,
        };
        let failed =
            context.status >= 500 || context.grpc_status.is_some_and(grpc::is_server_error);
        endpoint.report(outcome, now);
        if target.picking.measures {
            let elapsed = context.stages.first_byte.since(context.stages.admitted);
            endpoint.note_response_time(elapsed, outcome != Outcome::Success, now);
        }
        if endpoint.sample().is_on() {
            let elapsed = context.stages.first_byte.since(context.stages.admitted);
            endpoint.sample().add(failed, elapsed);
        }
    }

    async fn tunnel(
        &mut self,
        context: &mut Context,
        target: &Target<'_>,
        mut connection: Connection,
        stay: LongStay,
    ) -> Result<(), Fault> {
        let head = &mut self.exchange.response;
        if !handshake::check_accept(&self.exchange.request, head) {
            let cause = Cause::UpstreamBadResponse;
            return Err(Fault::upstream(Phase::ResponseHead, cause, Sent::Maybe));
        }
        let protocol = head
            .fields
            .get(Known::Upgrade)
            .map(<[u8]>::to_vec)
            .unwrap_or_default();
        head.fields.remove_hop_by_hop();
        self.worker.put_date(&mut head.fields);
        self.listener.put_own(&mut head.fields);
        target.route.edit_response(&mut head.fields);
        if !self.exchange.set_cookie.is_empty() {
            head.fields.push(b"Set-Cookie", &self.exchange.set_cookie);
        }
        self.down.switch(head, &protocol)?;
        let cells = &target.route.cells.of(self.worker.index).tunnels;
        let _open = Open::new(cells);
        let websocket = protocol
            .eq_ignore_ascii_case(b"websocket")
            .then(|| WebSocket::new(self.worker.chance()));
        let mut relay = Relay {
            down: self.down,
            side: &mut self.exchange.side,
            stream: &mut connection.link,
            blocks: &self.worker.blocks,
            timer: self.timer,
            clock: self.worker.shared.clock,
            shared: &self.worker.shared,
            stay,
            idle: target.timeouts.tunnel_idle,
            state: RelayState::new(websocket),
        };
        relay.begin();
        let result = poll_fn(|cx| relay.poll(cx, cells)).await;
        context.request_bytes = relay.state.to_upstream;
        context.response_bytes = relay.state.to_client;
        // A tunnel ends when somebody leaves: only its reason is of interest, nobody is to blame.
        if let Err(fault) = result {
            context.fault = Some(fault);
        }
        Ok(())
    }
}

/// Counts an upgraded connection for as long as it lives, panics included.
struct Open<'a>(&'a TunnelCells);

impl<'a> Open<'a> {
    fn new(cells: &'a TunnelCells) -> Self {
        cells.begun.add(1);
        cells.open.add(1);
        Self(cells)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.add(-1);
    }
}

/// Waits for what has to be there before anything of the client's body is taken.
async fn beside<D: Downstream, F: Future + Unpin>(down: &mut D, mut what: F) -> F::Output {
    poll_fn(|cx| {
        let polled = Pin::new(&mut what).poll(cx);
        if polled.is_pending() {
            down.settle(cx);
        }
        polled
    })
    .await
}

/// A new connection, for which there is time until `deadline` at most.
async fn connect(
    endpoint: &Endpoint,
    target: &Target<'_>,
    now: Ticks,
    deadline: Ticks,
) -> Result<Connection, Fault> {
    let opening = opening(target, now, deadline);
    let cut_short = opening.connect < target.timeouts.connect;
    let how = (target.picking.seal.as_deref(), Speaks::Http1);
    let connected = outgrow_upstream::connect(endpoint, opening, how, now).await;
    connected.map_err(|fault| in_time(fault, cut_short))
}

fn surroundings<'a>(
    worker: &'a Worker,
    timer: &'a mut Timer,
    listener: &'a ListenerPlan,
    (target, retries): (&'a Target<'_>, &Retries),
) -> Surroundings<'a> {
    Surroundings {
        worker,
        blocks: &worker.blocks,
        timer,
        patience: patience(listener, target, retries),
        route: target.route,
        listener: Some(listener),
        body_limit: target.body_limit,
    }
}

fn patience(listener: &ListenerPlan, target: &Target<'_>, retries: &Retries) -> Patience {
    let (of_listener, route) = (&listener.timeouts, target.route);
    Patience {
        body_idle: of_listener.body_idle,
        body_rate: route.body_rate.unwrap_or(of_listener.body_rate.bytes()),
        first_byte: target.timeouts.first_byte,
        stream_idle: target.timeouts.stream_idle,
        send_idle: of_listener.send_idle,
        send_rate: send_rate(listener, route),
        request_deadline: retries.deadline,
        is_clients: retries.is_clients,
    }
}

/// Bytes of a response that a client has to take in each second.
pub(super) fn send_rate(listener: &ListenerPlan, route: &RoutePlan) -> u64 {
    let of_listener = listener.timeouts.send_rate;
    route.send_rate.unwrap_or(of_listener.bytes())
}

/// Keeps what is left of the response, if nothing more is needed of the endpoint for it.
fn keep_rest(stream: &mut ClientStream, side: &mut ClientSide) {
    if let Some(rest) = stream.take_rest() {
        side.incoming = rest;
    }
}

fn opening(target: &Target<'_>, now: Ticks, deadline: Ticks) -> Opening {
    Opening {
        connect: target.timeouts.connect.min(deadline.since(now)),
        unacknowledged: target.timeouts.unacknowledged,
        silence: target.timeouts.unacknowledged,
    }
}

/// The fault of a connection that was not made, whose time the request's own cut short.
fn in_time(fault: Fault, cut_short: bool) -> Fault {
    match fault.cause {
        Cause::ConnectTimeout if cut_short => too_late(Phase::Connect),
        _ => fault,
    }
}

fn too_late(phase: Phase) -> Fault {
    Fault::outgrow(phase, Cause::RequestTimeout)
}
