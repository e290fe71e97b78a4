//! A body from one wire to another by every pair of framings, cut at every byte: what an edge does
//! between an endpoint and a client.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use outgrow_core::Random;
use outgrow_message::{Blocks, BodyLength};

use super::reference;
use super::wire::{Then, Wire, run};
use super::{blocks, over_seeds};
use crate::conn::{Incoming, Outgoing, Problem};

/// Moves a body as the edge does; how it ended.
struct Relay {
    from: Wire,
    to: Wire,
    incoming: Incoming,
    outgoing: Outgoing,
    blocks: Arc<Blocks>,
    finished: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Complete,
    CutOff(Problem),
    Unsent(io::ErrorKind),
}

impl Relay {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Self {
            from,
            to,
            incoming,
            outgoing,
            blocks,
            ..
        } = self;
        let unsent = |error: io::Error| End::Unsent(error.kind());
        while !self.finished {
            match incoming.poll_data(cx, from, blocks) {
                Poll::Ready(Ok(true)) => {
                    match ready!(outgoing.poll_push(cx, to, blocks, incoming.data())) {
                        Ok(taken) => incoming.consume(taken),
                        Err(error) => return Poll::Ready(unsent(error)),
                    }
                }
                Poll::Ready(Ok(false)) => {
                    self.finished = true;
                    assert!(outgoing.finish(blocks, incoming.trailers().map(|fields| &*fields)));
                }
                Poll::Ready(Err(problem)) => {
                    let flushed = ready!(outgoing.poll_flush(cx, to));
                    return Poll::Ready(flushed.map_or_else(unsent, |()| End::CutOff(problem)));
                }
                Poll::Pending => {
                    if let Err(error) = ready!(outgoing.poll_flush(cx, to)) {
                        return Poll::Ready(unsent(error));
                    }
                    return Poll::Pending;
                }
            }
        }
        let flushed = ready!(outgoing.poll_flush(cx, to));
        Poll::Ready(flushed.map_or_else(unsent, |()| End::Complete))
    }
}

/// How a body comes in: its framing, and its bytes as they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coming {
    Length,
    Chunks,
    UntilClose,
}

const ALL: [Coming; 3] = [Coming::Length, Coming::Chunks, Coming::UntilClose];

fn relay(from: &Wire, to: &Wire, coming: Coming, length: usize, chunked: bool) -> (End, u64) {
    let (ledger, blocks) = blocks();
    let mut relay = Relay {
        from: from.clone(),
        to: to.clone(),
        incoming: Incoming::default(),
        outgoing: Outgoing::default(),
        blocks,
        finished: false,
    };
    match coming {
        Coming::Length => relay
            .incoming
            .begin(BodyLength::Known(length as u64), false),
        Coming::Chunks => relay.incoming.begin(BodyLength::Unknown, false),
        Coming::UntilClose => relay.incoming.begin(BodyLength::Unknown, true),
    }
    assert!(relay.outgoing.buffer.reserve(100, &relay.blocks));
    relay.outgoing.buffer.append(match chunked {
        true => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        false => b"HTTP/1.1 200 OK\r\n\r\n",
    });
    relay.outgoing.begin(chunked);
    let end = run(&[from, to], poll_fn(|cx| relay.poll(cx))).expect("the input ends");
    let written = relay.outgoing.buffer.written();
    drop(relay);
    assert_eq!(ledger.used_bytes(), 0, "blocks are left behind");
    (end, written)
}

fn body(random: &mut Random) -> Vec<u8> {
    let most = [10, 3_000, 20_000, 300_000][random.below(4)];
    let count = random.below(most);
    let word: [u8; 61] = std::array::from_fn(|_| random.next_u64() as u8);
    (0..count).map(|at| word[(at + at / 61 * 7) % 61]).collect()
}

fn coded(random: &mut Random, coming: Coming, body: &[u8]) -> Vec<u8> {
    if coming != Coming::Chunks {
        return body.to_vec();
    }
    let mut out = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let most = rest.len().min([1_000, 20_000, 1 << 20][random.below(3)]);
        let count = 1 + random.below(most);
        out.extend_from_slice(format!("{count:x}\r\n").as_bytes());
        out.extend_from_slice(&rest[..count]);
        out.extend_from_slice(b"\r\n");
        rest = &rest[count..];
    }
    out.extend_from_slice(b"0\r\nX-Sum: 1\r\n\r\n");
    out
}

