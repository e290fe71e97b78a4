//! Accepting connections, and handing them to the worker that has clearly fewer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outgrow_net::listen::is_of_one_connection;
use outgrow_net::stream::Detached;
use outgrow_net::workers::least_loaded;
use outgrow_net::{Mailboxes, Socket, Stream};
use tokio::sync::mpsc;

use super::way::{self, Way};
use crate::end::End;
use crate::metrics::ListenerMetrics;
use crate::plan::{ListenerPlan, Slot};
use crate::shared::Shared;
use crate::worker::Worker;

/// After an accept that failed for want of descriptors or memory: connections wait in the kernel.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An accepted connection on its way to another worker.
#[derive(Debug)]
pub(crate) struct Moved {
    stream: Detached,
    address: Option<SocketAddr>,
    plan: Arc<ListenerPlan>,
    open: Open,
}

/// Counts a connection for as long as it lives, at its worker and its listener.
#[derive(Debug)]
pub(super) struct Open {
    shared: Arc<Shared>,
    metrics: Arc<ListenerMetrics>,
    worker: usize,
}

impl Open {
    fn new(shared: &Arc<Shared>, metrics: &Arc<ListenerMetrics>, worker: usize) -> Self {
        shared.loads[worker].fetch_add(1, Ordering::Relaxed);
        Self {
            shared: Arc::clone(shared),
            metrics: Arc::clone(metrics),
            worker,
        }
    }

    fn move_to(&mut self, worker: usize) {
        self.shared.loads[self.worker].fetch_sub(1, Ordering::Relaxed);
        self.shared.loads[worker].fetch_add(1, Ordering::Relaxed);
        self.worker = worker;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.loads[self.worker].fetch_sub(1, Ordering::Relaxed);
        self.metrics.open.add(-1);
        if std::thread::panicking() {
            self.shared.metrics.panics.add_shared(1);
        }
    }
}

/// Accepts for ever; aborted when the listener goes or drains.
pub(crate) async fn run(worker: Arc<Worker>, socket: Socket, slot: Slot, others: Mailboxes<Moved>) {
    let mut view = slot.view();
    socket.set_keep_alive(view.value().keep_alive);
    loop {
        let (stream, address) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(_) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if view.refresh(&slot) {
            socket.set_keep_alive(view.value().keep_alive);
        }
        let plan = view.value();
        plan.metrics.of(worker.index).accepted.add(1);
        let open = plan.metrics.open.add(1) + 1;
        if open > i64::from(plan.max_connections) {
            turn_away(&worker, plan, stream, address);
            continue;
        }
        let open = Open::new(&worker.shared, &plan.metrics, worker.index);
        match least_loaded(&worker.shared.loads, worker.index) {
            Some(other) => {
                let parts = (stream, address, Arc::clone(plan), open);
                hand_on(&worker, parts, &others[other], other);
            }
            None => start(&worker, stream, address, Arc::clone(plan), open),
        }
    }
}

fn turn_away(
    worker: &Arc<Worker>,
    plan: &Arc<ListenerPlan>,
    stream: Stream,
    address: Option<SocketAddr>,
) {
    plan.metrics.open.add(-1);
    let mut way = Way::new(worker, plan, address);
    way.finish(End::TooManyConnections);
    way::reset(stream);
}

fn hand_on(
    worker: &Arc<Worker>,
    (stream, address, plan, mut open): (Stream, Option<SocketAddr>, Arc<ListenerPlan>, Open),
    to: &mpsc::Sender<Moved>,
    other: usize,
) {
    let Ok(stream) = stream.into_std() else {
        return;
    };
    open.move_to(other);
    let moved = Moved {
        stream,
        address,
        plan,
        open,
    };
    // A worker whose mailbox is full is not less loaded after all.
    if let Err(mpsc::error::TrySendError::Full(moved) | mpsc::error::TrySendError::Closed(moved)) =
        to.try_send(moved)
    {
        receive(worker, moved);
    }
}

/// Takes over a connection that another worker accepted.
pub(crate) fn receive(worker: &Arc<Worker>, mut moved: Moved) {
    if moved.open.worker != worker.index {
        moved.open.move_to(worker.index);
    }
    if let Ok(stream) = moved.stream.attach() {
        start(worker, stream, moved.address, moved.plan, moved.open);
    }
}

fn start(
    worker: &Arc<Worker>,
    stream: Stream,
    address: Option<SocketAddr>,
    plan: Arc<ListenerPlan>,
    open: Open,
) {
    let worker = Arc::clone(worker);
    // Boxed here, since the runtime moves what it is given several times.
    tokio::spawn(Box::pin(async move {
        way::serve(&worker, &plan, stream, address).await;
        drop(open);
    }));
}
