//! Users who are kept on one endpoint: when they leave one that drains, when one is too full for
//! them, and how uneven they make the load. The cookie and its signature are the edge's business.

use std::time::Duration;

use crate::algorithm::Bound;

/// Whether a user leaves an endpoint that has been draining for `drained_for`, when all are to
/// have left it after `window`.
///
/// The nonce is a uniform number that the user's cookie holds. The users leave evenly over the
/// window, each at a moment of its own, so that sessions are set up anew one after the other; who
/// has left stays away, on every edge alike. A window of zero is all at once.
#[inline]
pub fn leaves(nonce: u16, drained_for: Duration, window: Duration) -> bool {
    u128::from(nonce) * window.as_nanos() < drained_for.as_nanos() * (1 << 16)
        || drained_for >= window
}

/// Whether a user is to be sent elsewhere for this request because its endpoint has more than its
/// due: the rule of [`Bound::admits`]. A user who must not lose the session has no bound.
#[inline]
pub fn is_overloaded(
    bound: Option<Bound>,
    active: u64,
    total_active: u64,
    weight: u32,
    total_weight: u64,
) -> bool {
    bound.is_some_and(|bound| !bound.admits(active, total_active, weight, total_weight))
}

/// How uneven the load is: the largest multiple of its due by weight that an endpoint has; 1 is
/// even. Pairs of requests in flight and weight, of each endpoint.
///
/// The maximum over the mean and not the coefficient of variation: it is in the unit of a
/// [`Bound`] (1.25 is what 125 % allows), it says how much capacity is lost to unevenness (at 2 the
/// service is full at half), and one overloaded endpoint among a thousand shows. A due below one
/// request counts as one, else a nearly idle service would look uneven; so the number means little
/// with few requests per endpoint.
pub fn unevenness(endpoints: impl Iterator<Item = (u64, u32)> + Clone) -> f64 {
    let sums = |(active, weights): (u64, u64), (one, weight): (u64, u32)| {
        (
            active.saturating_add(one),
            weights.saturating_add(u64::from(weight.max(1))),
        )
    };
    let (active, weights) = endpoints.clone().fold((0, 0), sums);
    let due_of_one = active as f64 / weights.max(1) as f64;
    endpoints
        .map(|(active, weight)| active as f64 / (due_of_one * f64::from(weight.max(1))).max(1.0))
        .fold(1.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of all nonces the part that has left is that of the window, and none comes back.
    #[test]
    fn users_leave_evenly_and_once() {
        for window in [1, 7, 60_000, 86_400_000] {
            let window = Duration::from_millis(window);
            let mut before = vec![false; 1 << 16];
            for step in 0..=16_u32 {
                let time = window * step / 16;
                let gone: Vec<bool> = (0..=u16::MAX)
                    .map(|nonce| leaves(nonce, time, window))
                    .collect();
                let part = gone.iter().filter(|&&left| left).count() as f64 / 65_536.0;
                assert!(
                    (part - f64::from(step) / 16.0).abs() < 1e-4,
                    "{window:?} {step}: {part}"
                );
                assert!(before.iter().zip(&gone).all(|(before, now)| before <= now));
                before = gone;
            }
        }
        assert!(!leaves(0, Duration::ZERO, Duration::from_secs(1)));
        assert!(leaves(u16::MAX, Duration::ZERO, Duration::ZERO));
        assert!(leaves(u16::MAX, Duration::MAX, Duration::MAX));
        assert!(!leaves(u16::MAX, Duration::from_secs(1), Duration::MAX));
    }

    #[test]
    fn an_overloaded_endpoint_is_left_for_a_request() {
        let bound = Some(Bound::new(125));
        // 40 in flight on 4 equal ones: ceil(1.25 * 41 / 4) = 13 may be had.
        assert!(!is_overloaded(bound, 12, 40, 1, 4));
        assert!(is_overloaded(bound, 13, 40, 1, 4));
        assert!(!is_overloaded(None, 13, 40, 1, 4));
    }

    #[test]
    fn unevenness_is_the_largest_multiple() {
        let check = |endpoints: &[(u64, u32)], expected: f64| {
            let got = unevenness(endpoints.iter().copied());
            assert!((got - expected).abs() < 1e-9, "{endpoints:?}: {got}");
        };
        check(&[], 1.0);
        check(&[(0, 1), (0, 1)], 1.0);
        check(&[(10, 1), (10, 1)], 1.0);
        check(&[(15, 1), (5, 1)], 1.5);
        check(&[(10, 1), (30, 3)], 1.0);
        check(&[(30, 1), (10, 3)], 3.0);
        check(&[(1, 1), (0, 1), (0, 1), (0, 0)], 1.0);
        check(&[(40, 1), (0, 1), (0, 1), (0, 1)], 4.0);
        check(&[(u64::MAX, u32::MAX), (u64::MAX, 1)], 4_294_967_296.0);
    }
}
