//! What a connection and its streams tell each other.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Waker};

use super::code::Code;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) quic: quinn::Connection,
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
    pub(super) fn new(quic: quinn::Connection) -> Self {
        Self {
            quic,
            open: AtomicUsize::new(0),
            resets: AtomicU64::new(0),
            held: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            watching: Mutex::default(),
            lacking: Mutex::default(),
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
