//! The time of a poll: a client's task reads the clock once whenever it is woken, however many of the
//! things that happen then want to know when.
//!
//! Between two polls everybody else on the worker reads the clock itself.

use std::future::poll_fn;
use std::pin::Pin;
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

    /// Polls `future`, the time standing still in each poll. It is not taken by value: a future that is an
    /// argument of an asynchronous function is kept twice, once as what was given and once as what is
    /// polled, and a client's is the largest part of what an idle client costs.
    pub(crate) async fn hold<F: Future>(&self, clock: Clock, mut future: Pin<&mut F>) -> F::Output {
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
    use std::pin::pin;
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
        moment.hold(clock, pin!(held)).await;
        let first = moment.now(clock);
        std::thread::sleep(pause);
        assert!(moment.now(clock).since(first) >= pause);
    }

    #[test]
    fn a_panic_lets_go_of_it() {
        let (clock, moment) = (Clock::start(), Moment::default());
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let bug = pin!(async { panic!("as a bug would") });
            let mut held = Box::pin(moment.hold(clock, bug));
            let waker = std::task::Waker::noop();
            let _ = held
                .as_mut()
                .poll(&mut std::task::Context::from_waker(waker));
        }));
        assert!(polled.is_err());
        assert_eq!(moment.0.load(Ordering::Relaxed), 0);
    }
}
