//! Who does the work, and what is counted of it before anybody has looked.

use std::sync::mpsc;
use std::task::Waker;

use super::*;

/// Holds the threads that decompress, of which there is one, until the sender is dropped.
fn hold_thread(house: &House) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel::<()>();
    house
        .desk
        .occupy(address(99), move || assert!(held.recv().is_err()));
    release
}

/// Waits until that thread has done what waits for it.
fn let_work(house: &House) {
    let (done, is_done) = mpsc::channel::<()>();
    house.desk.occupy(address(98), move || drop(done));
    assert!(is_done.recv().is_err());
}

fn poll(inflater: &mut Inflater, down: &mut Sender<'_>) -> Poll<Result<bool, Fault>> {
    inflater.poll_data(&mut Context::from_waker(Waker::noop()), down)
}

/// What a step may take is bounded for gzip and zlib only.
#[test]
fn a_worker_does_a_little_of_gzip_and_zlib_itself() {
    for coding in RequestCoding::ALL {
        let house = House::new(64 << 20);
        let _release = hold_thread(&house);
        let body = coded(coding, b"a few words");
        let mut inflater = house.inflater(coding, WIDE, 1).expect("room");
        let mut down = Sender::new(0, &body);
        down.piece = body.len();
        let is_here = matches!(poll(&mut inflater, &mut down), Poll::Ready(Ok(true)));
        let expected = matches!(coding, RequestCoding::Gzip | RequestCoding::Deflate);
        assert_eq!(is_here, expected, "{coding}");
        assert_eq!(inflater.is_here(), expected, "{coding}");
    }
}

/// Where a client has as much in line as it may, the worker does nothing for it, nor takes anything of it, until
/// there is room; others have theirs.
#[test]
fn who_has_much_in_line_waits() {
    let body = coded(RequestCoding::Gzip, &vec![7; 300_000]);
    let brotli = coded(RequestCoding::Br, &vec![7; 300_000]);
    let house = House::new(64 << 20);
    house.desk.spend();
    let release = hold_thread(&house);
    let begin = |(coding, body), client| {
        let inflater = house.inflater(coding, WIDE, client).expect("room");
        let mut down = Sender::new(0, body);
        down.piece = body.len();
        (inflater, down)
    };
    let (gzip, brotli) = (
        (RequestCoding::Gzip, &body[..]),
        (RequestCoding::Br, &brotli[..]),
    );
    let mut all: Vec<_> = (0..8).map(|_| begin(gzip, 1)).collect();
    all.extend([
        begin(gzip, 1),
        begin(brotli, 1),
        begin(gzip, 2),
        begin(brotli, 2),
    ]);
    let used = house.ledger.used_bytes();
    let mut taken = Vec::new();
    for (inflater, down) in &mut all {
        let whole = down.bytes.len();
        assert!(poll(inflater, down).is_pending());
        taken.push(down.bytes.len() < whole);
    }
    assert_eq!(taken[..8], [true; 8]);
    assert_eq!(taken[8..], [false, false, true, true]);
    // Ten have a block for what came and one for what comes of it, and no other one has.
    assert_eq!(house.ledger.used_bytes() - used, 10 * 2 * 65_536);
    drop(release);
    for (mut inflater, mut down) in all {
        let mut came = 0;
        let ended = house.runtime.block_on(poll_fn(|cx| {
            while ready!(inflater.poll_data(cx, &mut down))? {
                came += inflater.data().len();
                inflater.consume(inflater.data().len());
            }
            Poll::Ready(Ok::<_, Fault>(()))
        }));
        assert!(ended.is_ok() && came == 300_000, "{came}");
    }
}

/// Whatever the worker does meanwhile: what the thread finds to be needed is counted there, and what there is no
/// room for is not held.
#[test]
fn windows_are_counted_before_anybody_looks() {
    const MIB: u64 = 1 << 20;
    let zstd = opened(23);
    let brotli = opened_brotli(23);
    for (coding, body) in [
        (RequestCoding::Zstd, &zstd[..]),
        (RequestCoding::Br, &brotli[..]),
    ] {
        let house = House::new(256 << 20);
        let mut all: Vec<_> = (0..20)
            .map(|client| {
                (
                    house.inflater(coding, WIDE, client).expect("room"),
                    Sender::new(0, body),
                )
            })
            .collect();
        for (inflater, down) in &mut all {
            (down.piece, down.stays) = (body.len(), true);
            assert!(poll(inflater, down).is_pending());
        }
        let_work(&house);
        // One large window for each of six clients; for all of them two blocks.
        let used = house.ledger.used_bytes();
        assert!((48 * MIB..60 * MIB).contains(&used), "{coding}: {used}");
        let mut refused = 0;
        for (inflater, down) in &mut all {
            let polled = poll(inflater, down);
            let is_refused =
                matches!(polled, Poll::Ready(Err(fault)) if fault.cause == Cause::MemoryLimit);
            refused += u32::from(is_refused);
            assert_eq!(inflater.has_decoder(), !is_refused);
        }
        assert_eq!(refused, 14, "{coding}");
        drop(all);
        drop(house.desk);
        assert_eq!(house.ledger.used_bytes(), 0);
    }
}

/// What is refused is refused before it is there.
#[test]
fn a_window_that_is_refused_is_not_made() {
    let house = House::new(16 << 20);
    for (most, expected) in [
        (1 << 20, DecodeError::Window),
        (16 << 20, DecodeError::Memory),
    ] {
        let held = house.desk.hold_decoder(address(1)).expect("room");
        let mut decoder = Decoder::new(RequestCoding::Br, most, held).expect("room");
        let mut output = [0; 100];
        let step = decoder.step(&opened_brotli(23), &mut output);
        assert_eq!(step, Err(expected));
        assert!(house.ledger.used_bytes() < 1 << 20);
        assert_eq!(decoder.window_bytes(), 0);
    }
}
