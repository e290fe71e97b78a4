//! Mirroring: a copy of a request goes to another service by a task of its own, which nobody waits
//! for. What comes back is read up to a limit and thrown away.
//!
//! The copy is made while the request is sent ([`crate::forward`] tells of its body) and leaves when
//! the body has ended, so that only whole requests are mirrored.

use std::future::poll_fn;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use outgrow_core::{Cause, Fault, Phase};
use outgrow_http::conn::{ClientExchange, ClientSide};
use outgrow_http::{Downstream, Upstream};
use outgrow_message::ledger::BLOCK_SIZES;
use outgrow_message::{
    Block, BodyLength, BodySource, Fields, Known, Method, RequestHead, ResponseHead,
};
use outgrow_net::Timer;
use outgrow_upstream::{Endpoint, Freshness, Opening, Outcome, Speaks, Wish};

use crate::backend::{Backend, Chooser};
use crate::compress::Compressing;
use crate::decompress::Decompressing;
use crate::forward::{self, Attempt, Done, Patience, Progress, Replay, Rest, Surroundings};
use crate::metrics::RouteCells;
use crate::plan::{self, RoutePlan};
use crate::session::{Making, host_of, silence};
use crate::settings::{MirrorSettings, Share};
use crate::worker::Worker;

/// Says to the service that a request is a copy.
const FIELD: (&[u8], &[u8]) = (b"X-Outgrow-Mirror", b"1");
/// A response beyond this is not read to its end; its connection is closed.
const RESPONSE_LIMIT: u64 = 1 << 20;
/// The longest that a copy may be under way, whatever the service allows.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// An idle connection used less recently than this is not taken: a copy is sent only once.
const FRESH: Duration = Duration::from_secs(1);

/// Where a route's copies go.
#[derive(Debug)]
pub struct Mirror {
    backend: Backend,
    share: Share,
    body_limit: u64,
    at_once: i64,
}

impl Mirror {
    /// Compiles what a route says.
    pub fn new(settings: &MirrorSettings, backend: Backend) -> Self {
        Self {
            backend,
            share: settings.share,
            body_limit: settings.body_limit.bytes(),
            at_once: i64::from(settings.at_once),
        }
    }
}

/// A place among the copies that are under way; what becomes of the copy is counted.
#[derive(Debug)]
struct Place {
    route: Arc<RoutePlan>,
    worker: Arc<Worker>,
    /// It was handed to the service.
    sent: bool,
}

impl Place {
    fn cells(&self) -> &RouteCells {
        self.route.cells.of(self.worker.index)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.cells().mirrors_open.add(-1);
        if std::thread::panicking() {
            self.worker.cells().panics.add_shared(1);
        }
        if !self.sent {
            self.cells().mirrors_dropped.add(1);
        }
    }
}

/// A copy that is being made.
#[derive(Debug)]
pub(crate) struct Copy {
    place: Place,
    head: RequestHead,
    body: Option<Block>,
    length: usize,
    limit: usize,
}

impl Copy {
    /// Begins to copy a request as it is about to be sent, if its route mirrors it. `random` decides
    /// about the share.
    #[inline]
    pub(crate) fn begin(
        worker: &Worker,
        route: &Arc<RoutePlan>,
        request: &RequestHead,
        random: u64,
    ) -> Option<Box<Self>> {
        let mirror = route.mirror.as_ref()?;
        if !mirror.share.has(random) || request.wants_upgrade {
            return None;
        }
        Self::make(worker, route, mirror, request)
    }

    fn make(
        worker: &Worker,
        route: &Arc<RoutePlan>,
        mirror: &Mirror,
        request: &RequestHead,
    ) -> Option<Box<Self>> {
        let cells = route.cells.of(worker.index);
        let too_long =
            matches!(request.length, BodyLength::Known(length) if length > mirror.body_limit);
        if too_long || cells.mirrors_open.get() >= mirror.at_once {
            cells.mirrors_dropped.add(1);
            return None;
        }
        let place = Place {
            route: Arc::clone(route),
            worker: worker.handle()?,
            sent: false,
        };
        cells.mirrors_open.add(1);
        let mut head = request.clone();
        head.fields.remove(Known::Expect);
        head.fields.push(FIELD.0, FIELD.1);
        let limit = match request.length {
            BodyLength::Empty => 0,
            BodyLength::Known(length) => length,
            BodyLength::Unknown => mirror.body_limit,
        };
        Some(Box::new(Self {
            place,
            head,
            body: None,
            length: 0,
            limit: limit as usize,
        }))
    }

