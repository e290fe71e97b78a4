//! A [`Transport`] as the `h2` crate wants it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use outgrow_net::Transport;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Shared;

/// The most that is read at a time. Room for it is zeroed before each read, so not more.
const READ_BYTES: usize = 16 * 1024;

/// A transport, and the bytes that were read from it before it came here.
#[derive(Debug)]
pub(super) struct Bridge<T> {
    io: T,
    arrived: Vec<u8>,
    taken: usize,
    /// Is told what the transport takes, and whether it takes nothing.
    shared: Arc<Shared>,
}

impl<T> Bridge<T> {
    pub(super) fn new(io: T, arrived: Vec<u8>, shared: Arc<Shared>) -> Self {
        Self {
            io,
            arrived,
            taken: 0,
            shared,
        }
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &written {
            self.shared
                .written
                .fetch_add(*count as u64, Ordering::Relaxed);
        }
        self.shared
            .blocked
            .store(written.is_pending(), Ordering::Relaxed);
        written
    }
}

impl<T: Transport> AsyncRead for Bridge<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.taken < self.arrived.len() {
            let rest = &self.arrived[self.taken..];
            let count = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..count]);
            self.taken += count;
            if self.taken == self.arrived.len() {
                self.arrived = Vec::new();
                self.taken = 0;
            }
            return Poll::Ready(Ok(()));
        }
        let room = buffer.remaining().min(READ_BYTES);
        let count = ready!(self.io.poll_read(cx, buffer.initialize_unfilled_to(room)))?;
        buffer.advance(count);
        let received = &self.shared.received;
        received.fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> AsyncWrite for Bridge<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.io.poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.io.poll_write_vectored(cx, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.io.poll_flush(cx);
        self.shared
            .blocked
            .store(flushed.is_pending(), Ordering::Relaxed);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_shutdown(cx)
    }
}
