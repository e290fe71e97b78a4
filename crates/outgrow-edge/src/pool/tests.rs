//! Whose work is done when, and what becomes of it.

use std::future::poll_fn;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;

use super::*;

fn wait<T>(ticket: &Ticket<T>) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(poll_fn(|cx| ticket.poll(cx)))
}

#[test]
fn results_come_and_panics_are_told() {
    let pool = Pool::new("test", 2, 8);
    let first = pool.submit(&Owner::default(), || 1).ok().expect("room");
    let second: Ticket<u32> = pool
        .submit(&Owner::default(), || panic!("on purpose"))
        .ok()
        .expect("room");
    let third = pool.submit(&Owner::default(), || 3).ok().expect("room");
    assert_eq!(
        (wait(&first), wait(&second), wait(&third)),
        (Some(1), None, Some(3))
    );
}

#[test]
fn what_finds_no_room_comes_back() {
    let pool = Pool::new("test", 1, 1);
    let (release, held) = mpsc::channel::<()>();
    let (begun, begins) = mpsc::channel();
    let first = pool.submit(&Owner::default(), move || {
        begun.send(()).expect("the test waits");
        held.recv().is_ok()
    });
    let first = first.ok().expect("room");
    begins.recv().expect("the thread begins");
    let second = pool
        .submit(&Owner::default(), || 2)
        .ok()
        .expect("one may wait");
    let refused = pool.submit(&Owner::default(), || 3);
    assert_eq!(refused.err().map(|work| work()), Some(3));
    release.send(()).expect("the thread waits");
    assert_eq!((wait(&first), wait(&second)), (Some(true), Some(2)));
}

#[test]
fn one_owner_has_its_share_of_the_threads_and_what_nobody_wants_is_not_begun() {
    let pool = Pool::with_shares("test", (2, 1), 8);
    let hung = Owner::default();
    let (release, held) = mpsc::channel::<()>();
    let (begun, begins) = mpsc::channel();
    let first = pool.submit(&hung, move || {
        begun.send(()).expect("the test waits");
        held.recv().is_ok()
    });
    begins.recv().expect("the thread begins");
    let done = Arc::new(AtomicUsize::new(0));
    let count = |owner: &Owner| {
        let done = Arc::clone(&done);
        let work = move || done.fetch_add(1, Ordering::Relaxed);
        pool.submit(owner, work).ok()
    };
    let waiting = count(&hung).expect("room");
    let unwanted = count(&hung);
    drop(unwanted.expect("room"));
    let other = count(&Owner::default()).expect("room");
    assert_eq!(wait(&other), Some(0), "not behind the one that hangs");
    assert_eq!(done.load(Ordering::Relaxed), 1);
    // What nobody wants makes room.
    let more: Vec<_> = (0..3).map(|_| count(&hung)).collect();
    assert!(more.iter().all(Option::is_some));
    assert!(count(&hung).is_none(), "four wait, which is half");
    release.send(()).expect("the thread waits");
    assert_eq!(wait(&first.ok().expect("room")), Some(true));
    assert!(wait(&waiting).is_some());
    for ticket in more.iter().flatten() {
        assert!(wait(ticket).is_some());
    }
    assert_eq!(done.load(Ordering::Relaxed), 5);
}

fn is_told(ticket: &Ticket<Place>) -> Option<Place> {
    match ticket.poll(&Context::from_waker(Waker::noop())) {
        Poll::Ready(place) => Some(place.expect("a place")),
        Poll::Pending => None,
    }
}

