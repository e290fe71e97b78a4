//! The workers' threads: each runs its own runtime, its listeners and its connections.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use outgrow_net::wheel::SLOT;
use outgrow_upstream::Registry;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::accept::{self, ListenerSlot, Moved, Socket};
use crate::record::{RecordSink, RecordWriter};
use crate::worker::{Drain, Shared, Worker};

/// Connections that wait to be taken over by a worker.
const MAILBOX: usize = 1024;
/// Orders that wait for a worker.
const ORDERS: usize = 256;
/// Turns of the wheel between two looks at the pools: about a second.
const SWEEP_TURNS: u32 = 32;
/// Turns of the wheel between two flushes of the record.
const FLUSH_TURNS: u32 = 3;

/// What a worker is told.
#[derive(Debug)]
enum Order {
    Listen {
        key: String,
        socket: OwnedFd,
        slot: ListenerSlot,
    },
    Unlisten {
        key: String,
    },
    StopListening,
    WakeAll,
    End,
}

/// The running workers.
#[derive(Debug)]
pub struct Edge {
    /// What they share.
    pub shared: Arc<Shared>,
    orders: Vec<mpsc::Sender<Order>>,
    threads: Vec<JoinHandle<()>>,
}

impl Edge {
    /// Starts a thread for each worker of `shared`.
    pub fn start(
        shared: Arc<Shared>,
        registry: &Arc<Registry>,
        records: &Arc<RecordWriter>,
    ) -> io::Result<Self> {
        let count = shared.loads.len();
        let (mailboxes, receivers): (Vec<_>, Vec<_>) =
            (0..count).map(|_| mpsc::channel(MAILBOX)).unzip();
        let mailboxes: Arc<[mpsc::Sender<Moved>]> = mailboxes.into();
        let mut edge = Self {
            shared: Arc::clone(&shared),
            orders: Vec::new(),
            threads: Vec::new(),
        };
        for (index, mailbox) in receivers.into_iter().enumerate() {
            let (sender, orders) = mpsc::channel(ORDERS);
            edge.orders.push(sender);
            let sink = RecordSink::new(Arc::clone(records));
            let worker = Worker::new(index, Arc::clone(&shared), sink);
            let inbox = Inbox {
                orders,
                mailbox,
                mailboxes: Arc::clone(&mailboxes),
            };
            let registry = Arc::clone(registry);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .event_interval(61)
                .build()?;
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || runtime.block_on(run(worker, inbox, registry)))?;
            edge.threads.push(thread);
        }
        Ok(edge)
    }

    /// Accepts on `sockets`, which are spread over the workers; at best there is one for each.
    pub async fn listen(&self, key: &str, sockets: Vec<OwnedFd>, slot: &ListenerSlot) {
        for (index, socket) in sockets.into_iter().enumerate() {
            let key = key.to_owned();
            let order = Order::Listen {
                key,
                socket,
                slot: Arc::clone(slot),
            };
            let _ = self.orders[index % self.orders.len()].send(order).await;
        }
    }

    /// Accepts no more on the sockets of `key`. Connections stay.
    pub async fn unlisten(&self, key: &str) {
        for orders in &self.orders {
            let _ = orders
                .send(Order::Unlisten {
                    key: key.to_owned(),
                })
                .await;
        }
    }

    /// Accepts no more at all; connections end as `drain` says.
    pub async fn drain(&self, drain: Drain) {
        self.shared.set_drain(drain);
        for orders in &self.orders {
            let _ = orders.send(Order::StopListening).await;
            let _ = orders.send(Order::WakeAll).await;
        }
    }

    /// Ends the workers with all their connections, and waits for their threads.
    pub async fn end(self) {
        for orders in &self.orders {
            let _ = orders.send(Order::End).await;
        }
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

struct Inbox {
    orders: mpsc::Receiver<Order>,
    mailbox: mpsc::Receiver<Moved>,
    mailboxes: Arc<[mpsc::Sender<Moved>]>,
}

async fn run(worker: Arc<Worker>, mut inbox: Inbox, registry: Arc<Registry>) {
    let turning = tokio::spawn(turn(Arc::clone(&worker), registry));
    let mut listening: HashMap<String, Vec<AbortHandle>> = HashMap::new();
    loop {
        tokio::select! {
            order = inbox.orders.recv() => match order {
                Some(Order::Listen { key, socket, slot }) => {
                    // The socket listens already: the keeper made it. What can fail is the
                    // registration with this runtime, for want of memory.
                    if let Ok(socket) = Socket::new(socket) {
                        let others = Arc::clone(&inbox.mailboxes);
                        let task = accept::run(Arc::clone(&worker), socket, slot, others);
                        listening.entry(key).or_default().push(tokio::spawn(task).abort_handle());
                    }
                }
                Some(Order::Unlisten { key }) => {
                    listening.remove(&key).into_iter().flatten().for_each(|task| task.abort());
                }
                Some(Order::StopListening) => {
                    listening.drain().flat_map(|(_, tasks)| tasks).for_each(|task| task.abort());
                }
                Some(Order::WakeAll) => worker.wheel.wake_all(),
                Some(Order::End) | None => break,
            },
            moved = inbox.mailbox.recv() => {
                if let Some(moved) = moved {
                    accept::receive(&worker, moved);
                }
            }
        }
    }
    turning.abort();
    worker.records.flush();
}

/// Turns the wheel, and does what else is due from time to time.
async fn turn(worker: Arc<Worker>, registry: Arc<Registry>) {
    let clock = worker.shared.clock;
    let mut turns = 0_u32;
    let mut expected = clock.now() + SLOT;
    let mut worst_lag = Duration::ZERO;
    loop {
        tokio::time::sleep_until(clock.instant(expected).into()).await;
        let now = clock.now();
        worst_lag = worst_lag.max(now.since(expected));
        expected = now + SLOT;
        worker.wheel.advance(now);
        worker.renew(now);
        turns = turns.wrapping_add(1);
        if turns.is_multiple_of(FLUSH_TURNS) {
            worker.records.flush();
        }
        if turns.is_multiple_of(SWEEP_TURNS) {
            registry.sweep(worker.index, now);
            worker.cells().lag_micros.set(worst_lag.as_micros() as i64);
            worst_lag = Duration::ZERO;
        }
    }
}
