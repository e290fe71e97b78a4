//! Slow start: an endpoint that came up gets its load in steps, so that caches fill and code is
//! compiled before the full load arrives.

use std::time::Duration;

/// The share that an endpoint has from the first moment on: with less it might not get a single
/// request for long. Default of Envoy.
pub const LEAST_SHARE: f64 = 0.1;

/// How the share grows: Envoy's max(least share, (time / window)^(1 / aggression)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Curve {
    /// The time until the full share; zero is no slow start.
    pub window: Duration,
    /// 1 is linear, the default; above, more comes early; below, more comes late. What is not a
    /// positive number counts as 1.
    pub aggression: f64,
    /// The share at the start, above 0 and at most 1; default [`LEAST_SHARE`]. Less than 0.001
    /// counts as that: a share of nothing would never end in a pick.
    pub least_share: f64,
}

impl Curve {
    /// The linear one.
    pub fn linear(window: Duration) -> Self {
        Self {
            window,
            aggression: 1.0,
            least_share: LEAST_SHARE,
        }
    }

    /// The share of its weight that an endpoint gets `up_for` after it came up.
    #[inline]
    pub fn share(&self, up_for: Duration) -> f64 {
        if up_for >= self.window {
            return 1.0;
        }
        let time = up_for.as_secs_f64() / self.window.as_secs_f64();
        let is_linear = !(self.aggression > 0.0 && (self.aggression - 1.0).abs() > 1e-9);
        let share = if is_linear {
            time
        } else {
            time.powf(1.0 / self.aggression)
        };
        share.max(self.least_share).clamp(0.001, 1.0)
    }
}

/// The share by the [linear](Curve::linear) curve.
#[inline]
pub fn share(window: Duration, up_for: Duration) -> f64 {
    Curve::linear(window).share(up_for)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_from_a_tenth_to_all() {
        let check = |window: u64, up_for: u64, expected: f64| {
            let got = share(Duration::from_millis(window), Duration::from_millis(up_for));
            assert!(
                (got - expected).abs() < 1e-12,
                "{up_for} of {window}: {got}"
            );
        };
        check(0, 0, 1.0);
        check(10_000, 0, 0.1);
        check(10_000, 999, 0.1);
        check(10_000, 1_000, 0.1);
        check(10_000, 2_500, 0.25);
        check(10_000, 9_999, 0.9999);
        check(10_000, 10_000, 1.0);
        check(10_000, 1_000_000, 1.0);
    }

    #[test]
    fn aggression_bends_the_curve() {
        let check = |aggression: f64, least_share: f64, time: f64, expected: f64| {
            let curve = Curve {
                window: Duration::from_secs(100),
                aggression,
                least_share,
            };
            let got = curve.share(Duration::from_secs_f64(100.0 * time));
            assert!((got - expected).abs() < 1e-9, "{curve:?} at {time}: {got}");
        };
        check(2.0, 0.1, 0.25, 0.5);
        check(2.0, 0.1, 0.001, 0.1);
        check(0.5, 0.1, 0.5, 0.25);
        check(0.5, 0.3, 0.5, 0.3);
        check(0.5, 0.0, 0.0, 0.001);
        check(1.0, 2.0, 0.0, 1.0);
        for odd in [0.0, -1.0, f64::NAN] {
            check(odd, 0.1, 0.5, 0.5);
        }
        check(f64::INFINITY, 0.1, 0.5, 1.0);
        check(1.0, f64::NAN, 0.5, 0.5);
    }

    /// It never falls, whatever the curve.
    #[test]
    fn the_share_never_falls() {
        for aggression in [0.1, 0.5, 1.0, 3.0] {
            let curve = Curve {
                aggression,
                ..Curve::linear(Duration::from_secs(10))
            };
            let shares: Vec<f64> = (0..=1_000)
                .map(|step| curve.share(Duration::from_millis(step * 11)))
                .collect();
            assert!(shares.is_sorted(), "{aggression}");
        }
    }
}
