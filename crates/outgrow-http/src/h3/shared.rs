//! What a connection and its streams tell each other.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use quinn::VarInt;

use super::account::Account;
use super::code::Code;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) quic: quinn::Connection,
    pub(super) account: Arc<Account>,
    /// Streams that are at work.
    pub(super) open: AtomicUsize,
    /// Streams that a client reset before they were answered.
    pub(super) resets: AtomicU64,
    /// Bytes that clients have not acknowledged.
    pub(super) held: AtomicUsize,
    /// It was closed for what the client did.
    broken: AtomicBool,
    /// Who watches whether anything is at work.
    watching: Mutex<Option<Waker>>,
    /// Streams that wait until something is acknowledged: at most as many as there are.
    lacking: Mutex<Vec<Waker>>,
}

impl Shared {
    pub(super) fn new(quic: quinn::Connection, account: Arc<Account>) -> Self {
        Self {
            quic,
            account,
            open: AtomicUsize::new(0),
            resets: AtomicU64::new(0),
            held: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            watching: Mutex::default(),
            lacking: Mutex::default(),
        }
    }

    /// Bytes of a body were taken: the client may send more, and at once more than before.
    pub(super) fn took(&self, bytes: usize) {
        let wider = self.account.took(bytes);
        if let Some(wider) = wider.and_then(|wider| VarInt::from_u64(wider).ok()) {
            self.quic.set_receive_window(wider);
        }
    }

    /// Ends the connection for what the client did.
    pub(super) fn break_off(&self, code: Code, reason: &str) {
        self.broken.store(true, Ordering::Relaxed);
        self.quic.close(code.number(), reason.as_bytes());
    }

    /// Whether it was ended for what the client did.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Has `cx` woken when a stream ends, or all that was sent is acknowledged.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *watching {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Has `cx` woken when some of what was sent is acknowledged or thrown away.
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

    pub(super) fn wake(&self) {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        let waker = watching.take();
        drop(watching);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
