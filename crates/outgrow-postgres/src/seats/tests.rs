//! Seats by hand, then many pools on few of them, by chance.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use outgrow_core::Random;

use super::ledger::{Capacity, Elsewhere, Holder, Ledger, TURN, Terms, UNLIMITED};

fn holder(name: &str) -> Holder {
    (name.into(), "user".into())
}

fn ledger(most: u32) -> Ledger {
    let mut ledger = Ledger::new(Elsewhere::Known(0));
    ledger.terms = Terms {
        most,
        edges: 1,
        learns: false,
    };
    ledger
}

#[test]
fn how_many_there_are_follows_from_all_who_say_something() {
    let check = |most, edges, takes: Option<(u32, u32)>, elsewhere, expected| {
        let mut ledger = ledger(most);
        ledger.terms.edges = edges;
        ledger.elsewhere = elsewhere;
        if let Some((connections, reserved)) = takes {
            ledger.terms.learns = true;
            ledger.was_asked = true;
            ledger.capacity = Some(Capacity {
                connections,
                reserved,
            });
        }
        assert_eq!(
            ledger.limit(),
            expected,
            "{most} {edges} {takes:?} {elsewhere:?}"
        );
    };
    let none = Elsewhere::Known(0);
    check(0, 1, None, none, UNLIMITED);
    check(20, 1, None, none, 20);
    check(20, 3, None, none, 6);
    check(2, 3, None, none, 1);
    check(0, 1, Some((100, 3)), none, 97);
    check(0, 2, Some((100, 3)), none, 48);
    check(500, 1, Some((100, 3)), none, 97);
    check(50, 1, Some((100, 3)), none, 50);
    check(50, 1, Some((2, 3)), none, 1);
    check(50, 1, None, Elsewhere::Known(20), 30);
    check(50, 1, None, Elsewhere::Known(70), 0);
    check(50, 1, None, Elsewhere::Unknown, 0);
    check(0, 1, None, Elsewhere::Unknown, UNLIMITED);
    check(0, 1, Some((100, 3)), Elsewhere::Unknown, 0);
}

#[test]
fn before_the_server_is_known_there_are_a_few() {
    let mut ledger = ledger(0);
    ledger.terms.learns = true;
    assert_eq!(ledger.limit(), 16);
    ledger.terms.most = 5;
    assert_eq!(ledger.limit(), 5);
    // One that does not say how many it takes.
    ledger.terms.most = 0;
    ledger.was_asked = true;
    assert_eq!(ledger.limit(), UNLIMITED);
}

#[test]
fn who_has_fewest_is_next_and_among_equals_who_came_first() {
    let mut ledger = ledger(4);
    let [a, b, c] = ["a", "b", "c"].map(holder);
    for _ in 0..3 {
        assert!(ledger.take(&a));
    }
    assert!(ledger.take(&b));
    assert!(!ledger.take(&b), "there is no fifth");
    ledger.enter(a.clone());
    ledger.enter(b.clone());
    let of_c = ledger.enter(c.clone());
    assert!(ledger.is_first(of_c));
    assert!(ledger.grant().is_none());
    ledger.free(&a, false);
    assert_eq!(ledger.grant().map(|one| one.holder), Some(c.clone()));
    assert!(ledger.grant().is_none());
    assert!(!ledger.take(&c), "not past those who wait");
}

#[test]
fn a_pool_gives_up_what_others_lack() {
    let long = TURN;
    let mut ledger = ledger(4);
    let [a, b, c, d] = ["a", "b", "c", "d"].map(holder);
    for _ in 0..4 {
        assert!(ledger.take(&a));
    }
    assert!(!ledger.owes(&a, true, long), "nobody waits");
    ledger.enter(a.clone());
    assert!(!ledger.owes(&a, true, long), "nobody else waits");
    ledger.enter(b.clone());
    assert!(ledger.owes(&a, false, Duration::ZERO));
    ledger.give_up(&a);
    assert!(
        !ledger.owes(&a, true, long),
        "one is closed for that one already"
    );
    ledger.free(&a, true);
    assert_eq!(ledger.grant().map(|one| one.holder), Some(b.clone()));
    // Three and one: with another one wanted there it is two and two.
    ledger.enter(b.clone());
    assert!(ledger.owes(&a, false, Duration::ZERO));
    ledger.give_up(&a);
    ledger.free(&a, true);
    assert!(ledger.grant().is_some());
    ledger.enter(b.clone());
    assert!(!ledger.owes(&a, false, long), "two and two is even");
    assert!(!ledger.owes(&a, true, Duration::ZERO));
    assert!(ledger.owes(&a, true, long), "it is idle, and stays so");
    // More pools than there is room for: each has its turn.
    ledger = self::ledger(2);
    assert!(ledger.take(&a) && ledger.take(&b));
    ledger.enter(c.clone());
    ledger.enter(d.clone());
    assert!(!ledger.owes(&a, false, Duration::ZERO));
    assert!(ledger.owes(&a, true, Duration::ZERO));
    assert!(ledger.owes(&a, false, long));
}

