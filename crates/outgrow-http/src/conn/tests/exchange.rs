//! Whole exchanges on a server's connection against a simple model: what the handler was told and
//! what the client understands must be what was meant, or visibly cut off.

use std::future::poll_fn;
use std::sync::Arc;

use outgrow_core::{Cause, Fault, Random};
use outgrow_message::{BodyLength, BodySource, Fields, Method, RequestHead, ResponseHead};

use super::meant::{Meant, Order, meant};
use super::reference;
use super::wire::{Then, Wire, run};
use super::{blocks, over_seeds};
use crate::conn::ServerConnection;
use crate::conn::server::NoRequest;
use crate::downstream::Downstream;
use crate::h1::Limits;

/// One exchange as the handler saw it.
#[derive(Debug, Default)]
struct Seen {
    path: String,
    body: Vec<u8>,
    trailers: usize,
    /// The body's end, if it came to one.
    end: Option<Result<(), Fault>>,
    answered: Option<Result<(), Fault>>,
}

/// Reads some of the body; false at its end.
async fn read(
    connection: &mut ServerConnection<Wire>,
    random: &mut Random,
    into: &mut Vec<u8>,
) -> Result<bool, Fault> {
    if !poll_fn(|cx| connection.poll_data(cx)).await? {
        return Ok(false);
    }
    let data = connection.data();
    assert!(!data.is_empty(), "ready with nothing");
    let count = 1 + random.below(data.len());
    into.extend_from_slice(&data[..count]);
    connection.consume(count);
    Ok(true)
}

async fn push(
    connection: &mut ServerConnection<Wire>,
    random: &mut Random,
    mut data: &[u8],
) -> Result<(), Fault> {
    while !data.is_empty() {
        let piece = &data[..=random.below(data.len())];
        // What is offered stays the same until some of it was taken, as a source's data does.
        let taken = poll_fn(|cx| connection.poll_push(cx, piece)).await?;
        assert!((1..=piece.len()).contains(&taken), "took {taken}");
        data = &data[taken..];
        // An unfinished piece is offered on, whole: the next is taken from its rest.
        let mut rest = &piece[taken..];
        while !rest.is_empty() {
            let taken = poll_fn(|cx| connection.poll_push(cx, rest)).await?;
            data = &data[taken..];
            rest = &rest[taken..];
        }
        if random.below(4) == 0 {
            poll_fn(|cx| connection.poll_flush(cx)).await?;
        }
    }
    Ok(())
}

async fn answer(
    connection: &mut ServerConnection<Wire>,
    random: &mut Random,
    meant: &Meant,
    seen: &mut Seen,
) -> Result<(), Fault> {
    let mut head = ResponseHead::default();
    head.status = meant.status;
    head.fields.push(b"X-Path", meant.path.as_bytes());
    connection.respond(&head, meant.length, meant.method)?;
    if meant.order == Order::Echo {
        while seen.end.is_none() {
            let before = seen.body.len();
            match read(connection, random, &mut seen.body).await {
                Ok(true) if meant.answer.is_empty() => {}
                Ok(true) => {
                    let piece = seen.body[before..].to_vec();
                    push(connection, random, &piece).await?;
                }
                Ok(false) => seen.end = Some(Ok(())),
                Err(fault) => {
                    seen.end = Some(Err(fault));
                    connection.abort();
                    return Err(fault);
                }
            }
        }
    } else {
        let until = meant.cut_at.unwrap_or(meant.answer.len());
        push(connection, random, &meant.answer[..until]).await?;
        if meant.cut_at.is_some() {
            connection.abort();
            return poll_fn(|cx| connection.poll_flush(cx)).await;
        }
    }
    let mut trailers = Fields::default();
    trailers.push(b"X-Sum", b"1");
    connection.finish(meant.answer_trailers.then_some(&trailers))?;
    poll_fn(|cx| connection.poll_flush(cx)).await
}