    /// Takes a piece of the body; false when there is no room for it and the copy is to be dropped.
    pub(crate) fn keep(&mut self, bytes: &[u8]) -> bool {
        let end = self.length + bytes.len();
        if end > self.limit {
            return false;
        }
        if self.body.is_none() {
            let class = BLOCK_SIZES.iter().position(|size| *size >= self.limit);
            self.body = class.and_then(|class| self.place.worker.blocks.take_class(class));
        }
        let Some(block) = &mut self.body else {
            return false;
        };
        block[self.length..end].copy_from_slice(bytes);
        self.length = end;
        true
    }

    /// The request was sent whole: the copy leaves.
    pub(crate) fn send(self: Box<Self>) {
        tokio::spawn(self.run());
    }

    async fn run(mut self: Box<Self>) {
        self.head.length = match self.head.length {
            BodyLength::Empty => BodyLength::Empty,
            _ => BodyLength::Known(self.length as u64),
        };
        let route = Arc::clone(&self.place.route);
        if let Some(outcome) = self.exchange(&route).await {
            let cells = self.place.cells();
            match outcome {
                Ok(()) => cells.mirrored.add(1),
                Err(_) => cells.mirrors_failed.add(1),
            }
        }
    }

    /// Sends the copy and reads the answer; none when the service has no room for it.
    async fn exchange(&mut self, route: &RoutePlan) -> Option<Result<(), Fault>> {
        let backend = &route.mirror.as_ref()?.backend;
        let worker = Arc::clone(&self.place.worker);
        let now = worker.now();
        let permit = {
            let chooser = backend.view(worker.index);
            let mut chooser = chooser.lock().unwrap_or_else(PoisonError::into_inner);
            let Chooser { view, random, .. } = &mut *chooser;
            let choice = backend.service.choose(view, now, random, Wish::default());
            choice.ok()?
        };
        self.place.sent = true;
        let endpoint = permit.endpoint();
        let mut response = ResponseHead::default();
        let done = match backend.picking.http2 {
            true => self.share(route, backend, endpoint, &mut response).await,
            false => self.take(route, backend, endpoint, &mut response).await,
        };
        let now = worker.now();
        match done {
            Ok(()) => {
                let outcome = match response.status {
                    502..=504 => Outcome::ServerError,
                    _ => Outcome::Success,
                };
                endpoint.report(outcome, now);
                Some(Ok(()))
            }
            // It answered more than anybody wants to read: its answer, not its failure.
            Err(fault) if fault.side == outgrow_core::Side::Client => Some(Ok(())),
            Err(fault) => {
                endpoint.report(Outcome::Fault(fault), now);
                Some(Err(fault))
            }
        }
    }

    /// The exchange on a connection that requests share.
    async fn share(
        &mut self,
        route: &RoutePlan,
        backend: &Backend,
        endpoint: &Arc<Endpoint>,
        response: &mut ResponseHead,
    ) -> Result<(), Fault> {
        let worker = Arc::clone(&self.place.worker);
        let making = Making {
            worker: &worker,
            endpoint,
            opening: Opening {
                silence: silence(&backend.timeouts),
                ..opening(backend)
            },
            seal: backend.picking.seal.as_ref(),
        };
        let (session, _) = making.session(making.opening.connect).await?;
        let host = host_of(endpoint).as_bytes();
        let mut stream = session.begin(&self.head, host, &worker.blocks)?;
        let done = self.attempt(route, backend, response, &mut stream).await;
        done.map(drop)
    }

    /// The exchange on a connection of its own.
    async fn take(
        &mut self,
        route: &RoutePlan,
        backend: &Backend,
        endpoint: &Arc<Endpoint>,
        response: &mut ResponseHead,
    ) -> Result<(), Fault> {
        let worker = Arc::clone(&self.place.worker);
        let now = worker.now();
        let pooled = endpoint.checkout(worker.index, now, Freshness::UsedWithin(FRESH));
        let mut connection = match pooled {
            Some(connection) => connection,
            None => {
                let how = (backend.picking.seal.as_deref(), Speaks::Http1);
                outgrow_upstream::connect(endpoint, opening(backend), how, now).await?
            }
        };
        let is_long = forward::is_long(self.head.length);
        if is_long {
            connection.limit_silence(Duration::ZERO);
        }
        let mut side = ClientSide::default();
        let host = host_of(endpoint).as_bytes();
        if !side.begin(&self.head, host, None, &worker.blocks) {
            return Err(Fault::outgrow(Phase::Send, Cause::MemoryLimit));
        }
        let mut up = ClientExchange {
            side: &mut side,
            io: &mut connection.link,
            blocks: &worker.blocks,
        };
        let done = self.attempt(route, backend, response, &mut up).await;
        if is_long {
            connection.limit_silence(backend.timeouts.unacknowledged);
        }
        if done? {
            endpoint.release(worker.index, connection, worker.now(), None);
        }
        Ok(())
    }

