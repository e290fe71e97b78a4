//! Who waits how long.

use super::*;

const HOME: Source<'static> = Source::Address(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
const AWAY: Source<'static> = Source::Address(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)));

fn at(milliseconds: u64) -> Ticks {
    Ticks(1_000_000_000 + milliseconds * 1_000_000)
}

fn wait(milliseconds: u64) -> Judgement {
    Judgement::Wait(Duration::from_millis(milliseconds))
}

fn fail(throttle: &mut Throttle, source: Source<'_>, user: &str, times: u32, now: Ticks) {
    for _ in 0..times {
        throttle.failed(source, user, now);
    }
}

#[test]
fn the_wait_grows_and_ends() {
    let mut throttle = Throttle::new(ThrottleSettings::default());
    fail(&mut throttle, HOME, "eve", 10, at(0));
    assert_eq!(throttle.judge(HOME, "eve", at(0)), Judgement::Go);
    fail(&mut throttle, HOME, "eve", 1, at(0));
    assert_eq!(throttle.judge(HOME, "eve", at(40)), wait(60));
    // Others do not wait: not from elsewhere, not as somebody else.
    assert_eq!(throttle.judge(AWAY, "eve", at(40)), Judgement::Go);
    assert_eq!(throttle.judge(HOME, "adam", at(40)), Judgement::Go);
    fail(&mut throttle, HOME, "eve", 2, at(1_000));
    assert_eq!(throttle.judge(HOME, "eve", at(1_000)), wait(400));
    fail(&mut throttle, HOME, "eve", 20, at(2_000));
    assert_eq!(throttle.judge(HOME, "eve", at(2_900)), wait(100));
    // A success forgives, a minute forgets.
    throttle.succeeded(HOME, "eve");
    assert_eq!(throttle.judge(HOME, "eve", at(2_900)), Judgement::Go);
    fail(&mut throttle, HOME, "adam", 20, at(3_000));
    assert_ne!(throttle.judge(HOME, "adam", at(3_000)), Judgement::Go);
    assert_eq!(throttle.judge(HOME, "adam", at(63_000)), Judgement::Go);
    fail(&mut throttle, HOME, "adam", 10, at(63_000));
    assert_eq!(throttle.judge(HOME, "adam", at(63_000)), Judgement::Go);
}

#[test]
fn many_at_once_stand_in_line() {
    let mut throttle = Throttle::new(ThrottleSettings::default());
    fail(&mut throttle, HOME, "eve", 14, at(0));
    // 800 ms from one to the next, and no more than five seconds of them.
    let judged: Vec<Judgement> = (0..8).map(|_| throttle.judge(HOME, "eve", at(0))).collect();
    let expected: Vec<Judgement> = (1..7).map(|turn| wait(turn * 800)).collect();
    assert_eq!(judged[..6], expected);
    assert_eq!(judged[6..], [Judgement::Refuse; 2]);
    assert_eq!(throttle.judge(HOME, "eve", at(1_000)), wait(4_600));
}

#[test]
fn who_tries_many_users_waits_as_well() {
    let mut throttle = Throttle::new(ThrottleSettings::default());
    for number in 0..100 {
        throttle.failed(HOME, &format!("user{number}"), at(0));
    }
    assert_eq!(throttle.judge(HOME, "another", at(0)), Judgement::Go);
    throttle.failed(HOME, "user100", at(0));
    assert_eq!(throttle.judge(HOME, "another", at(0)), wait(100));
    // One who knows a password does not get rid of it for the others.
    throttle.succeeded(HOME, "another");
    assert_ne!(throttle.judge(HOME, "another", at(0)), Judgement::Go);
}

#[test]
fn addresses_that_are_one_place_count_as_one() {
    let source = |text: &str| Source::Address(text.parse().unwrap());
    let mut throttle = Throttle::new(ThrottleSettings::default());
    fail(&mut throttle, source("2001:db8:1:2::1"), "eve", 11, at(0));
    let other = source("2001:db8:1:2:ffff::7");
    assert_eq!(throttle.judge(other, "eve", at(0)), wait(100));
    let network = source("2001:db8:1:3::1");
    assert_eq!(throttle.judge(network, "eve", at(0)), Judgement::Go);
    fail(&mut throttle, source("::ffff:10.0.0.1"), "eve", 11, at(0));
    assert_eq!(throttle.judge(HOME, "eve", at(0)), wait(100));
    let local = Source::Local { peer: None };
    assert_eq!(throttle.judge(local, "eve", at(0)), Judgement::Go);
    let long = "ä".repeat(100);
    fail(&mut throttle, local, &long, 11, at(0));
    assert_eq!(throttle.judge(local, &"ä".repeat(31), at(0)), wait(100));
}

#[test]
fn the_table_is_bounded_and_keeps_the_newest() {
    let mut throttle = Throttle::new(ThrottleSettings {
        capacity: 100,
        free: 0,
        ..ThrottleSettings::default()
    });
    for number in 0..10_000_u32 {
        let source = Source::Address(IpAddr::V4(Ipv4Addr::from_bits(number)));
        throttle.failed(source, "eve", at(u64::from(number)));
        assert!(throttle.len() <= 100, "{}", throttle.len());
        assert_ne!(
            throttle.judge(source, "eve", at(u64::from(number))),
            Judgement::Go
        );
    }
    // All at the same moment, and none at all.
    for number in 0..1_000_u32 {
        let source = Source::Address(IpAddr::V4(Ipv4Addr::from_bits(number)));
        throttle.failed(source, "eve", at(10_000));
        assert!(throttle.len() <= 100, "{}", throttle.len());
    }
    let mut off = Throttle::new(ThrottleSettings {
        capacity: 0,
        ..ThrottleSettings::default()
    });
    fail(&mut off, HOME, "eve", 100, at(0));
    assert!(off.is_empty());
    assert_eq!(off.judge(HOME, "eve", at(0)), Judgement::Go);
}

#[test]
fn odd_settings_do_not_panic() {
    for (free, first, most) in [
        (u32::MAX, Duration::MAX, Duration::MAX),
        (0, Duration::MAX, Duration::MAX),
        (0, Duration::ZERO, Duration::ZERO),
    ] {
        let mut throttle = Throttle::new(ThrottleSettings {
            free,
            first,
            most,
            free_of_address: free,
            capacity: 1,
            ..ThrottleSettings::default()
        });
        for _ in 0..50 {
            throttle.failed(HOME, "eve", Ticks::NEVER);
            let _ = throttle.judge(HOME, "eve", Ticks::NEVER);
            let _ = throttle.judge(HOME, "eve", Ticks::ZERO);
        }
    }
}
