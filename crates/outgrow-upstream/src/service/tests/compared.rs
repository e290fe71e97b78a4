//! Tests of what comes of comparing endpoints: ejection over an interval, weights by reported load,
//! and the curve of a slow start.

use outgrow_balance::reported_load::Report;

use super::*;
use crate::settings::{
    FailurePercentageSettings, OutlierSettings, SlowResponsesSettings, SlowStartCurve,
    SuccessRateSettings, Weights,
};

/// Answers and failures of an endpoint, each after this time.
fn requests(house: &House, port: u16, count: u32, failures: u32, took: Duration) {
    let endpoint = house.endpoint(port);
    for number in 0..count {
        let permit = Permit::acquire(&endpoint).expect("it is usable");
        // Never two in a row.
        let failed = number % 2 == 1 && number / 2 < failures;
        let outcome = if failed {
            Outcome::ServerError
        } else {
            Outcome::Success
        };
        endpoint.report(outcome, at(10));
        endpoint.note_response_time(took, failed, at(10));
        drop(permit);
    }
}

fn outlier(change: impl FnOnce(&mut OutlierSettings)) -> ServiceSettings {
    settings(&[1, 2, 3, 4, 5], |it| change(&mut it.outlier))
}

const MILLI: Duration = Duration::from_millis(1);

#[test]
fn rules_are_off_unless_they_are_written() {
    let mut house = House::new(outlier(|_| {}));
    house.registry.tick(at(10));
    requests(&house, 1, 200, 100, MILLI);
    for port in 2..=5 {
        requests(&house, port, 200, 0, MILLI);
    }
    house.registry.tick(at(20));
    house.registry.tick(at(30));
    assert_eq!(house.used(at(30)), [1, 2, 3, 4, 5]);
    assert!(house.events().is_empty());
}

#[test]
fn who_fails_most_requests_is_ejected_and_a_check_does_not_bring_it_back() {
    let mut house = House::new(settings(&[1, 2, 3, 4, 5], |it| {
        it.outlier.failure_percentage = Some(FailurePercentageSettings {
            percent: 40,
            ..FailurePercentageSettings::default()
        });
        it.check = Some(CheckSettings {
            path: "/".parse().ok(),
            ..CheckSettings::default()
        });
    }));
    for port in 1..=5 {
        house.check(port, Ok(()), Some(Health::Up), at(9));
    }
    house.events();
    // What was before the first interval does not count.
    requests(&house, 2, 100, 50, MILLI);
    house.registry.tick(at(10));
    requests(&house, 1, 100, 45, MILLI);
    for port in 2..=5 {
        requests(&house, port, 100, 10, MILLI);
    }
    house.registry.tick(at(19));
    assert!(house.events().is_empty(), "the interval is not over");
    house.registry.tick(at(20));
    let expected = ["failure_percentage 127.0.0.1:1: failed 45 of 100 requests in 10s"];
    assert_eq!(house.events(), expected);
    assert_eq!(house.used(at(20)), [2, 3, 4, 5]);
    let state = &house.web.state(at(20)).endpoints[0];
    assert_eq!(
        state.ejected_because.as_deref(),
        Some("failed 45 of 100 requests in 10s")
    );
    assert_eq!(state.ejections_by_cause[2].1, 1);
    for _ in 0..5 {
        house.check(1, Ok(()), None, at(21));
    }
    assert_eq!(house.used(at(21)), [2, 3, 4, 5], "it passed all the time");
    house.registry.tick(at(30));
    assert_eq!(house.events(), ["returned 127.0.0.1:1"]);
    assert_eq!(house.web.state(at(30)).endpoints[0].ejected_because, None);
}

#[test]
fn who_fails_more_than_the_others_is_ejected() {
    let mut house = House::new(outlier(|it| {
        it.success_rate = Some(SuccessRateSettings::default());
    }));
    house.registry.tick(at(10));
    for port in 1..=5 {
        requests(&house, port, 200, if port == 4 { 40 } else { 2 }, MILLI);
    }
    house.registry.tick(at(20));
    let expected =
        ["success_rate 127.0.0.1:4: failed 40 of 200 requests in 10s, more than the others"];
    assert_eq!(house.events(), expected);
    // Too few requests say nothing.
    for port in [1, 2, 3, 5] {
        requests(&house, port, 99, if port == 1 { 40 } else { 0 }, MILLI);
    }
    house.registry.tick(at(30));
    assert_eq!(house.events(), ["returned 127.0.0.1:4"]);
}

#[test]
fn who_is_much_slower_is_ejected_and_never_all() {
    let mut house = House::new(outlier(|it| {
        it.slow_responses = Some(SlowResponsesSettings::default());
        it.max_ejected = outgrow_core::settings::Percent::new(20);
    }));
    house.registry.tick(at(10));
    for (port, took) in [(1, 10), (2, 300), (3, 12), (4, 400), (5, 9)] {
        requests(&house, port, 60, 0, MILLI * took);
    }
    house.registry.tick(at(20));
    let expected = [
        "slow_responses 127.0.0.1:4: took 400 ms to answer on average in 10s, much longer than \
         the others",
    ];
    assert_eq!(
        house.events(),
        expected,
        "the worst, as max_ejected allows one"
    );
    // A reload begins a new interval.
    house.reload(outlier(|_| {}), at(25));
    requests(&house, 2, 60, 0, MILLI * 300);
    house.registry.tick(at(29));
    assert!(house.events().is_empty());
}

