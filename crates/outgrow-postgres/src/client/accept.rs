//! Accepting clients, and taking over those that another worker has logged in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Snapshot;
use outgrow_net::listen::is_of_one_connection;
use outgrow_net::{Mailboxes, Socket as Listening, Stream};

use super::{Bytes, Moved, Open, Peer, login, serve};
use crate::newcomers::{Entrance, Newcomer};
use crate::seen::{ClientEntry, Far};
use crate::socket::Socket;
use crate::worker::Worker;

/// After an accept that failed for want of descriptors or memory: clients wait in the kernel.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What is particular to a listener.
#[derive(Debug, Default)]
pub struct ListenerPlan {
    /// Its name in messages.
    pub name: String,
    /// For a Unix socket: the port in its name.
    pub port: u16,
}

/// A listener as it is known to all workers.
pub type Slot = Arc<Snapshot<ListenerPlan>>;

/// Accepts for ever; aborted when the listener goes or drains.
pub(crate) async fn run(
    worker: Arc<Worker>,
    socket: Listening,
    slot: Slot,
    others: Mailboxes<Moved>,
) {
    let _ = worker.mailboxes.set(others);
    loop {
        match socket.accept().await {
            Ok((stream, address)) => {
                let peer = match address {
                    Some(address) => Peer::Tcp(address.ip()),
                    None => Peer::Unix {
                        user: unix_user(&stream),
                    },
                };
                let open = Open::new(&worker.shared, worker.index);
                let (far, near) = ends(&stream, slot.load().port);
                let entry = ClientEntry::new(&worker.shared, far, near);
                let newcomer = enter(&worker).await;
                let worker = Arc::clone(&worker);
                tokio::spawn(Box::pin(login::run(
                    worker, stream, peer, entry, open, newcomer,
                )));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Waits until one more may log in. The next ones wait in the kernel's queue.
async fn enter(worker: &Arc<Worker>) -> Newcomer {
    /// How often it is looked again: what is waited for may be another one's by then.
    const LOOK: Duration = Duration::from_millis(100);
    let newcomers = &worker.shared.newcomers;
    loop {
        let limit = worker.shared.plan.load().house.max_newcomers;
        match newcomers.enter(limit, worker.now()) {
            Entrance::Room(newcomer) => return newcomer,
            Entrance::Wait(wait) => newcomers.wait(wait.min(LOOK)).await,
        }
    }
}

/// Where both ends of a connection are.
pub(super) fn ends(stream: &Stream, port: u16) -> (Far, Option<SocketAddr>) {
    match stream {
        Stream::Tcp(stream) => {
            let far = stream.peer_addr();
            let far = far.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0));
            (Far::Tcp(far), stream.local_addr().ok())
        }
        Stream::Unix(stream) => {
            let process = stream.peer_cred().ok().and_then(|peer| peer.pid());
            let process = process.unwrap_or(0);
            (Far::Unix { process, port }, None)
        }
    }
}

pub(super) fn unix_user(stream: &Stream) -> Option<u32> {
    let Stream::Unix(stream) = stream else {
        return None;
    };
    stream.peer_cred().ok().map(|credentials| credentials.uid())
}

/// Hands on to the worker that owns the pool.
pub(crate) fn hand_on(worker: &Arc<Worker>, to: usize, moved: Moved) {
    if to != worker.index
        && let Some(mailboxes) = worker.mailboxes.get()
    {
        let mailbox = mailboxes[to].clone();
        // Waiting for room is the client's to do, not the worker's.
        tokio::spawn(async move {
            let _ = mailbox.send(moved).await;
        });
        return;
    }
    receive(worker, moved);
}

/// Takes over what another worker has handed on.
pub(crate) fn receive(worker: &Arc<Worker>, moved: Moved) {
    let mut moved = match moved {
        Moved::Client(client) => client,
        Moved::Ask(ask) => {
            tokio::spawn(crate::ask::run(Arc::clone(worker), ask));
            return;
        }
        Moved::Expected(expected) => {
            let listen = crate::listening::landing::run(Arc::clone(worker), *expected);
            tokio::spawn(listen);
            return;
        }
    };
    moved.identity.open.move_to(worker.index);
    let socket = match moved.bytes {
        Bytes::Plain(stream) => match stream.attach() {
            Ok(stream) => Socket::Plain(stream),
            Err(_) => return,
        },
        Bytes::Tls(stream) => {
            let mut socket = Socket::Tls(stream);
            socket.move_here();
            socket
        }
    };
    let worker = Arc::clone(worker);
    tokio::spawn(Box::pin(async move {
        let served = pin!(serve::run(
            Arc::clone(&worker),
            moved.identity,
            socket,
            moved.input,
            moved.arrival,
        ));
        worker.moment.hold(worker.shared.clock, served).await;
    }));
}
