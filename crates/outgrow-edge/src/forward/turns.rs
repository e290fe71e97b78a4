//! How long one exchange keeps its worker: so many pieces of a body, then others get their turn.

use std::pin::pin;
use std::task::{Context, Poll, ready};

use tokio::task::yield_now;

/// Pieces that are moved in a turn. A piece may be a single byte: a chunk of one costs its sender six,
/// so that a megabyte of them takes several milliseconds.
const PIECES: u32 = 1_024;

/// What one poll has moved of a body.
#[derive(Debug, Default)]
pub(super) struct Turn(u32);

impl Turn {
    /// Ready when another piece may be moved; else others come first, and then this again.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 == PIECES {
            self.0 = 0;
            ready!(pin!(yield_now()).poll(cx));
        }
        self.0 += 1;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_turn_ends_and_the_next_one_is_asked_for() {
        let woken = Arc::new(Woken::default());
        let waker = Arc::clone(&woken).into();
        let mut cx = Context::from_waker(&waker);
        let mut turn = Turn::default();
        for _ in 0..3 {
            for piece in 0..PIECES {
                assert!(turn.poll_next(&mut cx).is_ready(), "{piece}");
            }
            assert!(!woken.0.swap(false, Ordering::Relaxed));
            assert!(turn.poll_next(&mut cx).is_pending());
            assert!(woken.0.swap(false, Ordering::Relaxed));
        }
    }
}
