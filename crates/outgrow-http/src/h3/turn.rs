//! When a response has its turn among those of its connection.
//!
//! QUIC sends what is more urgent first, and nothing else for as long as there is any of it. That is right
//! for what is soon over. A download that takes minutes would have all others of its connection, its
//! WebSockets too, cut off as those of a client that takes nothing. So what has become long takes turns
//! with the least urgent ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use quinn::SendStream;

use super::priority::Priority;
use super::shared::Shared;

/// From here on a response is long. As much as QUIC holds by default of what was not acknowledged, so that
/// what is called urgent is sent first up to here.
const LONG_BYTES: u64 = 2 * 1024 * 1024;

/// The lowest level of a response of a connection, ever: QUIC may have something of one to send when its
/// stream is gone for us.
#[derive(Debug, Default)]
pub(super) struct Lowest(AtomicI32);

/// A response's turn.
#[derive(Debug)]
pub(super) struct Turn {
    shared: Arc<Shared>,
    priority: Priority,
    /// What QUIC was told.
    level: i32,
}

impl Turn {
    /// Of a stream of which nothing was said.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let priority = Priority::default();
        Self {
            shared,
            priority,
            level: priority.level(),
        }
    }

    /// Takes what fields say of it.
    pub(super) fn take<'v>(&mut self, values: impl Iterator<Item = &'v [u8]>, stream: &SendStream) {
        values.for_each(|value| self.priority.take(value));
        let level = self.priority.level();
        self.shared.lowest.0.fetch_min(level, Ordering::Relaxed);
        self.tell(level, stream);
    }

    /// So much of it was sent: from some length on others are to have their turn.
    pub(super) fn share(&mut self, sent: u64, stream: &SendStream) {
        if sent >= LONG_BYTES {
            let lowest = self.shared.lowest.0.load(Ordering::Relaxed);
            self.tell(lowest, stream);
        }
    }

    fn tell(&mut self, level: i32, stream: &SendStream) {
        if level != self.level {
            self.level = level;
            // It fails where nothing is sent any more.
            let _ = stream.set_priority(level);
        }
    }
}