#[test]
fn a_smaller_limit_is_reached_as_connections_come_back() {
    let mut ledger = ledger(4);
    let a = holder("a");
    for _ in 0..4 {
        assert!(ledger.take(&a));
    }
    ledger.terms.most = 3;
    assert!(ledger.is_pressed() && ledger.owes(&a, false, Duration::ZERO));
    ledger.give_up(&a);
    assert!(!ledger.owes(&a, false, Duration::ZERO));
    ledger.free(&a, true);
    assert!(!ledger.is_pressed());
}

#[test]
fn who_leaves_never_has_more_than_it_said() {
    let mut ledger = ledger(4);
    let a = holder("a");
    for _ in 0..3 {
        assert!(ledger.take(&a));
    }
    assert_eq!(ledger.shrink(false), 3);
    ledger.free(&a, false);
    // It may still take what it said that it has.
    assert!(ledger.take(&a));
    assert!(!ledger.take(&a));
    ledger.free(&a, false);
    ledger.free(&a, false);
    assert_eq!(ledger.shrink(false), 1);
    assert!(!ledger.take(&a));
    ledger.free(&a, false);
    assert_eq!(ledger.shrink(false), 0);
}

#[test]
fn what_is_never_lent_is_not_what_clients_that_stay_are_served_with() {
    let check = |most, apart, used, expected| {
        let (mut ledger, a) = (ledger(most), holder("a"));
        for place in 0..used {
            assert!(ledger.take(&a));
            if place < apart {
                ledger.set_apart(true);
            }
        }
        assert_eq!(ledger.shrink(true), expected, "{apart} of {used}, {most}");
        let more = (expected > used).then_some(());
        assert_eq!(ledger.take(&a).then_some(()), more);
    };
    // Nothing is apart: one for all that are left.
    check(10, 0, 0, 1);
    check(10, 0, 3, 3);
    check(1, 0, 0, 0);
    check(0, 1, 1, 2);
    check(10, 1, 1, 2);
    check(10, 1, 3, 3);
    check(10, 3, 3, 4);
    // The other one needs as many, and one.
    check(4, 1, 1, 2);
    check(3, 1, 1, 1);
    // Given back, it counts no more.
    let (mut ledger, a) = (ledger(10), holder("a"));
    assert!(ledger.take(&a));
    ledger.set_apart(true);
    assert_eq!(ledger.shrink(true), 2);
    ledger.set_apart(false);
    ledger.free(&a, false);
    assert_eq!(ledger.shrink(true), 1);
}

/// A pool in the simulation.
#[derive(Default)]
struct Pool {
    /// Transactions that wait or run.
    wanted: u32,
    /// Connections, each with the time of its making and when its transaction ends.
    busy: Vec<(u64, u64)>,
    idle: VecDeque<(u64, u64)>,
    tickets: Vec<u64>,
    /// Since when it has had somebody waiting and no connection.
    starved_since: Option<u64>,
    served: u64,
}

