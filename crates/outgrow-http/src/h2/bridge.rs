//! A [`Transport`] as the `h2` crate wants it.
//!
//! The crate writes each DATA frame by itself and flushes after it: a system call, and a TLS record,
//! for each response of a hundred streams. So what it writes is gathered here, and whoever polls the
//! crate hands it on when the crate has nothing more to say for now ([`Wire::poll_hand_on`]).

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use outgrow_message::ledger::BLOCK_SIZES;
use outgrow_message::{Blocks, Need};
use outgrow_net::Transport;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;

use super::connection::Shared;
use crate::conn::buffer::WriteBuffer;

/// The most that is read at a time.
const READ_BYTES: usize = BLOCK_SIZES[0];

/// Reads after which others of the worker get their turn, however much more there is: frames without a
/// meaning cost their sender nothing, and the crate takes whatever comes. 64 KiB of the smallest frames
/// take a millisecond.
const READS_IN_TURN: u32 = 4;

/// The most that is gathered: four records of TLS.
const GATHERED_BYTES: usize = BLOCK_SIZES[1];

/// A transport that is shared by the crate, through a [`Bridge`], and who polls the crate.
#[derive(Debug)]
pub(super) struct Wire<T> {
    inner: Mutex<Inner<T>>,
    blocks: Arc<Blocks>,
    /// Is told what the transport takes, and whether it takes nothing.
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Inner<T> {
    io: T,
    /// Read from the transport before it came here.
    arrived: Vec<u8>,
    taken: usize,
    /// Reads since nothing was there last, or others had their turn.
    reads: u32,
    gathered: WriteBuffer,
    /// The transport takes nothing of what was given to it past that.
    is_stuck: bool,
    /// Somebody will hand on what is gathered.
    gathers: bool,
    /// What went wrong as it was handed on, for the crate to be told.
    failed: Option<io::ErrorKind>,
}

impl<T: Transport> Wire<T> {
    /// `arrived`: what was read from `io` already.
    pub(super) fn new(
        io: T,
        arrived: Vec<u8>,
        blocks: Arc<Blocks>,
        shared: Arc<Shared>,
    ) -> Arc<Self> {
        let inner = Inner {
            io,
            arrived,
            taken: 0,
            reads: 0,
            gathered: WriteBuffer::default(),
            is_stuck: false,
            gathers: false,
            failed: None,
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            blocks,
            shared,
        })
    }

    /// From now on [`Wire::poll_hand_on`] is called after each poll of the crate.
    pub(super) fn gather(&self) {
        self.lock().gathers = true;
    }

    /// Gives what is gathered to the transport. What fails the crate is told when it is polled next,
    /// for which this asks.
    pub(super) fn poll_hand_on(&self, cx: &mut Context<'_>) {
        let mut inner = self.lock();
        if let Poll::Ready(Err(error)) = self.poll_flush(&mut inner, cx) {
            inner.failed = Some(error.kind());
            cx.waker().wake_by_ref();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_flush(&self, inner: &mut Inner<T>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let before = inner.gathered.written();
        let flushed = inner.gathered.poll_flush(cx, &mut inner.io);
        let written = inner.gathered.written() - before;
        self.shared.written.fetch_add(written, Ordering::Relaxed);
        self.note(flushed.is_pending() || inner.is_stuck);
        flushed
    }

    fn note(&self, is_blocked: bool) {
        self.shared.blocked.store(is_blocked, Ordering::Relaxed);
    }

    fn poll_read(
        &self,
        inner: &mut Inner<T>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(inner.io.poll_readable(cx));
        let room = buffer.remaining().min(READ_BYTES);
        // Copying what came costs less than zeroing the crate's buffer for what could come.
        let count = match self.blocks.take_for(Need::Head, 0) {
            Some(mut block) => {
                let count = ready!(inner.io.poll_read(cx, &mut block[..room]))?;
                buffer.put_slice(&block[..count]);
                count
            }
            None => {
                let count = ready!(inner.io.poll_read(cx, buffer.initialize_unfilled_to(room)))?;
                buffer.advance(count);
                count
            }
        };
        let received = &self.shared.received;
        received.fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    /// Gathers `slices`, or gives them to the transport where there is no room for them.
    fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        if let Some(kind) = inner.failed {
            return Poll::Ready(Err(kind.into()));
        }
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        loop {
            let waiting = inner.gathered.len() + bytes;
            // The reserve is for heads: what is more than a small block has no part in it.
            let need = match waiting <= BLOCK_SIZES[0] {
                true => Need::Head,
                false => Need::Usual,
            };
            let fits = waiting <= GATHERED_BYTES;
            if fits && inner.gathered.reserve_for(need, bytes, &self.blocks) {
                for slice in slices {
                    inner.gathered.append(slice);
                }
                return Poll::Ready(Ok(bytes));
            }
            if !inner.gathered.is_empty() {
                ready!(self.poll_flush(inner, cx))?;
                continue;
            }
            let written = inner.io.poll_write_vectored(cx, slices);
            if let Poll::Ready(Ok(count)) = &written {
                let count = *count as u64;
                self.shared.written.fetch_add(count, Ordering::Relaxed);
                inner.gathered.note_written();
            }
            inner.is_stuck = written.is_pending();
            self.note(inner.is_stuck);
            return written;
        }
    }
}

/// The crate's end of a [`Wire`].
#[derive(Debug)]
pub(super) struct Bridge<T>(pub(super) Arc<Wire<T>>);

impl<T: Transport> AsyncRead for Bridge<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = &*self.0;
        let mut inner = wire.lock();
        let inner = &mut *inner;
        if inner.taken < inner.arrived.len() {
            let rest = &inner.arrived[inner.taken..];
            let count = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..count]);
            inner.taken += count;
            if inner.taken == inner.arrived.len() {
                inner.arrived = Vec::new();
                inner.taken = 0;
            }
            return Poll::Ready(Ok(()));
        }
        if inner.reads >= READS_IN_TURN {
            inner.reads = 0;
            ready!(pin!(yield_now()).poll(cx));
        }
        let read = wire.poll_read(inner, cx, buffer);
        inner.reads = match &read {
            Poll::Pending => 0,
            Poll::Ready(_) => inner.reads + 1,
        };
        read
    }
}

impl<T: Transport> AsyncWrite for Bridge<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        match inner.failed {
            Some(kind) => Poll::Ready(Err(kind.into())),
            None if inner.gathers => Poll::Ready(Ok(())),
            None => self.0.poll_flush(&mut inner, cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        ready!(self.0.poll_flush(&mut inner, cx))?;
        inner.io.poll_shutdown(cx)
    }
}
