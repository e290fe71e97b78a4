//! Checks over an encrypted connection. How that is made is the tier's to know whose servers they are:
//! what is here is what it is asked for, and the connection as a check reads and writes it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use outgrow_net::{Stream, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::endpoint::Endpoint;

/// A connection that is being encrypted, or why it cannot be, in words for people.
pub type Encrypting<'a> =
    Pin<Box<dyn Future<Output = Result<Box<dyn Transport>, String>> + Send + 'a>>;

/// Encrypts the connections of checks as a tier encrypts its own.
pub trait Encrypt: fmt::Debug + Send + Sync {
    /// Takes the steps to an encrypted connection with this endpoint, if there is to be one. Bounded in
    /// time by who asks.
    fn encrypt<'a>(&'a self, stream: Stream, endpoint: &'a Endpoint) -> Encrypting<'a>;
}

/// A connection as checks read and write it.
pub(super) struct Duplex(pub(super) Box<dyn Transport>);

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = ready!(self.0.poll_read(cx, buffer.initialize_unfilled()))?;
        buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_shutdown(cx)
    }
}
