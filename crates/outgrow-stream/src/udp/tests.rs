//! Sessions as they come and go, and simulated against a plain model.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use outgrow_core::{Random, Ticks};

use super::sessions::*;

const LIMITS: Limits = Limits {
    sessions: 3,
    of_address: 0,
    idle: Duration::from_secs(10),
    responses: 0,
};

fn at(seconds: u64) -> Ticks {
    Ticks::ZERO + Duration::from_secs(seconds)
}

fn source(number: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, (number >> 8) as u8], 1_000 + (number & 255)))
}

fn begin(sessions: &mut Sessions, number: u16, now: Ticks) -> SessionId {
    match sessions.arrive(source(number), 1, &LIMITS, now) {
        Arrival::New(id, None) => id,
        other => panic!("{number}: {other:?}"),
    }
}

/// As a worker does that is alone.
fn give_way_to(sessions: &mut Sessions, id: SessionId, now: Ticks) -> Option<SessionId> {
    let unanswered = sessions.unanswered_gives_way(Some(id));
    unanswered.or_else(|| sessions.quiet_gives_way(now))
}

#[test]
fn silence_ends_a_session_and_words_keep_it() {
    let mut sessions = Sessions::default();
    let one = begin(&mut sessions, 1, at(0));
    let two = begin(&mut sessions, 2, at(1));
    assert_eq!(
        sessions.arrive(source(1), 1, &LIMITS, at(5)),
        Arrival::Known(one)
    );
    assert!(!sessions.answered(two, 1, &LIMITS, at(6)));
    assert_eq!(sessions.ends_at(one, &LIMITS), Some(at(15)));
    assert_eq!(sessions.expire(one, &LIMITS, at(14)), None);
    assert_eq!(sessions.expire(one, &LIMITS, at(15)), Some(false));
    assert_eq!(sessions.expire(one, &LIMITS, at(16)), None);
    assert_eq!(sessions.expire(two, &LIMITS, at(16)), Some(false));
    assert!(sessions.is_empty());
}

#[test]
fn who_was_never_answered_gives_way() {
    let mut sessions = Sessions::default();
    let one = begin(&mut sessions, 1, at(0));
    let two = begin(&mut sessions, 2, at(1));
    let three = begin(&mut sessions, 3, at(2));
    assert!(!sessions.answered(one, 1, &LIMITS, at(3)));
    let Arrival::New(four, Some(gone)) = sessions.arrive(source(4), 1, &LIMITS, at(3)) else {
        panic!("there is room when one gives way");
    };
    assert_eq!(gone, two);
    for id in [three, four] {
        assert!(!sessions.answered(id, 1, &LIMITS, at(3)));
    }
    // Answers may still come.
    let soon = at(3) + Duration::from_millis(999);
    assert_eq!(sessions.arrive(source(5), 1, &LIMITS, soon), Arrival::Full);
    assert_eq!(
        sessions.arrive(source(1), 1, &LIMITS, soon),
        Arrival::Known(one)
    );
    // Who went on stays, who has what it asked for does not.
    for (number, gone) in [(5, three), (6, four)] {
        let arrival = sessions.arrive(source(number), 1, &LIMITS, at(4));
        let Arrival::New(id, Some(other)) = arrival else {
            panic!("{arrival:?}");
        };
        assert_eq!(other, gone);
        sessions.answered(id, 1, &LIMITS, at(4));
        sessions.arrive(source(number), 1, &LIMITS, at(4));
    }
    assert_eq!(sessions.arrive(source(7), 1, &LIMITS, at(9)), Arrival::Full);
}

#[test]
fn who_was_never_answered_gives_way_to_who_finds_no_room_elsewhere() {
    let mut sessions = Sessions::default();
    let one = begin(&mut sessions, 1, at(0));
    assert_eq!(
        give_way_to(&mut sessions, one, at(0)),
        None,
        "not to itself"
    );
    let two = begin(&mut sessions, 2, at(1));
    assert!(!sessions.answered(one, 1, &LIMITS, at(1)));
    let three = begin(&mut sessions, 3, at(2));
    assert_eq!(give_way_to(&mut sessions, three, at(1)), Some(two));
    assert_eq!(give_way_to(&mut sessions, three, at(1)), None);
    // Who was answered and is quiet comes after them.
    assert_eq!(give_way_to(&mut sessions, three, at(2)), Some(one));
    assert_eq!(sessions.len(), 1);
    // It is still the next to give way.
    let four = begin(&mut sessions, 4, at(3));
    assert_eq!(give_way_to(&mut sessions, four, at(3)), Some(three));
    // To one of another worker, any may.
    assert_eq!(sessions.quiet_gives_way(at(3)), None, "none was answered");
    assert_eq!(sessions.unanswered_gives_way(None), Some(four));
    assert_eq!(sessions.unanswered_gives_way(None), None);
    assert_eq!(sessions.len(), 0);
}

#[test]
fn an_address_has_so_many() {
    let limits = Limits {
        sessions: 100,
        of_address: 2,
        ..LIMITS
    };
    let mut sessions = Sessions::default();
    let mut arrive = |text: &str| {
        let source = text.parse().expect("an address");
        sessions.arrive(source, 1, &limits, at(0))
    };
    assert!(matches!(arrive("192.0.2.1:1"), Arrival::New(..)));
    assert!(matches!(arrive("192.0.2.1:2"), Arrival::New(..)));
    assert_eq!(arrive("192.0.2.1:3"), Arrival::FullAddress);
    assert!(matches!(arrive("[2001:db8::1]:1"), Arrival::New(..)));
    assert!(matches!(arrive("[2001:db8::2]:1"), Arrival::New(..)));
    assert_eq!(arrive("[2001:db8::3]:1"), Arrival::FullAddress);
    assert!(matches!(arrive("192.0.2.2:1"), Arrival::New(..)));
}

