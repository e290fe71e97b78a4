//! Responses that end early: the client must be able to tell, whatever the framings are.

use std::time::Duration;

use outgrow_testkit::backend::{Gate, Step};
use outgrow_testkit::raw::End;

use crate::house::{House, Options};
use crate::{LIMIT, backend, client, get, last, talk};

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const UNTIL_CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\n";

#[test]
fn a_response_that_is_cut_off_is_seen_to_be() {
    for (head, body, close) in [
        (
            &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"[..],
            &b"hello"[..],
            Step::Close,
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
            b"hello",
            Step::Reset,
        ),
        (CHUNKED, b"5\r\nhello\r\n", Step::Close),
        (CHUNKED, b"5\r\nhello\r\n", Step::Reset),
        (CHUNKED, b"a\r\nhello", Step::Close),
        (CHUNKED, b"5\r\nhello\r\n0\r\n", Step::Close),
        (CHUNKED, b"5\r\nhello\r\n0\r\nX: 1\r\n", Step::Close),
        (CHUNKED, b"5\r\nhello\r\nzz\r\n", Step::Close),
        (UNTIL_CLOSE, b"hello", Step::Reset),
    ] {
        let gate = Gate::new();
        let backend = backend([
            Step::ReadRequest,
            Step::Send([head, body].concat()),
            Step::Wait(gate.clone()),
            close.clone(),
        ]);
        let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
        let mut client = client(house.address, &get("/x"));
        assert!(
            client.receive_until(b"hello", LIMIT).expect("open"),
            "{body:?}: what came goes out"
        );
        gate.open();
        let answer = client.receive_to_end(LIMIT).expect("an end");
        let text = answer.text();
        let whole = text.ends_with("\r\n0\r\n\r\n") || text.matches("hello").count() != 1;
        assert!(
            !whole && answer.end != End::Open,
            "{close:?} {:?} {text}",
            answer.end
        );
        if !head.starts_with(CHUNKED) && head != UNTIL_CLOSE {
            assert!(text.contains("\r\nContent-Length: 10\r\n"), "{text}");
        } else {
            assert!(
                text.contains("\r\nTransfer-Encoding: chunked\r\n"),
                "{text}"
            );
        }
        assert!(house.becomes_empty());
    }
}

/// The client is slow, so that the edge still holds bytes when the endpoint breaks off: that it
/// broke off must not be forgotten until they are gone.
#[test]
fn a_break_is_not_forgotten_while_a_slow_client_reads() {
    for (head, coded) in [(CHUNKED, true), (UNTIL_CLOSE, false)] {
        let size = 8 << 20;
        let mut bytes = head.to_vec();
        if coded {
            bytes.extend_from_slice(format!("{:x}\r\n", 2 * size).as_bytes());
        }
        bytes.resize(bytes.len() + size, b'x');
        let gate = Gate::new();
        let backend = backend([
            Step::ReadRequest,
            Step::Send(bytes),
            Step::Wait(gate.clone()),
            Step::Reset,
        ]);
        let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
        let mut client = client(house.address, &get("/x"));
        assert!(client.receive_bytes(1_000, LIMIT).expect("open"));
        // Nothing is read for a while: the sockets on the way fill up.
        std::thread::sleep(Duration::from_millis(300));
        gate.open();
        let answer = client.receive_to_end(LIMIT).expect("an end");
        assert_ne!(answer.end, End::Open);
        assert!(
            !answer.received.ends_with(b"\r\n0\r\n\r\n"),
            "cut off, and looks complete"
        );
        assert!(house.becomes_empty());
    }
}

/// An HTTP/1.0 client is told the end of an unmeasured response by the end of the connection: a
/// response that broke off must not end like one that is whole.
#[test]
fn an_http10_client_can_tell_a_cut_off_response_too() {
    for (body, whole) in [
        (&b"5\r\nhello\r\n0\r\n\r\n"[..], true),
        (b"5\r\nhello\r\n", false),
    ] {
        let backend = backend([
            Step::ReadRequest,
            Step::Send([CHUNKED, body].concat()),
            Step::Close,
        ]);
        let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
        let answer = talk(house.address, b"GET /x HTTP/1.0\r\nHost: a.example\r\n\r\n");
        let expected = if whole { End::Closed } else { End::Reset };
        assert_eq!(answer.end, expected, "{}", answer.text());
    }
}

/// An endpoint's trailers are bounded like a client's.
#[test]
fn trailers_without_end_are_cut_off() {
    let flood = [
        CHUNKED,
        b"5\r\nhello\r\n0\r\n",
        &b"X: 1\r\n".repeat(500_000),
    ]
    .concat();
    let backend = backend([Step::ReadRequest, Step::Send(flood), Step::Close]);
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    let answer = talk(house.address, &last("/x"));
    assert!(
        answer.received.len() < 1_000 && !answer.text().ends_with("\r\n\r\n"),
        "{}",
        answer.text()
    );
    assert_eq!(
        house.faults().get("upstream_bad_response"),
        Some(&1),
        "{:?}",
        house.faults()
    );
}

#[test]
fn trailers_come_through_in_both_directions() {
    let answer = [
        CHUNKED,
        b"5\r\nhello\r\n0\r\nX-Sum: 2\r\nContent-Length: 9\r\n\r\n",
    ]
    .concat();
    let backend = backend([Step::ReadRequest, Step::Send(answer), Step::Again]);
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    let request = b"POST /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\
        Connection: close\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nAuthorization: no\r\n\r\n";
    let answer = talk(house.address, request);
    assert!(
        answer
            .text()
            .ends_with("\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 2\r\n\r\n"),
        "{}",
        answer.text()
    );
    let seen = String::from_utf8_lossy(&backend.requests()[0]).into_owned();
    assert!(
        seen.ends_with("\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
        "{seen}"
    );
}
