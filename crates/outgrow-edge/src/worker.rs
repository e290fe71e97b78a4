//! A worker: what all connections of one thread share. The thread's loop is in [`crate::run`].

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use outgrow_acme::HttpAnswers;
use outgrow_core::context::{Context, RequestId};
use outgrow_core::serving::{InFlight, Route};
use outgrow_core::{Clock, Random, Snapshot, Ticks, View, WallTime};
use outgrow_http::conn::ClientSide;
use outgrow_http::grpc;
use outgrow_message::{Blocks, Fields, Known, Ledger, RequestHead, ResponseHead};
use outgrow_net::Wheel;

use crate::compress::{Compressing, Desk, Shelf};
use crate::decompress::Decompressing;
use crate::files;
use crate::floors::Passage;
use crate::forward::{Progress, Replay, Rest};
use crate::grpc_web::Decoder;
use crate::matched::Matched;
use crate::metrics::{EdgeMetrics, WorkerCells};
use crate::mirror::Copy;
use crate::plan::{Plan, RoutePlan};
use crate::pool::Pool;
use crate::record::RecordSink;

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// The process's clock.
    pub clock: Clock,
    /// The routes that are in force.
    pub plan: Snapshot<Plan>,
    /// The bound on buffered bytes.
    pub ledger: Arc<Ledger>,
    /// What clients' addresses could make us hold.
    #[cfg(feature = "http3")]
    pub(crate) holders: crate::http3::Holders,
    /// What is answered to a certificate authority, before all routes.
    pub answers: HttpAnswers,
    /// Compressors, and the threads that they run on.
    pub(crate) compressors: Arc<Shelf>,
    /// Threads that read files.
    pub(crate) files: Pool,
    /// Whose work it is, by directory.
    pub(crate) directories: files::Owners,
    /// Files that are open while they are sent.
    pub open_files: Arc<files::OpenFiles>,
    /// Metric cells.
    pub metrics: Arc<EdgeMetrics>,
    /// Connections of each worker.
    pub loads: Box<[AtomicUsize]>,
    /// The plan's epoch that each worker works with.
    pub epochs: Box<[AtomicU64]>,
    drain: AtomicU8,
    /// When connections are closed, once there is a drain.
    drain_until: AtomicU64,
}

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Nothing: business as usual.
    No,
    /// Another data process has taken over: each connection ends after its next response, and
    /// idle ones wait for one more request, so that none is lost to a race.
    Gently,
    /// The service stops: idle connections end now, others after their response.
    Now,
}

/// A drain with its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draining {
    /// What becomes of connections.
    pub how: Drain,
    /// When those that are still open are closed.
    pub until: Ticks,
}

impl Shared {
    /// For so many workers.
    pub fn new(clock: Clock, ledger: Arc<Ledger>, workers: usize) -> Arc<Self> {
        let workers = workers.max(1);
        Arc::new(Self {
            clock,
            plan: Snapshot::new(Plan::default()),
            files: Pool::with_shares("files", (files::THREADS, files::SHARE), files::WAITING),
            directories: files::Owners::default(),
            open_files: files::OpenFiles::new(),
            compressors: Shelf::new(Arc::clone(&ledger), workers),
            ledger,
            #[cfg(feature = "http3")]
            holders: crate::http3::Holders::default(),
            answers: HttpAnswers::default(),
            metrics: EdgeMetrics::new(workers),
            loads: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            epochs: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            drain: AtomicU8::new(0),
            drain_until: AtomicU64::new(0),
        })
    }

    /// Connections that are open, of all workers.
    pub fn connections(&self) -> usize {
        self.loads
            .iter()
            .map(|load| load.load(Ordering::Relaxed))
            .sum()
    }

    /// Whether every worker works with the newest plan.
    pub fn is_acknowledged(&self) -> bool {
        let epoch = self.plan.epoch();
        self.epochs
            .iter()
            .all(|seen| seen.load(Ordering::Acquire) == epoch)
    }

    /// Changes what becomes of connections; those that are open at `until` are closed.
    pub fn set_drain(&self, drain: Drain, until: Ticks) {
        self.drain_until.store(until.0, Ordering::Relaxed);
        self.drain.store(drain as u8, Ordering::Release);
    }

    /// What becomes of connections, and until when.
    #[inline]
    pub fn draining(&self) -> Draining {
        let how = self.drain();
        let until = Ticks(self.drain_until.load(Ordering::Relaxed));
        Draining { how, until }
    }

    /// What becomes of connections.
    #[inline]
    pub fn drain(&self) -> Drain {
        match self.drain.load(Ordering::Acquire) {
            0 => Drain::No,
            1 => Drain::Gently,
            _ => Drain::Now,
        }
    }
}

