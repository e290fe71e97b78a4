//! What the times of a service's checks say about the check itself: pure. A check that is slow, or
//! that becomes slow at all endpoints together, most likely asks something that they share, and
//! takes them all out together when that fails.

use std::collections::VecDeque;
use std::time::Duration;

use crate::settings::CheckKind;

/// Times that are kept of each endpoint.
const KEPT: usize = 32;

/// The newest of them that stand for now.
const RECENT: usize = 5;

/// Older ones that are needed to know what is usual.
const LEAST_USUAL: usize = 10;

/// A readiness check that usually takes longer is slow.
const SLOW: Duration = Duration::from_millis(100);

/// So many times as long as usual, and so much longer, is a jump.
const JUMP: u32 = 3;
const LEAST_JUMP: Duration = Duration::from_millis(25);

/// Endpoints that must jump together: two may do so by chance.
const LEAST_ENDPOINTS: usize = 3;

/// How long the checks of one endpoint took that passed, the newest last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(VecDeque<Duration>);

impl Times {
    /// Takes note of a check that passed.
    pub(crate) fn note(&mut self, took: Duration) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(took);
    }

    /// The medians of before and of now; `None` while there are too few.
    fn medians(&self) -> Option<(Duration, Duration)> {
        let usual = self.0.len().checked_sub(RECENT)?;
        if usual < LEAST_USUAL {
            return None;
        }
        let median = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            times[times.len() / 2]
        };
        let mut before: Vec<Duration> = self.0.range(..usual).copied().collect();
        let mut now: Vec<Duration> = self.0.range(usual..).copied().collect();
        Some((median(&mut before), median(&mut now)))
    }
}

/// What the times say about the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It takes this long at half of the endpoints or more.
    Slow(Duration),
    /// It became slower at all of this many endpoints together.
    Together {
        endpoints: usize,
        before: Duration,
        now: Duration,
    },
}

/// What the times of all endpoints of a service say.
pub(crate) fn find<'a>(times: impl Iterator<Item = &'a Times>) -> Option<Finding> {
    let mut medians = Vec::new();
    let mut all = true;
    for times in times {
        match times.medians() {
            Some(pair) => medians.push(pair),
            None => all = false,
        }
    }
    let middle = medians.len() / 2;
    let has_jumped =
        |&(before, now): &(Duration, Duration)| now > before * JUMP && now > before + LEAST_JUMP;
    if all && medians.len() >= LEAST_ENDPOINTS && medians.iter().all(has_jumped) {
        medians.sort_unstable_by_key(|(_, now)| *now);
        let (before, now) = medians[middle];
        return Some(Finding::Together {
            endpoints: medians.len(),
            before,
            now,
        });
    }
    let mut usual: Vec<Duration> = medians.iter().map(|(before, _)| *before).collect();
    usual.sort_unstable();
    let median = *usual.get(middle)?;
    (median > SLOW).then_some(Finding::Slow(median))
}

impl Finding {
    /// What to change, for people.
    pub(crate) fn text(&self, kind: CheckKind) -> String {
        let what = match self {
            Self::Slow(median) => format!(
                "the check takes {} ms, the median of those that passed: it should take a few. ",
                median.as_millis()
            ),
            Self::Together {
                endpoints,
                before,
                now,
            } => format!(
                "the check became slower at all {endpoints} endpoints together ({} ms, {} ms \
                 before): they share what it asks, a database perhaps, or the machine. ",
                now.as_millis(),
                before.as_millis()
            ),
        };
        let advice = match kind {
            CheckKind::Http | CheckKind::Grpc => {
                "When what they share fails, the check takes all endpoints out together. Let it \
                 (/readyz) look at the endpoint's own state only, such as warmed caches and the \
                 last result of its own queries, and let the liveness check (`live`, /livez) touch \
                 nothing."
            }
            CheckKind::Tcp | CheckKind::Postgres | CheckKind::Redis => {
                "The network or the server is busy: look at its load before the check's timeout \
                 takes it out."
            }
        };
        what + advice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(parts: &[(usize, u64)]) -> Times {
        let mut times = Times::default();
        for &(count, millis) in parts {
            for _ in 0..count {
                times.note(Duration::from_millis(millis));
            }
        }
        times
    }

    #[test]
    fn slow_and_shared_checks_are_found() {
        let millis = Duration::from_millis;
        let check = |endpoints: &[&[(usize, u64)]], expected: Option<Finding>| {
            let endpoints: Vec<Times> = endpoints.iter().map(|parts| times(parts)).collect();
            assert_eq!(find(endpoints.iter()), expected, "{endpoints:?}");
        };
        check(&[], None);
        check(&[&[(14, 200)]], None);
        check(&[&[(15, 200)]], Some(Finding::Slow(millis(200))));
        check(&[&[(1_000, 100)]], None);
        // One slow answer now and then is nothing.
        check(&[&[(10, 5), (2, 900), (10, 5), (2, 900)]], None);
        check(&[&[(20, 200)], &[(20, 5)], &[(20, 5)]], None);
        let jump: &[(usize, u64)] = &[(20, 4), (5, 60)];
        let together = Finding::Together {
            endpoints: 3,
            before: millis(4),
            now: millis(60),
        };
        check(&[jump, jump, jump], Some(together));
        check(&[jump, jump], None);
        check(&[jump, jump, jump, &[(25, 4)]], None);
        check(&[jump, jump, jump, &[(3, 60)]], None);
        // Three times next to nothing is next to nothing.
        let small: &[(usize, u64)] = &[(20, 1), (5, 20)];
        check(&[small, small, small], None);
    }

    #[test]
    fn the_text_says_what_to_change() {
        let text = Finding::Slow(Duration::from_millis(180)).text(CheckKind::Http);
        assert!(text.starts_with("the check takes 180 ms"), "{text}");
        assert!(text.contains("/livez"), "{text}");
    }
}
