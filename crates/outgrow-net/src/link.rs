//! A connection to a server, plain or encrypted, as pools keep it and engines read and write it.

use std::fmt;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use crate::{Stream, Transport};

/// An encrypted connection that can wait in a pool. It stays with the runtime that made it.
pub trait Sealed: Transport + fmt::Debug {
    /// Whether the server has neither said anything nor ended, as far as is known without waiting.
    /// What is the encryption's own (a ticket for the next session, a change of keys) is nothing
    /// that was said.
    fn is_quiet(&mut self) -> bool;

    /// The stream below.
    fn stream(&self) -> &Stream;
}

/// A connection after its handshake, where there is one.
#[derive(Debug)]
pub enum Link {
    /// Nothing is encrypted.
    Plain(Stream),
    /// All is.
    Sealed(Box<dyn Sealed>),
}

impl Link {
    /// The stream below.
    pub fn stream(&self) -> &Stream {
        match self {
            Self::Plain(stream) => stream,
            Self::Sealed(sealed) => sealed.stream(),
        }
    }
}

impl From<Stream> for Link {
    fn from(stream: Stream) -> Self {
        Self::Plain(stream)
    }
}

/// The plain way is one comparison longer than without; only the encrypted one goes through a table.
impl Transport for Link {
    #[inline]
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_read(cx, buffer),
            Self::Sealed(sealed) => sealed.poll_read(cx, buffer),
        }
    }

    #[inline]
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(stream) => stream.poll_readable(cx),
            Self::Sealed(sealed) => sealed.poll_readable(cx),
        }
    }

    #[inline]
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_write(cx, bytes),
            Self::Sealed(sealed) => sealed.poll_write(cx, bytes),
        }
    }

    #[inline]
    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_write_vectored(cx, slices),
            Self::Sealed(sealed) => sealed.poll_write_vectored(cx, slices),
        }
    }

    #[inline]
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_flush(cx),
            Self::Sealed(sealed) => sealed.poll_flush(cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Transport::poll_shutdown(stream, cx),
            Self::Sealed(sealed) => sealed.poll_shutdown(cx),
        }
    }

    fn must_say_end(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.must_say_end(),
            Self::Sealed(sealed) => sealed.must_say_end(),
        }
    }

    fn reset(&mut self) {
        match self {
            Self::Plain(stream) => stream.reset(),
            Self::Sealed(sealed) => sealed.reset(),
        }
    }
}