/// However many wait: each place is one's, and nobody else is woken for it.
#[test]
fn places_go_to_those_who_have_waited_longest() {
    let owner = Owner::within(2);
    let mut taken: Vec<Place> = (0..2).map(|_| owner.place().expect("two")).collect();
    let waiting: Vec<_> = (0..6)
        .map(|_| owner.place().expect_err("no more"))
        .collect();
    assert!(Owner::within(1).place().is_ok(), "others have their own");
    let mut waiting: VecDeque<_> = waiting.into();
    let told = |waiting: &VecDeque<Ticket<Place>>| {
        let is_over = |ticket: &Ticket<_>| ticket.0.0.lock().expect("no panic").over;
        waiting.iter().map(is_over).collect::<Vec<_>>()
    };
    taken.pop();
    assert_eq!(told(&waiting), [true, false, false, false, false, false]);
    assert!(owner.place().is_err(), "nobody comes between");
    // Who was told and has gone passes it on, and who has gone before is passed over.
    waiting.remove(1);
    waiting.pop_front();
    assert_eq!(told(&waiting), [true, false, false, false]);
    taken.extend(is_told(&waiting[0]));
    assert!(is_told(&waiting[1]).is_none());
    taken.clear();
    assert_eq!(told(&waiting), [true, true, true, false]);
    drop(waiting);
    let all: Vec<_> = (0..3).map(|_| owner.place().is_ok()).collect();
    assert_eq!(all, [true; 3], "each is given back at once");
    let _both = [owner.place(), owner.place()].map(|place| place.expect("two"));
    assert!(owner.place().is_err());
}

/// A place is free when a thread has begun what had it, and who comes and goes again is not remembered for long.
#[test]
fn a_thread_that_begins_work_frees_its_place() {
    let pool = Pool::new("test", 1, usize::MAX);
    let owner = Owner::within(1);
    let (release, held) = mpsc::channel::<()>();
    let first = pool.submit(&Owner::default(), move || held.recv().is_err());
    let place = owner.place().expect("one");
    let second = pool.hand_over(place, || 2).ok().expect("a thread");
    let ticket = owner.place().expect_err("it waits");
    for _ in 0..10_000 {
        drop(owner.place());
    }
    let known = owner.0.line().outside.capacity();
    assert!(known < 100, "{known} are remembered");
    assert!(is_told(&ticket).is_none());
    drop(release);
    assert_eq!(wait(&first.ok().expect("room")), Some(true));
    assert_eq!(wait(&second), Some(2));
    assert!(wait(&ticket).is_some());
}

/// Whoever goes when: places are never more than there may be, and none is lost.
#[test]
fn no_place_is_lost() {
    for seed in 0..200 {
        let mut random = outgrow_core::Random::from_seed(seed);
        let owner = Owner::within(3);
        let (mut taken, mut waiting) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            match random.next_u64() % 4 {
                0 | 1 => match owner.place() {
                    Ok(place) => taken.push(place),
                    Err(ticket) => waiting.push(ticket),
                },
                2 if !taken.is_empty() => {
                    taken.swap_remove(random.next_u64() as usize % taken.len());
                }
                3 if !waiting.is_empty() => {
                    let ticket = waiting.remove(random.next_u64() as usize % waiting.len());
                    taken.extend(is_told(&ticket));
                }
                _ => {}
            }
            let counted = owner.0.line().taken;
            assert!(taken.len() <= counted && counted <= 3, "seed {seed}");
            let is_over = |ticket: &Ticket<_>| ticket.0.0.lock().expect("no panic").over;
            if !waiting.iter().all(is_over) {
                assert_eq!(counted, 3, "seed {seed}: one waits beside a free place");
            }
        }
        drop((taken, waiting));
        assert_eq!(owner.0.line().taken, 0, "seed {seed}");
    }
}

#[test]
fn who_waits_at_the_end_is_told() {
    let pool = Pool::new("test", 1, 8);
    let (release, held) = mpsc::channel::<()>();
    let (begun, begins) = mpsc::channel();
    let first = pool.submit(&Owner::default(), move || {
        begun.send(()).expect("the test waits");
        held.recv().is_ok()
    });
    begins.recv().expect("the thread begins");
    let second = pool.submit(&Owner::default(), || 2).ok().expect("room");
    drop(pool);
    assert_eq!(wait(&second), None);
    drop(release);
    assert_eq!(wait(&first.ok().expect("room")), Some(false));
}
