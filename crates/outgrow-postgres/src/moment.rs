//! The time of a poll: a client's task reads the clock once whenever it is woken, however many of the
//! things that happen then want to know when.
//!
//! Between two polls everybody else on the worker reads the clock itself.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};

use outgrow_core::{Clock, Ticks};

/// Of one worker; used on its thread.
#[derive(Debug, Default)]
pub(crate) struct Moment(
    /// The time of the poll that is under way; 0 when there is none.
    AtomicU64,
);

/// Ends the moment however the poll ends.
struct Held<'a>(&'a Moment);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.0.store(0, Ordering::Relaxed);
    }
}

impl Moment {
    /// The time of the poll that is under way, else the clock's.
    #[inline]
    pub(crate) fn now(&self, clock: Clock) -> Ticks {
        match self.0.load(Ordering::Relaxed) {
            0 => clock.now(),
            held => Ticks(held),
        }
    }

    /// Polls `future`, the time standing still in each poll.
    pub(crate) async fn hold<T>(&self, clock: Clock, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.0.store(clock.now().0, Ordering::Relaxed);
            let _held = Held(self);
            future.as_mut().poll(cx)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn time_stands_still_within_a_poll_only() {
        let (clock, moment) = (Clock::start(), Moment::default());
        let pause = Duration::from_millis(2);
        let held = async {
            let first = moment.now(clock);
            std::thread::sleep(pause);
            assert_eq!(moment.now(clock), first);
            tokio::time::sleep(pause).await;
            assert!(moment.now(clock).since(first) >= 2 * pause);
        };
        moment.hold(clock, held).await;
        let first = moment.now(clock);
        std::thread::sleep(pause);
        assert!(moment.now(clock).since(first) >= pause);
    }

    #[test]
    fn a_panic_lets_go_of_it() {
        let (clock, moment) = (Clock::start(), Moment::default());
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut held = Box::pin(moment.hold(clock, async { panic!("as a bug would") }));
            let waker = std::task::Waker::noop();
            let _ = held
                .as_mut()
                .poll(&mut std::task::Context::from_waker(waker));
        }));
        assert!(polled.is_err());
        assert_eq!(moment.0.load(Ordering::Relaxed), 0);
    }
}
