//! Whether the rest of an answer is at hand, so that nobody needs its connection any more.

use std::future::poll_fn;
use std::task::{Context, Waker};

use outgrow_core::{Fault, Random};
use outgrow_message::{BodySource, RequestHead, ResponseHead};

use super::wire::{Then, Wire, run};
use super::{blocks, over_seeds};
use crate::conn::{AtHand, ClientExchange, ClientSide, Incoming};
use crate::upstream::Upstream;

/// An answer with a body of so many bytes in one of the framings, and whether it has trailers.
fn answer(random: &mut Random, body: &[u8]) -> (Vec<u8>, Then, bool) {
    let head = |field: &str| format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n").into_bytes();
    let length = format!("Content-Length: {}", body.len());
    match random.below(3) {
        0 => (
            [head(&length), body.to_vec()].concat(),
            Then::Silence,
            false,
        ),
        1 => ([head("X: y"), body.to_vec()].concat(), Then::End, false),
        _ => {
            let mut out = head("Transfer-Encoding: chunked");
            for piece in body.chunks(100 + random.below(3_000)) {
                out.extend(format!("{:x}\r\n", piece.len()).bytes());
                out.extend(piece);
                out.extend(b"\r\n");
            }
            let trailers = random.below(2) == 0;
            out.extend(if trailers {
                &b"0\r\nX-Sum: 1\r\n\r\n"[..]
            } else {
                b"0\r\n\r\n"
            });
            (out, Then::Silence, trailers)
        }
    }
}

/// Takes at most so many bytes; whether there may be more, or why not.
async fn take(
    source: &mut impl BodySource,
    mut most: usize,
    got: &mut Vec<u8>,
) -> Result<bool, Fault> {
    while most > 0 {
        if !poll_fn(|cx| source.poll_data(cx)).await? {
            return Ok(false);
        }
        let count = most.min(source.data().len());
        got.extend_from_slice(&source.data()[..count]);
        source.consume(count);
        most -= count;
    }
    Ok(true)
}

/// What was made of pieces comes as it was, in blocks that go back as they are emptied.
#[test]
fn pieces_lie_in_blocks_that_fit() {
    const KIB: u64 = 1024;
    for (length, held) in [
        (0, 0),
        (1, 16),
        (16_384, 16),
        (16_385, 32),
        (65_535, 64),
        (65_536, 64),
        (100_000, 112),
        (131_072, 128),
    ] {
        let body: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let (ledger, blocks) = blocks();
        let mut whole = Incoming::whole(length, body.chunks(9_000), None, &blocks).expect("ample");
        assert_eq!(ledger.used_bytes(), held * KIB, "{length}");
        let (mut rest, mut got) = (AtHand(&mut whole), Vec::new());
        while run(&[], take(&mut rest, 5_000, &mut got)) == Some(Ok(true)) {
            rest.settle(&blocks);
            let left = (length - got.len()) as u64;
            assert!(ledger.used_bytes() < left + 64 * KIB, "{left} of {length}");
        }
        assert!(got == body && run(&[], take(&mut rest, 1, &mut got)) == Some(Ok(false)));
        rest.settle(&blocks);
        assert_eq!(ledger.used_bytes(), 0);
        // Who could keep it elsewhere leaves what is short to others.
        let _used = ledger.charge(ledger.limit_bytes() / 2 + 1);
        let more = Incoming::whole(length, body.chunks(9_000), None, &blocks);
        assert_eq!(more.is_none(), length > 0);
    }
}

#[test]
fn what_is_at_hand_is_whole_or_not() {
    over_seeds(2_000, |seed| {
        let mut random = Random::from_seed(seed);
        let body: Vec<u8> = (0..random.below(12_000))
            .map(|at| b"x\r\n\r\n0"[at % 6])
            .collect();
        let (bytes, then, trailers) = answer(&mut random, &body);
        // Some of it is missing, or there is more than that.
        let (cut, more) = match random.below(4) {
            0 => (1 + random.below(30), &b""[..]),
            1 if then == Then::Silence => (0, &b"HTTP/1.1 200 OK\r\n\r\n"[..]),
            _ => (0, &b""[..]),
        };
        let then = match cut {
            0 => then,
            _ => [Then::Silence, Then::Reset][random.below(2)],
        };
        let wire = Wire::new(seed, b"", Then::Silence, bytes.len());
        wire.feed(10, &[&bytes[..bytes.len() - cut], more].concat(), then);
        let (ledger, blocks) = blocks();
        let (mut io, mut side) = (wire.clone(), ClientSide::default());
        let request = RequestHead::default();
        assert!(side.begin(&request, b"a.example", None, &blocks));
        let mut head = ResponseHead::default();
        let mut up = ClientExchange {
            side: &mut side,
            io: &mut io,
            blocks: &blocks,
        };
        let mut got = Vec::new();
        let begun = run(&[&wire], async {
            poll_fn(|cx| up.poll_flush(cx)).await.expect("sent");
            poll_fn(|cx| up.poll_head(cx, &request, &mut head)).await
        });
        if begun != Some(Ok(())) {
            assert!(cut > 0, "{begun:?}");
            return;
        }
        up.begin_body(&head);
        // Some of it is taken, and then nobody takes any more.
        let most = random.below(body.len() + 1);
        let taken = run(&[&wire], take(&mut up, most, &mut got));
        let mut cx = Context::from_waker(Waker::noop());
        up.settle();
        let is_whole = (0..100_000).any(|_| up.is_whole(&mut cx));
        match (cut, more.len()) {
            (0, 0) => assert!(is_whole),
            // What was not read nobody knows of yet.
            (0, more) => assert!(!is_whole || wire.unread() == more),
            _ => assert!(!is_whole),
        }
        if is_whole {
            let mut rest = AtHand(&mut side.incoming);
            let end = run(&[], take(&mut rest, usize::MAX, &mut got));
            assert_eq!(end, Some(Ok(false)));
            assert_eq!(rest.trailers().is_some(), trailers);
            assert!(got == body);
        } else if then == Then::Reset && taken == Some(Ok(true)) {
            let end = run(&[&wire], take(&mut up, usize::MAX, &mut got));
            assert!(matches!(end, Some(Err(_))), "cut off, and looks whole");
            assert!(body.starts_with(&got));
        }
        drop(side);
        assert_eq!(ledger.used_bytes(), 0);
    });
}