/// Handles requests as they are meant until there are no more.
async fn serve(
    connection: &mut ServerConnection<Wire>,
    random: &mut Random,
    all: &[Meant],
    seen: &mut Vec<Seen>,
) -> Option<NoRequest> {
    let mut head = RequestHead::default();
    loop {
        if let Err(end) = poll_fn(|cx| connection.poll_head(cx, &mut head)).await {
            return Some(end);
        }
        let meant = &all[seen.len()];
        seen.push(Seen {
            path: String::from_utf8_lossy(head.path()).into_owned(),
            ..Seen::default()
        });
        let seen = seen.last_mut().expect("just pushed");
        assert_eq!(
            (head.expects_continue, head.method),
            (meant.expects, meant.method)
        );
        if head.expects_continue && meant.order != Order::AnswerOnly {
            let mut interim = ResponseHead::default();
            interim.status = 100;
            connection.interim(&interim).expect("there is memory");
            if poll_fn(|cx| connection.poll_flush(cx)).await.is_err() {
                return None;
            }
        }
        if meant.order == Order::ReadThenAnswer {
            let end = loop {
                match read(connection, random, &mut seen.body).await {
                    Ok(true) => {}
                    Ok(false) => break Ok(()),
                    Err(fault) => break Err(fault),
                }
            };
            seen.end = Some(end);
            seen.trailers = connection.trailers().map_or(0, |trailers| trailers.len());
            if end.is_err() {
                return None;
            }
        }
        let answered = answer(connection, random, meant, seen).await;
        if seen.end == Some(Ok(())) {
            seen.trailers = connection.trailers().map_or(0, |trailers| trailers.len());
        }
        seen.answered = Some(answered);
        if answered.is_err() || !connection.can_continue() {
            let mut shut = false;
            poll_fn(|cx| connection.poll_linger(cx, &mut shut)).await;
            return None;
        }
        connection.rest();
    }
}

/// What went wrong on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    Nothing,
    Input(usize, Then),
    Output(usize),
}

/// Runs the exchanges and compares what was seen on both sides with what was meant.
fn compare(seed: u64, wire: &Wire, all: &[Meant], broken: Break) {
    let mut random = Random::from_seed(seed ^ 0x5eed);
    let (ledger, blocks) = blocks();
    let mut connection =
        ServerConnection::new(wire.clone(), Arc::clone(&blocks), Limits::default());
    let mut seen = Vec::new();
    let end = run(&[wire], serve(&mut connection, &mut random, all, &mut seen));
    let idle = end.is_none() && connection.peek().is_empty();
    if idle && seen.iter().all(|one| one.answered.is_some()) {
        assert_eq!(ledger.used_bytes(), 0, "an idle connection holds a block");
    }
    check_requests(all, &seen, broken);
    check_responses(&wire.output(), all, &seen, wire.is_shut());
    drop(connection);
    assert_eq!(ledger.used_bytes(), 0, "blocks are left behind");
}

fn check_requests(all: &[Meant], seen: &[Seen], broken: Break) {
    let here = match broken {
        Break::Input(at, _) => at,
        _ => usize::MAX,
    };
    let mut end = 0;
    for (meant, seen) in all.iter().zip(seen) {
        end += meant.request.len();
        assert_eq!(seen.path, meant.path);
        match seen.end {
            Some(Ok(())) => {
                assert!(end <= here, "a body that was cut off looked complete");
                assert_eq!(seen.body, meant.body);
                assert_eq!(seen.trailers, meant.trailers);
            }
            Some(Err(fault)) => {
                assert_eq!(fault.cause, Cause::ClientGone);
                assert!(here < end, "a whole body was not seen whole");
                assert!(meant.body.starts_with(&seen.body));
            }
            None => assert!(meant.body.starts_with(&seen.body)),
        }
    }
    // Nothing is missing: the handler stopped for a reason.
    let Some(last) = seen.len().checked_sub(1) else {
        assert!(here < all[0].request.len() || broken != Break::Nothing || all.is_empty());
        return;
    };
    let unread = all[last].order == Order::AnswerOnly && !all[last].body.is_empty();
    let closes = !all[last].stays || seen[last].answered != Some(Ok(())) || unread;
    let closes = closes || all[last].cut_at.is_some() || all[last].order == Order::AnswerOnly;
    let until_close = all[last].http10 && all[last].length == BodyLength::Unknown;
    if !closes && !until_close && broken == Break::Nothing {
        assert_eq!(seen.len(), all.len(), "a request was not seen");
    }
}

