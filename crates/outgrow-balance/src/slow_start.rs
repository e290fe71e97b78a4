//! Slow start: an endpoint that came up gets its load in steps, so that caches fill and code is
//! compiled before the full load arrives.

use std::time::Duration;

/// The share that an endpoint has from the first moment on: with less it might not get a single
/// request for long.
pub const LEAST_SHARE: f64 = 0.1;

/// The share of its weight that an endpoint gets `up_for` after it came up: linear from
/// [`LEAST_SHARE`] to 1 at the end of `window`. A window of zero is no slow start.
#[inline]
pub fn share(window: Duration, up_for: Duration) -> f64 {
    if up_for >= window {
        return 1.0;
    }
    (up_for.as_secs_f64() / window.as_secs_f64()).max(LEAST_SHARE)
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
}
