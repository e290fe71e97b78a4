//! The listener: takes connections from its sockets and bounds how many there are.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use outgrow_core::Snapshot;
use outgrow_message::{Blocks, Ledger};
use outgrow_net::Stream;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::connection::{self, Shared};
use crate::peer::Peer;
use crate::plan::AdminPlan;
use crate::slots::{SPARED, Slots};
use crate::source::Source;

/// Connections at a time. A further one ends the one that has been idle for longest, or waits in
/// the kernel while none is idle.
pub const CONNECTION_LIMIT: usize = 64;
/// Bytes of buffers of all connections together: 64 with the largest block to read into and one
/// to write from. An account of its own, so that the listener answers when the traffic has used
/// up the process's.
const BUFFER_BYTES: u64 = 32 * 1024 * 1024;
/// How long exchanges may go on when the listener ends.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// The pause after the kernel had no connection to give (out of descriptors, most likely).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening socket, registered with the runtime of the thread that made it.
#[derive(Debug)]
pub enum AdminSocket {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// Why a descriptor cannot be listened at.
#[derive(Debug, thiserror::Error)]
pub enum SocketProblem {
    /// The system refused.
    #[error("the socket of the admin listener cannot be used: {0}")]
    Io(#[from] io::Error),
}

impl AdminSocket {
    /// Takes over a listening socket, TCP or Unix. Must be called within a runtime.
    pub fn from_fd(socket: OwnedFd) -> Result<Self, SocketProblem> {
        let socket = std::net::TcpListener::from(socket);
        // Only for an IP socket can the address be read as one.
        if socket.local_addr().is_ok() {
            socket.set_nonblocking(true)?;
            return Ok(Self::Tcp(TcpListener::from_std(socket)?));
        }
        let socket = std::os::unix::net::UnixListener::from(OwnedFd::from(socket));
        socket.local_addr()?;
        socket.set_nonblocking(true)?;
        Ok(Self::Unix(UnixListener::from_std(socket)?))
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        match self {
            Self::Tcp(listener) => listener.poll_accept(cx).map_ok(|(stream, _)| {
                // Only a matter of speed: a stream that refuses is served all the same.
                let _ = stream.set_nodelay(true);
                Stream::Tcp(stream)
            }),
            Self::Unix(listener) => listener
                .poll_accept(cx)
                .map_ok(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

/// Serves `sockets` until `until` ends. Then no connection is taken any more, idle ones are
/// closed, and exchanges under way have ten seconds to end.
///
/// A plan that is published is used from the next request on. Time is the runtime's.
pub async fn serve(
    sockets: Vec<AdminSocket>,
    plan: Arc<Snapshot<AdminPlan>>,
    source: Arc<dyn Source>,
    until: impl Future<Output = ()>,
) {
    let shared = Shared {
        plan,
        source,
        blocks: Blocks::new(Ledger::new(BUFFER_BYTES)),
    };
    let slots = Slots::new();
    let mut tasks = JoinSet::new();
    let mut until = pin!(until);
    let mut waiting = None;
    let mut turn = 0;
    loop {
        tokio::select! {
            biased;
            () = &mut until => break,
            Some(_) = tasks.join_next() => {}
            () = sleep(SPARED), if waiting.is_some() => {}
            stream = accept(&sockets, &mut turn), if waiting.is_none() => waiting = Some(stream),
        }
        let Some(stream) = waiting.take() else {
            continue;
        };
        if tasks.len() >= CONNECTION_LIMIT {
            slots.make_room();
            waiting = Some(stream);
            continue;
        }
        let peer = Peer::of(&stream);
        let slot = slots.take();
        tasks.spawn(connection::serve(shared.clone(), stream, peer, slot));
    }
    drop((sockets, waiting));
    slots.end();
    // What is left then is ended when the set is dropped.
    let _ = timeout(END_PATIENCE, async {
        while tasks.join_next().await.is_some() {}
    })
    .await;
}

/// The next connection of any socket; `turn` lets none of them come first always.
async fn accept(sockets: &[AdminSocket], turn: &mut usize) -> Stream {
    loop {
        let accepted = poll_fn(|cx| {
            for offset in 0..sockets.len() {
                let index = turn.wrapping_add(offset) % sockets.len();
                if let Poll::Ready(accepted) = sockets[index].poll_accept(cx) {
                    *turn = index.wrapping_add(1);
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        });
        match accepted.await {
            Ok(stream) => return stream,
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests;
