//! The time by which a lease is judged.
//!
//! It must go on while the machine sleeps and while the process is stopped: the registry's does.
//! Linux' `CLOCK_MONOTONIC` stands still while the machine is suspended, and with it `Instant` and
//! tokio's timers; `CLOCK_BOOTTIME` does not. It is also the same for all processes since the
//! machine was started, so that one data process can tell the next one until when it held. What no
//! clock of the guest shows is a virtual machine that was paused from outside.
//!
//! Reading the clock is passed in: only the binary does it.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// A moment since the machine was started, the time that it slept included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootTime(pub u64);

/// Reads the clock.
pub type BootClock = fn() -> BootTime;

impl BootTime {
    /// The time from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl fmt::Debug for BootTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", Duration::from_nanos(self.0))
    }
}
