//! Whole exchanges on a server's connection against a simple model: what the handler was told and
//! what the client understands must be what was meant, or visibly cut off.

use std::future::poll_fn;
use std::sync::Arc;

use outgrow_core::{Cause, Fault, Random};
use outgrow_message::{BodyLength, BodySource, Fields, Method, RequestHead, ResponseHead};

use super::reference;
use super::wire::{Then, Wire, run};
use super::{blocks, over_seeds};
use crate::conn::ServerConnection;
use crate::conn::server::NoRequest;
use crate::downstream::Downstream;
use crate::h1::Limits;

/// In which order a handler does its two things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    ReadThenAnswer,
    /// The response is the body, sent while it comes.
    Echo,
    /// The body is not read at all.
    AnswerOnly,
}

/// One exchange as it is meant.
#[derive(Clone, Debug)]
struct Meant {
    request: Vec<u8>,
    path: String,
    method: Method,
    body: Vec<u8>,
    trailers: usize,
    expects: bool,
    http10: bool,
    stays: bool,
    order: Order,
    status: u16,
    length: BodyLength,
    answer: Vec<u8>,
    answer_trailers: bool,
    /// After so many bytes of the answer it is cut off.
    cut_at: Option<usize>,
}

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

fn bytes_of(random: &mut Random, most: usize) -> Vec<u8> {
    let count = match random.below(4) {
        0 => random.below(4),
        1 => random.below(100),
        _ => random.below(most),
    };
    // Much of what could be taken for framing, and no two places alike.
    let alphabet = b"0123abc\r\n\r\n;: GET";
    let word: [u8; 61] = std::array::from_fn(|_| alphabet[random.below(alphabet.len())]);
    (0..count).map(|at| word[(at + at / 61 * 7) % 61]).collect()
}

