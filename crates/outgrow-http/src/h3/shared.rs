//! What a connection and its streams tell each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use quinn::VarInt;

use super::account::{Account, Unfinished};
use super::code::Code;
use super::sent::Sent;
use super::turn::Levels;

/// Lets a client send so much before it is taken, where that is more than before.
pub(super) fn widen(quic: &quinn::Connection, wider: Option<u64>) {
    if let Some(wider) = wider.and_then(|wider| VarInt::from_u64(wider).ok()) {
        quic.set_receive_window(wider);
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) quic: quinn::Connection,
    pub(super) account: Arc<Account>,
    /// Streams that are at work.
    pub(super) open: AtomicUsize,
    /// Streams that a client reset before they were answered.
    pub(super) resets: AtomicU64,
    /// What the client has not acknowledged.
    pub(super) sent: Arc<Sent>,
    /// How urgent what is under way is.
    pub(super) levels: Arc<Levels>,
    /// It was closed for what the client did.
    broken: AtomicBool,
}

impl Shared {
    pub(super) fn new(quic: quinn::Connection, account: Arc<Account>) -> Self {
        Self {
            quic,
            account,
            open: AtomicUsize::new(0),
            resets: AtomicU64::new(0),
            sent: Arc::default(),
            levels: Arc::default(),
            broken: AtomicBool::new(false),
        }
    }

    /// Bytes of a body were taken: the client may send more, and at once more than before.
    pub(super) fn took(&self, bytes: usize) {
        self.widen(self.account.took(bytes));
    }

    /// While bodies are not taken, the client may send as much more of others.
    pub(super) fn fit_stalled(&self) {
        self.widen(self.account.fit_stalled());
    }

    /// A body is not taken for now (true), or is taken again or over.
    pub(super) fn note_stalled(&self, is_stalled: bool) {
        self.account.note_stalled(is_stalled);
    }

    /// A request is not there as a whole: what QUIC may hold of it; none where there is no memory.
    pub(super) fn unfinished(&self) -> Option<Unfinished> {
        let (unfinished, wider) = self.account.unfinished()?;
        self.widen(wider);
        Some(unfinished)
    }

    fn widen(&self, wider: Option<u64>) {
        widen(&self.quic, wider);
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

    /// Whether the connection has ended, for whatever reason.
    pub(super) fn has_ended(&self) -> bool {
        self.quic.close_reason().is_some()
    }
}
