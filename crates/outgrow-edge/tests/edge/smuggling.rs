//! Every known mutation through the edge to a backend that records each byte: refused and never
//! seen there, or forwarded in the one form of ours. The same from the backend's side: a 502, or a
//! response that is visibly cut off, and never a byte of what was hidden behind it.

use std::sync::Arc;
use std::time::Duration;

use outgrow_testkit::backend::{Recorder, Script, Step};
use outgrow_testkit::raw::{self, End, Exchange};

use crate::canonical::{self, Read};
use crate::house::{House, Options};
use crate::list::{self, Fate, Mutation};

const LIMIT: Duration = Duration::from_secs(10);
/// Ends a client's connection where it is still open.
const LAST: &[u8] = b"GET /last HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

/// A backend that answers each request on a connection of its own, so that each is recorded apart.
fn backend() -> Recorder {
    let reply = |request: &[u8]| {
        let body = if request.starts_with(b"HEAD ") {
            ""
        } else {
            "ok"
        };
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
        format!("{head}{body}").into_bytes()
    };
    Recorder::start(Script::every([
        Step::ReadRequest,
        Step::Reply(Arc::new(reply)),
        Step::Close,
    ]))
    .expect("a port")
}

fn count(bytes: &[u8], what: &[u8]) -> usize {
    bytes
        .windows(what.len())
        .filter(|window| *window == what)
        .count()
}

/// What is wrong about what the client got and what the backend saw.
fn judge(mutation: &Mutation, answer: &Exchange, seen: &[Vec<u8>]) -> Result<(), String> {
    let mut whole = Vec::new();
    let mut cut_off = 0;
    for bytes in seen {
        match canonical::read(bytes)? {
            Read::Whole(requests) => whole.extend(requests),
            Read::CutOff(requests) => {
                whole.extend(requests);
                cut_off += 1;
            }
        }
    }
    let responses = count(&answer.received, b"HTTP/1.1 ");
    let good = count(&answer.received, b"HTTP/1.1 200 OK\r\n");
    if good != whole.len() {
        return Err(format!("{good} answers of {} requests", whole.len()));
    }
    let refused = match mutation.fate {
        Fate::Good if cut_off == 0 && responses == good && good > 0 => return Ok(()),
        Fate::Good => return Err(format!("not forwarded: {}", answer.text())),
        Fate::Head(status) if seen.is_empty() => status,
        Fate::Head(_) => return Err(format!("the backend saw {seen:?}")),
        Fate::Body(status) if whole.is_empty() => status,
        Fate::Body(_) => return Err(format!("the backend saw it whole: {whole:?}")),
    };
    let start = format!("HTTP/1.1 {refused} ");
    if !answer.received.starts_with(start.as_bytes()) || responses != 1 {
        return Err(format!("not one {refused}: {}", answer.text()));
    }
    let says_so = count(&answer.received, b"\r\nConnection: close\r\n") == 1;
    if answer.end != End::Closed || !says_so {
        return Err(format!(
            "the connection goes on: {:?} {}",
            answer.end,
            answer.text()
        ));
    }
    Ok(())
}

