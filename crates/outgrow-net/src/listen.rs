//! Listening sockets of a worker.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};

use crate::{Datagrams, Stream};

/// A listening socket of one worker.
#[derive(Debug)]
pub enum Socket {
    /// TCP; what is accepted has `TCP_NODELAY`.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
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
            return UnixListener::from_std(listener).map(Self::Unix);
        }
        // Accepted sockets inherit it: one system call less for each connection.
        socket.set_tcp_nodelay(true)?;
        let listener = std::net::TcpListener::from(OwnedFd::from(socket));
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(Self::Tcp)
    }

    /// Has the system look whether the peers of what is accepted from now on are still there when
    /// nothing was heard of them for `after`, and again each time; zero: it does not look. What is
    /// accepted inherits it: no system call for each connection. Not for Unix sockets.
    pub fn set_keep_alive(&self, after: Duration) {
        let Self::Tcp(listener) = self else { return };
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

    /// The next connection, with the peer's address where it has one.
    pub async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Stream::Tcp(stream), Some(address)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), None))
            }
            Self::Datagrams(_) => std::future::pending().await,
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
