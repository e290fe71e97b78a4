//! Differential tests: heads and chunked bodies, mutated by seed, through our parser and through
//! others (see `compare` for the differences that are meant). The fuzz targets use the same code.
//!
//! `OUTGROW_SEED=n` repeats one seed.

use outgrow_core::Random;
use outgrow_message::Method;

use crate::{compare, list};

/// Pieces that are put in where they hurt.
const PIECES: &[&[u8]] = &[
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b"\t",
    b" ",
    b":",
    b",",
    b";",
    b"\x0b",
    b"\x7f",
    b"\xa0",
    b"+",
    b"0x",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length",
    b"chunked",
    b"Host: b\r\n",
    b"Connection: close\r\n",
    b"X: y\r\n",
    b"0",
    b"ffffffff",
    b"0\r\n\r\n",
    b"\r\n\r\n",
    b"%2e",
    b"%00",
    b"/../",
    b"\"",
    b"_",
];

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] = random.next_u64() as u8,
            1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 if at < bytes.len() => {
                let end = (at + 1 + random.below(8)).min(bytes.len());
                bytes.drain(at..end);
            }
            3 => {
                let end = (at + random.below(40)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            4 => bytes.truncate(at.max(bytes.len() / 2)),
            _ => {
                let piece = PIECES[random.below(PIECES.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
        }
    }
}

fn over_seeds(count: u64, starts: &[Vec<u8>], compare: impl Fn(&mut Random, &[u8])) {
    let only = std::env::var("OUTGROW_SEED").ok();
    let only = only.map(|seed| seed.parse::<u64>().expect("OUTGROW_SEED is a number"));
    let seeds = only.map_or(0..count, |seed| seed..seed + 1);
    for seed in seeds {
        let mut random = Random::from_seed(seed);
        let mut bytes = starts[random.below(starts.len())].clone();
        mutate(&mut random, &mut bytes);
        let compared = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            compare(&mut random, &bytes);
        }));
        assert!(compared.is_ok(), "OUTGROW_SEED={seed} repeats it");
    }
}

fn requests() -> Vec<Vec<u8>> {
    list::requests().into_iter().map(|one| one.bytes).collect()
}

fn responses() -> Vec<Vec<u8>> {
    list::responses().into_iter().map(|one| one.bytes).collect()
}

/// What follows the heads of all messages that have chunked bodies.
fn bodies() -> Vec<Vec<u8>> {
    let chunked = |bytes: &Vec<u8>| {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let is = bytes[..end].ends_with(b"Transfer-Encoding: chunked");
        is.then(|| bytes[end + 4..].to_vec())
    };
    requests().iter().filter_map(chunked).collect()
}

#[test]
fn requests_are_read_alike() {
    over_seeds(150_000, &requests(), |_, bytes| {
        compare::compare_request(bytes);
    });
}

#[test]
fn responses_are_read_alike() {
    over_seeds(100_000, &responses(), |random, bytes| {
        let method = if random.below(4) == 0 {
            Method::Head
        } else {
            Method::Get
        };
        compare::compare_response(bytes, method);
    });
}

#[test]
fn chunked_bodies_are_read_alike() {
    let starts = bodies();
    assert!(starts.len() > 50, "{}", starts.len());
    over_seeds(150_000, &starts, |random, bytes| {
        compare::compare_chunked(bytes, 1 + random.below(20));
    });
}
