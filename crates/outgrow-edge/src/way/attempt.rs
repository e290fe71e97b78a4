//! One attempt of a request: a connection to the endpoint, the exchange on it, or a tunnel.

use std::future::poll_fn;
use std::time::Duration;

use outgrow_core::context::Context;
use outgrow_core::serving::Floors;
use outgrow_core::settings::Address;
use outgrow_core::{Cause, Fault, Phase, Ticks};
use outgrow_http::{Downstream, Tunnel};
use outgrow_message::Known;
use outgrow_upstream::{Connection, Endpoint, Freshness, Opening, Outcome, Permit};

use super::retry::Retries;
use super::{Target, Way};
use crate::forward::{self, Attempt, Done, Patience, Surroundings};
use crate::tunnel::{Relay, RelayState};
use crate::worker::Exchange;

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
        self.exchange.progress.begin(now);
        self.enter(target, endpoint, now);
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
                Box::pin(connected).await.map_err(|fault| (fault, false))?
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
            Address::Tcp { .. } => endpoint.label(),
        };
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
                self.finish_attempt(context, target, permit, connection, reusable);
                Ok(())
            }
            Ok(Done::Switched) => {
                endpoint.report(Outcome::Success, self.worker.now());
                let timeouts = target.timeouts;
                if !timeouts.unacknowledged.is_zero() {
                    connection.limit_silence(timeouts.unacknowledged.max(timeouts.stream_idle));
                }
                Box::pin(self.tunnel(context, connection))
                    .await
                    .map_err(|fault| (fault, reused))
            }
            Err(fault) => Err((fault, reused)),
        }
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
                worker: self.worker,
                blocks,
                timer: self.timer,
                patience,
                route: target.route,
                listener: Some(self.listener),
                body_limit: target.body_limit,
            },
            request,
            response: &mut exchange.response,
            side: &mut exchange.side,
            reporter,
            passage: &mut exchange.passage,
            compressing: &mut exchange.compressing,
            set_cookie: &exchange.set_cookie,
            stream: &mut connection.link,
            down: self.down,
            replay: &mut exchange.replay,
            keep_body: retries.repeatable,
            copy: &mut exchange.copy,
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
        let compressing = &self.exchange.compressing;
        context.coding = compressing.told.coding.map_or("", |coding| coding.as_str());
        if let Some((plain, coded)) = compressing.bytes() {
            context.plain_bytes = plain;
            context.response_bytes = coded;
        }
        if self.down.has_responded() || progress.first_byte_at != Ticks::ZERO {
            context.status = self.exchange.response.status;
        }
    }

    fn finish_attempt(
        &mut self,
        context: &Context,
        target: &Target<'_>,
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
        if target.picking.measures {
            let elapsed = context.stages.first_byte.since(context.stages.admitted);
            endpoint.note_response_time(elapsed, outcome != Outcome::Success, now);
        }
        if endpoint.sample().is_on() {
            let elapsed = context.stages.first_byte.since(context.stages.admitted);
            endpoint.sample().add(context.status >= 500, elapsed);
        }
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
            stream: &mut connection.link,
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
}

/// A new connection, for which there is time until `deadline` at most.
async fn connect(
    endpoint: &Endpoint,
    target: &Target<'_>,
    now: Ticks,
    deadline: Ticks,
) -> Result<Connection, Fault> {
    let timeouts = target.timeouts;
    let left = deadline.since(now);
    let opening = Opening {
        connect: timeouts.connect.min(left),
        unacknowledged: timeouts.unacknowledged,
    };
    let seal = target.picking.seal.as_deref();
    let connected = outgrow_upstream::connect(endpoint, opening, seal, now).await;
    match connected {
        Err(fault) if fault.cause == Cause::ConnectTimeout && left < timeouts.connect => {
            Err(too_late(Phase::Connect))
        }
        connected => connected,
    }
}

fn too_late(phase: Phase) -> Fault {
    Fault::outgrow(phase, Cause::RequestTimeout)
}