fn check_responses(output: &[u8], all: &[Meant], seen: &[Seen], shut: bool) {
    let mut rest = output;
    for (meant, seen) in all.iter().zip(seen) {
        if meant.expects
            && meant.order != Order::AnswerOnly
            && let Some(interim) = reference::response(rest, false, false)
        {
            assert_eq!(interim.status, 100);
            assert!(interim.fields.is_empty());
            rest = &rest[interim.length..];
        }
        let to_head = meant.method == Method::Head;
        let Some(response) = reference::response(rest, to_head, shut) else {
            assert_ne!(seen.answered, Some(Ok(())), "an answer is missing");
            return;
        };
        assert_eq!(response.status, meant.status);
        assert_eq!(response.field("x-path"), Some(&*meant.path));
        assert!(meant.answer.starts_with(&response.body));
        let until_close = response.field("content-length").is_none()
            && response.field("transfer-encoding").is_none()
            && !ResponseHead::never_has_body(meant.status, meant.method);
        assert_eq!(
            until_close,
            meant.http10 && meant.length == BodyLength::Unknown
        );
        if seen.answered == Some(Ok(())) && meant.cut_at.is_none() {
            assert!(response.complete && response.body == meant.answer);
            let trailers = usize::from(meant.answer_trailers && !meant.http10);
            assert_eq!(response.trailers.len(), trailers);
        } else if !until_close {
            let all_of_it = response.body == meant.answer && meant.length != BodyLength::Unknown;
            assert!(
                !response.complete || all_of_it,
                "cut off, and looks complete"
            );
        }
        if !response.complete {
            return;
        }
        rest = &rest[response.length..];
    }
    assert!(rest.is_empty(), "more was sent than was meant");
}

#[test]
fn both_sides_understand_what_was_meant() {
    over_seeds(3_000, |seed| {
        let mut random = Random::from_seed(seed);
        let (all, input, bytes) = meant(&mut random);
        let then = if random.below(2) == 0 {
            Then::End
        } else {
            Then::Silence
        };
        let wire = Wire::new(seed, &input, then, bytes);
        compare(seed, &wire, &all, Break::Nothing);
    });
}

#[test]
fn what_breaks_never_looks_whole() {
    over_seeds(3_000, |seed| {
        let mut random = Random::from_seed(seed);
        let (all, input, bytes) = meant(&mut random);
        let broken = match random.below(3) {
            0 => Break::Input(random.below(input.len()), Then::End),
            1 => Break::Input(random.below(input.len()), Then::Reset),
            _ => Break::Output(random.below(20_000)),
        };
        let wire = match broken {
            Break::Input(at, then) => Wire::new(seed, &input[..at], then, bytes),
            _ => Wire::new(seed, &input, Then::Silence, bytes),
        };
        if let Break::Output(at) = broken {
            wire.limit_output(at, Then::Reset);
        }
        compare(seed, &wire, &all, broken);
    });
}

/// Small exchanges of every kind, cut at every byte in every way, in pieces of several sizes.
#[test]
fn every_byte_is_a_place_to_break() {
    for seed in 0..40 {
        let mut random = Random::from_seed(seed);
        let (mut all, ..) = meant(&mut random);
        all.retain(|one| one.request.len() < 400 && one.answer.len() < 400);
        let input: Vec<u8> = all.iter().flat_map(|one| &one.request).copied().collect();
        if all.is_empty() {
            continue;
        }
        for piece in [1, 5, 1 << 20] {
            for at in 0..input.len() {
                for then in [Then::End, Then::Reset, Then::Silence] {
                    let wire = Wire::in_pieces(piece, &input[..at], then);
                    compare(seed, &wire, &all, Break::Input(at, then));
                }
            }
            for at in 0..600 {
                let wire = Wire::in_pieces(piece, &input, Then::Silence);
                wire.limit_output(at, Then::Reset);
                compare(seed, &wire, &all, Break::Output(at));
            }
        }
    }
}
