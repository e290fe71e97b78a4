//! The schedule alone, and over many seeds against a model of an authority with limits, a process that
//! is killed at any moment, and outages.

use std::time::Duration;

use super::*;

const SEEDS: u64 = 300;

fn life(days: u64) -> Life {
    Life {
        from: 1_000 * DAY,
        until: (1_000 + days) * DAY,
    }
}

fn failure(blame: Blame, retry_after: Option<u64>) -> Failure {
    Failure {
        blame,
        text: "why".to_owned(),
        retry_after: retry_after.map(Duration::from_secs),
    }
}

#[test]
fn a_certificate_is_renewed_at_two_thirds_of_its_life_or_as_told() {
    for chance in 0..200 {
        let at = renewal(life(90), &Renewal::default(), chance);
        let day = at as f64 / DAY as f64 - 1_000.0;
        assert!((57.0..=60.0).contains(&day), "{day}");
        assert_eq!(at, renewal(life(90), &Renewal::default(), chance));
    }
    let told = |at: u64| Renewal {
        at: Some(at),
        ..Renewal::default()
    };
    assert_eq!(renewal(life(90), &told(1_010 * DAY), 1), 1_010 * DAY);
    // Not at its very end, whatever the authority says.
    assert_eq!(renewal(life(90), &told(1_095 * DAY), 1), 1_089 * DAY);
    assert_eq!(
        renewal(life(6), &told(1_006 * DAY), 1),
        1_006 * DAY - 6 * DAY / 10
    );
}

#[test]
fn a_window_is_chosen_from_once() {
    let mut random = Random::from_seed(1);
    let mut record = Record::default();
    let (now, window) = (2_000 * DAY, (2_010 * DAY, 2_012 * DAY));
    take_window(&mut record, "c", (window, None), 6 * HOUR, now, &mut random);
    let at = record.renewal.at.expect("chosen");
    assert!(window.0 <= at && at <= window.1);
    take_window(&mut record, "c", (window, None), 1, now + HOUR, &mut random);
    assert_eq!(record.renewal.at, Some(at));
    assert_eq!(
        record.renewal.ask_at,
        now + 2 * HOUR,
        "not more often than hourly"
    );
    // It is to be replaced at once.
    let past = (now - DAY, now - DAY + 1);
    take_window(&mut record, "c", (past, None), DAY * 9, now, &mut random);
    assert_eq!(record.renewal.ask_at, now + DAY);
    let until = Life {
        from: now - DAY,
        until: now + 80 * DAY,
    };
    assert_eq!(step(&record, Some(until), true, now, 1), Step::Order);
    no_window(&mut record, "c", now);
    assert!(record.renewal.at.is_some(), "what was said goes on");
    no_window(&mut record, "d", now);
    assert_eq!(
        record.renewal.at, None,
        "of another certificate nothing was said"
    );
}

#[test]
fn failures_wait_longer_each_time_and_as_long_as_they_are_told() {
    let mut random = Random::from_seed(1);
    let mut record = Record::default();
    let mut now = 2_000 * DAY;
    for expected in WAITS.into_iter().chain([DAY, DAY]) {
        fail(
            &mut record,
            &failure(Blame::Refused, None),
            now,
            &mut random,
        );
        let wait = next_attempt(&record, None, now, 1) - now;
        assert!(
            (expected..=expected + expected / 5).contains(&wait),
            "{wait} {expected}"
        );
        now += wait;
    }
    fail(&mut record, &failure(Blame::Outage, None), now, &mut random);
    assert!(next_attempt(&record, None, now, 1) - now <= OUTAGE * 6 / 5);
    let mut record = Record::default();
    fail(
        &mut record,
        &failure(Blame::RateLimited, None),
        now,
        &mut random,
    );
    assert!(next_attempt(&record, None, now, 1) - now >= LIMITED);
    fail(
        &mut record,
        &failure(Blame::RateLimited, Some(2 * DAY)),
        now,
        &mut random,
    );
    assert_eq!(next_attempt(&record, None, now, 1) - now, 2 * DAY + 1);
    nudge(&mut record, now + DAY);
    assert!(record.hold.is_some(), "a limit is not nudged away");
    fail(
        &mut record,
        &failure(Blame::RateLimited, Some(1_000 * DAY)),
        now,
        &mut random,
    );
    assert_eq!(next_attempt(&record, None, now, 1) - now, LONGEST_HOLD);
    // A clock that was far ahead.
    record.hold = Some(now + 5_000 * DAY);
    assert_eq!(next_attempt(&record, None, now, 1) - now, LONGEST_HOLD);
}

