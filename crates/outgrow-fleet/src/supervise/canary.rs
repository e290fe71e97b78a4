//! Whether a new version does worse than the old one beside it, from what both answered in the same
//! time. Pure.
//!
//! - Errors: the share of requests that failed, by the two-proportion z-test with pooled variance
//!   and continuity correction, one-sided. Bad when it is higher at the 1 % level and by at least
//!   [`LEAST_EXCESS`]: with many requests a difference that nobody minds is significant too.
//! - Latency: the Mann-Whitney U test with ties on the counts of the response times' buckets,
//!   one-sided. Bad when the new version is slower at the 1 % level and a request to it is slower
//!   than one to the old version in at least [`LEAST_SLOWER`] of all pairs.
//!
//! - Errors of few requests (fewer than [`LEAST_REQUESTS`]): Fisher's exact test, one-sided, at the
//!   0.1 % level, since it is looked at again and again. A new version that fails everything gets few
//!   requests, as it is ejected: that must not be taken for too little to judge by.
//!
//! The tests are of the same time, so that what befalls both (load, a database) is no reason. Two
//! tests at 1 % each fail a version that is no worse in at most 2 % of the cases.

/// The z of a probability of 1 %, one-sided.
const Z: f64 = 2.326_347_874;
/// The level of the exact test.
const EXACT_LEVEL: f64 = 0.001;
/// Fewer failures are never enough, beside however many requests to the old version.
const EXACT_LEAST: u64 = 3;
/// The most terms that its sum may have; with more of both there are enough requests to wait for.
const EXACT_TERMS: u64 = 100;
/// How much higher the share of errors must be to count.
pub const LEAST_EXCESS: f64 = 0.005;
/// In how many of all pairs the new version must be slower to count; 0.5 is no difference.
pub const LEAST_SLOWER: f64 = 0.6;
/// With fewer requests nothing is said, unless so many of them fail that it cannot be chance.
pub const LEAST_REQUESTS: u64 = 50;

/// What instances of one version answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// All requests.
    pub requests: u64,
    /// Those that failed, or were answered with 500 or above.
    pub errors: u64,
    /// How many took how long, in buckets that ascend. Both versions have the same buckets.
    pub times: Vec<u64>,
}

impl Observed {
    /// Adds what another instance of the version answered.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        if self.times.len() < other.times.len() {
            self.times.resize(other.times.len(), 0);
        }
        for (sum, count) in self.times.iter_mut().zip(&other.times) {
            *sum += count;
        }
    }

    fn error_share(&self) -> f64 {
        self.errors as f64 / self.requests.max(1) as f64
    }
}

/// What comes of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The new version is not worse, as far as can be told.
    Good,
    /// It is worse; why, for people.
    Bad(String),
    /// There were too few requests to tell.
    Unclear,
}

/// Compares the new version with the old one.
pub fn compare(old: &Observed, new: &Observed) -> Verdict {
    if new.requests < LEAST_REQUESTS || old.requests < LEAST_REQUESTS {
        let is_bad = new.errors >= EXACT_LEAST && errors_by_chance(old, new) < EXACT_LEVEL;
        return match is_bad {
            true => Verdict::Bad(more_errors(old, new)),
            false => Verdict::Unclear,
        };
    }
    let excess = new.error_share() - old.error_share();
    if excess >= LEAST_EXCESS && errors_z(old, new) > Z {
        return Verdict::Bad(more_errors(old, new));
    }
    let (z, slower) = slower_z(&old.times, &new.times);
    if slower >= LEAST_SLOWER && z > Z {
        return Verdict::Bad(format!(
            "it is slower than the old version in {:.0} % of all pairs of requests",
            slower * 100.0
        ));
    }
    Verdict::Good
}

fn more_errors(old: &Observed, new: &Observed) -> String {
    format!(
        "{:.1} % of {} requests failed, of the old version {:.1} % of {}",
        new.error_share() * 100.0,
        new.requests,
        old.error_share() * 100.0,
        old.requests
    )
}

