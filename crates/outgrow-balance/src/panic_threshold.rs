//! The panic threshold: when too few endpoints are healthy, all are used.
//!
//! The reason: what makes most endpoints fail at once is more often the check (a database that it
//! asks blinks) than the endpoints, and the few healthy ones could not carry the load of all.

/// Whether all endpoints are to be used because fewer than `threshold_percent` of `known` are
/// `healthy`. A threshold of 0 is never.
pub fn panics(healthy: usize, known: usize, threshold_percent: u8) -> bool {
    healthy * 100 < known * usize::from(threshold_percent.min(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_than_the_share_panics() {
        let check = |healthy, known, threshold, expected| {
            assert_eq!(
                panics(healthy, known, threshold),
                expected,
                "{healthy} of {known}"
            );
        };
        check(0, 0, 50, false);
        check(0, 1, 50, true);
        check(1, 2, 50, false);
        check(1, 3, 50, true);
        check(2, 3, 50, false);
        check(0, 3, 0, false);
        check(99, 100, 100, true);
        check(100, 100, 255, false);
    }
}
