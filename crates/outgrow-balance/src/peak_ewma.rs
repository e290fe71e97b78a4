//! Peak EWMA: an average of response times that jumps up at once and comes down slowly.
//!
//! As in Finagle and linkerd (`tower::load::PeakEwma`): a sample above the average replaces it, one
//! below moves it by how long ago the last one was. Between samples it decays, so an endpoint that
//! was slow is tried again after about [`DECAY`] x ln(its latency / that of the others), and then
//! at most once per such time, because one slow answer puts it back.

use std::time::Duration;

use outgrow_core::Ticks;

/// The time in which an average loses 63 % of itself, or of its distance to newer samples.
/// Default of linkerd.
pub const DECAY: Duration = Duration::from_secs(10);

/// What an endpoint has that was never measured. Default of linkerd.
pub const DEFAULT_LATENCY: Duration = Duration::from_millis(30);

/// What a failed request counts as, if it did not take longer. A refused connection takes no time
/// at all and would make a dead endpoint the fastest.
pub const FAILURE_PENALTY: Duration = Duration::from_secs(1);

/// Nanoseconds per unit of `at`, as a power of two: 131 us; 32 bits of it are 6.5 days.
const UNIT_BITS: u32 = 17;

/// The average of one endpoint: 8 bytes, so that it fits an atomic cell (see
/// [`to_bits`](Self::to_bits)); when two threads update it at once, one sample may be lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeakEwma {
    seconds: f32,
    /// When it was right, in units of 2^17 ns, modulo 2^32.
    at: u32,
}

impl PeakEwma {
    /// That of an endpoint which was never measured: [`DEFAULT_LATENCY`], decaying from now on.
    pub fn new(now: Ticks) -> Self {
        Self {
            seconds: DEFAULT_LATENCY.as_secs_f32(),
            at: unit(now),
        }
    }

    /// Takes note of a response time. Samples within the same 131 us count only if they are peaks.
    #[inline]
    pub fn observe(&mut self, sample: Duration, now: Ticks) {
        let sample = sample.as_secs_f64();
        let kept = self.kept(now);
        let average = f64::from(self.seconds);
        let average = if sample > average {
            sample
        } else {
            average * kept + sample * (1.0 - kept)
        };
        self.seconds = average as f32;
        self.at = unit(now);
    }

    /// Takes note of a failed request that took `elapsed`: at least [`FAILURE_PENALTY`].
    #[inline]
    pub fn observe_failure(&mut self, elapsed: Duration, now: Ticks) {
        self.observe(elapsed.max(FAILURE_PENALTY), now);
    }

    /// The average in seconds, decayed to now.
    #[inline]
    pub fn read(self, now: Ticks) -> f64 {
        f64::from(self.seconds) * self.kept(now)
    }

    /// For an atomic cell.
    #[inline]
    pub fn to_bits(self) -> u64 {
        u64::from(self.seconds.to_bits()) << 32 | u64::from(self.at)
    }

    /// What [`to_bits`](Self::to_bits) gave.
    #[inline]
    pub fn from_bits(bits: u64) -> Self {
        Self {
            seconds: f32::from_bits((bits >> 32) as u32),
            at: bits as u32,
        }
    }

    /// The part that is left of the average now.
    #[inline]
    fn kept(self, now: Ticks) -> f64 {
        let units = unit(now).wrapping_sub(self.at);
        // A clock of another thread may be a little behind: no time passed then.
        let units = if units > u32::MAX - 1_000_000 {
            0
        } else {
            units
        };
        let seconds = f64::from(units) * (f64::from(1_u32 << UNIT_BITS) / 1e9);
        exp_of_minus(seconds / DECAY.as_secs_f64())
    }
}

#[inline]
fn unit(now: Ticks) -> u32 {
    (now.0 >> UNIT_BITS) as u32
}

/// e^-x for x >= 0 in basic arithmetic, so that simulations are the same on every machine:
/// (1 / taylor(x / 8))^8, within 1e-5 for x <= 1 and within 5 % of its value for x <= 8.
#[inline]
fn exp_of_minus(x: f64) -> f64 {
    let y = x * 0.125;
    let taylor = 1.0 + y * (1.0 + y * (0.5 + y * (1.0 / 6.0 + y * (1.0 / 24.0))));
    let squared = taylor * taylor;
    let fourth = squared * squared;
    1.0 / (fourth * fourth)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Ticks {
        Ticks::ZERO + Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_exponential_is_near() {
        for step in 0..800 {
            let x = f64::from(step) / 100.0;
            let error = exp_of_minus(x) / (-x).exp() - 1.0;
            assert!(
                error.abs() < if x <= 1.0 { 1e-5 } else { 0.05 },
                "{x}: {error}"
            );
        }
        assert!(exp_of_minus(1e9) < 1e-9);
    }

    /// Against the recurrence in f64 with the true exponential.
    #[test]
    fn the_average_is_that_of_the_model() {
        for seed in 0..50 {
            let mut random = outgrow_core::Random::from_seed(seed);
            let mut now = at(5_000);
            let mut ewma = PeakEwma::new(now);
            let mut model = 0.030;
            for _ in 0..2_000 {
                let step = Duration::from_micros(200 + random.below(400_000) as u64);
                now = now + step;
                let sample = random.unit() * 0.2;
                let kept = (-step.as_secs_f64() / 10.0).exp();
                model = f64::max(sample, model * kept + sample * (1.0 - kept));
                ewma = PeakEwma::from_bits(ewma.to_bits());
                ewma.observe(Duration::from_secs_f64(sample), now);
                let got = ewma.read(now);
                assert!(
                    (got / model - 1.0).abs() < 0.01,
                    "seed {seed}: {got} {model}"
                );
            }
        }
    }

    #[test]
    fn peaks_are_taken_at_once_and_decay() {
        let mut ewma = PeakEwma::new(at(0));
        ewma.observe(Duration::from_secs(2), at(100));
        assert!((ewma.read(at(100)) - 2.0).abs() < 1e-3);
        assert!((ewma.read(at(10_100)) - 2.0 / std::f64::consts::E).abs() < 1e-3);
        // Many fast samples within one unit of time neither freeze it nor pull it down at once.
        for step in 0..100_000 {
            let now = Ticks(100_000_000 + step * 1_000);
            ewma.observe(Duration::from_millis(1), now);
        }
        let kept = ewma.read(at(200));
        assert!((kept - 1.98).abs() < 0.005, "{kept}");
        ewma.observe_failure(Duration::ZERO, at(60_000));
        assert!((ewma.read(at(60_000)) - 1.0).abs() < 5e-3);
        assert!(
            (ewma.read(at(59_999)) - 1.0).abs() < 5e-3,
            "a clock that is behind"
        );
    }
}