    /// The exchange; whether its connection can be used again.
    async fn attempt(
        &mut self,
        route: &RoutePlan,
        backend: &Backend,
        response: &mut ResponseHead,
        up: &mut impl Upstream,
    ) -> Result<bool, Fault> {
        let worker = Arc::clone(&self.place.worker);
        let now = worker.now();
        let timeouts = &backend.timeouts;
        let request_deadline = plan::deadline(now, timeouts.request).min(now + TIME_LIMIT);
        let mut timer = Timer::new(&worker.wheel);
        let mut nobody = Nobody {
            body: self.body.take(),
            left: 0..self.length,
            received: 0,
        };
        let mut progress = Progress::default();
        progress.begin(now, &Replay::default());
        let mut attempt = Attempt {
            around: Surroundings {
                worker: &worker,
                blocks: &worker.blocks,
                timer: &mut timer,
                patience: Patience {
                    body_idle: timeouts.stream_idle,
                    body_rate: 0,
                    first_byte: timeouts.first_byte,
                    stream_idle: timeouts.stream_idle,
                    send_idle: timeouts.stream_idle,
                    send_rate: 0,
                    request_deadline,
                    is_clients: false,
                },
                route,
                listener: None,
                body_limit: None,
            },
            rest: Rest {
                request: &self.head,
                is_grpc: false,
                is_streaming: false,
                response,
                replay: &mut Replay::default(),
                progress: &mut progress,
                copy: &mut None,
                set_cookie: &[],
                passage: &mut None,
                decompressing: &mut Decompressing::default(),
                compressing: &mut Compressing::default(),
            },
            reporter: None,
            up,
            down: &mut nobody,
            keep_body: false,
            may_repeat: false,
        };
        match poll_fn(|cx| attempt.poll(cx)).await? {
            Done::Answered { reusable } | Done::Replaced { reusable } => Ok(reusable),
            Done::Switched => Ok(false),
        }
    }
}

fn opening(backend: &Backend) -> Opening {
    Opening {
        connect: backend.timeouts.connect,
        unacknowledged: backend.timeouts.unacknowledged,
        silence: backend.timeouts.unacknowledged,
    }
}

/// The client's side of a copy: its body is at hand, and nobody sees the answer.
#[derive(Debug)]
struct Nobody {
    body: Option<Block>,
    left: std::ops::Range<usize>,
    received: u64,
}

impl BodySource for Nobody {
    fn poll_data(&mut self, _: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        Poll::Ready(Ok(!self.data().is_empty()))
    }

    fn data(&self) -> &[u8] {
        let body = self.body.as_ref();
        body.map_or(&[], |block| &block[self.left.clone()])
    }

    fn consume(&mut self, count: usize) {
        self.left.start = (self.left.start + count).min(self.left.end);
    }

    fn trailers(&mut self) -> Option<&mut Fields> {
        None
    }
}

impl Downstream for Nobody {
    fn interim(&mut self, _: &ResponseHead) -> Result<(), Fault> {
        Ok(())
    }

    fn respond(&mut self, _: &ResponseHead, _: BodyLength, _: Method) -> Result<(), Fault> {
        Ok(())
    }

    fn poll_push(&mut self, _: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>> {
        self.received += data.len() as u64;
        if self.received > RESPONSE_LIMIT {
            let fault = Fault::client(Phase::ResponseBody, Cause::ClientGone);
            return Poll::Ready(Err(fault));
        }
        Poll::Ready(Ok(data.len()))
    }

    fn finish(&mut self, _: Option<&Fields>) -> Result<(), Fault> {
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn written(&self) -> u64 {
        self.received
    }

    fn abort(&mut self) {}

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<Fault> {
        Poll::Pending
    }

    fn has_responded(&self) -> bool {
        false
    }
}
