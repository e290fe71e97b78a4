//! What processes learn of each other, and what places there are.

use std::os::fd::AsFd;

use super::*;
use crate::packets;

fn dispatch(generation: u64) -> Arc<Dispatch> {
    let keys = Keys::derive(&[7; 32]).expect("keys");
    Dispatch::new(keys, generation, &[], Instant::now())
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_process_learns_what_the_next_one_reads() {
    let (old, new) = (dispatch(3), dispatch(4));
    let before: Arc<str> = "udp:before".into();
    let _kept = new.claim(&before, 0).expect("free");
    assert_eq!(old.is_read_by_next(&before), None, "nobody has said");
    let (one, other) = packets::pair().expect("a pair");
    Neighbour::meet(&old, 4, one).expect("met");
    Neighbour::meet(&new, 3, other).expect("met");
    until("it says so", || old.is_read_by_next(&before) == Some(true));
    assert_eq!(old.is_read_by_next("udp:after"), Some(false));
    let _later = new.claim(&"udp:after".into(), 1).expect("free");
    until("and later", || {
        old.is_read_by_next("udp:after") == Some(true)
    });
    // What the one before reads is nothing to the next, but that its sockets are to stay.
    let _old = old.claim(&"udp:old".into(), 0).expect("free");
    assert_eq!(new.is_read_by_next("udp:old"), None);
    let needs = |key| new.is_needed(key, Instant::now());
    until("it needs them", || needs("udp:old"));
    assert!(needs("udp:before") && !needs("udp:none"));
}

#[test]
fn a_process_learns_what_the_next_one_reads_no_more() {
    let (old, new) = (dispatch(3), dispatch(4));
    let key: Arc<str> = "udp:key".into();
    let (one, other) = packets::pair().expect("a pair");
    Neighbour::meet(&old, 4, one).expect("met");
    Neighbour::meet(&new, 3, other).expect("met");
    let places = [0, 1].map(|worker| new.claim(&key, worker).expect("free"));
    until("it reads", || old.is_read_by_next(&key) == Some(true));
    new.release(&key, 0, &places[0]);
    // What was said before it has been heard when this has.
    let _marker = new.claim(&"udp:marker".into(), 0).expect("free");
    until("it reads there as well", || {
        old.is_read_by_next("udp:marker") == Some(true)
    });
    assert_eq!(old.is_read_by_next(&key), Some(true), "one worker does");
    new.release(&key, 1, &places[1]);
    until("it does no more", || {
        old.is_read_by_next(&key) == Some(false)
    });
    let again = new.claim(&key, 0).expect("free");
    until("it does again", || old.is_read_by_next(&key) == Some(true));
    // A worker that has ended has released nothing.
    drop(again);
    until("nobody is there", || {
        old.is_read_by_next(&key) == Some(false)
    });
}

#[test]
fn what_finds_no_room_is_said_later() {
    let (old, new) = (dispatch(3), dispatch(4));
    let keys: Vec<Arc<str>> = (0..2_000).map(|at| format!("udp:{at}").into()).collect();
    let _places: Vec<_> = keys.iter().map(|key| new.claim(key, 0)).collect();
    let (one, other) = packets::pair().expect("a pair");
    // Nobody takes anything at the other end yet, and this is more than fits.
    Neighbour::meet(&new, 3, other).expect("met");
    let meta = RecvMeta::default();
    let sent = (0..10_000).take_while(|_| {
        new.to_process(&keys[0], 3, &meta, &[0; 1_000]);
        new.counts.dropped.load(Ordering::Relaxed) == 0
    });
    assert!(sent.count() < 10_000, "it is full");
    let late: Arc<str> = "udp:late".into();
    let _late = new.claim(&late, 0).expect("free");
    Neighbour::meet(&old, 4, one).expect("met");
    until("it is said later", || {
        old.is_read_by_next(&late) == Some(true)
    });
}

#[test]
fn what_a_process_that_ended_has_read_is_free() {
    let old = dispatch(3);
    let key: Arc<str> = "udp:key".into();
    let (one, other) = packets::pair().expect("a pair");
    Neighbour::meet(&old, 4, one).expect("met");
    packets::send(other.as_fd(), b"\x02udp:key", &[]).expect("sent");
    until("it reads", || old.is_read_by_next(&key) == Some(true));
    drop(other);
    until("it is gone", || !old.is_needed(&key, Instant::now()));
    assert_eq!(old.is_read_by_next(&key), None);
}

#[test]
fn a_process_that_is_met_anew_says_it_anew() {
    let old = dispatch(3);
    let met = || {
        let (one, other) = packets::pair().expect("a pair");
        Neighbour::meet(&old, 4, one).expect("met");
        other
    };
    let first = met();
    packets::send(first.as_fd(), b"\x02udp:before", &[]).expect("sent");
    until("it reads", || {
        old.is_read_by_next("udp:before") == Some(true)
    });
    let second = met();
    packets::send(second.as_fd(), b"\x02udp:now", &[]).expect("sent");
    until("it reads elsewhere", || {
        old.is_read_by_next("udp:now") == Some(true)
    });
    assert_eq!(old.is_read_by_next("udp:before"), Some(false));
}

#[test]
fn before_processes_have_met_all_sockets_stay() {
    let now = Instant::now();
    let keys = || Keys::derive(&[7; 32]).expect("keys");
    let new = Dispatch::new(keys(), 4, &[3], now);
    assert!(new.is_needed("udp:any", now), "the other one may have it");
    assert!(!new.is_needed("udp:any", now + INTRODUCTION));
    let (one, _other) = packets::pair().expect("a pair");
    Neighbour::meet(&new, 3, one).expect("met");
    assert!(!new.is_needed("udp:any", now), "it has not said so");
}

#[test]
fn a_place_is_free_once_it_was_released() {
    let dispatch = dispatch(1);
    let key: Arc<str> = "udp:x".into();
    let first = dispatch.claim(&key, 0).expect("free");
    assert!(dispatch.claim(&key, 0).is_none(), "one at a time");
    dispatch.release(&key, 0, &first);
    assert!(
        !dispatch.has_endpoint(&key),
        "QUIC may still have its socket"
    );
    let second = dispatch.claim(&key, 0).expect("free again");
    dispatch.release(&key, 0, &first);
    assert!(dispatch.has_endpoint(&key), "the second one keeps its own");
    drop((first, second));
    assert!(!dispatch.has_endpoint(&key));
}
