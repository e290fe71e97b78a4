//! Body bytes on their way out: in a block that the ledger counts, or, when they are few, in
//! memory of their own. Each knows its stream, which learns by that what the peer took.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use outgrow_message::ledger::BLOCK_SIZES;
use outgrow_message::{Block, Blocks};

use super::connection::Shared;

/// The most that one piece holds: a block of the smallest size, and the usual DATA frame.
pub(super) const PIECE_BYTES: usize = BLOCK_SIZES[0];

/// Up to here a block would be mostly empty; the send buffer's bound is enough.
const SMALL_BYTES: usize = 4 * 1024;

/// What a stream has pushed and the connection has not written yet.
#[derive(Debug)]
pub(super) struct Unsent {
    connection: Arc<Shared>,
    pieces: AtomicUsize,
    /// Bytes that were written.
    written: AtomicU64,
    /// A piece was thrown away before it was written.
    cut: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

impl Unsent {
    pub(super) fn new(connection: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            connection,
            pieces: AtomicUsize::new(0),
            written: AtomicU64::new(0),
            cut: AtomicBool::new(false),
            waiting: Mutex::new(None),
        })
    }

    /// Bytes that were written, ever.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Whether a piece was thrown away before it was written.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.load(Ordering::Acquire) == 0
    }

    /// Waits until another piece may be pushed: always one, more while the connection has room.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>, limit: usize) -> Poll<()> {
        let room = || self.is_empty() || self.connection.held.load(Ordering::Relaxed) < limit;
        self.poll_until(cx, room)
    }

    /// Waits until everything was written, or thrown away.
    pub(super) fn poll_empty(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_until(cx, || self.is_empty())
    }

    fn poll_until(&self, cx: &mut Context<'_>, done: impl Fn() -> bool) -> Poll<()> {
        if done() {
            return Poll::Ready(());
        }
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *waiting {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        }
        // It may have come to be so meanwhile.
        if done() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn wake(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waker = waiting.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[derive(Debug)]
enum Data {
    Small(Bytes),
    Block {
        block: Block,
        start: usize,
        end: usize,
    },
}

/// Some bytes of a body.
#[derive(Debug)]
pub(super) struct Piece {
    data: Data,
    /// The stream, and the bytes that are held for it.
    of: Option<(Arc<Unsent>, usize)>,
}

impl Piece {
    /// Nothing, for a frame that only ends the stream.
    pub(super) fn empty() -> Self {
        Self {
            data: Data::Small(Bytes::new()),
            of: None,
        }
    }

    /// A copy of `data`, of at most [`PIECE_BYTES`]; none when the ledger is full.
    pub(super) fn copy(data: &[u8], blocks: &Arc<Blocks>, unsent: &Arc<Unsent>) -> Option<Self> {
        let (data, held) = if data.len() <= SMALL_BYTES {
            (Data::Small(Bytes::copy_from_slice(data)), data.len())
        } else {
            let mut block = blocks.take()?;
            let end = data.len().min(block.len());
            block[..end].copy_from_slice(&data[..end]);
            let held = block.len();
            let start = 0;
            (Data::Block { block, start, end }, held)
        };
        unsent.pieces.fetch_add(1, Ordering::AcqRel);
        unsent.connection.held.fetch_add(held, Ordering::Relaxed);
        Some(Self {
            data,
            of: Some((Arc::clone(unsent), held)),
        })
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        match &self.data {
            Data::Small(bytes) => bytes.len(),
            Data::Block { start, end, .. } => end - start,
        }
    }

    fn chunk(&self) -> &[u8] {
        match &self.data {
            Data::Small(bytes) => bytes,
            Data::Block { block, start, end } => &block[*start..*end],
        }
    }

    fn advance(&mut self, count: usize) {
        match &mut self.data {
            Data::Small(bytes) => bytes.advance(count),
            Data::Block { start, end, .. } => *start = (*start + count).min(*end),
        }
        if let Some((unsent, _)) = &self.of {
            unsent.written.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let remaining = self.remaining();
        let Some((unsent, held)) = self.of.take() else {
            return;
        };
        if remaining > 0 {
            unsent.cut.store(true, Ordering::Release);
        }
        unsent.connection.held.fetch_sub(held, Ordering::Relaxed);
        unsent.pieces.fetch_sub(1, Ordering::AcqRel);
        unsent.wake();
    }
}
