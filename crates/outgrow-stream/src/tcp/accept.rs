//! Accepting connections, and handing them to the worker that has clearly fewer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outgrow_net::listen::is_of_one_connection;
use outgrow_net::stream::Detached;
use outgrow_net::workers::least_loaded;
use outgrow_net::{Mailboxes, Socket, Stream, Transport};
use tokio::sync::mpsc;

use super::way::{self, Side, Way};
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
    drop(Side::new(stream));
}

/// Takes a connection from its worker. What is lost on the way to another one is reset.
fn detach(mut stream: Stream) -> io::Result<Detached> {
    stream.reset();
    stream.into_std()
}

/// Puts it to the worker that calls.
fn attach(stream: Detached) -> io::Result<Stream> {
    let stream = stream.attach()?;
    stream.end_in_order();
    Ok(stream)
}

fn hand_on(
    worker: &Arc<Worker>,
    (stream, address, plan, mut open): (Stream, Option<SocketAddr>, Arc<ListenerPlan>, Open),
    to: &mpsc::Sender<Moved>,
    other: usize,
) {
    let Ok(stream) = detach(stream) else {
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
    if let Ok(stream) = attach(moved.stream) {
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
    let client = Side::new(stream);
    // Boxed here, since the runtime moves what it is given several times.
    tokio::spawn(Box::pin(async move {
        way::serve(&worker, &plan, client, address).await;
        drop(open);
    }));
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// What a client reads when this is done with its connection.
    async fn read(end: impl FnOnce(Stream)) -> Result<usize, io::ErrorKind> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        end(Stream::Tcp(stream));
        let read = client.read(&mut [0; 8]).await;
        read.map_err(|error| error.kind())
    }

    #[tokio::test]
    async fn what_is_lost_on_the_way_is_reset() {
        let reset = Err(io::ErrorKind::ConnectionReset);
        assert_eq!(read(|stream| drop(detach(stream))).await, reset);
        let arrived = |stream| attach(detach(stream).unwrap()).unwrap();
        assert_eq!(read(|stream| drop(arrived(stream))).await, Ok(0));
        assert_eq!(read(|stream| drop(Side::new(arrived(stream)))).await, reset);
    }
}
