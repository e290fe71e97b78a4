//! Accepting connections, and handing them to the worker that has clearly fewer.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outgrow_core::Snapshot;
use outgrow_net::listen::is_of_one_connection;
use outgrow_net::proxy_header::AcceptProxy;
use outgrow_net::stream::Detached;
use outgrow_net::workers::least_loaded;
use outgrow_net::{Mailboxes, Socket, Stream};
use tokio::sync::mpsc;

use crate::connection;
use crate::identity::Peer;
use crate::metrics::ListenerMetrics;
use crate::plan::ListenerPlan;
use crate::proxied;
use crate::turned_away::{Waiting, turn_away};
use crate::worker::{Shared, Worker};

/// After an accept that failed for want of descriptors or memory: connections wait in the kernel.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener as it is known to all workers: its plan changes at a reload, connections keep the
/// one they began with.
pub type ListenerSlot = Arc<Snapshot<ListenerPlan>>;

/// An accepted connection on its way to another worker.
#[derive(Debug)]
pub(crate) struct Moved {
    stream: Detached,
    address: Option<IpAddr>,
    listener: Arc<ListenerPlan>,
    open: OpenConnection,
}

/// Counts a connection for as long as it lives, at its worker and its listener.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    shared: Arc<Shared>,
    metrics: Arc<ListenerMetrics>,
    worker: usize,
}

impl OpenConnection {
    /// Counts one that its listener has counted already.
    pub(crate) fn new(shared: &Arc<Shared>, metrics: &Arc<ListenerMetrics>, worker: usize) -> Self {
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

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.shared.loads[self.worker].fetch_sub(1, Ordering::Relaxed);
        self.metrics.open.add(-1);
        if std::thread::panicking() {
            self.shared.metrics.worker[self.worker].panics.add_shared(1);
        }
    }
}

/// Accepts for ever; aborted when the listener goes or drains.
pub(crate) async fn run(
    worker: Arc<Worker>,
    socket: Socket,
    slot: ListenerSlot,
    others: Mailboxes<Moved>,
) {
    let mut plan = slot.view();
    let waiting = Arc::new(Waiting::default());
    loop {
        let (stream, address) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(_) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let address = address.map(|address| address.ip());
        plan.refresh(&slot);
        let listener = plan.value();
        let cells = listener.metrics.workers.of(worker.index);
        let open = listener.metrics.open.add(1) + 1;
        if open > i64::from(listener.max_connections) {
            listener.metrics.open.add(-1);
            cells.refused.add(1);
            turn_away(&worker, &waiting, listener, stream, address);
            continue;
        }
        cells.accepted.add(1);
        let open = OpenConnection::new(&worker.shared, &listener.metrics, worker.index);
        match least_loaded(&worker.shared.loads, worker.index) {
            Some(other) => hand_on(
                &worker,
                stream,
                address,
                listener,
                open,
                &others[other],
                other,
            ),
            None => start(&worker, stream, address, Arc::clone(listener), open),
        }
    }
}

fn hand_on(
    worker: &Arc<Worker>,
    stream: Stream,
    address: Option<IpAddr>,
    listener: &Arc<ListenerPlan>,
    mut open: OpenConnection,
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
        listener: Arc::clone(listener),
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
        start(worker, stream, moved.address, moved.listener, moved.open);
    }
}

fn start(
    worker: &Arc<Worker>,
    mut stream: Stream,
    address: Option<IpAddr>,
    listener: Arc<ListenerPlan>,
    open: OpenConnection,
) {
    let worker = Arc::clone(worker);
    if listener.accept_proxy == AcceptProxy::Off {
        return serve(worker, stream, address, listener, open);
    }
    tokio::spawn(async move {
        let learned = proxied::learn(&worker, &listener, &mut stream, address).await;
        if let Some(address) = learned {
            serve(worker, stream, address, listener, open);
        }
    });
}

fn serve(
    worker: Arc<Worker>,
    stream: Stream,
    address: Option<IpAddr>,
    listener: Arc<ListenerPlan>,
    open: OpenConnection,
) {
    let trusted = listener.trusts(address);
    match listener.tls.clone() {
        None => {
            let peer = Peer::new(address, trusted, false);
            // Boxed here, since the runtime moves what it is given several times.
            tokio::spawn(Box::pin(connection::serve(
                worker, listener, stream, peer, open,
            )));
        }
        Some(tls) => {
            let peer = Peer::new(address, trusted, true);
            tokio::spawn(async move {
                crate::secure::serve(worker, listener, tls, stream, peer).await;
                drop(open);
            });
        }
    }
}
