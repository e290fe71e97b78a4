//! What turns a worker's wheel, and what is looked at from time to time: a timer of the kernel's that
//! fires by itself, again and again.
//!
//! With a sleep of the runtime's instead, every wait for sockets would have a time limit, and the
//! kernel would set up a timer and take it down again each time that the worker has nothing to do:
//! tens of thousands of times a second under load, for thirty ticks. The runtime's wheel also wakes a
//! thread about twice for each sleep of more than 64 ms.
//!
//! All tickers of one period fire at the same moment, at multiples of it on the kernel's monotonic
//! clock, so those of one thread cost one wake.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// The shortest period.
const SHORTEST: Duration = Duration::from_millis(1);

/// Ticks, about a period apart; the first comes within one.
#[derive(Debug)]
pub struct Ticker {
    /// None when the kernel has none left for this process, or it has failed.
    timer: Option<AsyncFd<OwnedFd>>,
    /// The runtime's, for then.
    fallback: Interval,
}

impl Ticker {
    /// One that begins now, on this runtime. A period below a millisecond is one millisecond.
    pub fn new(period: Duration) -> Self {
        let period = period.max(SHORTEST);
        Self {
            timer: kernel(period).ok(),
            fallback: runtimes(period),
        }
    }

    /// Ticks from now on so far apart. A period below a millisecond is one millisecond.
    pub fn set_period(&mut self, period: Duration) {
        let period = period.max(SHORTEST);
        self.fallback = runtimes(period);
        if let Some(timer) = &self.timer
            && start(timer.get_ref(), period).is_err()
        {
            self.timer = None;
        }
    }

    /// The next tick; those that nobody waited for are one. May be given up at any time: no tick is
    /// lost by it.
    pub async fn tick(&mut self) {
        if let Some(timer) = &self.timer {
            if next(timer).await.is_ok() {
                return;
            }
            self.timer = None;
        }
        self.fallback.tick().await;
    }
}

/// Waits for the timer to have fired, and takes note of it with one read: it fires again, so that there is
/// no need to find out that nothing is left to be read.
async fn next(timer: &AsyncFd<OwnedFd>) -> io::Result<()> {
    loop {
        let mut guard = timer.readable().await?;
        let mut ticks = [0; 8];
        let read = rustix::io::read(timer, &mut ticks);
        guard.clear_ready();
        match read {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn kernel(period: Duration) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    start(&timer, period)?;
    #[expect(
        deprecated,
        reason = "unsound only for types that do not own what they register; an OwnedFd does"
    )]
    AsyncFd::with_interest(timer, Interest::READABLE)
}

fn start(timer: &OwnedFd, period: Duration) -> io::Result<()> {
    let now = clock_gettime(ClockId::Monotonic);
    let every = Itimerspec {
        it_interval: timespec(period),
        it_value: timespec(first(now, period)),
    };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &every)?;
    Ok(())
}

fn runtimes(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

/// The next multiple of `period` after `now`.
fn first(now: Timespec, period: Duration) -> Duration {
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    let now = Duration::new(seconds, nanos);
    let since = now.as_nanos() % period.as_nanos();
    let left = u64::try_from(period.as_nanos() - since).unwrap_or(u64::MAX);
    now.saturating_add(Duration::from_nanos(left))
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn it_ticks_on() {
        for make in [|| Ticker::new(PERIOD), without_timer] {
            let mut ticker = make();
            let began = Instant::now();
            for _ in 0..3 {
                ticker.tick().await;
            }
            // The first may come at once.
            assert!(began.elapsed() >= PERIOD * 3 / 2, "{ticker:?}");
        }
    }

    fn without_timer() -> Ticker {
        Ticker {
            timer: None,
            ..Ticker::new(PERIOD)
        }
    }

    #[tokio::test]
    async fn its_period_changes() {
        for make in [
            || Ticker::new(PERIOD * 500),
            || {
                let mut ticker = without_timer();
                ticker.set_period(PERIOD * 500);
                ticker
            },
        ] {
            let mut ticker = make();
            assert!(tokio::time::timeout(PERIOD, ticker.tick()).await.is_err());
            ticker.set_period(PERIOD);
            let limit = Duration::from_secs(5);
            tokio::time::timeout(limit, ticker.tick()).await.unwrap();
        }
    }

    /// A loop that looks at several things gives the wait for each up again and again.
    #[tokio::test]
    async fn it_ticks_though_waits_for_it_are_given_up() {
        for make in [|| Ticker::new(PERIOD), without_timer] {
            let mut ticker = make();
            let short = PERIOD / 4;
            let waits =
                async { while tokio::time::timeout(short, ticker.tick()).await.is_err() {} };
            let limit = Duration::from_secs(10);
            tokio::time::timeout(limit, waits).await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_kernel_has_one() {
        assert!(Ticker::new(PERIOD).timer.is_some());
    }

    #[test]
    fn those_of_one_period_fire_together() {
        let at = |millis: i64| Timespec {
            tv_sec: millis / 1000,
            tv_nsec: millis % 1000 * 1_000_000,
        };
        let period = Duration::from_millis(100);
        for (now, expected) in [(0, 100), (99, 100), (100, 200), (7_123, 7_200)] {
            assert_eq!(first(at(now), period), Duration::from_millis(expected));
        }
    }
}