/// How probable it is, if both versions fail as often, that at least so many of the failures are the
/// new version's: the tail of the hypergeometric distribution.
fn errors_by_chance(old: &Observed, new: &Observed) -> f64 {
    let all = old.requests.saturating_add(new.requests);
    let errors = old.errors.saturating_add(new.errors).min(all);
    // The same table either way round; the smaller sum has fewer terms.
    let (rows, columns) = (new.requests.min(errors), new.requests.max(errors));
    let least = new.errors.min(rows);
    if rows > EXACT_TERMS {
        return 1.0;
    }
    let (rest, whole) = (all - columns, ln_choose(all, rows));
    let terms = (least..=rows).filter_map(|count| {
        let others = rows - count;
        (others <= rest)
            .then(|| (ln_choose(columns, count) + ln_choose(rest, others) - whole).exp())
    });
    terms.sum::<f64>().min(1.0)
}

/// The logarithm of the number of ways to choose `count` of `all`; `count` is small, and not larger.
fn ln_choose(all: u64, count: u64) -> f64 {
    let factor = |taken: u64| ((all - taken) as f64 / (count - taken) as f64).ln();
    (0..count).map(factor).sum()
}

fn errors_z(old: &Observed, new: &Observed) -> f64 {
    let (of_old, of_new) = (old.requests as f64, new.requests as f64);
    let pooled = (old.errors + new.errors) as f64 / (of_old + of_new);
    let deviation = (pooled * (1.0 - pooled) * (1.0 / of_old + 1.0 / of_new)).sqrt();
    let correction = 0.5 * (1.0 / of_old + 1.0 / of_new);
    let excess = new.error_share() - old.error_share() - correction;
    if deviation == 0.0 {
        return 0.0;
    }
    excess / deviation
}