#[test]
fn no_mutated_request_is_forwarded_ambiguously() {
    let backend = backend();
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    let mut wrong = Vec::new();
    let mut requests = 0;
    for mutation in list::requests() {
        let before = backend.connections().len();
        let pieces = [&mutation.bytes[..], LAST].concat();
        let answer =
            raw::exchange(house.address, &[&pieces], Duration::ZERO, LIMIT).expect("a connection");
        let seen = || -> Vec<Vec<u8>> {
            let connections = backend.connections();
            connections[before..]
                .iter()
                .map(|one| one.received.clone())
                .collect()
        };
        // What the client was told is certain; what the backend recorded may come a moment later.
        let good = count(&answer.received, b"HTTP/1.1 200 OK\r\n");
        backend.wait(LIMIT, |all| {
            all[before..]
                .iter()
                .map(|one| one.requests.len())
                .sum::<usize>()
                >= good
        });
        requests += good;
        if let Err(problem) = judge(&mutation, &answer, &seen()) {
            wrong.push(format!("{}: {problem}", mutation.name));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // Nothing came later either.
    assert_eq!(backend.requests().len(), requests);
    assert_eq!(house.panics(), 0);
    assert!(
        house.becomes_empty(),
        "{} bytes are kept",
        house.buffered_bytes()
    );
}

/// The same bytes in small pieces, so that every decision is made on the way.
#[test]
fn no_mutated_request_is_forwarded_ambiguously_in_pieces() {
    let backend = backend();
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    let mut wrong = Vec::new();
    for mutation in list::requests().iter().filter(|one| one.bytes.len() < 400) {
        let before = backend.connections().len();
        let all = [&mutation.bytes[..], LAST].concat();
        let (first, rest) = all.split_at(all.len() / 3);
        let (second, third) = rest.split_at(1);
        let pieces = [first, second, third];
        let pause = Duration::from_millis(2);
        let answer = raw::exchange(house.address, &pieces, pause, LIMIT).expect("a connection");
        let good = count(&answer.received, b"HTTP/1.1 200 OK\r\n");
        backend.wait(LIMIT, |all| {
            all[before..]
                .iter()
                .map(|one| one.requests.len())
                .sum::<usize>()
                >= good
        });
        let connections = backend.connections();
        let seen: Vec<_> = connections[before..]
            .iter()
            .map(|one| one.received.clone())
            .collect();
        if let Err(problem) = judge(mutation, &answer, &seen) {
            wrong.push(format!("{}: {problem}", mutation.name));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn judge_response(mutation: &Mutation, answer: &Exchange) -> Result<(), String> {
    let text = answer.text();
    if text.contains("forged") || count(&answer.received, b"HTTP/1.1 ") != 1 {
        return Err(format!("what was hidden came out: {text}"));
    }
    let bad_gateway = text.starts_with("HTTP/1.1 502 ");
    let cut_off = text.starts_with("HTTP/1.1 200 ")
        && text.contains("Transfer-Encoding: chunked")
        && !text.ends_with("0\r\n\r\n");
    let fine = match mutation.fate {
        Fate::Good => text.ends_with("\r\n\r\nok") && !bad_gateway,
        Fate::Head(_) => bad_gateway && text.contains("reason: upstream_bad_response"),
        Fate::Body(_) => bad_gateway || cut_off,
    };
    if fine && answer.end == End::Closed {
        return Ok(());
    }
    Err(format!("{:?} {text}", answer.end))
}

#[test]
fn no_mutated_response_reaches_a_client() {
    let mutations = Arc::new(list::responses());
    let of_backend = Arc::clone(&mutations);
    let reply = move |request: &[u8]| {
        let text = String::from_utf8_lossy(request);
        let number = text
            .split(['/', ' '])
            .nth(2)
            .and_then(|number| number.parse::<usize>().ok());
        of_backend[number.expect("the test asks for a number")]
            .bytes
            .clone()
    };
    let steps = [Step::ReadRequest, Step::Reply(Arc::new(reply)), Step::Close];
    let backend = Recorder::start(Script::every(steps)).expect("a port");
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    let mut wrong = Vec::new();
    for (number, mutation) in mutations.iter().enumerate() {
        let request =
            format!("GET /{number} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
        let answer = raw::exchange(house.address, &[request.as_bytes()], Duration::ZERO, LIMIT);
        if let Err(problem) = judge_response(mutation, &answer.expect("a connection")) {
            wrong.push(format!("{}: {problem}", mutation.name));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(
        backend.requests().len(),
        mutations.len(),
        "a bad answer is not asked for twice"
    );
    assert!(
        house.becomes_empty(),
        "{} bytes are kept",
        house.buffered_bytes()
    );
}
