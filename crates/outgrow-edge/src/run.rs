//! The workers' threads of the edge.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_net::{Mailboxes, Socket, Tier, Wheel, Workers};
use outgrow_upstream::Registry;

use crate::accept::{self, ListenerSlot, Moved};
use crate::record::{RecordSink, RecordWriter};
use crate::worker::{Drain, Shared, Worker};

/// Turns of the wheel between two looks at the pools: about a second.
const SWEEP_TURNS: u32 = 32;
/// Turns of the wheel between two flushes of the record.
const FLUSH_TURNS: u32 = 3;

/// The running workers.
#[derive(Debug)]
pub struct Edge {
    /// What they share.
    pub shared: Arc<Shared>,
    workers: Workers<Running>,
}

impl Edge {
    /// Starts a thread for each worker of `shared`.
    pub fn start(
        shared: Arc<Shared>,
        registry: &Arc<Registry>,
        records: &Arc<RecordWriter>,
    ) -> io::Result<Self> {
        let running = |index| {
            let sink = RecordSink::new(Arc::clone(records));
            Arc::new(Running {
                worker: Worker::new(index, Arc::clone(&shared), sink),
                registry: Arc::clone(registry),
                worst_lag: AtomicU64::new(0),
            })
        };
        let tiers = (0..shared.loads.len()).map(running).collect();
        let workers = Workers::start("worker", shared.clock, tiers)?;
        Ok(Self { shared, workers })
    }

    /// Accepts on `sockets`, which are spread over the workers; at best there is one for each.
    pub async fn listen(&self, key: &str, sockets: Vec<OwnedFd>, slot: &ListenerSlot) {
        self.workers.listen(key, sockets, slot).await;
    }

    /// Accepts no more on the sockets of `key`. Connections stay.
    pub async fn unlisten(&self, key: &str) {
        self.workers.unlisten(key).await;
    }

    /// Accepts no more at all; connections end as `drain` says, and at `until` whatever they do.
    pub async fn drain(&self, drain: Drain, until: Ticks) {
        self.shared.set_drain(drain, until);
        self.workers.stop_listening().await;
    }

    /// Ends the workers with all their connections, and waits for their threads.
    pub async fn end(self) {
        self.workers.end().await;
    }
}

/// A worker with what its thread looks after.
#[derive(Debug)]
struct Running {
    worker: Arc<Worker>,
    registry: Arc<Registry>,
    /// Since the last look, in microseconds.
    worst_lag: AtomicU64,
}

impl Tier for Running {
    type Slot = ListenerSlot;
    type Moved = Moved;

    fn wheel(&self) -> &Wheel {
        &self.worker.wheel
    }

    fn accept(
        self: Arc<Self>,
        socket: Socket,
        slot: ListenerSlot,
        others: Mailboxes<Moved>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let worker = Arc::clone(&self.worker);
        async move {
            match socket {
                #[cfg(feature = "http3")]
                Socket::Datagrams(socket) => crate::http3::run(worker, *socket, slot).await,
                socket => accept::run(worker, socket, slot, others).await,
            }
        }
    }

    fn receive(self: &Arc<Self>, moved: Moved) {
        accept::receive(&self.worker, moved);
    }

    fn turn(self: &Arc<Self>, now: Ticks, turns: u32, lag: Duration) {
        self.worst_lag
            .fetch_max(lag.as_micros() as u64, Ordering::Relaxed);
        self.worker.renew(now);
        if turns.is_multiple_of(FLUSH_TURNS) {
            self.worker.records.flush();
        }
        if turns.is_multiple_of(SWEEP_TURNS) {
            self.registry.sweep(self.worker.index, now);
            let worst = self.worst_lag.swap(0, Ordering::Relaxed);
            self.worker.cells().lag_micros.set(worst as i64);
        }
    }

    fn end(self: &Arc<Self>) {
        self.worker.records.flush();
    }
}