fn chunked(random: &mut Random, body: &[u8], trailers: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let count = 1 + random.below(rest.len());
        let size = match random.below(3) {
            0 => format!("{count:x}"),
            1 => format!("{count:06X}"),
            _ => format!("{count:x};name=\"value\""),
        };
        out.extend_from_slice(size.as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&rest[..count]);
        out.extend_from_slice(b"\r\n");
        rest = &rest[count..];
    }
    out.extend_from_slice(b"0\r\n");
    for number in 0..trailers {
        out.extend_from_slice(format!("X-Sum-{number}: {number}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}

fn exchange(random: &mut Random, number: usize) -> Meant {
    let http10 = random.below(5) == 0;
    let (verb, method) = [
        ("GET", Method::Get),
        ("POST", Method::Post),
        ("HEAD", Method::Head),
        ("BREW", Method::Other),
    ][random.below(4)];
    let path = format!("/{number}/{}", random.below(1_000));
    let version = if http10 { "1.0" } else { "1.1" };
    let mut head = format!("{verb} {path} HTTP/{version}\r\nhOsT: a.example\r\n");
    let mut stays = !http10;
    match random.below(6) {
        0 => {
            head.push_str("Connection: close\r\n");
            stays = false;
        }
        1 | 2 => {
            head.push_str("Connection: x, Keep-Alive\r\n");
            stays = true;
        }
        _ => {}
    }
    let mut body = Vec::new();
    let mut trailers = 0;
    let mut coded = Vec::new();
    match random.below(3) {
        0 => {}
        1 => {
            body = bytes_of(random, 40_000);
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
            coded.clone_from(&body);
        }
        _ if http10 => {}
        _ => {
            body = bytes_of(random, 40_000);
            trailers = random.below(3);
            head.push_str("Transfer-Encoding: chunked\r\n");
            coded = chunked(random, &body, trailers);
        }
    }
    let expects = !http10 && random.below(8) == 0;
    if expects {
        head.push_str("Expect: 100-continue\r\n");
    }
    head.push_str("\r\n");
    let order = [Order::ReadThenAnswer, Order::Echo, Order::AnswerOnly][random.below(3)];
    let status = [200, 200, 404, 204, 304][random.below(5)];
    let mut answer = bytes_of(random, 70_000);
    if order == Order::Echo {
        answer.clone_from(&body);
    }
    let mut length = match random.below(2) {
        0 => BodyLength::Known(answer.len() as u64),
        _ => BodyLength::Unknown,
    };
    if ResponseHead::never_has_body(status, method) {
        answer.clear();
        length = BodyLength::Empty;
    }
    let cut_at = (random.below(8) == 0 && !answer.is_empty() && order == Order::ReadThenAnswer)
        .then(|| random.below(answer.len()));
    Meant {
        request: [head.as_bytes(), &coded].concat(),
        path,
        method,
        body,
        trailers,
        expects,
        http10,
        stays,
        order,
        status,
        length,
        answer,
        answer_trailers: length == BodyLength::Unknown && random.below(3) == 0,
        cut_at,
    }
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
        let piece = &data[..1 + random.below(data.len())];
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

/// Some exchanges, what the client sends, and how many bytes move in all.
fn meant(random: &mut Random) -> (Vec<Meant>, Vec<u8>, usize) {
    let count = 1 + random.below(4);
    let all: Vec<_> = (0..count).map(|number| exchange(random, number)).collect();
    let input: Vec<u8> = all.iter().flat_map(|one| &one.request).copied().collect();
    let bytes = input.len() + all.iter().map(|one| one.answer.len()).sum::<usize>();
    (all, input, bytes)
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
            wire.break_output_after(at);
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
                wire.break_output_after(at);
                compare(seed, &wire, &all, Break::Output(at));
            }
        }
    }
}

/// The client sends its body only when it has been told to.
#[test]
fn a_client_that_waits_for_100_gets_it() {
    over_seeds(500, |seed| {
        let head =
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
        let wire = Wire::new(seed, head, Then::Silence, 0);
        let (_, blocks) = blocks();
        let mut connection = ServerConnection::new(wire.clone(), blocks, Limits::default());
        let mut request = RequestHead::default();
        let asked = async {
            poll_fn(|cx| connection.poll_head(cx, &mut request))
                .await
                .expect("a request");
            let mut interim = ResponseHead::default();
            interim.status = 100;
            connection.interim(&interim).expect("there is memory");
            poll_fn(|cx| connection.poll_flush(cx))
                .await
                .expect("the client is there");
        };
        run(&[&wire], asked).expect("nothing waits for the body");
        assert_eq!(wire.output(), b"HTTP/1.1 100 Continue\r\n\r\n");
        wire.feed(b"hello", Then::Silence);
        let got = run(&[&wire], poll_fn(|cx| connection.poll_data(cx)));
        assert_eq!(got, Some(Ok(true)));
    });
}

/// While an answer is awaited the client is watched, and what it sends meanwhile is kept.
#[test]
fn a_client_that_goes_is_seen_and_one_that_pipelines_is_not_lost() {
    over_seeds(500, |seed| {
        let first = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
        let second = b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
        for then in [Then::End, Then::Reset, Then::Silence] {
            let wire = Wire::new(seed, &[&first[..], second].concat(), then, 0);
            let (_, blocks) = blocks();
            let mut connection = ServerConnection::new(wire.clone(), blocks, Limits::default());
            let mut request = RequestHead::default();
            let head = run(
                &[&wire],
                poll_fn(|cx| connection.poll_head(cx, &mut request)),
            );
            assert_eq!(head, Some(Ok(())));
            let gone = run(&[&wire], poll_fn(|cx| connection.poll_gone(cx)));
            assert_eq!(
                gone.map(|fault| fault.cause),
                match then {
                    Then::Silence => None,
                    _ => Some(Cause::ClientGone),
                }
            );
            assert_eq!(connection.peek(), second);
            assert_eq!(connection.can_continue(), then == Then::Silence);
        }
    });
}

/// A client that sends without end while an answer is awaited is not read without end.
#[test]
fn a_flood_of_pipelined_bytes_is_bounded() {
    let input = [
        &b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        &vec![b'x'; 1 << 20],
    ]
    .concat();
    let wire = Wire::in_pieces(5_000, &input, Then::Silence);
    let (ledger, blocks) = blocks();
    let mut connection = ServerConnection::new(wire.clone(), blocks, Limits::default());
    let mut request = RequestHead::default();
    let head = run(
        &[&wire],
        poll_fn(|cx| connection.poll_head(cx, &mut request)),
    );
    assert_eq!(head, Some(Ok(())));
    let waker = std::task::Waker::noop();
    let mut cx = std::task::Context::from_waker(waker);
    for _ in 0..1_000 {
        assert!(connection.poll_gone(&mut cx).is_pending());
    }
    assert!(connection.peek().len() <= 16 * 1024);
    assert!(ledger.used_bytes() <= 64 * 1024, "{}", ledger.used_bytes());
}

/// An unlucky moment without memory is ours to answer for, not the client's.
#[test]
fn memory_that_ends_blames_nobody_else() {
    let wire = Wire::in_pieces(1 << 20, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Then::Silence);
    let (ledger, blocks) = blocks();
    let supply = Arc::clone(&blocks);
    let mut connection = ServerConnection::new(wire.clone(), blocks, Limits::default());
    let mut request = RequestHead::default();
    let head = run(
        &[&wire],
        poll_fn(|cx| connection.poll_head(cx, &mut request)),
    );
    assert_eq!(head, Some(Ok(())));
    let mut response = ResponseHead::default();
    response.status = 200;
    connection
        .respond(&response, BodyLength::Unknown, Method::Get)
        .expect("memory for a head");
    let flushed = run(&[&wire], poll_fn(|cx| connection.poll_flush(cx)));
    assert_eq!(flushed, Some(Ok(())));
    ledger.set_limit(0);
    let mut taken = Vec::new();
    taken.extend(std::iter::from_fn(|| supply.take()));
    let pushed = run(&[&wire], poll_fn(|cx| connection.poll_push(cx, b"hello")));
    let fault = pushed.expect("not pending").expect_err("no memory");
    assert_eq!(
        (fault.cause, fault.side),
        (Cause::MemoryLimit, outgrow_core::Side::Outgrow)
    );
}
