//! The way of a connection, from top to bottom: whose it is → where it is to go → an endpoint that
//! takes it → relay → record.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use outgrow_core::context::RequestId;
use outgrow_core::{Cause, Ticks};
use outgrow_net::proxy_header::{Addresses, Outgoing};
use outgrow_net::{Stream, Timer, Transport};
use outgrow_upstream::{Endpoint, Outcome, Permit};

use super::flow::Flow;
use super::learn::Heard;
use super::relay::{Relay, Vigil};
use crate::end::End;
use crate::plan::{ListenerPlan, Target};
use crate::record::{Record, Stages};
use crate::worker::Worker;

/// What is known of a connection.
#[derive(Debug)]
pub(super) struct Way<'a> {
    pub(super) worker: &'a Arc<Worker>,
    pub(super) plan: &'a Arc<ListenerPlan>,
    pub(super) timer: Timer,
    id: RequestId,
    pub(super) stages: Stages,
    /// Who is at the other end; none for a Unix socket.
    pub(super) peer: Option<SocketAddr>,
    /// Whose connection it is: the peer's, or that of whom a proxy names.
    pub(super) client: Option<SocketAddr>,
    /// Where the client connected to, when a proxy has said so.
    pub(super) destination: Option<SocketAddr>,
    /// What the client's or its proxy's first bytes said.
    pub(super) heard: Heard,
    pub(super) target: Option<Arc<Target>>,
    pub(super) endpoint: Option<Arc<Endpoint>>,
    pub(super) retries: u32,
    received_bytes: u64,
    sent_bytes: u64,
    pub(super) detail: String,
}

/// A side of a connection. One that is dropped before the end was said in order is reset: what was
/// cut off must not look complete.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) stream: Stream,
    pub(super) is_over: bool,
}

impl Side {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            is_over: false,
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if !self.is_over {
            self.stream.reset();
        }
    }
}

/// Serves a connection until it ends.
pub(super) async fn serve(
    worker: &Arc<Worker>,
    plan: &Arc<ListenerPlan>,
    mut client: Side,
    address: Option<SocketAddr>,
) {
    let mut way = Way::new(worker, plan, address);
    let end = match way.go(&mut client).await {
        Ok(end) | Err(end) => end,
    };
    way.finish(end);
}

impl<'a> Way<'a> {
    pub(super) fn new(
        worker: &'a Arc<Worker>,
        plan: &'a Arc<ListenerPlan>,
        address: Option<SocketAddr>,
    ) -> Self {
        Self {
            worker,
            plan,
            timer: Timer::new(&worker.wheel),
            id: worker.new_id(),
            stages: Stages {
                start: worker.now(),
                ..Stages::default()
            },
            peer: address,
            client: address,
            destination: None,
            heard: Heard::default(),
            target: None,
            endpoint: None,
            retries: 0,
            received_bytes: 0,
            sent_bytes: 0,
            detail: String::new(),
        }
    }

    async fn go(&mut self, client: &mut Side) -> Result<End, End> {
        self.learn_client(client).await?;
        let _of_address = self.count_address()?;
        let target = self.learn_target(client).await?;
        self.target = Some(Arc::clone(&target));
        let (permit, stream) = self.open(client, &target).await?;
        let mut upstream = Side::new(stream);
        self.introduce(client, &mut upstream, &target).await?;
        Ok(self.relay(client, &mut upstream, &permit, &target).await)
    }

    /// The client's address has not too many already.
    fn count_address(&self) -> Result<Option<crate::addresses::OfAddress>, End> {
        let limit = self.plan.max_of_address;
        let (Some(client), 1..) = (self.client, limit) else {
            return Ok(None);
        };
        let addresses = &self.plan.metrics.addresses;
        let entered = addresses.enter(client.ip(), limit);
        entered.map(Some).ok_or(End::TooManyOfAddress)
    }