#[test]
fn a_body_is_the_same_in_every_framing() {
    over_seeds(1_000, |seed| {
        let mut random = Random::from_seed(seed);
        let coming = ALL[random.below(3)];
        let chunked = random.below(2) == 0;
        let body = body(&mut random);
        let from = Wire::new(
            seed,
            &coded(&mut random, coming, &body),
            Then::End,
            body.len(),
        );
        let to = Wire::new(seed + 1, b"", Then::Silence, body.len());
        let (end, written) = relay(&from, &to, coming, body.len(), chunked);
        assert_eq!(end, End::Complete);
        let output = to.output();
        assert_eq!(written, output.len() as u64);
        let response = reference::response(&output, false, true).expect("a head");
        assert!(response.complete && response.body == body);
        let trailers = usize::from(coming == Coming::Chunks && chunked);
        assert_eq!(
            (response.trailers.len(), response.length),
            (trailers, output.len())
        );
    });
}

#[test]
fn a_body_that_breaks_is_cut_off_in_every_framing() {
    over_seeds(1_000, |seed| {
        let mut random = Random::from_seed(seed);
        let coming = ALL[random.below(3)];
        let body = body(&mut random);
        let input = coded(&mut random, coming, &body);
        let at = random.below(input.len().max(1)).min(input.len());
        let reset = random.below(2) == 0 || coming == Coming::UntilClose;
        let then = if reset { Then::Reset } else { Then::End };
        if at == input.len() && !reset {
            return;
        }
        let from = Wire::new(seed, &input[..at], then, at);
        let to = Wire::new(seed + 1, b"", Then::Silence, body.len());
        let (end, _) = relay(&from, &to, coming, body.len(), true);
        if at == input.len() && coming != Coming::UntilClose {
            assert_eq!(end, End::Complete);
            return;
        }
        let problem = if reset {
            Problem::Reset
        } else {
            Problem::Closed
        };
        assert_eq!(end, End::CutOff(problem));
        let response = reference::response(&to.output(), false, true).expect("a head");
        assert!(!response.complete, "cut off, and looks complete");
        assert!(body.starts_with(&response.body));
        if coming != Coming::Chunks {
            assert_eq!(
                response.body.len(),
                at,
                "what came goes out before the end is told"
            );
        }
    });
}

#[test]
fn every_byte_of_a_body_is_a_place_to_break() {
    let body = b"0\r\n\r\nhello, world, these are the bytes";
    for coming in ALL {
        let mut random = Random::from_seed(1);
        let input = coded(&mut random, coming, body);
        for at in 0..input.len() {
            for piece in [1, 3, 1 << 20] {
                for then in [Then::End, Then::Reset] {
                    if coming == Coming::UntilClose && then == Then::End {
                        continue;
                    }
                    let from = Wire::in_pieces(piece, &input[..at], then);
                    let to = Wire::in_pieces(piece, b"", Then::Silence);
                    let (end, _) = relay(&from, &to, coming, body.len(), true);
                    assert!(
                        matches!(end, End::CutOff(_)),
                        "{coming:?} {at} {piece} {then:?}"
                    );
                    let output = to.output();
                    let response = reference::response(&output, false, true).expect("a head");
                    assert!(!response.complete && body.starts_with(&response.body));
                }
            }
        }
    }
}

/// Chunks that come one by one are sent together, and what is at hand never waits.
#[test]
fn small_chunks_are_gathered_into_one() {
    let input = b"1\r\nx\r\n".repeat(1_000);
    let from = Wire::in_pieces(1 << 20, &[&input[..], b"0\r\n\r\n"].concat(), Then::End);
    let to = Wire::in_pieces(1 << 20, b"", Then::Silence);
    let (end, _) = relay(&from, &to, Coming::Chunks, 0, true);
    assert_eq!(end, End::Complete);
    let output = to.output();
    let framing =
        output.len() - b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".len() - 1_000;
    assert_eq!(
        framing,
        b"3e8\r\n".len() + b"\r\n".len() + b"0\r\n\r\n".len()
    );
}
