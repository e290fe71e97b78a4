//! Listening sockets of a worker.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use tokio::net::{TcpListener, UnixListener};

use crate::Stream;

/// A listening socket of one worker.
#[derive(Debug)]
pub enum Socket {
    /// TCP; what is accepted has `TCP_NODELAY`.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl Socket {
    /// Takes over a listening, non-blocking socket of either family.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(socket);
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

    /// The next connection, with the peer's address where it has one.
    pub async fn accept(&self) -> io::Result<(Stream, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Stream::Tcp(stream), Some(address.ip())))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), None))
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