    /// Tells the endpoint whose connection it is, where the service wants that.
    async fn introduce(
        &mut self,
        client: &Side,
        upstream: &mut Side,
        target: &Target,
    ) -> Result<(), End> {
        let Some(version) = target.proxy else {
            return Ok(());
        };
        let destination = self.destination.or_else(|| client.stream.near());
        let addresses = self.client.zip(destination);
        let hello = self.heard.hello.as_ref();
        let name = hello.and_then(|hello| hello.server_name.as_deref());
        let mut header = Vec::new();
        let outgoing = Outgoing {
            version,
            addresses: addresses.map(|(source, destination)| Addresses {
                source,
                destination,
            }),
            received: &self.heard.header,
            authority: name.unwrap_or_default().as_bytes(),
        };
        outgoing.write(&mut header);
        let mut written = 0;
        self.timer.set(self.worker.now() + target.timeouts.connect);
        let clock = self.worker.shared.clock;
        let timer = &mut self.timer;
        poll_fn(|cx| {
            while written < header.len() {
                match upstream.stream.poll_write(cx, &header[written..]) {
                    std::task::Poll::Ready(Ok(more)) => written += more,
                    std::task::Poll::Ready(Err(_)) => {
                        return std::task::Poll::Ready(Err(End::EndpointReset));
                    }
                    std::task::Poll::Pending => {
                        let timed = timer.poll(cx, clock.now());
                        return timed.map(|()| Err(End::Refused(Cause::ConnectTimeout)));
                    }
                }
            }
            std::task::Poll::Ready(Ok(()))
        })
        .await
    }

    async fn relay(
        &mut self,
        client: &mut Side,
        upstream: &mut Side,
        permit: &Permit,
        target: &Target,
    ) -> End {
        let (block, length) = self.heard.take_bytes();
        let now = self.worker.now();
        let lifetime = self.plan.timeouts.lifetime;
        let mut relay = Relay {
            worker: self.worker,
            plan: self.plan,
            endpoint: permit.endpoint(),
            client: &mut client.stream,
            upstream: &mut upstream.stream,
            timer: &mut self.timer,
            vigil: Vigil::new(
                target.timeouts.unacknowledged,
                self.plan.timeouts.idle,
                self.stages.connected,
            ),
            cells: self.plan.metrics.of(self.worker.index),
            up: Flow::beginning_with(block, length),
            down: Flow::default(),
            last: now,
            until: match lifetime {
                Duration::ZERO => Ticks::NEVER,
                lifetime => self.stages.start + lifetime,
            },
        };
        // What was looked at already is TLS.
        if self.heard.is_guarded && length == 0 {
            relay.up.guard();
        }
        let end = poll_fn(|cx| relay.poll(cx)).await;
        (self.received_bytes, self.sent_bytes) = (relay.up.bytes, relay.down.bytes);
        let is_over = end == End::Finished;
        (client.is_over, upstream.is_over) = (is_over, is_over);
        end
    }

    /// Takes note of how it ended: for the endpoint, the metrics, the record.
    pub(super) fn finish(&mut self, end: End) {
        let now = self.worker.now();
        self.stages.end = now;
        if self.stages.connected != Ticks::ZERO
            && let Some(endpoint) = &self.endpoint
        {
            match end.fault(self.sent_bytes > 0) {
                Some(fault) => endpoint.report(Outcome::Fault(fault), now),
                // A client that came and went says nothing about it.
                None if self.sent_bytes == 0 && end != End::Finished => {}
                None => endpoint.report(Outcome::Success, now),
            }
        }
        let cells = self.plan.metrics.of(self.worker.index);
        cells.count_end(end);
        cells.duration.record(now.micros_since(self.stages.start));
        let Some(records) = self.worker.shared.records() else {
            return;
        };
        let target = self.target.as_deref();
        let hello = self.heard.hello.as_ref();
        let name = hello.and_then(|hello| hello.server_name.as_deref());
        let taken = self.stages.connected != Ticks::ZERO || matches!(end, End::Refused(_));
        let endpoint = self.endpoint.as_deref().filter(|_| taken);
        records.put(
            self.worker.index,
            &Record {
                id: self.id,
                protocol: "TCP",
                wall: self.worker.wall(self.stages.start),
                stages: self.stages,
                listener: &self.plan.name,
                route: target.map_or("", |target| &target.route),
                client: self.client,
                peer: self.peer.filter(|peer| Some(*peer) != self.client),
                server_name: name.unwrap_or_default().as_bytes(),
                service: target.map_or("", |target| target.service.name()),
                endpoint: endpoint.map_or("", Endpoint::known_as),
                received_bytes: self.received_bytes,
                sent_bytes: self.sent_bytes,
                retries: self.retries,
                end,
                detail: &self.detail,
            },
        );
    }

    /// The view of the target's service that is this worker's.
    pub(super) fn with_chooser<R>(
        &self,
        target: &Target,
        choose: impl FnOnce(&mut crate::plan::Chooser) -> R,
    ) -> R {
        let chooser = target.chooser(self.worker.index).lock();
        choose(&mut chooser.unwrap_or_else(PoisonError::into_inner))
    }
}
