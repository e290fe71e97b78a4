//! The byte stream of a client or a server, plain or encrypted.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use outgrow_net::{Stream, Transport};
use outgrow_tls::{EndpointStream, TlsStream};

/// A connection's bytes.
#[derive(Debug)]
pub(crate) enum Socket {
    /// As they are.
    Plain(Stream),
    /// A client's, encrypted.
    Tls(Box<TlsStream>),
    /// A server's, encrypted.
    Server(Box<EndpointStream>),
}

impl Socket {
    /// Whether what is said on it cannot be read by others on the way.
    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::Server(_))
    }

    /// Whether its other side has neither said anything nor ended, as far as is known without
    /// waiting. What TLS says by itself is nothing that was said.
    #[inline]
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let read = match self {
            Self::Plain(stream) => stream.try_read(&mut byte),
            Self::Server(stream) => return stream.is_quiet(),
            // Nobody asks about clients; what is not known is not quiet.
            Self::Tls(_) => return false,
        };
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The stream to a server, below the encryption.
    pub(crate) fn to_server(&self) -> Option<&Stream> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Server(stream) => Some(stream.stream()),
            Self::Tls(_) => None,
        }
    }

    /// Wakes the calling thread from now on, and not the one that it was on. Where that does not work,
    /// for want of descriptors, both work for it.
    pub(crate) fn move_here(&mut self) {
        let _ = match self {
            Self::Plain(stream) => stream.move_here(),
            Self::Tls(stream) => stream.move_here(),
            Self::Server(stream) => stream.move_here(),
        };
    }

    /// Says something before the close, as far as it goes without waiting.
    pub(crate) fn say_last(&mut self, bytes: &[u8]) {
        let _ = match self {
            Self::Plain(stream) => stream.try_write(bytes),
            Self::Server(stream) => stream.say_last(bytes),
            Self::Tls(_) => Ok(0),
        };
    }

    /// Writes all of `bytes`. For the steps of a login only: what it waits for has a limit of time
    /// around it.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            let write = std::future::poll_fn(|cx| self.poll_write(cx, &bytes[written..]));
            match write.await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => written += count,
            }
        }
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }
}

impl Transport for Socket {
    #[inline]
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_read(cx, buffer),
            Self::Tls(stream) => stream.poll_read(cx, buffer),
            Self::Server(stream) => stream.poll_read(cx, buffer),
        }
    }

    #[inline]
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(stream) => stream.poll_readable(cx),
            Self::Tls(stream) => stream.poll_readable(cx),
            Self::Server(stream) => stream.poll_readable(cx),
        }
    }

    #[inline]
    fn poll_read_unmetered(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_read_unmetered(cx, buffer),
            _ => self.poll_read(cx, buffer),
        }
    }

    #[inline]
    fn poll_readable_again(&mut self, cx: &mut Context<'_>, waits: &mut bool) -> Poll<()> {
        match self {
            Self::Plain(stream) => stream.poll_readable_again(cx, waits),
            _ => self.poll_readable(cx),
        }
    }

    #[inline]
    fn poll_write_unmetered(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_write_unmetered(cx, bytes),
            _ => self.poll_write(cx, bytes),
        }
    }

    #[inline]
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_write(cx, bytes),
            Self::Tls(stream) => stream.poll_write(cx, bytes),
            Self::Server(stream) => stream.poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_write_vectored(cx, slices),
            Self::Tls(stream) => stream.poll_write_vectored(cx, slices),
            Self::Server(stream) => stream.poll_write_vectored(cx, slices),
        }
    }

    #[inline]
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => stream.poll_flush(cx),
            Self::Server(stream) => stream.poll_flush(cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Stream::poll_shutdown(stream, cx),
            Self::Tls(stream) => stream.poll_shutdown(cx),
            Self::Server(stream) => stream.poll_shutdown(cx),
        }
    }
}
