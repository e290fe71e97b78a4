//! Who does the work, and what is counted of it before anybody has looked.

use std::sync::mpsc;
use std::task::Waker;

use super::super::codec::{Step, zstd_bytes};
use super::*;
use crate::compress::Held;

/// Holds the threads that decompress, of which there is one, until the sender is dropped.
pub(super) fn hold_thread(house: &House) -> mpsc::Sender<()> {
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

pub(super) fn poll(inflater: &mut Inflater, down: &mut Sender<'_>) -> Poll<Result<bool, Fault>> {
    inflater.poll_data(&mut Context::from_waker(Waker::noop()), down)
}

/// What a step may take is bounded for gzip and zlib only.
#[test]
fn a_worker_does_a_little_of_gzip_and_zlib_itself() {
    for coding in RequestCoding::ALL {
        let house = House::new(64 << 20);
        let _release = hold_thread(&house);
        let body = coded(coding, b"a few words");
        let mut inflater = house.inflater(coding, WIDE, 1);
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
        let inflater = house.inflater(coding, WIDE, client);
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
    // Ten have a block for what came and one for what comes of it, and no other one has; all have what is needed
    // to begin.
    let to_begin = 10 * 65_536 + 2 * 98_304;
    assert_eq!(house.ledger.used_bytes() - used, 10 * 2 * 65_536 + to_begin);
    for (inflater, _) in &all {
        assert_eq!(inflater.waits_for(), Some(Cause::DecompressionTimeout));
    }
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
            .map(|client| (house.inflater(coding, WIDE, client), Sender::new(0, body)))
            .collect();
        let release = hold_thread(&house);
        // What zstd needs is known before a thread has it.
        let refused_now = |polled: Poll<Result<bool, Fault>>| {
            let is_refused =
                matches!(polled, Poll::Ready(Err(fault)) if fault.cause == Cause::MemoryLimit);
            assert!(is_refused || polled.is_pending());
            is_refused
        };
        let mut refused = 0;
        all.retain_mut(|(inflater, down)| {
            (down.piece, down.stays) = (body.len(), true);
            let is_refused = refused_now(poll(inflater, down));
            refused += u32::from(is_refused);
            assert_eq!(is_refused, is_refused && !inflater.has_decoder());
            !is_refused
        });
        assert_eq!(refused > 0, coding == RequestCoding::Zstd);
        drop(release);
        let_work(&house);
        // One large window for each of six clients; for all of them two blocks.
        let used = house.ledger.used_bytes();
        assert!((48 * MIB..60 * MIB).contains(&used), "{coding}: {used}");
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
    let cx = Context::from_waker(Waker::noop());
    for (most, is_too_large) in [(1 << 20, true), (16 << 20, false)] {
        let held = Hold::new(house.desk.decoder(address(1)));
        let mut decoder = Decoder::new(RequestCoding::Br, most, held);
        let mut output = [0; 100];
        assert_eq!(decoder.step(b"x", &mut output), Ok(Step::default()));
        assert_eq!(decoder.poll_room(&cx), Poll::Ready(true));
        let step = decoder.step(&opened_brotli(23), &mut output);
        assert_eq!(step.err(), is_too_large.then_some(DecodeError::Window));
        if !is_too_large {
            assert!(decoder.wants_room());
            assert_eq!(decoder.poll_room(&cx), Poll::Ready(false));
        }
        assert!(house.ledger.used_bytes() < 1 << 20);
        assert_eq!(decoder.window_bytes(), 0);
    }
}

/// What is foreseen for zstd is no less than what it takes, and little more.
#[test]
fn what_zstd_needs_is_foreseen() {
    for window_bits in 10..=23 {
        let house = House::new(256 << 20);
        let began = house.begun(RequestCoding::Zstd, &opened(window_bits), 1);
        let began = began.expect("room");
        let holds = began.context_bytes().expect("it is here");
        let foreseen = zstd_bytes(1 << window_bits);
        assert!(
            (foreseen - 16 * 1_024..=foreseen).contains(&holds),
            "{window_bits}: {holds} of {foreseen}"
        );
    }
}

/// Room as large as the client's part but for what a body needs to begin; none where something is left.
fn fill(house: &House, client: u8) -> Vec<Held> {
    let mut all = Vec::new();
    for bytes in [1 << 20, 513 << 10, 64 << 10, 8 << 10, 1 << 10] {
        loop {
            let mut held = house.desk.decoder(address(client));
            if !held.grow(bytes) {
                break;
            }
            all.push(held);
        }
    }
    all
}

/// Wherever a body waits for room, it goes on from there when others of its client have let go.
#[test]
fn a_body_that_waited_for_room_is_whole() {
    let mut random = Random::from_seed(11);
    let noise: Vec<u8> = (0..1 << 19)
        .flat_map(|_| random.next_u64().to_le_bytes())
        .collect();
    let mut words = Vec::new();
    while words.len() < 4 << 20 {
        let draw = random.next_u64();
        let line = format!(
            "{{\"user\":{},\"took\":\"{}ms\"}}\n",
            draw % 100_000,
            draw >> 52
        );
        words.extend_from_slice(line.as_bytes());
    }
    let brotli = |plain: &[u8], quality| {
        let mut out = Vec::new();
        let mut writer = brotli::CompressorWriter::new(&mut out, 4_096, quality, 22);
        let (mut rest, mut piece) = (plain, 20_000);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(piece));
            writer.write_all(now).expect("written");
            writer.flush().expect("flushed");
            (rest, piece) = (later, piece * 2);
        }
        drop(writer);
        out
    };
    let frames = [
        coded(RequestCoding::Zstd, &words[..300_000]),
        coded(RequestCoding::Zstd, &words[300_000..]),
    ]
    .concat();
    // The waits: to begin, and for each larger window; for both at once where zstd's is known by then.
    let bodies = [
        (
            RequestCoding::Gzip,
            &words,
            coded(RequestCoding::Gzip, &words),
            1..=1,
        ),
        (
            RequestCoding::Deflate,
            &words,
            coded(RequestCoding::Deflate, &words),
            1..=1,
        ),
        (RequestCoding::Zstd, &words, frames, 2..=3),
        (RequestCoding::Br, &words, brotli(&words, 5), 4..=8),
        (RequestCoding::Br, &noise, brotli(&noise, 1), 4..=8),
        (RequestCoding::Br, &words, brotli(&words, 0), 4..=8),
    ];
    for (coding, plain, body, expected) in bodies {
        for seed in 0..6 {
            let house = House::new(256 << 20);
            let mut down = Sender::new(seed, &body);
            let mut inflater = house.inflater(coding, WIDE, 1);
            let (mut came, mut waits) = (Vec::new(), 0);
            let mut others = fill(&house, 1);
            let ended = house.runtime.block_on(poll_fn(|cx| {
                loop {
                    let polled = inflater.poll_data(cx, &mut down);
                    let is_waiting = inflater.waits_for() == Some(Cause::MemoryLimit);
                    match polled {
                        Poll::Pending if is_waiting => {
                            waits += 1;
                            let left = down.bytes.len();
                            assert!(inflater.poll_data(cx, &mut down).is_pending());
                            assert_eq!(down.bytes.len(), left, "nothing is read");
                            others.clear();
                            let _polled = inflater.poll_data(cx, &mut down);
                            assert_ne!(inflater.waits_for(), Some(Cause::MemoryLimit));
                            others = fill(&house, 1);
                        }
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Ok(true)) => {
                            came.extend_from_slice(inflater.data());
                            inflater.consume(inflater.data().len());
                        }
                        Poll::Ready(Ok(false)) => return Poll::Ready(Ok(())),
                        Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                    }
                }
            }));
            assert!(
                ended.is_ok(),
                "{coding}, seed {seed}: {ended:?} after {waits} waits"
            );
            assert!(
                came == *plain,
                "{coding}, seed {seed}: {} bytes",
                came.len()
            );
            assert!(expected.contains(&waits), "{coding}, seed {seed}: {waits}");
            drop((inflater, others));
            drop(house.desk);
            assert_eq!(house.ledger.used_bytes(), 0);
        }
    }
}