/// What a simulation found: the longest time for which a pool wanted something and had nothing, and
/// how much each was served.
fn simulate(seed: u64, pools: usize, limit: u32, demand: impl Fn(usize) -> u32) -> (u64, Vec<u64>) {
    const STEP: u64 = 5;
    const CLOSE: u64 = 5;
    let mut random = Random::from_seed(seed);
    let mut ledger = ledger(limit);
    let names: Vec<Holder> = (0..pools).map(|one| holder(&one.to_string())).collect();
    let mut all: Vec<Pool> = names.iter().map(|_| Pool::default()).collect();
    // Connections that are being closed for somebody: whose, and when that is over.
    let mut closing: Vec<(usize, u64)> = Vec::new();
    let mut starved = 0;
    for now in (0..30_000_u64).step_by(STEP as usize) {
        for (own, _) in closing.extract_if(.., |(_, at)| *at <= now) {
            ledger.free(&names[own], true);
        }
        for index in 0..pools {
            let name = &names[index];
            // Each keeps so many transactions wanted.
            all[index].wanted = demand(index);
            let pool = &mut all[index];
            let ended: Vec<_> = pool.busy.extract_if(.., |(_, end)| *end <= now).collect();
            for (made, _) in ended {
                let is_idle = pool.busy.len() as u32 >= pool.wanted;
                if ledger.owes(name, is_idle, Duration::from_millis(now - made)) {
                    ledger.give_up(name);
                    closing.push((index, now + CLOSE));
                } else {
                    pool.idle.push_back((made, now));
                }
            }
            while (pool.busy.len() as u32) < pool.wanted {
                let Some((made, _)) = pool.idle.pop_back() else {
                    break;
                };
                let takes = 1 + random.below(50) as u64;
                pool.busy.push((made, now + takes));
                pool.served += 1;
            }
            let waiting = pool.wanted - pool.busy.len() as u32;
            while (pool.tickets.len() as u32) < waiting {
                pool.tickets.push(ledger.enter(name.clone()));
            }
            while pool.tickets.len() as u32 > waiting {
                ledger.leave(pool.tickets.pop().expect("one more"));
            }
        }
        for index in 0..pools {
            let Some((_, since)) = all[index].idle.front().copied() else {
                continue;
            };
            if ledger.owes(&names[index], true, Duration::from_millis(now - since)) {
                all[index].idle.pop_front();
                ledger.give_up(&names[index]);
                closing.push((index, now + CLOSE));
            }
        }
        while let Some(next) = ledger.grant() {
            let index = names.iter().position(|name| *name == next.holder);
            let pool = &mut all[index.expect("one of them")];
            pool.tickets.retain(|ticket| *ticket != next.ticket);
            pool.idle.push_back((now, now));
        }
        let there: usize = all.iter().map(|one| one.busy.len() + one.idle.len()).sum();
        assert_eq!(there + closing.len(), ledger.used() as usize, "seed {seed}");
        assert!(ledger.used() <= limit, "seed {seed}: {}", ledger.used());
        for pool in &mut all {
            if pool.wanted > 0 && pool.busy.is_empty() && pool.idle.is_empty() {
                let since = *pool.starved_since.get_or_insert(now);
                starved = starved.max(now - since);
            } else {
                pool.starved_since = None;
            }
        }
    }
    (starved, all.iter().map(|pool| pool.served).collect())
}

#[test]
fn a_small_pool_is_not_starved_by_a_large_one() {
    for seed in 0..6 {
        let (starved, served) = simulate(seed, 2, 4, |index| [50, 1][index]);
        assert!(starved <= 100, "seed {seed}: {starved} ms");
        assert!(
            served[1] > 250 && served[0] > 2 * served[1],
            "seed {seed}: {served:?}"
        );
    }
}

#[test]
fn pools_that_want_much_have_as_much_as_each_other() {
    for seed in 0..6 {
        let (starved, served) = simulate(seed, 3, 9, |_| 20);
        assert!(starved <= 100, "seed {seed}: {starved} ms");
        let (least, most) = (served.iter().min(), served.iter().max());
        let (least, most) = (*least.expect("three"), *most.expect("three"));
        assert!(most * 10 <= least * 12, "seed {seed}: {served:?}");
    }
}

#[test]
fn more_pools_than_connections_take_turns() {
    for seed in 0..6 {
        let (starved, served) = simulate(seed, 10, 2, |_| 3);
        // Eight before it, two at a time, for a turn, a transaction and a close each.
        assert!(starved <= 4 * (200 + 60) + 200, "seed {seed}: {starved} ms");
        let by_count: BTreeMap<u64, usize> = served.iter().map(|one| (*one, 1)).collect();
        let (least, most) = (by_count.first_key_value(), by_count.last_key_value());
        let (least, most) = (least.expect("ten").0, most.expect("ten").0);
        assert!(most * 10 <= least * 15, "seed {seed}: {served:?}");
    }
}