/// The state of one exchange, reused: nothing of it is allocated again once it has grown.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    pub(crate) request: RequestHead,
    pub(crate) response: ResponseHead,
    pub(crate) side: ClientSide,
    pub(crate) replay: Replay,
    pub(crate) progress: Progress,
    pub(crate) matched: Matched,
    /// The copy for a mirror while the request is being sent.
    pub(crate) copy: Option<Box<Copy>>,
    /// How its body is decompressed.
    pub(crate) decompressing: Decompressing,
    /// How the response is compressed.
    pub(crate) compressing: Compressing,
    /// A `Set-Cookie` of ours that the response is to carry; empty is none.
    pub(crate) set_cookie: Vec<u8>,
    /// What is known of its user's writes, where reads go to replicas.
    pub(crate) passage: Option<Box<Passage>>,
    /// What the request is called among those that its instance has in flight.
    pub(crate) shape: Option<Arc<Route>>,
    /// Where it is in flight, where only that matters.
    pub(crate) in_flight: Option<InFlight>,
    /// What it is of gRPC.
    pub(crate) call: Call,
    /// How far the body of a call of gRPC-Web is decoded.
    pub(crate) decoder: Decoder,
    /// When it ended.
    pub(crate) ended: Ticks,
}

/// What a request is of gRPC.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Call {
    /// It is a call.
    pub(crate) is_grpc: bool,
    /// It is one, and more than its fields say so: client and service speak what gRPC is spoken over.
    pub(crate) is_streaming: bool,
    /// It came as gRPC-Web of this kind and goes on as gRPC.
    pub(crate) web: Option<grpc::Kind>,
}

/// Exchanges kept for reuse by a worker.
const SPARE_EXCHANGES: usize = 1024;
/// Bytes of those: after a burst of large heads a worker does not keep them all.
const SPARE_BYTES: usize = 4 * 1024 * 1024;

/// One worker.
#[derive(Debug)]
pub struct Worker {
    this: Weak<Self>,
    /// Its number, from 0.
    pub index: usize,
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// Its timers.
    pub wheel: Arc<Wheel>,
    /// Its buffers.
    pub blocks: Arc<Blocks>,
    /// Where its bodies are compressed and decompressed.
    pub(crate) desk: Arc<Desk>,
    /// Its end of the access record.
    pub records: RecordSink,
    /// Its endpoints of HTTP/3 whose listeners are gone.
    #[cfg(feature = "http3")]
    pub(crate) http3: crate::http3::Endpoints,
    local: Mutex<Local>,
    /// Wall time less ticks, in nanoseconds; renewed at each turn of the wheel.
    wall_offset: AtomicU64,
    date: Date,
}

/// The text of a `Date` field, written anew each second by the thread that reads it.
#[derive(Debug, Default)]
struct Date {
    second: AtomicU64,
    words: [AtomicU64; DATE_BYTES.div_ceil(8)],
}

/// `Sun, 22 Nov 2026 03:11:58 GMT`.
const DATE_BYTES: usize = 29;

impl Date {
    fn renew(&self, now: WallTime) {
        if self.second.swap(now.seconds(), Ordering::Relaxed) == now.seconds() {
            return;
        }
        let mut text = Vec::with_capacity(DATE_BYTES);
        now.write_http_date(&mut text);
        for (word, bytes) in self.words.iter().zip(text.chunks(8)) {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(eight), Ordering::Relaxed);
        }
    }

    fn text(&self) -> [u8; DATE_BYTES] {
        let mut text = [0; DATE_BYTES];
        for (bytes, word) in text.chunks_mut(8).zip(&self.words) {
            let eight = word.load(Ordering::Relaxed).to_ne_bytes();
            bytes.copy_from_slice(&eight[..bytes.len()]);
        }
        text
    }
}

#[derive(Debug)]
struct Local {
    random: Random,
    plan: View<Plan>,
    #[expect(
        clippy::vec_box,
        reason = "they go out as boxes; the boxes are what is reused"
    )]
    spare: Vec<Box<Exchange>>,
    spare_bytes: usize,
}

impl Exchange {
    /// Another attempt begins.
    #[inline]
    pub(crate) fn begin_attempt(&mut self, now: Ticks) {
        self.progress.begin(now, &self.replay);
    }

    /// The side of an HTTP/1.1 endpoint, the rest of what an attempt works with, and what gRPC-Web does.
    #[inline]
    pub(crate) fn split(&mut self) -> (&mut ClientSide, Rest<'_>, &mut Decoder) {
        let rest = Rest {
            request: &self.request,
            is_grpc: self.call.is_grpc,
            is_streaming: self.call.is_streaming,
            response: &mut self.response,
            replay: &mut self.replay,
            progress: &mut self.progress,
            copy: &mut self.copy,
            set_cookie: &self.set_cookie,
            passage: &mut self.passage,
            decompressing: &mut self.decompressing,
            compressing: &mut self.compressing,
        };
        (&mut self.side, rest, &mut self.decoder)
    }

    fn memory(&self) -> usize {
        let heads = self.request.memory() + self.response.fields.memory();
        size_of::<Self>() + heads + self.matched.memory()
    }
}

