//! What a body's decompressor holds: counted where it works, on whichever thread, and known to who sees to the body
//! meanwhile. And for how long a body waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use outgrow_core::Ticks;

use crate::compress::Held;

/// For how long one body waits for room in all: whoever has it may keep it for longer, and who waits has a
/// connection to an endpoint, with the permit for that, which others could use.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What a decompressor holds, until the last copy of this is dropped.
#[derive(Clone, Debug)]
pub(super) struct Hold(Arc<Mutex<Held>>);

impl Hold {
    pub(super) fn new(held: Held) -> Self {
        Self(Arc::new(Mutex::new(held)))
    }

    /// The same for who does not keep it.
    pub(super) fn seen(&self) -> Seen {
        Seen(Arc::downgrade(&self.0))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts `bytes` in all, where that is more than now; whether there is room for them now.
    pub(super) fn grow(&self, bytes: u64) -> bool {
        self.held().grow(bytes)
    }

    /// The same for who can wait: not while other bodies of its client do.
    pub(super) fn grow_in_turn(&self, bytes: u64) -> bool {
        self.held().grow_in_turn(bytes)
    }

    /// Counts them as soon as there is room; whether there is any.
    pub(super) fn poll_grow(&self, bytes: u64, cx: &Context<'_>) -> Poll<bool> {
        self.held().poll_grow(bytes, cx)
    }
}

/// What a decompressor holds, as long as it does.
#[derive(Clone, Debug)]
pub(super) struct Seen(Weak<Mutex<Held>>);

impl Seen {
    /// It is not gone on with for now, so nobody waits for it, and it waits for nothing.
    pub(super) fn rest(&self) {
        if let Some(held) = self.0.upgrade() {
            Hold(held).held().rest();
        }
    }

    /// It is gone on with again.
    pub(super) fn go_on(&self) {
        if let Some(held) = self.0.upgrade() {
            Hold(held).held().go_on();
        }
    }
}

/// How long one body has waited for room.
#[derive(Debug, Default)]
pub(super) struct Wait {
    since: Option<Ticks>,
    spent: Duration,
}

impl Wait {
    /// It waits at `now`; whether it may go on doing so.
    pub(super) fn go_on(&mut self, now: Ticks) -> bool {
        self.since.get_or_insert(now);
        self.until().is_some_and(|until| now < until)
    }

    /// It waits no longer, if it did.
    pub(super) fn stop(&mut self, now: Ticks) {
        if let Some(since) = self.since.take() {
            self.spent = self.spent.saturating_add(now.since(since));
        }
    }

    /// Until when it may, if it does.
    pub(super) fn until(&self) -> Option<Ticks> {
        let since = self.since?;
        Some(since + PATIENCE.saturating_sub(self.spent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_waits_for_so_long_in_all() {
        let second = |at: u64| Ticks(1 + at * 1_000_000_000);
        let mut wait = Wait::default();
        assert_eq!(wait.until(), None);
        assert!(wait.go_on(second(10)) && wait.go_on(second(13)));
        assert_eq!(wait.until(), Some(second(15)));
        wait.stop(second(13));
        wait.stop(second(90));
        assert_eq!(wait.until(), None);
        assert!(wait.go_on(second(100)) && wait.go_on(second(101)));
        assert_eq!(wait.until(), Some(second(102)));
        assert!(!wait.go_on(second(102)));
        wait.stop(second(300));
        assert!(!wait.go_on(second(400)), "it had its time");
    }
}