#[test]
fn expected_answers_end_a_session_early() {
    let limits = Limits {
        responses: 2,
        ..LIMITS
    };
    let mut sessions = Sessions::default();
    let Arrival::New(id, None) = sessions.arrive(source(1), 1, &limits, at(0)) else {
        panic!("it is the first");
    };
    assert!(!sessions.answered(id, 1, &limits, at(1)));
    assert_eq!(
        sessions.arrive(source(1), 2, &limits, at(1)),
        Arrival::Known(id)
    );
    assert!(!sessions.answered(id, 4, &limits, at(1)));
    assert!(sessions.answered(id, 1, &limits, at(1)));
    assert!(sessions.is_empty());
    // One that never answers is told apart from one that is through.
    let Arrival::New(id, None) = sessions.arrive(source(2), 1, &limits, at(2)) else {
        panic!("it is the only one");
    };
    assert_eq!(sessions.expire(id, &limits, at(12)), Some(true));
}

/// What the model knows of a session.
#[derive(Debug)]
struct Known {
    id: SessionId,
    last: Ticks,
    owed: u64,
    answered: bool,
    proven: bool,
}

/// Against a model that looks at everything each time.
#[test]
fn it_is_what_a_plain_list_would_be() {
    for seed in 0..60 {
        let mut random = Random::from_seed(seed);
        let limits = Limits {
            sessions: 1 + random.below(6),
            of_address: random.below(4),
            idle: Duration::from_secs(1 + random.below(9) as u64),
            responses: random.below(3) as u32,
        };
        let mut sessions = Sessions::default();
        let mut model: BTreeMap<SocketAddr, Known> = BTreeMap::new();
        // Whether one may be the next that gives way to `id`.
        let may_go =
            |model: &BTreeMap<SocketAddr, Known>, id: SessionId, now: Ticks, one: SessionId| {
                let others = || model.values().filter(move |known| known.id != id);
                let oldest = others()
                    .filter(|known| !known.answered)
                    .map(|known| known.id)
                    .min();
                let quiet = |known: &Known| {
                    known.answered && !known.proven && known.last + Duration::from_secs(1) <= now
                };
                match oldest {
                    Some(oldest) => one == oldest,
                    None => others().any(|known| known.id == one && quiet(known)),
                }
            };
        let nobody_may_go = |model: &BTreeMap<SocketAddr, Known>, id: SessionId, now: Ticks| {
            model
                .values()
                .all(|known| !may_go(model, id, now, known.id))
        };
        let mut now = at(0);
        for step in 0..600 {
            now = now + Duration::from_millis(random.below(900) as u64);
            let told = format!("seed {seed}, step {step}");
            match random.below(8) {
                0..=4 => {
                    let from = source((random.below(3) << 8 | random.below(4)) as u16);
                    let count = 1 + random.below(3) as u32;
                    let owed = u64::from(limits.responses) * u64::from(count);
                    let of_address = model.keys().filter(|one| one.ip() == from.ip()).count();
                    match sessions.arrive(from, count, &limits, now) {
                        Arrival::Known(id) => {
                            let known = model.get_mut(&from).expect(&told);
                            assert_eq!(known.id, id, "{told}");
                            known.last = now;
                            known.owed += owed;
                            known.proven |= known.answered;
                        }
                        Arrival::New(id, gone) => {
                            assert!(!model.contains_key(&from), "{told}");
                            if let Some(gone) = gone {
                                assert_eq!(model.len(), limits.sessions, "{told}");
                                assert!(may_go(&model, id, now, gone), "{told}");
                                model.retain(|_, known| known.id != gone);
                            }
                            let known = Known {
                                id,
                                last: now,
                                owed,
                                answered: false,
                                proven: false,
                            };
                            model.insert(from, known);
                            if random.below(5) == 0 {
                                match give_way_to(&mut sessions, id, now) {
                                    Some(gone) => {
                                        assert!(may_go(&model, id, now, gone), "{told}");
                                        model.retain(|_, known| known.id != gone);
                                    }
                                    None => assert!(nobody_may_go(&model, id, now), "{told}"),
                                }
                            }
                        }
                        Arrival::Full => {
                            assert_eq!(model.len(), limits.sessions, "{told}");
                            let nobody = SessionId::default();
                            assert!(nobody_may_go(&model, nobody, now), "{told}");
                        }
                        Arrival::FullAddress => assert_eq!(of_address, limits.of_address, "{told}"),
                    }
                }
                5 | 6 => {
                    let place = random.below(model.len().max(1));
                    let Some((&from, known)) = model.iter_mut().nth(place) else {
                        continue;
                    };
                    let count = 1 + random.below(2) as u32;
                    let left = known.owed.saturating_sub(u64::from(count));
                    let is_over = limits.responses > 0 && left == 0;
                    assert_eq!(
                        sessions.answered(known.id, count, &limits, now),
                        is_over,
                        "{told}"
                    );
                    (known.last, known.owed, known.answered) = (now, left, true);
                    if is_over {
                        model.remove(&from);
                    }
                }
                _ => {
                    let is_over = |one: &Known| one.last + limits.idle <= now;
                    for one in model.values() {
                        let expected = is_over(one).then_some(!one.answered && one.owed > 0);
                        assert_eq!(sessions.expire(one.id, &limits, now), expected, "{told}");
                    }
                    model.retain(|_, one| !is_over(one));
                }
            }
            assert_eq!(sessions.len(), model.len(), "{told}");
            assert!(sessions.len() <= limits.sessions, "{told}");
        }
    }
}
