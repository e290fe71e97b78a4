//! What a client gets of a room, and whom it waits for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use outgrow_core::Random;

use super::counts::MOST_WAITING;
use super::*;

const MIB: u64 = 1 << 20;

fn client(number: u8) -> Option<IpAddr> {
    Some(IpAddr::from([192, 0, 2, number]))
}

#[test]
fn a_client_has_a_quarter_of_what_it_leaves() {
    let ledger = Ledger::new(256 * MIB);
    let room = Room::new(Arc::clone(&ledger));
    let all_of =
        |number| -> Vec<Held> { std::iter::from_fn(|| room.hold(MIB, client(number))).collect() };
    let first = all_of(1);
    assert_eq!(first.len(), 12, "a fifth of 64");
    let others: Vec<_> = (2..=10).map(all_of).collect();
    let counts: Vec<usize> = others.iter().map(Vec::len).collect();
    assert_eq!(counts, [10, 8, 6, 5, 4, 3, 3, 2, 2]);
    assert!(room.hold(10 * MIB, None).is_none(), "who has no share");
    assert!(room.hold(9 * MIB, None).is_some(), "has what there is");
    drop((first, others));
    assert_eq!(ledger.used_bytes(), 0);
    let counts = room.inner.counts();
    assert_eq!((counts.held_bytes(), counts.clients()), (0, 0));
}

#[test]
fn the_only_body_of_a_client_may_need_more() {
    let ledger = Ledger::new(256 * MIB);
    let room = Room::new(Arc::clone(&ledger));
    let mut only = room.hold(20 * MIB, client(1)).expect("room");
    assert!(only.grow(32 * MIB), "half of 64");
    assert!(!only.grow(33 * MIB));
    assert!(room.hold(MIB, client(1)).is_none(), "and no other one");
    let mut second = room.hold(MIB, client(2)).expect("room");
    let third = room.hold(MIB, client(2)).expect("room");
    assert!(!second.grow(9 * MIB), "there is another one of it");
    drop(third);
    assert!(second.grow(9 * MIB));
}

#[test]
fn what_becomes_large_leaves_the_small_ones_room() {
    let ledger = Ledger::new(256 * MIB);
    let (small, large) = (
        Room::new(Arc::clone(&ledger)),
        Room::new(Arc::clone(&ledger)),
    );
    let hold = || {
        let address = client(1).expect("one");
        let mut held = small.nothing_up_to((MIB, &large), address);
        held.grow(MIB).then_some(held)
    };
    let mut held = hold().expect("room");
    assert_eq!(small.inner.counts().held_bytes(), MIB);
    assert!(held.grow(9 * MIB));
    assert_eq!(small.inner.counts().held_bytes(), 0);
    assert_eq!(large.inner.counts().held_bytes(), 9 * MIB);
    assert!(held.grow(10 * MIB));
    assert_eq!(ledger.used_bytes(), 10 * MIB);
    let mut other = hold().expect("room");
    assert!(!other.grow(40 * MIB), "more than is left");
    assert_eq!(small.inner.counts().held_bytes(), MIB, "it stays as it was");
    drop((held, other));
    assert_eq!(ledger.used_bytes(), 0);
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll(held: &mut Held, bytes: u64) -> Poll<bool> {
    held.poll_grow(bytes, &Context::from_waker(Waker::noop()))
}

#[test]
fn who_has_no_part_left_waits_for_its_own() {
    let ledger = Ledger::new(256 * MIB);
    let room = Room::new(Arc::clone(&ledger));
    let mut first = room.nothing(client(1));
    assert_eq!(poll(&mut first, 10 * MIB), Poll::Ready(true));
    let woken: Arc<Woken> = Arc::default();
    let waker = Arc::clone(&woken).into();
    let cx = Context::from_waker(&waker);
    let mut others: Vec<_> = (0..4).map(|_| room.nothing(client(1))).collect();
    for other in &mut others {
        assert!(other.poll_grow(8 * MIB, &cx).is_pending());
    }
    // Nobody comes between, and others are not concerned.
    assert!(!room.nothing(client(1)).grow_in_turn(MIB));
    assert!(room.nothing(client(2)).grow_in_turn(MIB));
    // Who goes leaves its turn to the next.
    others.remove(0);
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    drop(first);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1, "there is room for one");
    assert_eq!(poll(&mut others[0], 8 * MIB), Poll::Ready(true));
    assert!(poll(&mut others[1], 8 * MIB).is_pending());
    assert_eq!(ledger.used_bytes(), 8 * MIB);
    // One that was told, and goes without having looked.
    drop(others.remove(0));
    drop(others.remove(0));
    assert_eq!(poll(&mut others[0], 8 * MIB), Poll::Ready(true));
    drop(others);
    let counts = room.inner.counts();
    assert_eq!((counts.held_bytes(), counts.clients()), (0, 0));
}

