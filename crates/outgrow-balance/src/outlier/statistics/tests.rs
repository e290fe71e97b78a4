//! The statistical rules: tables of cases, and each against its definition over many seeds.

use outgrow_core::Random;

use super::*;

fn interval(requests: u64, failures: u64) -> Interval {
    Interval {
        requests,
        failures,
        latency: Duration::ZERO,
    }
}

#[test]
fn success_rate_cases() {
    let check = |counts: &[(u64, u64)], expected: &[usize]| {
        let intervals: Vec<Interval> = counts
            .iter()
            .map(|&(all, bad)| interval(all, bad))
            .collect();
        assert_eq!(
            SuccessRate::default().outliers(&intervals),
            expected,
            "{counts:?}"
        );
    };
    let ok = (100, 0);
    check(&[], &[]);
    check(&[ok, ok, ok, ok, (100, 30)], &[4]);
    check(&[ok, ok, ok, (100, 100)], &[]); // four are too few
    check(&[ok, ok, ok, ok, (99, 99)], &[]); // and so are 99 requests
    check(&[(100, 20); 8], &[]); // all alike
    check(&[(100, 7), (300, 21), (200, 14), (100, 7), (500, 35)], &[]);
    let mut many = [(1_000, 2); 20];
    many[3] = (1_000, 400);
    many[9] = (1_000, 700);
    check(&many, &[9, 3]);
}

#[test]
fn failure_percentage_cases() {
    let check = |counts: &[(u64, u64)], expected: &[usize]| {
        let intervals: Vec<Interval> = counts
            .iter()
            .map(|&(all, bad)| interval(all, bad))
            .collect();
        let rule = FailurePercentage::default();
        assert_eq!(rule.outliers(&intervals), expected, "{counts:?}");
    };
    let ok = (50, 0);
    check(&[ok, ok, ok, ok, (100, 85)], &[4]);
    check(&[ok, ok, ok, ok, (100, 84)], &[]);
    check(&[ok, ok, ok, (100, 85)], &[]);
    check(&[ok, ok, ok, ok, (49, 49)], &[]);
    check(&[(50, 45), ok, ok, ok, (100, 99)], &[4, 0]);
    check(&[(u64::MAX, u64::MAX), ok, ok, ok, ok], &[0]);
}

#[test]
fn slow_responses_cases() {
    let check = |latencies: &[u64], expected: &[usize]| {
        let intervals: Vec<Interval> = latencies
            .iter()
            .map(|&latency| Interval {
                requests: 50,
                failures: 0,
                latency: Duration::from_millis(latency),
            })
            .collect();
        let got = SlowResponses::default().outliers(&intervals);
        assert_eq!(got, expected, "{latencies:?}");
    };
    check(&[100, 100, 301], &[2]);
    check(&[100, 100, 300], &[]);
    check(&[100, 900], &[]); // of two, which?
    check(&[10, 10, 45], &[]); // not 50 ms more
    check(&[10, 10, 60], &[2]);
    check(&[0, 0, 0, 51], &[3]);
    check(&[100, 100, 100, 900, 800], &[3, 4]);
    check(&[100, 100, 900, 900], &[2, 3]); // the others of each: 100, 100, 900
    check(&[100, 900, 900, 900], &[]); // most are slow: that is how it is
    let few = Interval {
        requests: 49,
        failures: 0,
        latency: Duration::from_secs(9),
    };
    assert!(SlowResponses::default().outliers(&[few; 9]).is_empty());
}

/// Each rule written out plainly, on random counts.
#[test]
fn rules_are_their_definitions() {
    for seed in 0..2_000 {
        let mut random = Random::from_seed(seed);
        let bad = random.below(4);
        let intervals: Vec<Interval> = (0..random.below(15))
            .map(|index| {
                let requests = 40 + random.below(300);
                let most = if index < bad {
                    requests + 1
                } else {
                    requests / 20 + 1
                };
                Interval {
                    requests: requests as u64,
                    failures: random.below(most) as u64,
                    latency: Duration::from_millis(
                        1 + random.below(if index < bad { 900 } else { 90 }) as u64,
                    ),
                }
            })
            .collect();
        let sorted = |mut indexes: Vec<usize>| {
            indexes.sort_unstable();
            indexes
        };
        let of = |least: u64| -> Vec<usize> {
            (0..intervals.len())
                .filter(|&one| intervals[one].requests >= least)
                .collect()
        };
        let rate = |index: usize| {
            let one = intervals[index];
            (one.requests - one.failures) as f64 / one.requests as f64
        };
        let counted = of(100);
        let n = counted.len() as f64;
        let mean = counted.iter().map(|&one| rate(one)).sum::<f64>() / n;
        let squares = counted
            .iter()
            .map(|&one| rate(one) * rate(one))
            .sum::<f64>()
            / n;
        let deviation = (squares - mean * mean).max(0.0).sqrt();
        let mut expected = counted.clone();
        expected.retain(|&one| n >= 5.0 && rate(one) < mean - 1.9 * deviation);
        let got = sorted(SuccessRate::default().outliers(&intervals));
        assert_eq!(got, expected, "seed {seed}");

        let counted = of(50);
        let mut expected = counted.clone();
        expected.retain(|&one| counted.len() >= 5 && rate(one) <= 0.15);
        let got = sorted(FailurePercentage::default().outliers(&intervals));
        assert_eq!(got, expected, "seed {seed}");

        let mut expected = counted.clone();
        expected.retain(|&one| {
            let mut others: Vec<Duration> = counted
                .iter()
                .filter(|&&other| other != one)
                .map(|&other| intervals[other].latency)
                .collect();
            others.sort_unstable();
            let own = intervals[one].latency;
            counted.len() >= 3 && {
                let median = others[(others.len() - 1) / 2];
                own > median * 3 && own >= median + Duration::from_millis(50)
            }
        });
        let got = sorted(SlowResponses::default().outliers(&intervals));
        assert_eq!(got, expected, "seed {seed}");
    }
}
