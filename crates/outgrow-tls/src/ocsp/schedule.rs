//! When a responder is asked again: at half of the response's life, with chance; after failures later
//! and later. Pure: time and chance are arguments.

use std::time::Duration;

use outgrow_core::{Random, WallTime};

use super::OcspResponse;

/// After the first failure.
const FIRST: Duration = Duration::from_secs(5);
/// Longest wait after a failure.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Shortest wait after a success.
const SOONEST: Duration = Duration::from_secs(10);
/// Longest wait: what a responder signs far ahead is looked at all the same.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// When the next question is due. The default: at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    failures: u32,
    due: WallTime,
}

impl Schedule {
    /// Whether to ask now. What is due later than could be said is due as well: the clock was wrong then.
    pub fn is_due(&self, now: WallTime) -> bool {
        now >= self.due || self.due > after(now, WEEK)
    }

    /// When to ask next.
    pub fn due(&self) -> WallTime {
        self.due
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A response is there: the next is asked for at half of its life, up to a tenth of it later. Where
    /// the responder still gives one that is older than that (networks that cache have them for days),
    /// at half of what is left of it, an hour later at most.
    pub fn succeeded(&mut self, response: &OcspResponse, now: WallTime, random: &mut Random) {
        self.failures = 0;
        let (from, until) = (response.this_update.0, response.next_update.0);
        let life = until.saturating_sub(from) as f64;
        let half = from.saturating_add((life * (0.5 + random.unit() / 10.0)) as u64);
        let soonest = after(now, SOONEST);
        self.due = if half > soonest.0 {
            WallTime(half).min(after(now, WEEK))
        } else {
            let left = Duration::from_nanos(until.saturating_sub(now.0) / 2);
            let wait = left.min(LONGEST).mul_f64(0.8 + random.unit() / 5.0);
            after(now, wait).max(soonest)
        };
    }

    /// There is none: 5 s at first, twice as long each time, an hour at most, and of that a random part
    /// between the half and the whole.
    pub fn failed(&mut self, now: WallTime, random: &mut Random) {
        let whole = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.due = after(now, whole.mul_f64(0.5 + random.unit() / 2.0));
    }
}

fn after(now: WallTime, wait: Duration) -> WallTime {
    WallTime(now.0.saturating_add(wait.as_nanos() as u64))
}

#[cfg(test)]
mod tests {
    use super::super::OcspStatus;
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;

    fn response(from: u64, until: u64) -> OcspResponse {
        OcspResponse {
            status: OcspStatus::Good,
            this_update: WallTime(from),
            next_update: WallTime(until),
        }
    }

    #[test]
    fn a_response_is_renewed_in_the_middle_of_its_life() {
        let mut random = Random::from_seed(5);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let mut schedule = Schedule::default();
            schedule.succeeded(
                &response(100 * HOUR, 200 * HOUR),
                WallTime(101 * HOUR),
                &mut random,
            );
            let due = schedule.due().0 / HOUR;
            assert!((150..=160).contains(&due), "{due}");
            assert!(!schedule.is_due(WallTime(149 * HOUR)));
            assert!(schedule.is_due(WallTime(160 * HOUR)));
            seen.insert(due);
        }
        assert!(seen.len() > 5, "not all at the same moment: {seen:?}");
    }

    #[test]
    fn an_old_one_is_asked_for_again_and_never_at_once() {
        let mut random = Random::from_seed(6);
        for (now, earliest, latest) in [
            // An hour at most.
            (170 * HOUR, 170 * HOUR + HOUR * 4 / 5, 171 * HOUR),
            // Half of what is left.
            (199 * HOUR, 199 * HOUR + HOUR * 2 / 5, 199 * HOUR + HOUR / 2),
            // Not in a loop.
            (200 * HOUR - 1, 200 * HOUR, 200 * HOUR + HOUR / 300),
        ] {
            let mut schedule = Schedule::default();
            schedule.succeeded(
                &response(100 * HOUR, 200 * HOUR),
                WallTime(now),
                &mut random,
            );
            let due = schedule.due().0;
            assert!((earliest..=latest).contains(&due), "{now}: {due}");
        }
    }

    #[test]
    fn failures_wait_longer_and_at_most_an_hour() {
        let mut random = Random::from_seed(7);
        let mut schedule = Schedule::default();
        assert!(schedule.is_due(WallTime(0)));
        let now = WallTime(50 * HOUR);
        for failure in 0..40 {
            schedule.failed(now, &mut random);
            let waited = (schedule.due().0 - now.0) as f64 / 1e9;
            let whole = (5.0 * 2_f64.powi(failure)).min(3_600.0);
            assert!(
                waited >= whole / 2.0 && waited <= whole,
                "{failure}: {waited}"
            );
        }
        assert_eq!(schedule.failures(), 40);
        schedule.succeeded(&response(40 * HOUR, 60 * HOUR), now, &mut random);
        assert_eq!(schedule.failures(), 0);
    }

    #[test]
    fn a_clock_that_was_wrong_does_not_stop_it() {
        let mut random = Random::from_seed(8);
        let mut schedule = Schedule::default();
        let then = 1_000_000 * HOUR;
        schedule.succeeded(
            &response(then, then + 10 * HOUR),
            WallTime(then),
            &mut random,
        );
        assert!(
            schedule.is_due(WallTime(500_000 * HOUR)),
            "set back by decades"
        );
        let mut schedule = Schedule::default();
        schedule.succeeded(
            &response(HOUR, 4_000_000 * HOUR),
            WallTime(HOUR),
            &mut random,
        );
        assert!(
            schedule.is_due(WallTime(8 * 24 * HOUR)),
            "signed for decades"
        );
        assert!(!schedule.is_due(WallTime(24 * HOUR)));
    }
}