fn report(utilization: f64) -> Report {
    Report {
        application_utilization: utilization,
        requests_per_second: 100.0,
        ..Report::default()
    }
}

#[test]
fn reported_load_becomes_weight() {
    for balance in [Balance::PowerOfTwo, Balance::RoundRobin] {
        let reported = |it: &mut ServiceSettings| {
            it.weights = Weights::Reported;
            it.balance = balance;
            it.endpoints[0].0.weight = 7;
        };
        let mut house = House::new(settings(&[1, 2, 3], reported));
        let share_of = |house: &mut House, port: u16, now: Ticks| {
            let picks = 4_000;
            let hits = (0..picks)
                .filter(|_| port_of(house.choose(now).unwrap().endpoint()) == port)
                .count();
            hits as f64 / f64::from(picks)
        };
        let near = |share: f64, expected: f64| (share - expected).abs() < 0.04;
        let share = share_of(&mut house, 1, at(1));
        assert!(near(share, 1.0 / 3.0), "{balance}: {share} without reports");
        let tell = |house: &House| {
            house.endpoint(1).note_report(report(0.2));
            house.endpoint(2).note_report(report(0.8));
        };
        tell(&house);
        house.registry.tick(at(10));
        let share = share_of(&mut house, 1, at(10));
        assert!(near(share, 1.0 / 3.0), "{balance}: {share} in the blackout");
        tell(&house);
        house.registry.tick(at(20));
        let weights = |house: &House| {
            let endpoints = house.web.state(at(20)).endpoints;
            let pairs = endpoints.iter().map(|it| (it.weight, it.reported_weight));
            pairs.collect::<Vec<_>>()
        };
        // 500, 125, and the median of the two for the one that is silent; largest is 1000.
        let expected = [(7, Some(1_000)), (1, Some(250)), (1, Some(625))];
        assert_eq!(weights(&house), expected);
        let share = share_of(&mut house, 1, at(20));
        assert!(near(share, 1_000.0 / 1_875.0), "{balance}: {share}");
        // One that comes in between is like the middle one.
        house.reload(settings(&[1, 2, 3, 4], reported), at(20));
        assert_eq!(weights(&house)[3], (1, Some(625)));
        // Nobody reports any more: all alike.
        house.registry.tick(at(500));
        assert_eq!(weights(&house)[1], (1, Some(1_000)));
        house.reload(settings(&[1, 2, 3], |it| it.balance = balance), at(501));
        assert_eq!(weights(&house)[1], (1, None));
    }
}

#[test]
fn the_curve_of_a_slow_start_is_that_of_the_settings() {
    let slowly = |it: &mut ServiceSettings| {
        it.slow_start = Duration::from_secs(100);
        it.slow_start_curve = SlowStartCurve {
            aggression: 200,
            least_share: 50,
        };
    };
    let house = House::new(settings(&[1], slowly));
    house.reload(settings(&[1, 2], slowly), at(1_000));
    let settings = house.web.settings();
    let curve = settings.slow_start_curve.over(settings.slow_start);
    let share = |now: u64| house.endpoint(2).share(&curve, at(now));
    assert!((share(1_000) - 0.5).abs() < 1e-9, "never below the least");
    assert!((share(1_049) - 0.7).abs() < 1e-9, "the root of 0.49");
    assert!((share(1_100) - 1.0).abs() < 1e-9);
}

#[test]
fn a_slow_check_is_told_once_and_shown_as_long_as_it_is() {
    let slow = |it: &mut ServiceSettings| {
        it.check = Some(CheckSettings {
            path: "/readyz".parse().ok(),
            ..CheckSettings::default()
        });
    };
    let mut house = House::new(settings(&[1], slow));
    let endpoint = house.endpoint(1).id();
    let check = |house: &House, millis: u64, now: u64| {
        let took = Duration::from_millis(millis);
        house.web.checked(endpoint, Ok(took), None, at(now));
    };
    let advice = |house: &House, now: u64| house.web.state(at(now)).advice;
    for now in 0..20 {
        check(&house, 180, now);
        house.registry.tick(at(now));
    }
    let told = house.events();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("the check takes 180 ms"), "{told:?}");
    assert_eq!(advice(&house, 20).as_deref(), Some(told[0].as_str()));
    for now in 20..60 {
        check(&house, 3, now);
        house.registry.tick(at(now));
    }
    assert_eq!(advice(&house, 60), None);
    assert!(house.events().is_empty());
    // Another check begins anew.
    house.reload(
        settings(&[1], |it| {
            slow(it);
            it.check.as_mut().unwrap().rise = 3;
        }),
        at(60),
    );
    for now in 60..80 {
        check(&house, 180, now);
        house.registry.tick(at(now));
    }
    assert_eq!(house.events().len(), 1);
}
