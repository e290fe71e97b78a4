//! Listening sockets of a worker.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Resource;

use tokio::net::{TcpListener, UnixListener};

use crate::{Datagrams, Stream};

/// Between two looks whether there are descriptors again.
const LOOK: Duration = Duration::from_millis(50);
/// How many descriptors clients leave to the rest of the process, at most.
const MOST_RESERVED: u64 = 1024;

/// A listening socket of one worker.
#[derive(Debug)]
pub enum Socket {
    /// TCP; what is accepted has `TCP_NODELAY`.
    Tcp(TcpListener, Reserve),
    /// A Unix socket.
    Unix(UnixListener, Reserve),
    /// Datagrams, of which none is a connection.
    Datagrams(Box<Datagrams>),
}

impl Socket {
    /// Takes over a listening, non-blocking socket of either family, or a bound one for datagrams.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(socket);
        if socket.r#type()? == socket2::Type::DGRAM {
            return Datagrams::new(socket.into())
                .map(Box::new)
                .map(Self::Datagrams);
        }
        if socket.local_addr()?.is_unix() {
            let listener = std::os::unix::net::UnixListener::from(OwnedFd::from(socket));
            listener.set_nonblocking(true)?;
            let listener = UnixListener::from_std(listener)?;
            return Ok(Self::Unix(listener, Reserve::new()));
        }
        // Accepted sockets inherit it: one system call less for each connection.
        socket.set_tcp_nodelay(true)?;
        let listener = std::net::TcpListener::from(OwnedFd::from(socket));
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        Ok(Self::Tcp(listener, Reserve::new()))
    }

    /// Has the system look whether the peers of what is accepted from now on are still there when
    /// nothing was heard of them for `after`, and again each time; zero: it does not look. What is
    /// accepted inherits it: no system call for each connection. Not for Unix sockets.
    pub fn set_keep_alive(&self, after: Duration) {
        let Self::Tcp(listener, _) = self else {
            return;
        };
        let socket = socket2::SockRef::from(listener);
        // Where the system refuses, its own times are in force.
        let _ = socket.set_keepalive(!after.is_zero());
        if !after.is_zero() {
            // In whole seconds.
            let every = (after / 4).max(Duration::from_secs(1));
            let times = socket2::TcpKeepalive::new()
                .with_time(after.max(Duration::from_secs(1)))
                .with_interval(every);
            let _ = socket.set_tcp_keepalive(&times);
        }
    }

    /// The next connection, with the peer's address where it has one. While an eighth of the
    /// descriptors that the process may have is left, connections wait in the kernel.
    pub async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener, reserve) => {
                reserve.wait(listener).await;
                let (stream, address) = listener.accept().await?;
                reserve.note(&stream);
                Ok((Stream::Tcp(stream), Some(address)))
            }
            Self::Unix(listener, reserve) => {
                reserve.wait(listener).await;
                let (stream, _) = listener.accept().await?;
                reserve.note(&stream);
                Ok((Stream::Unix(stream), None))
            }
            Self::Datagrams(_) => std::future::pending().await,
        }
    }
}

/// How far the descriptors are used that the process may have.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// How many it may have.
    pub limit: u64,
    /// How many of them clients leave to the rest of the process.
    pub reserve: u64,
    /// The lowest number that is free, about how many are open; the limit where none is.
    pub next: u64,
}

impl Room {
    /// Looks, with a copy of `any` that is closed again.
    pub fn look(any: &impl AsFd) -> Self {
        let (limit, reserve) = limit_and_reserve();
        let next = match lowest_free(any) {
            Ok(next) => u64::try_from(next).unwrap_or(0),
            Err(rustix::io::Errno::MFILE) => limit,
            // `any` is not open: nothing is known.
            Err(_) => 0,
        };
        Self {
            limit,
            reserve,
            next,
        }
    }

    /// How many there are until connections wait in the kernel.
    pub fn left_to_clients(self) -> u64 {
        (self.limit - self.reserve).saturating_sub(self.next)
    }
}

/// The lowest number that is free, by a copy of `any` that is closed again.
fn lowest_free(any: &impl AsFd) -> Result<RawFd, rustix::io::Errno> {
    rustix::io::fcntl_dupfd_cloexec(any, 0).map(|next| next.as_raw_fd())
}

/// How many descriptors the process may have.
pub fn descriptor_limit() -> u64 {
    limit_and_reserve().0
}

/// The lowest number of a descriptor that clients leave to the rest of the process: the system gives the lowest one
/// that is free, so from this one on few are left.
pub fn ceiling() -> RawFd {
    let (limit, reserve) = limit_and_reserve();
    ceiling_of(limit, reserve)
}

fn ceiling_of(limit: u64, reserve: u64) -> RawFd {
    RawFd::try_from(limit - reserve).unwrap_or(RawFd::MAX)
}

/// The process's limit of descriptors, and what clients leave of it.
fn limit_and_reserve() -> (u64, u64) {
    let limit = rustix::process::getrlimit(Resource::Nofile).current;
    let limit = limit.unwrap_or(u64::MAX);
    (limit, (limit / 8).min(MOST_RESERVED))
}

/// Descriptors that are left to what is more than a client: connections to endpoints, whoever asks
/// for a reload or an upgrade, what the keeper sends.
#[derive(Debug)]
pub struct Reserve {
    /// As [`ceiling`].
    ceiling: RawFd,
    is_short: AtomicBool,
}

impl Reserve {
    fn new() -> Self {
        Self {
            ceiling: ceiling(),
            is_short: AtomicBool::new(false),
        }
    }

    fn note(&self, accepted: &impl AsRawFd) {
        if accepted.as_raw_fd() >= self.ceiling {
            self.is_short.store(true, Ordering::Relaxed);
        }
    }

    async fn wait(&self, listener: &impl AsFd) {
        while self.is_short.load(Ordering::Relaxed) {
            if lowest_free(listener).is_ok_and(|next| next < self.ceiling) {
                self.is_short.store(false, Ordering::Relaxed);
            } else {
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// Errors of [`Socket::accept`] that concern the connection that was to be accepted, not the
/// listener.
pub fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
