//! Handshakes under way: how many there may be, and from how many on addresses are verified.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Of one listener, all workers together.
#[derive(Debug)]
pub(crate) struct Handshakes {
    open: AtomicU32,
    most: u32,
    verify_from: u32,
}

/// What is to be done with who comes anew.
#[derive(Debug)]
pub(super) enum Entry {
    /// The handshake may begin; it is under way until this is dropped.
    Begin(Handshake),
    /// It has to show first that its address is its own.
    Verify,
    /// There are too many.
    Refuse,
}

/// A handshake under way.
#[derive(Debug)]
pub(super) struct Handshake(Arc<Handshakes>);

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handshakes {
    pub(super) fn new(most: u32, verify_from: u32) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicU32::new(0),
            most,
            verify_from,
        })
    }

    /// Somebody comes anew, whose address is verified or not.
    pub(super) fn enter(self: &Arc<Self>, verified: bool) -> Entry {
        if !verified && self.open.load(Ordering::Relaxed) >= self.verify_from {
            return Entry::Verify;
        }
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let handshake = Handshake(Arc::clone(self));
        match before < self.most {
            true => Entry::Begin(handshake),
            false => Entry::Refuse,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_are_verified_and_then_bounded() {
        let handshakes = Handshakes::new(3, 2);
        let mut open = Vec::new();
        let mut enter = |verified| match handshakes.enter(verified) {
            Entry::Begin(handshake) => {
                open.push(handshake);
                "begin"
            }
            Entry::Verify => "verify",
            Entry::Refuse => "refuse",
        };
        assert_eq!(
            [enter(false), enter(true), enter(false)],
            ["begin", "begin", "verify"]
        );
        assert_eq!(
            [enter(true), enter(true), enter(false)],
            ["begin", "refuse", "verify"]
        );
        open.clear();
        assert!(matches!(handshakes.enter(false), Entry::Begin(_)));
    }

    #[test]
    fn addresses_may_be_verified_always() {
        let handshakes = Handshakes::new(3, 0);
        assert!(matches!(handshakes.enter(false), Entry::Verify));
        assert!(matches!(handshakes.enter(true), Entry::Begin(_)));
    }
}
