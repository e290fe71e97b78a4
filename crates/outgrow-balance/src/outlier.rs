//! Outlier rules: an endpoint that fails several requests in a row is ejected for a while, longer
//! each time, but never so many of them that the rest must break down.
//!
//! Counting the failures is the caller's: on the way of a request it costs one load. Endpoints that
//! are worse than the others over an interval are found by [`statistics`].

pub mod statistics;

use std::time::Duration;

use outgrow_core::Ticks;

/// The knobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Failures in a row that eject; 0 switches ejection off.
    pub consecutive_failures: u32,
    /// Time of the first ejection; multiplied by the number of ejections in a row.
    pub eject: Duration,
    /// Longest time of an ejection.
    pub eject_max: Duration,
    /// Largest share of a service's endpoints that is ejected at a time, in percent. One endpoint
    /// may be ejected whatever the share, all never.
    pub max_ejected_percent: u8,
}

impl Rules {
    /// Whether this number of failures in a row asks for ejection.
    #[inline]
    pub fn reached(&self, consecutive_failures: u32) -> bool {
        self.consecutive_failures != 0 && consecutive_failures >= self.consecutive_failures
    }

    /// How many of `endpoints` may be ejected at a time.
    pub fn allowed(&self, endpoints: usize) -> usize {
        let share = endpoints * usize::from(self.max_ejected_percent.min(100)) / 100;
        share.max(1).min(endpoints.saturating_sub(1))
    }

    /// Whether one more may be ejected when `ejected` of `endpoints` are already, and `usable`
    /// could serve now: the last usable one stays.
    pub fn may_eject(&self, endpoints: usize, ejected: usize, usable: usize) -> bool {
        usable > 1 && ejected < self.allowed(endpoints)
    }
}

/// The ejections of one endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct History {
    in_a_row: u32,
    until: Option<Ticks>,
    returned: Ticks,
}

impl History {
    /// That of an endpoint that another process ejected.
    pub fn resumed(in_a_row: u32, until: Ticks) -> Self {
        Self {
            in_a_row,
            until: Some(until),
            returned: Ticks::ZERO,
        }
    }

    /// Ejects the endpoint; returns when it comes back. The number in a row was lowered by one for
    /// each [`Rules::eject`] that it was back without another.
    pub fn eject(&mut self, rules: &Rules, now: Ticks) -> Ticks {
        let healthy = now.since(self.returned).as_nanos();
        let decay = healthy
            .checked_div(rules.eject.as_nanos())
            .unwrap_or(u128::MAX);
        let decay = u32::try_from(decay).unwrap_or(u32::MAX);
        self.in_a_row = self.in_a_row.saturating_sub(decay).saturating_add(1);
        let time = rules
            .eject
            .saturating_mul(self.in_a_row)
            .min(rules.eject_max);
        let until = now + time;
        self.until = Some(until);
        until
    }

    /// When the endpoint comes back, while it is ejected.
    pub fn until(&self) -> Option<Ticks> {
        self.until
    }

    /// Whether it is ejected and its time is over.
    pub fn is_over(&self, now: Ticks) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Ends the ejection; false when there was none.
    pub fn end(&mut self, now: Ticks) -> bool {
        if self.until.take().is_none() {
            return false;
        }
        self.returned = now;
        true
    }

    /// Ejections in a row, the present one included.
    pub fn in_a_row(&self) -> u32 {
        self.in_a_row
    }
}

#[cfg(test)]
mod tests {
    use outgrow_core::Random;

    use super::*;

    const RULES: Rules = Rules {
        consecutive_failures: 5,
        eject: Duration::from_secs(10),
        eject_max: Duration::from_secs(45),
        max_ejected_percent: 50,
    };

    fn at(seconds: u64) -> Ticks {
        Ticks::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn failures_in_a_row_eject() {
        assert!(!RULES.reached(4) && RULES.reached(5) && RULES.reached(6));
        let off = Rules {
            consecutive_failures: 0,
            ..RULES
        };
        assert!(!off.reached(0) && !off.reached(u32::MAX));
    }

    #[test]
    fn some_are_always_left() {
        let check = |percent: u8, endpoints: usize, expected: usize| {
            let rules = Rules {
                max_ejected_percent: percent,
                ..RULES
            };
            assert_eq!(
                rules.allowed(endpoints),
                expected,
                "{percent} % of {endpoints}"
            );
        };
        check(50, 0, 0);
        check(50, 1, 0);
        check(50, 2, 1);
        check(50, 3, 1);
        check(50, 4, 2);
        check(0, 4, 1);
        check(100, 4, 3);
        check(10, 1_000, 100);
        assert!(!RULES.may_eject(4, 0, 1), "the last usable one stays");
        assert!(RULES.may_eject(4, 1, 2) && !RULES.may_eject(4, 2, 2));
    }

    #[test]
    fn ejections_grow_are_capped_and_decay() {
        let mut history = History::default();
        let mut now = at(1_000);
        for expected in [10, 20, 30, 40, 45, 45] {
            let until = history.eject(&RULES, now);
            assert_eq!(until.since(now), Duration::from_secs(expected));
            assert!(!history.is_over(now) && history.is_over(until));
            assert!(history.end(until) && !history.end(until));
            // Fails again before an eject time is over: nothing decays.
            now = until + Duration::from_secs(9);
        }
        let until = history.eject(&RULES, now);
        assert_eq!(history.in_a_row(), 7);
        history.end(until);
        history.eject(&RULES, until + Duration::from_secs(30));
        assert_eq!(history.in_a_row(), 5, "three steps down, one up");
        history.end(until);
        history.eject(&RULES, until + Duration::from_secs(100_000));
        assert_eq!(history.in_a_row(), 1);
    }

    /// Any sequence of failures and successes: never all ejected, never more than the share
    /// (one at least), no ejection longer than the maximum.
    #[test]
    fn a_service_is_never_emptied() {
        for seed in 0..300 {
            let mut random = Random::from_seed(seed);
            let count = 1 + random.below(12);
            let rules = Rules {
                max_ejected_percent: random.below(101) as u8,
                ..RULES
            };
            let mut histories = vec![History::default(); count];
            let mut failures = vec![0_u32; count];
            let mut now = at(1);
            for _ in 0..2_000 {
                now = now + Duration::from_millis(random.below(2_000) as u64);
                for history in &mut histories {
                    if history.is_over(now) {
                        history.end(now);
                    }
                }
                let index = random.below(count);
                failures[index] = if random.below(10) < 7 {
                    failures[index] + 1
                } else {
                    0
                };
                let ejected = histories
                    .iter()
                    .filter(|history| history.until().is_some())
                    .count();
                if histories[index].until().is_none()
                    && rules.reached(failures[index])
                    && rules.may_eject(count, ejected, count - ejected)
                {
                    failures[index] = 0;
                    let until = histories[index].eject(&rules, now);
                    assert!(until.since(now) <= rules.eject_max, "seed {seed}");
                }
                let ejected = histories
                    .iter()
                    .filter(|history| history.until().is_some())
                    .count();
                assert!(ejected < count.max(1), "seed {seed}: all {count} ejected");
                assert!(ejected <= rules.allowed(count), "seed {seed}");
            }
        }
    }
}