/// The z of the U statistic, and the share of pairs in which the new one is slower; pairs in the
/// same bucket count half.
fn slower_z(old: &[u64], new: &[u64]) -> (f64, f64) {
    let count = |times: &[u64]| times.iter().sum::<u64>() as f64;
    let (of_old, of_new) = (count(old), count(new));
    if of_old == 0.0 || of_new == 0.0 {
        return (0.0, 0.5);
    }
    let (mut below, mut wins, mut ties) = (0.0, 0.0, 0.0);
    let buckets = old.len().max(new.len());
    let at = |times: &[u64], bucket: usize| times.get(bucket).copied().unwrap_or(0) as f64;
    for bucket in 0..buckets {
        let (one, other) = (at(old, bucket), at(new, bucket));
        wins += other * (below + one / 2.0);
        below += one;
        let tied = one + other;
        ties += tied * tied * tied - tied;
    }
    let all = of_old + of_new;
    let variance = of_old * of_new / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
    let expected = of_old * of_new / 2.0;
    let z = if variance > 0.0 {
        (wins - expected - 0.5) / variance.sqrt()
    } else {
        0.0
    };
    (z, wins / (of_old * of_new))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(requests: u64, errors: u64, times: &[u64]) -> Observed {
        Observed {
            requests,
            errors,
            times: times.to_vec(),
        }
    }

    #[test]
    fn each_comparison_has_its_verdict() {
        let even: &[u64] = &[0, 300, 600, 100];
        let check = |old: Observed, new: Observed, bad: Option<&str>| match compare(&old, &new) {
            Verdict::Bad(why) => assert!(bad.is_some_and(|part| why.contains(part)), "{why}"),
            verdict => assert_eq!((verdict, bad), (Verdict::Good, None), "{old:?} {new:?}"),
        };
        check(observed(1000, 0, even), observed(1000, 0, even), None);
        check(observed(1000, 10, even), observed(100, 1, even), None);
        check(
            observed(1000, 10, even),
            observed(100, 12, even),
            Some("12.0 % of 100 requests failed, of the old version 1.0 % of 1000"),
        );
        // One error of sixty may be chance.
        check(observed(1000, 0, even), observed(60, 0, even), None);
        check(observed(200, 1, even), observed(60, 1, even), None);
        // Significant, and too little to mind.
        check(
            observed(1_000_000, 0, even),
            observed(1_000_000, 1_000, even),
            None,
        );
        check(
            observed(1000, 0, even),
            observed(1000, 0, &[0, 30, 300, 600]),
            Some("slower"),
        );
        check(
            observed(1000, 0, even),
            observed(1000, 0, &[0, 290, 600, 110]),
            None,
        );
        check(
            observed(1000, 0, even),
            observed(1000, 0, &[600, 300, 100, 0]),
            None,
        );
        check(observed(1000, 0, &[]), observed(1000, 0, &[]), None);
        for few in [observed(49, 0, even), Observed::default()] {
            assert_eq!(compare(&observed(1000, 0, even), &few), Verdict::Unclear);
            assert_eq!(compare(&few, &observed(1000, 0, even)), Verdict::Unclear);
        }
    }

    #[test]
    fn few_requests_that_all_fail_are_enough() {
        let check = |old: (u64, u64), new: (u64, u64), is_bad: bool| {
            let verdict = compare(&observed(old.0, old.1, &[]), &observed(new.0, new.1, &[]));
            assert_eq!(
                matches!(verdict, Verdict::Bad(_)),
                is_bad,
                "{old:?} {new:?}"
            );
            assert!(is_bad || verdict == Verdict::Unclear, "{verdict:?}");
        };
        check((1000, 0), (5, 5), true);
        check((1000, 0), (10, 3), true);
        check((1_000_000_000, 1000), (25, 25), true);
        // Chance.
        check((1000, 0), (1, 1), false);
        check((1_000_000, 0), (2, 2), false);
        check((1000, 100), (20, 5), false);
        check((3, 0), (3, 3), false);
        // Whatever befalls both.
        check((1000, 1000), (5, 5), false);
        check((5, 5), (49, 0), false);
        check((u64::MAX, u64::MAX), (49, 49), false);
    }

    /// Against the table of the lady tasting tea, and a sum that is all there is.
    #[test]
    fn the_exact_test_is_fishers() {
        let check = |old: (u64, u64), new: (u64, u64), expected: f64| {
            let told = errors_by_chance(&observed(old.0, old.1, &[]), &observed(new.0, new.1, &[]));
            assert!((told - expected).abs() < 1e-9, "{old:?} {new:?}: {told}");
        };
        check((4, 1), (4, 3), 17.0 / 70.0);
        check((4, 0), (4, 4), 1.0 / 70.0);
        check((4, 4), (4, 0), 1.0);
        check((10, 0), (0, 0), 1.0);
        check((0, 0), (4, 4), 1.0);
    }

    /// The U of the buckets is that of all pairs, one by one.
    #[test]
    fn pairs_are_counted_as_if_one_by_one() {
        let mut seed = 7_u64;
        let mut below = |limit: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % limit
        };
        for _ in 0..200 {
            let old: Vec<u64> = (0..6).map(|_| below(5)).collect();
            let new: Vec<u64> = (0..6).map(|_| below(5)).collect();
            let (mut wins, mut pairs) = (0.0, 0.0);
            for (one, ones) in old.iter().enumerate() {
                for (other, others) in new.iter().enumerate() {
                    let count = (ones * others) as f64;
                    pairs += count;
                    wins += count
                        * match other.cmp(&one) {
                            std::cmp::Ordering::Greater => 1.0,
                            std::cmp::Ordering::Equal => 0.5,
                            std::cmp::Ordering::Less => 0.0,
                        };
                }
            }
            let (_, share) = slower_z(&old, &new);
            let expected = if pairs == 0.0 { 0.5 } else { wins / pairs };
            assert!((share - expected).abs() < 1e-9, "{old:?} {new:?}");
        }
    }

    /// Two versions that are the same: how often the new one is called worse, over many seeds.
    #[test]
    fn the_same_version_is_rarely_called_worse() {
        let mut seed = 1_u64;
        let mut unit = || {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut bad = 0;
        for _ in 0..2_000 {
            let mut draw = |requests: u64| {
                let mut one = observed(requests, 0, &[0; 20]);
                for _ in 0..requests {
                    one.errors += u64::from(unit() < 0.03);
                    one.times[(unit() * unit() * 20.0) as usize] += 1;
                }
                one
            };
            let (old, new) = (draw(600), draw(150));
            bad += usize::from(matches!(compare(&old, &new), Verdict::Bad(_)));
        }
        assert!(bad <= 50, "{bad} of 2000");
    }
}
