//! Latencies in buckets of 1/16 of a power of two: exact enough for a percentile, fixed in size.
//!
//! Deliberately not here: correction for coordinated omission; the generator is a closed loop and its
//! percentiles are information beside the CPU time, not the result.

use std::time::Duration;

const SUB_BITS: u32 = 4;
const SUBS: usize = 1 << SUB_BITS;

/// A histogram of durations in microseconds.
pub(crate) struct Latency {
    buckets: Vec<u64>,
    count: u64,
}

impl Latency {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self {
            buckets: vec![0; 64 * SUBS],
            count: 0,
        }
    }

    /// Counts one duration.
    pub(crate) fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)] += 1;
        self.count += 1;
    }

    /// The upper bound, in microseconds, of the bucket in which the share `quantile` (0 to 1) lies.
    pub(crate) fn quantile_micros(&self, quantile: f64) -> u64 {
        let wanted = ((self.count as f64) * quantile).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper(index);
            }
        }
        0
    }
}

fn bucket(micros: u64) -> usize {
    if micros < SUBS as u64 {
        return micros as usize;
    }
    let exponent = micros.ilog2() - SUB_BITS;
    let sub = (micros >> exponent) as usize - SUBS;
    (exponent as usize + 1) * SUBS + sub
}

fn upper(index: usize) -> u64 {
    if index < SUBS {
        return index as u64;
    }
    let exponent = index / SUBS - 1;
    let base = (index % SUBS + SUBS) as u64;
    ((base + 1) << exponent) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_within_its_bucket() {
        for micros in (0..5_000).chain([65_535, 65_536, 1_000_000, u64::from(u32::MAX)]) {
            let bound = upper(bucket(micros));
            assert!(bound >= micros, "{micros} > {bound}");
            assert!(bound <= micros + micros / 16, "{micros}: {bound} is far");
        }
    }

    #[test]
    fn quantiles_are_counted_from_below() {
        let mut latency = Latency::new();
        for micros in 1..=10 {
            latency.record(Duration::from_micros(micros));
        }
        assert_eq!(latency.quantile_micros(0.5), 5);
        assert_eq!(latency.quantile_micros(0.99), 10);
    }
}
