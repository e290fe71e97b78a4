//! Endpoints that are worse than the others over an interval: by success rate, by failure
//! percentage, by response time. Plain counts in, indexes to eject out, the worst first, so that a
//! limit on ejections takes the worst. Whether they may be ejected is [`Rules`](super::Rules)'s.
//!
//! Each rule needs enough endpoints and requests: of ten requests, three failures say nothing.

use std::time::Duration;

/// What one endpoint did in an interval (10 s is usual).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Requests that ended.
    pub requests: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// The median response time, or the mean where no median is kept: of all endpoints the same.
    pub latency: Duration,
}

impl Interval {
    fn success_rate(&self) -> f64 {
        1.0 - self.failures.min(self.requests) as f64 / self.requests.max(1) as f64
    }
}

/// Endpoints whose success rate is below mean - k standard deviations (Envoy, success rate).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuccessRate {
    /// Endpoints with enough requests that the rule needs; default 5.
    pub least_endpoints: usize,
    /// Requests that an endpoint needs in the interval to count; default 100.
    pub least_requests: u64,
    /// k, in thousandths; default 1900.
    pub deviations_thousandths: u32,
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self {
            least_endpoints: 5,
            least_requests: 100,
            deviations_thousandths: 1_900,
        }
    }
}

impl SuccessRate {
    /// The indexes to eject, the worst first. The deviation is that of the population, so one of
    /// five can be found, two equally bad ones of five cannot.
    pub fn outliers(&self, intervals: &[Interval]) -> Vec<usize> {
        let counted = counted(intervals, self.least_requests, self.least_endpoints);
        let rates: Vec<f64> = counted
            .iter()
            .map(|&index| intervals[index].success_rate())
            .collect();
        let count = rates.len().max(1) as f64;
        let mean = rates.iter().sum::<f64>() / count;
        let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count;
        let factor = f64::from(self.deviations_thousandths) / 1_000.0;
        // Less than a millionth below the others is rounding.
        let threshold = mean - factor * variance.sqrt() - 1e-6;
        worst_first(
            counted
                .into_iter()
                .zip(rates)
                .filter(|(_, rate)| *rate < threshold)
                .map(|(index, rate)| (index, -rate)),
        )
    }
}

/// Endpoints of whose requests this many percent fail, whatever the others do (Envoy, failure
/// percentage).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailurePercentage {
    /// Endpoints with enough requests that the rule needs; default 5.
    pub least_endpoints: usize,
    /// Requests that an endpoint needs in the interval to count; default 50.
    pub least_requests: u64,
    /// The percentage from which on it is ejected; default 85.
    pub percent: u8,
}

impl Default for FailurePercentage {
    fn default() -> Self {
        Self {
            least_endpoints: 5,
            least_requests: 50,
            percent: 85,
        }
    }
}

impl FailurePercentage {
    /// The indexes to eject, the worst first.
    pub fn outliers(&self, intervals: &[Interval]) -> Vec<usize> {
        let counted = counted(intervals, self.least_requests, self.least_endpoints);
        let reaches = |index: &usize| {
            let interval = intervals[*index];
            u128::from(interval.failures) * 100
                >= u128::from(interval.requests) * u128::from(self.percent)
        };
        worst_first(
            counted
                .into_iter()
                .filter(reaches)
                .map(|index| (index, -intervals[index].success_rate())),
        )
    }
}

/// Endpoints that are several times slower than the median of the others.
///
/// Our own rule: Envoy has none for response times. The median and not the mean, as in Hampel's
/// identifier, because it withstands half of the endpoints being slow; a multiple of it and not of
/// the median deviation, because endpoints that are all alike have a deviation of nearly nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowResponses {
    /// Endpoints with enough requests that the rule needs; default 3.
    pub least_endpoints: usize,
    /// Requests that an endpoint needs in the interval to count; default 50.
    pub least_requests: u64,
    /// How many times the median of the others, in percent; default 300.
    pub percent: u32,
    /// How much longer at least: 0.3 ms instead of 0.1 ms is no reason. Default 50 ms.
    pub least_excess: Duration,
}

impl Default for SlowResponses {
    fn default() -> Self {
        Self {
            least_endpoints: 3,
            least_requests: 50,
            percent: 300,
            least_excess: Duration::from_millis(50),
        }
    }
}

impl SlowResponses {
    /// The indexes to eject, the worst first.
    pub fn outliers(&self, intervals: &[Interval]) -> Vec<usize> {
        let counted = counted(intervals, self.least_requests, self.least_endpoints);
        let mut sorted: Vec<Duration> = counted.iter().map(|&one| intervals[one].latency).collect();
        sorted.sort_unstable();
        let factor = f64::from(self.percent) / 100.0;
        let is_slow = |index: &usize| {
            let latency = intervals[*index].latency;
            let median = median_without(&sorted, latency);
            latency >= median.saturating_add(self.least_excess)
                && latency.as_secs_f64() > median.as_secs_f64() * factor
        };
        worst_first(
            counted
                .into_iter()
                .filter(is_slow)
                .map(|index| (index, intervals[index].latency.as_secs_f64())),
        )
    }
}

/// The indexes with enough requests; none when they are too few.
fn counted(intervals: &[Interval], least_requests: u64, least_endpoints: usize) -> Vec<usize> {
    let counted: Vec<usize> = (0..intervals.len())
        .filter(|&index| intervals[index].requests >= least_requests.max(1))
        .collect();
    if counted.len() < least_endpoints.max(2) {
        return Vec::new();
    }
    counted
}

/// The lower median of a sorted list without one of its values.
fn median_without(sorted: &[Duration], value: Duration) -> Duration {
    let place = sorted.partition_point(|&other| other < value);
    let median = sorted.len().saturating_sub(2) / 2;
    let shifted = median + usize::from(median >= place);
    sorted.get(shifted).copied().unwrap_or(value)
}

fn worst_first(badness: impl Iterator<Item = (usize, f64)>) -> Vec<usize> {
    let mut sorted: Vec<(usize, f64)> = badness.collect();
    sorted.sort_by(|one, other| other.1.total_cmp(&one.1));
    sorted.into_iter().map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests;
