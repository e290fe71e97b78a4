//! A log-linear histogram of durations: exact below 128 microseconds, within
//! 1.6 % above, up to about 19 hours. Not here: who records what.

use std::time::Duration;

/// Steps in which each doubling is divided.
const STEPS: u64 = 64;

/// Longest duration told apart, in microseconds; longer ones count as this.
const LONGEST_MICROSECONDS: u64 = (1 << 36) - 1;

/// The longest's index, and one more: the first 128 values, then 29 doublings.
const BUCKETS: usize = 31 * STEPS as usize;

/// Counts durations.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// Empty until the first is recorded.
    buckets: Vec<u64>,
    count: u64,
    max: Duration,
}

fn index(microseconds: u64) -> usize {
    let value = microseconds.min(LONGEST_MICROSECONDS);
    let shift = u64::from(63_u32.saturating_sub(6 + value.max(1).leading_zeros()));
    (STEPS * shift + (value >> shift)) as usize
}

/// The largest duration that counts in this bucket.
fn upper_bound(index: usize) -> u64 {
    let index = index as u64;
    let shift = (index / STEPS).saturating_sub(1);
    let step = index - STEPS * shift;
    ((step + 1) << shift) - 1
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        if self.buckets.is_empty() {
            self.buckets.resize(BUCKETS, 0);
        }
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get_mut(index(microseconds)) {
            *bucket += 1;
        }
        self.count += 1;
        self.max = self.max.max(duration);
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        if self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
        } else {
            for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
                *mine += theirs;
            }
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest, exactly; zero when nothing was counted.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The duration that `share` (0 to 1) of all were not longer than; 0.99 is
    /// the p99. Zero when nothing was counted.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_micros(upper_bound(index)).min(self.max);
            }
        }
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_holds_what_it_says() {
        let mut last = None;
        for value in (0..4000).chain((12..36).flat_map(|bits| [(1 << bits) - 1, 1 << bits])) {
            let place = index(value);
            let upper = upper_bound(place);
            assert!(value <= upper, "{value} in {place} up to {upper}");
            assert!(upper - value <= value / 64, "{value} up to {upper}");
            assert!(last <= Some(place));
            last = Some(place);
        }
        assert_eq!(index(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        for microseconds in 1..=10_000 {
            histogram.record(Duration::from_micros(microseconds));
        }
        for (share, expected) in [
            (0.5, 5000_f64),
            (0.9, 9000.0),
            (0.99, 9900.0),
            (1.0, 10_000.0),
        ] {
            let found = histogram.quantile(share).as_micros() as f64;
            assert!((found / expected - 1.0).abs() < 0.016, "{share}: {found}");
        }
        let mut twice = histogram.clone();
        twice.merge(&histogram);
        assert_eq!(twice.count(), 20_000);
        assert_eq!(twice.quantile(0.5), histogram.quantile(0.5));
    }
}
