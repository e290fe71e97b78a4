//! Monotonic time as a number that survives a re-exec: `CLOCK_MONOTONIC` is
//! the machine's, not the process's, so a deadline written down by one keeper
//! still means the same to the next. Wall time is deliberately not here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in monotonic time, in milliseconds since the machine's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(u64);

impl Moment {
    /// The present moment.
    pub fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let milliseconds = u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000;
        Self(seconds.saturating_mul(1000).saturating_add(milliseconds))
    }

    /// A moment by its milliseconds; for pure code and its tests.
    pub const fn from_milliseconds(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// The moment `duration` after this one.
    pub fn after(self, duration: Duration) -> Self {
        let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(milliseconds))
    }

    /// How long ago `earlier` was; zero if it is still to come.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}