#[test]
fn a_reload_tries_again_what_failed_a_while_ago() {
    let mut random = Random::from_seed(1);
    let mut record = Record::default();
    let now = 2_000 * DAY;
    for _ in 0..9 {
        fail(
            &mut record,
            &failure(Blame::Refused, None),
            now,
            &mut random,
        );
    }
    nudge(&mut record, now + NUDGE - 1);
    assert!(next_attempt(&record, None, now + NUDGE - 1, 1) > now + NUDGE);
    nudge(&mut record, now + NUDGE);
    assert_eq!(step(&record, None, false, now + NUDGE, 1), Step::Order);
}

#[test]
fn what_ends_in_the_middle_goes_on_once_at_once_and_then_waits() {
    let mut record = Record::default();
    let now = 2_000 * DAY;
    begin(&mut record, now);
    assert_eq!(
        step(&record, None, false, now, 1),
        Step::Order,
        "it goes on"
    );
    begin(&mut record, now);
    assert_eq!(
        step(&record, None, false, now + MINUTE - 1, 1),
        Step::Wait(now + MINUTE)
    );
    leave(&mut record);
    assert_eq!(
        step(&record, None, false, now, 1),
        Step::Order,
        "an upgrade is no crash"
    );
    for _ in 0..20 {
        begin(&mut record, now);
    }
    assert_eq!(next_attempt(&record, None, now, 1), now + DAY);
    succeed(&mut record, now + 9);
    assert_eq!(
        (record.cut_off, record.begun, record.succeeded),
        (0, None, Some(now + 9))
    );
}

/// What an authority counts.
#[derive(Default)]
struct Authority {
    /// When names could not be proven.
    refused: Vec<u64>,
    orders: Vec<u64>,
}

/// Most in any window of so long.
fn most_within(times: &[u64], window: u64) -> usize {
    let within = |(at, from): (usize, &u64)| {
        let later = times[at..].iter();
        later.take_while(|time| **time < from + window).count()
    };
    times.iter().enumerate().map(within).max().unwrap_or(0)
}

#[test]
fn no_limit_is_used_up_and_no_certificate_ends_over_many_seeds() {
    for seed in 0..SEEDS {
        let mut random = Random::from_seed(seed);
        let mut authority = Authority::default();
        let mut record = Record::default();
        let start = 20_000 * DAY;
        let mut certificate: Option<Life> = None;
        let days = [6, 47, 90][random.below(3)];
        // For a while everything may fail: the authority is away, the name leads elsewhere, the
        // process is killed again and again.
        let bad_until = start + random.below(3 * DAY as usize) as u64;
        let (mut now, mut first) = (start, None);
        let end = start + 3 * days * DAY;
        while now < end {
            match step(&record, certificate, false, now, seed) {
                Step::Wait(until) => {
                    // Somebody reloads in the middle of it, now and then.
                    let nudged = now + random.below(4 * HOUR as usize) as u64;
                    if random.below(10) == 0 && nudged < until {
                        now = nudged.max(now + 1);
                        nudge(&mut record, now);
                    } else {
                        now = until.max(now + 1);
                    }
                }
                Step::AskRenewal => unreachable!("it is not asked"),
                Step::Order => {
                    begin(&mut record, now);
                    authority.orders.push(now);
                    now += 1 + random.below(60) as u64;
                    let is_bad = now < bad_until;
                    match random.below(4) {
                        0 if is_bad => {} // Killed: nobody says how it ended.
                        1 if is_bad => {
                            fail(&mut record, &failure(Blame::Outage, None), now, &mut random);
                        }
                        2 | 3 if is_bad => {
                            authority.refused.push(now);
                            fail(
                                &mut record,
                                &failure(Blame::Refused, None),
                                now,
                                &mut random,
                            );
                        }
                        _ => {
                            certificate = Some(Life {
                                from: now,
                                until: now + days * DAY,
                            });
                            first.get_or_insert(now);
                            succeed(&mut record, now);
                        }
                    }
                }
            }
            if let Some(life) = certificate {
                assert!(now < life.until, "seed {seed}: it ended");
            }
        }
        let refused = most_within(&authority.refused, HOUR);
        assert!(
            refused <= 5,
            "seed {seed}: {refused} failed proofs in an hour"
        );
        let orders = most_within(&authority.orders, 3 * HOUR);
        assert!(orders <= 20, "seed {seed}: {orders} orders in three hours");
        let first = first.expect("a certificate");
        let late = first.saturating_sub(bad_until);
        assert!(
            late <= DAY * 6 / 5 + 60,
            "seed {seed}: {late} s after all was well"
        );
    }
}