/// Where all of a client's wait, the first of them is judged as its only one.
#[test]
fn bodies_do_not_wait_for_each_other() {
    let ledger = Ledger::new(256 * MIB);
    let room = Room::new(Arc::clone(&ledger));
    let mut pair: Vec<_> = (0..2).map(|_| room.nothing(client(1))).collect();
    for held in &mut pair {
        assert_eq!(poll(held, MIB), Poll::Ready(true));
    }
    assert!(
        poll(&mut pair[0], 20 * MIB).is_pending(),
        "the other goes on"
    );
    assert!(poll(&mut pair[1], 20 * MIB).is_pending());
    assert_eq!(poll(&mut pair[0], 20 * MIB), Poll::Ready(true));
    assert!(poll(&mut pair[1], 20 * MIB).is_pending());
    // What nothing can make room for is refused, when there is nobody to wait for.
    let mut third = room.nothing(client(1));
    assert!(poll(&mut third, 40 * MIB).is_pending());
    drop(pair);
    assert_eq!(poll(&mut third, 40 * MIB), Poll::Ready(false));
}

/// Who waits has its part of what others give back as well.
#[test]
fn what_others_give_back_is_seen() {
    let ledger = Ledger::new(256 * MIB);
    let room = Room::new(Arc::clone(&ledger));
    let others: Vec<_> = (10..30)
        .map(|number| room.hold(2 * MIB, client(number)))
        .collect();
    let mut all = Vec::new();
    for number in 1..=6 {
        let mut first = room.nothing(client(number));
        assert_eq!(poll(&mut first, MIB), Poll::Ready(true));
        let mut second = room.nothing(client(number));
        assert!(poll(&mut second, 5 * MIB).is_pending());
        all.push((first, second));
    }
    drop(others);
    for (_, second) in &mut all {
        assert_eq!(poll(second, 5 * MIB), Poll::Ready(true));
    }
}

/// What is given back at once goes to as many as there is enough for, not only to the first few who are asked.
#[test]
fn all_that_is_given_back_is_seen() {
    let ledger = Ledger::new(256 * MIB);
    let room = Room::new(Arc::clone(&ledger));
    let large = room
        .hold(30 * MIB, client(99))
        .expect("half of 64 but for 2");
    let numbers = || 1..=10;
    let mut all: Vec<_> = numbers().map(|of| room.nothing(client(of))).collect();
    for first in &mut all {
        assert_eq!(poll(first, MIB), Poll::Ready(true));
    }
    for of in numbers() {
        let mut second = room.nothing(client(of));
        assert!(poll(&mut second, 5 * MIB).is_pending());
        all.push(second);
    }
    drop(large);
    // 54 are left. Six have a quarter of what is left with them: 6 of 24 and more, the next would of 19.
    let granted = room.inner.counts().held_bytes() - 10 * MIB;
    assert_eq!(granted, 6 * 5 * MIB);
    drop(all);
    assert_eq!(room.inner.counts().held_bytes(), 0);
}

/// Who waits has a connection to its endpoint, so there are few of one client's.
#[test]
fn a_client_has_a_few_that_wait() {
    let room = Room::new(Ledger::new(256 * MIB));
    let mut first = room.nothing(client(1));
    assert_eq!(poll(&mut first, 10 * MIB), Poll::Ready(true));
    let mut others: Vec<_> = (0..MOST_WAITING).map(|_| room.nothing(client(1))).collect();
    for other in &mut others {
        assert!(poll(other, 8 * MIB).is_pending());
    }
    let mut next = room.nothing(client(1));
    assert_eq!(poll(&mut next, 8 * MIB), Poll::Ready(false));
    assert_eq!(
        poll(&mut room.nothing(client(2)), 8 * MIB),
        Poll::Ready(true)
    );
    others.pop();
    assert!(poll(&mut next, 8 * MIB).is_pending());
    drop((first, others));
    assert_eq!(poll(&mut next, 8 * MIB), Poll::Ready(true));
}

