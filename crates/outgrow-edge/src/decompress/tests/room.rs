//! For how long a body has its room, who is waited for meanwhile, and for how long.

use std::task::Waker;

use super::threads::{hold_thread, poll};
use super::*;
use crate::decompress::hold::PATIENCE;

/// Whole bodies with a window of 8 MiB and of 4 MiB: beside neither is there room for another one of 8 MiB.
fn whole() -> [(RequestCoding, Vec<u8>); 2] {
    let zstd = [&opened(23)[..], &[b'a'; 100], &[1, 0, 0]].concat();
    let mut random = Random::from_seed(4);
    let noise: Vec<u8> = (0..5 << 17)
        .flat_map(|_| random.next_u64().to_le_bytes())
        .collect();
    let mut brotli = Vec::new();
    let mut writer = brotli::CompressorWriter::new(&mut brotli, 4_096, 1, 22);
    writer.write_all(&noise).expect("written");
    drop(writer);
    [(RequestCoding::Zstd, zstd), (RequestCoding::Br, brotli)]
}

/// Takes all of a body's.
fn through(house: &House, inflater: &mut Inflater, down: &mut Sender<'_>) -> Result<(), Fault> {
    house.runtime.block_on(poll_fn(|cx| {
        while ready!(inflater.poll_data(cx, down))? {
            inflater.consume(inflater.data().len());
        }
        Poll::Ready(Ok(()))
    }))
}

/// What follows a body, an answer that takes its time, is nothing that others wait for.
#[test]
fn a_body_that_has_ended_has_no_room() {
    for (coding, body) in whole() {
        let house = House::new(256 << 20);
        let before = house.ledger.used_bytes();
        let mut inflater = house.inflater(coding, WIDE, 1);
        let mut down = Sender::new(1, &body);
        through(&house, &mut inflater, &mut down).expect("it is whole");
        assert!(house.ledger.used_bytes() < before + (2 << 20), "{coding}");
        assert!(house.begun(coding, &opened_in(coding), 1).is_ok());
        // Another attempt finds it at its end, and what is known of it is.
        let totals = inflater.totals();
        inflater.rest();
        assert!(matches!(
            poll(&mut inflater, &mut down),
            Poll::Ready(Ok(false))
        ));
        assert!(totals.0 == body.len() as u64 && inflater.totals() == totals);
        assert_eq!(inflater.waits_for(), None);
    }
}

fn opened_in(coding: RequestCoding) -> Vec<u8> {
    match coding {
        RequestCoding::Zstd => opened(23).to_vec(),
        _ => opened_brotli(23).to_vec(),
    }
}

/// Nor is one of which nobody wants more.
#[test]
fn a_body_that_is_given_up_has_no_room() {
    for coding in [RequestCoding::Zstd, RequestCoding::Br] {
        let house = House::new(256 << 20);
        let mut one = house.begun(coding, &opened_in(coding), 1).expect("room");
        let next = house.begun(coding, &opened_in(coding), 1);
        assert_eq!(next.err(), Some(None), "it waits");
        one.close();
        assert!(house.begun(coding, &opened_in(coding), 1).is_ok());
    }
}

/// Who waits for another attempt, and so for what others have that wait for room, is not waited for.
#[test]
fn a_body_that_rests_is_not_waited_for() {
    for coding in [RequestCoding::Zstd, RequestCoding::Br] {
        let house = House::new(256 << 20);
        let open = opened_in(coding);
        let mut one = house.begun(coding, &open, 1).expect("room");
        let mut down = Sender::new(1, &open);
        (down.stays, down.bytes) = (true, b"");
        one.rest();
        let other = house.begun(coding, &open, 1).expect("it does not wait");
        let third = house.begun(coding, &open, 1);
        assert_eq!(third.err(), Some(None), "it waits for the other");
        // It is gone on with.
        assert!(poll(&mut one, &mut down).is_pending());
        drop(other);
        let next = house.begun(coding, &open, 1);
        assert_eq!(next.err(), Some(None), "it waits for the first");
        assert!(house.ledger.used_bytes() > 8 << 20);
        drop(one);
        assert!(house.begun(coding, &open, 1).is_ok());
    }
}

/// Also where it has its room while a thread is at it, or would be.
#[test]
fn a_body_rests_wherever_it_is() {
    let house = House::new(256 << 20);
    let release = hold_thread(&house);
    let open = opened(23);
    let begin = || {
        let inflater = house.inflater(RequestCoding::Zstd, WIDE, 1);
        let mut down = Sender::new(1, &open);
        (down.piece, down.stays) = (open.len(), true);
        (inflater, down)
    };
    let (mut one, mut down) = begin();
    assert!(poll(&mut one, &mut down).is_pending() && !one.is_here());
    let (mut other, mut others) = begin();
    assert!(poll(&mut other, &mut others).is_pending());
    assert_eq!(other.waits_for(), Some(Cause::MemoryLimit));
    assert!(other.is_stalled() && !one.is_stalled());
    one.rest();
    assert!(poll(&mut other, &mut others).is_pending());
    assert_eq!(other.waits_for(), Some(Cause::DecompressionTimeout));
    assert!(!other.is_stalled());
    drop(release);
}

/// A wait has an end that nothing moves, and one that rests does not wait.
#[test]
fn the_wait_for_room_is_bounded() {
    let house = House::new(256 << 20);
    let _one = house.begun(RequestCoding::Zstd, &opened(23), 1);
    let open = opened(23);
    let mut down = Sender::new(1, &open);
    down.piece = open.len();
    let mut inflater = house.inflater(RequestCoding::Zstd, WIDE, 1);
    assert_eq!(inflater.room_until(), None);
    let before = house.desk.now();
    assert!(poll(&mut inflater, &mut down).is_pending());
    let until = inflater.room_until().expect("it waits");
    assert!(until >= before + PATIENCE && until <= house.desk.now() + PATIENCE);
    assert!(poll(&mut inflater, &mut down).is_pending());
    assert_eq!(inflater.room_until(), Some(until));
    inflater.rest();
    assert_eq!((inflater.room_until(), inflater.waits_for()), (None, None));
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(inflater.poll_data(cx, &mut down).is_pending());
    // What it has waited before counts.
    let again = inflater.room_until().expect("it waits again");
    assert!(again >= until && again <= house.desk.now() + PATIENCE);
}
