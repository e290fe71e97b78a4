//! A sample of what an endpoint answers, taken while somebody compares versions and at no other
//! time: a request to an endpoint that is not sampled costs one relaxed load.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use outgrow_core::metrics::{Histogram, HistogramTotal};

/// The sample of one endpoint.
#[derive(Debug, Default)]
pub struct Sample {
    on: AtomicBool,
    requests: AtomicU64,
    errors: AtomicU64,
    times: Histogram,
}

/// A reading of a [`Sample`].
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// All requests.
    pub requests: u64,
    /// Those that failed, or were answered with 500 or above.
    pub errors: u64,
    /// How long the answers took.
    pub times: HistogramTotal,
}

impl Sample {
    /// Whether it is being taken.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Begins or ends it. What was counted stays; readings are compared.
    pub fn switch(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// Counts a request.
    pub fn add(&self, failed: bool, elapsed: Duration) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if failed {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.times.record_shared(micros);
    }

    /// What was counted so far.
    pub fn read(&self) -> Reading {
        let mut times = HistogramTotal::default();
        self.times.add_to(&mut times);
        Reading {
            requests: self.requests.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            times,
        }
    }
}

impl Reading {
    /// What was counted since an earlier reading of the same sample.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            times: self.times.since(&earlier.times),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_told_apart() {
        let sample = Sample::default();
        assert!(!sample.is_on());
        sample.add(true, Duration::from_millis(1));
        let first = sample.read();
        sample.add(false, Duration::from_millis(2));
        sample.add(true, Duration::MAX);
        let since = sample.read().since(&first);
        assert_eq!(
            (since.requests, since.errors, since.times.count()),
            (2, 1, 2)
        );
    }
}
