//! Whose work is done when, and what becomes of it.

use std::future::poll_fn;
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

#[test]
fn who_finds_no_room_is_told_when_half_of_it_is_free() {
    let pool = Pool::new("test", 1, usize::MAX);
    let bounded = Owner::within(4);
    let (release, held) = mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let (begun, begins) = mpsc::channel();
    let submit = |owner: &Owner| {
        let (begun, held) = (begun.clone(), Arc::clone(&held));
        let work = move || {
            begun.send(()).expect("the test waits");
            held.lock().expect("no panic").recv().is_ok()
        };
        pool.go_on(owner, work).ok().expect("a thread")
    };
    let mut tickets = vec![submit(&Owner::default())];
    begins.recv().expect("the thread begins");
    while tickets.len() < 5 {
        assert!(pool.room(&bounded).is_none());
        tickets.push(submit(&bounded));
    }
    let room = pool.room(&bounded).expect("four wait");
    // Who is gone again hinders nobody, and others have room of their own.
    drop(pool.room(&bounded));
    assert!(pool.room(&Owner::within(1)).is_none());
    let is_told = || {
        let told = room.poll(&Context::from_waker(Waker::noop()));
        told.is_ready()
    };
    for (waiting, expected) in [(3, false), (2, true)] {
        release.send(()).expect("the thread waits");
        begins.recv().expect("the thread begins");
        assert_eq!(is_told(), expected, "{waiting} wait");
    }
    assert!(pool.room(&bounded).is_none());
    drop(release);
    assert_eq!(tickets.iter().filter_map(wait).count(), 5);
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
