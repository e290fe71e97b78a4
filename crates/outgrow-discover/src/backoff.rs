//! How long a source that failed is left alone: longer each time, and never all at the same moment.

use std::time::Duration;

use outgrow_core::Random;

/// After the first failure.
const FIRST: Duration = Duration::from_millis(500);
/// The longest.
const LONGEST: Duration = Duration::from_secs(30);

/// Failures in a row, and what follows from them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Takes note of a failure; how long to wait: half a second at first, twice as long each time,
    /// at most 30 s, and of that a random part between the half and the whole.
    pub fn failed(&mut self, random: &mut Random) -> Duration {
        let whole = FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        whole.mul_f64(0.5 + random.unit() / 2.0)
    }

    /// Takes note of a success.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_its_end_and_starts_anew() {
        let mut random = Random::from_seed(3);
        let mut backoff = Backoff::default();
        for failure in 0..50 {
            let whole = (0.5 * 2_f64.powi(failure)).min(30.0);
            let waited = backoff.failed(&mut random).as_secs_f64();
            assert!(
                waited >= whole / 2.0 && waited <= whole,
                "{failure}: {waited}"
            );
        }
        backoff.succeeded();
        assert!(backoff.failed(&mut random) <= FIRST);
    }
}
