//! What was sent on a connection and is not acknowledged: it is held, with its charge, by QUIC.
//!
//! It knows nothing of the connection itself. QUIC keeps what was not acknowledged for as long as
//! anybody has the connection, also when that has ended: what knew of it would keep it, and so itself.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use bytes::Bytes;
use outgrow_message::Block;
use outgrow_message::ledger::Charge;

use super::turn::UnderWay;

/// What a connection has sent, and who waits for it to be acknowledged.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Bytes that the client has not acknowledged.
    held: AtomicUsize,
    /// Who watches whether anything is at work.
    watching: Mutex<Option<Waker>>,
    /// Streams that wait until something is acknowledged: at most as many as there are.
    lacking: Mutex<Vec<Waker>>,
}

impl Sent {
    /// Bytes that the client has not acknowledged.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    /// Has `cx` woken when a stream ends, or all that was sent is acknowledged.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *watching {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    pub(super) fn wake(&self) {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        let waker = watching.take();
        drop(watching);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Has `cx` woken when some of what was sent is acknowledged or thrown away, or the connection ends.
    pub(super) fn wait_for_room(&self, cx: &Context<'_>) {
        let mut lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        if !lacking.iter().any(|waker| waker.will_wake(cx.waker())) {
            lacking.push(cx.waker().clone());
        }
    }

    pub(super) fn wake_for_room(&self) {
        let mut lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = std::mem::take(&mut *lacking);
        drop(lacking);
        for waker in waiting {
            waker.wake();
        }
    }
}

#[derive(Debug)]
pub(super) enum Memory {
    Small(
        Vec<u8>,
        #[expect(dead_code, reason = "it goes back when this is dropped")] Charge,
    ),
    Nothing,
    Block(Block, usize),
}

/// Bytes until they are acknowledged, or thrown away.
#[derive(Debug)]
pub(super) struct Held {
    memory: Memory,
    sent: Arc<Sent>,
    _under_way: Arc<UnderWay>,
}

impl Held {
    pub(super) fn bytes(memory: Memory, sent: &Arc<Sent>, under_way: Arc<UnderWay>) -> Bytes {
        let held = Self {
            memory,
            sent: Arc::clone(sent),
            _under_way: under_way,
        };
        sent.held.fetch_add(held.size(), Ordering::AcqRel);
        Bytes::from_owner(held)
    }

    /// The memory that it takes.
    fn size(&self) -> usize {
        match &self.memory {
            Memory::Small(bytes, _) => bytes.len(),
            Memory::Nothing => 0,
            Memory::Block(block, _) => block.len(),
        }
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        match &self.memory {
            Memory::Small(bytes, _) => bytes,
            Memory::Nothing => &[],
            Memory::Block(block, end) => &block[..*end],
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let count = self.size();
        // The block is free before anybody is told so.
        self.memory = Memory::Nothing;
        let before = self.sent.held.fetch_sub(count, Ordering::AcqRel);
        if before == count {
            self.sent.wake();
        }
        self.sent.wake_for_room();
    }
}