impl Worker {
    /// Worker number `index`.
    pub fn new(index: usize, shared: Arc<Shared>, records: RecordSink) -> Arc<Self> {
        let now = shared.clock.now();
        let local = Local {
            random: Random::from_system(),
            plan: shared.plan.view(),
            spare: Vec::with_capacity(64),
            spare_bytes: 0,
        };
        let blocks = Blocks::new(Arc::clone(&shared.ledger));
        let compressors = Arc::clone(&shared.compressors);
        let worker = Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            index,
            wheel: Wheel::new(now),
            desk: Desk::new(compressors, Arc::clone(&blocks), shared.clock),
            blocks,
            records,
            #[cfg(feature = "http3")]
            http3: crate::http3::Endpoints::default(),
            local: Mutex::new(local),
            wall_offset: AtomicU64::new(0),
            date: Date::default(),
            shared,
        });
        worker.renew(now);
        worker
    }

    /// Itself, for tasks of its own; none while it ends.
    pub(crate) fn handle(&self) -> Option<Arc<Self>> {
        self.this.upgrade()
    }

    /// Monotonic time.
    #[inline]
    pub fn now(&self) -> Ticks {
        self.shared.clock.now()
    }

    /// Takes over the newest plan and renews the offset of wall time. Called at each turn of the
    /// wheel, so that an idle worker acknowledges too.
    pub fn renew(&self, now: Ticks) {
        let wall = WallTime::now();
        self.wall_offset
            .store(wall.0.wrapping_sub(now.0), Ordering::Relaxed);
        self.date.renew(wall);
        let mut local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        local.plan.refresh(&self.shared.plan);
        self.shared.epochs[self.index].store(local.plan.epoch(), Ordering::Release);
    }

    /// Adds a `Date` where there is none (RFC 9110 section 6.6.1).
    #[inline]
    pub(crate) fn put_date(&self, fields: &mut Fields) {
        if !fields.may_have(Known::Date) {
            fields.push_as(Known::Date, b"Date", &self.date.text());
        }
    }

    /// This worker's own cells.
    pub fn cells(&self) -> &WorkerCells {
        &self.shared.metrics.worker[self.index]
    }

    /// A request that begins at `start`: its context, and its route, which `find` looks up in the
    /// plan that is in force.
    #[inline]
    pub(crate) fn begin(
        &self,
        start: Ticks,
        find: impl FnOnce(&Plan) -> Option<Arc<RoutePlan>>,
    ) -> (Context, Option<Arc<RoutePlan>>) {
        let wall = WallTime(
            start
                .0
                .wrapping_add(self.wall_offset.load(Ordering::Relaxed)),
        );
        let mut local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        if local.plan.refresh(&self.shared.plan) {
            self.shared.epochs[self.index].store(local.plan.epoch(), Ordering::Release);
        }
        let id = RequestId::new(&mut local.random);
        (Context::new(id, wall, start), find(local.plan.value()))
    }

    /// 64 uniform bits; not for keys.
    pub(crate) fn chance(&self) -> u64 {
        let mut local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        local.random.next_u64()
    }

    pub(crate) fn take_exchange(&self) -> Box<Exchange> {
        let mut local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(exchange) = local.spare.pop() else {
            return Box::default();
        };
        local.spare_bytes -= exchange.memory();
        exchange
    }

    pub(crate) fn give_exchange(&self, mut exchange: Box<Exchange>) {
        exchange.side = ClientSide::default();
        exchange.decoder = Decoder::default();
        exchange.replay = Replay::default();
        exchange.copy = None;
        exchange.progress.forget_client();
        exchange.decompressing.clear();
        exchange.compressing.clear();
        exchange.passage = None;
        exchange.in_flight = None;
        exchange.shape = None;
        let bytes = exchange.memory();
        let mut local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        if local.spare.len() < SPARE_EXCHANGES && local.spare_bytes + bytes <= SPARE_BYTES {
            local.spare_bytes += bytes;
            local.spare.push(exchange);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RecordWriter;

    #[test]
    fn a_date_is_written_each_second() {
        let date = Date::default();
        for (seconds, expected) in [
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_778, "Sun, 06 Nov 1994 08:49:38 GMT"),
        ] {
            date.renew(WallTime(seconds * 1_000_000_000 + 5));
            assert_eq!(date.text(), expected.as_bytes());
        }
    }

    #[test]
    fn spare_exchanges_are_bounded_in_bytes() {
        let shared = Shared::new(Clock::start(), Ledger::new(0), 1);
        let records = RecordWriter::start().expect("a thread");
        let worker = Worker::new(0, shared, RecordSink::new(records));
        for _ in 0..2 {
            let mut burst: Vec<_> = (0..1_000).map(|_| worker.take_exchange()).collect();
            for exchange in &mut burst {
                exchange.request.fields.push_bytes(&[b'x'; 16 * 1024]);
            }
            for exchange in burst {
                worker.give_exchange(exchange);
            }
            let local = worker.local.lock().expect("nobody panicked");
            let held: usize = local.spare.iter().map(|one| one.memory()).sum();
            assert_eq!(held, local.spare_bytes);
            assert!((1..=SPARE_BYTES).contains(&held), "{held}");
        }
    }
}