/// Whose exchange waits for something else is not waited for, whatever it comes to hold meanwhile.
#[test]
fn nobody_waits_for_who_rests() {
    let ledger = Ledger::new(256 * MIB);
    let (small, large) = (
        Room::new(Arc::clone(&ledger)),
        Room::new(Arc::clone(&ledger)),
    );
    let nothing = || small.nothing_up_to((MIB, &large), client(1).expect("one"));
    let mut all = [nothing(), nothing(), nothing()];
    let [first, second, third] = &mut all;
    assert_eq!(poll(first, 8 * MIB), Poll::Ready(true));
    assert!(poll(second, 8 * MIB).is_pending());
    assert!(poll(third, 8 * MIB).is_pending());
    first.rest();
    assert_eq!(poll(second, 8 * MIB), Poll::Ready(true));
    assert!(poll(third, 8 * MIB).is_pending(), "the second goes on");
    // One that waits has nothing to wait for any more when it rests.
    third.rest();
    assert!(!large.inner.counts().waits(client(1).expect("one")));
    second.rest();
    // Threads may be at them yet.
    assert!(first.grow(9 * MIB) && third.grow(MIB) && third.grow(2 * MIB));
    second.go_on();
    third.go_on();
    assert!(poll(third, 9 * MIB).is_pending());
    second.rest();
    assert_eq!(poll(third, 9 * MIB), Poll::Ready(true));
    first.go_on();
    second.go_on();
    assert_eq!(poll(first, 9 * MIB), Poll::Ready(true));
    drop(all);
    assert_eq!(ledger.used_bytes(), 0);
    for room in [small, large] {
        let counts = room.inner.counts();
        assert_eq!((counts.held_bytes(), counts.clients()), (0, 0));
    }
}

/// Bodies come, grow, wait, rest and go: what is counted is what there is, and nobody waits for nothing.
#[test]
fn nobody_waits_for_nothing() {
    for seed in 0..300 {
        let mut random = Random::from_seed(seed);
        let ledger = Ledger::new(256 * MIB);
        let room = Room::new(Arc::clone(&ledger));
        let mut bodies: Vec<(u8, Held, Option<u64>)> = Vec::new();
        for _ in 0..150 {
            let draw = random.next_u64();
            if bodies.is_empty() || draw.is_multiple_of(3) {
                let number = (draw >> 8) as u8 % 4;
                bodies.push((number, room.nothing(client(number)), None));
            }
            let at = (draw >> 16) as usize % bodies.len();
            let (_, held, wanted) = &mut bodies[at];
            let bytes = wanted.unwrap_or(held.bytes + MIB * (1 + (draw >> 32) % 9));
            match draw % 7 {
                0 => drop(bodies.swap_remove(at)),
                1 if wanted.is_none() => {
                    let _has_room = held.grow(bytes);
                }
                2 if held.rests => held.go_on(),
                _ if held.rests => {}
                3 => {
                    held.rest();
                    *wanted = None;
                }
                _ => match poll(held, bytes) {
                    Poll::Pending => *wanted = Some(bytes),
                    Poll::Ready(true) => *wanted = None,
                    Poll::Ready(false) => drop(bodies.swap_remove(at)),
                },
            }
            // Who was told takes note of it, until nobody is told any more.
            loop {
                let told = bodies.iter_mut().enumerate().find_map(|(at, one)| {
                    let (_, held, wanted) = one;
                    match poll(held, (*wanted)?) {
                        Poll::Pending => None,
                        Poll::Ready(has_room) => {
                            *wanted = None;
                            Some((at, has_room))
                        }
                    }
                });
                match told {
                    Some((at, false)) => drop(bodies.swap_remove(at)),
                    Some(_) => {}
                    None => break,
                }
            }
            let sum: u64 = bodies.iter().map(|(_, held, _)| held.bytes).sum();
            let counted = room.inner.counts().held_bytes();
            assert!(sum == counted && counted <= 64 * MIB, "seed {seed}");
            for number in 0..4 {
                let own = || bodies.iter().filter(|(of, ..)| *of == number);
                let waits = own().any(|(.., wanted)| wanted.is_some());
                let goes_on = |held: &Held, wanted: Option<u64>| {
                    held.bytes > 0 && wanted.is_none() && !held.rests
                };
                let goes_on = own().any(|(_, held, wanted)| goes_on(held, *wanted));
                assert!(goes_on || !waits, "seed {seed}: for whom?");
            }
        }
        drop(bodies);
        assert_eq!(ledger.used_bytes(), 0, "seed {seed}");
        let counts = room.inner.counts();
        assert_eq!(counts.held_bytes(), 0, "seed {seed}");
    }
}
