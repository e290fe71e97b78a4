//! The forms of an exchange: kept connections, lengths and chunks, interim responses, upgrades,
//! old versions.

use std::time::Duration;

use outgrow_testkit::{
    backend::{End, Gate, Recorder, Script, Step, response, response_chunked},
    raw,
};

use super::{Front, ask, ask_until_close, connect, field, only_request, records};
use crate::shop::SOON;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const GET_AND_CLOSE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn front(script: Script) -> (Recorder, outgrow_testkit::outgrow::Outgrow) {
    let backend = Recorder::start(script).expect("a backend");
    let outgrow = Front::default().before(&backend);
    (backend, outgrow)
}

#[test]
fn connections_are_kept_on_both_sides() {
    let (backend, outgrow) = front(Script::answer(response("kept")));
    let mut client = connect(&outgrow);
    for _ in 0..5 {
        let answer = ask(&mut client, GET, "kept");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert_eq!(field(&answer, "Connection"), None, "{answer}");
    }
    assert_eq!(backend.connections().len(), 1);
    let answer = ask_until_close(&outgrow, GET_AND_CLOSE);
    assert_eq!(field(&answer, "Connection"), Some("close"));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let script = Script::reply(|request| {
        let line = request
            .split(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default();
        response([b"<", line, b">"].concat())
    });
    let (_backend, outgrow) = front(script);
    let pipeline = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\n\
                    Content-Length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answers = ask_until_close(&outgrow, pipeline);
    let places: Vec<Option<usize>> = [
        "<GET /1 HTTP/1.1>",
        "<POST /2 HTTP/1.1>",
        "<GET /3 HTTP/1.1>",
    ]
    .iter()
    .map(|line| answers.find(line))
    .collect();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{answers}"
    );
}

#[test]
fn chunks_and_trailers_go_through_both_ways() {
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                   3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n";
    let (backend, outgrow) = front(Script::answer(answer.to_vec()));
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\
                   Connection: close, TE\r\n\r\n4\r\nwhat\r\n1\r\n?\r\n0\r\nX-End: yes\r\n\r\n";
    let answer = ask_until_close(&outgrow, request);
    assert_eq!(field(&answer, "Transfer-Encoding"), Some("chunked"));
    assert_eq!(field(&answer, "Content-Length"), None);
    assert_eq!(
        unchunked(&answer),
        ("abcde".to_owned(), "X-Sum: 5".to_owned())
    );
    let request = only_request(&backend);
    assert_eq!(field(&request, "Transfer-Encoding"), Some("chunked"));
    assert_eq!(
        unchunked(&request),
        ("what?".to_owned(), "X-End: yes".to_owned())
    );
}

/// The body and the trailers of a chunked message.
fn unchunked(message: &str) -> (String, String) {
    let (_, mut rest) = message.split_once("\r\n\r\n").expect("a head");
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").expect("a size");
        let size = usize::from_str_radix(size, 16).expect("a hexadecimal size");
        if size == 0 {
            return (body, after.trim_end().to_owned());
        }
        body.push_str(&after[..size]);
        rest = after[size..].strip_prefix("\r\n").expect("a chunk's end");
    }
}

#[test]
fn pieces_of_a_response_are_not_held_back() {
    let gate = Gate::new();
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                 Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    let script = Script::every([
        Step::ReadRequest,
        Step::Send(head.to_vec()),
        Step::Wait(gate.clone()),
        Step::Send(b"6\r\nsecond\r\n0\r\n\r\n".to_vec()),
    ]);
    let (_backend, outgrow) = front(script);
    let mut client = connect(&outgrow);
    ask(&mut client, GET, "first");
    gate.open();
    assert!(client.receive_until(b"second", SOON).expect("received"));
}

#[test]
fn an_expectation_is_met_by_the_endpoint() {
    let script = Script::every([
        Step::ReadBytes(16),
        Step::Send(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
        Step::ReadRequest,
        Step::Send(response("thanks")),
    ]);
    let (backend, outgrow) = front(script);
    let mut client = connect(&outgrow);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let interim = ask(&mut client, head, "\r\n\r\n");
    assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
    assert_eq!(
        ask(&mut client, "body", "thanks")
            .matches("HTTP/1.1 200")
            .count(),
        1
    );
    assert!(backend.connections()[0].text().ends_with("\r\n\r\nbody"));
}

#[test]
fn an_expectation_may_be_refused_before_the_body_is_sent() {
    let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    let script = Script::every([
        Step::ReadBytes(16),
        Step::Send(refusal.into()),
        Step::Silence,
    ]);
    let (_backend, outgrow) = front(script);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let answer = ask_until_close(&outgrow, head);
    assert!(
        answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("no"),
        "{answer}"
    );
    // The body was never sent, so no other request can follow on this connection.
    assert_eq!(field(&answer, "Connection"), Some("close"));
}

#[test]
fn early_hints_are_passed_on() {
    let answer = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage";
    let (_backend, outgrow) = front(Script::answer(answer));
    let answer = ask(&mut connect(&outgrow), GET, "page");
    assert!(answer.starts_with("HTTP/1.1 103 "), "{answer}");
    assert!(
        answer.contains("Link: </a.css>") && answer.contains("HTTP/1.1 200 "),
        "{answer}"
    );
}

#[test]
fn responses_without_a_body_leave_the_connection_usable() {
    let script = Script::reply(|request| {
        let head =
            |status: &str, fields: &str| format!("HTTP/1.1 {status}\r\n{fields}\r\n").into_bytes();
        match request {
            [b'H', ..] => head("200 OK", "Content-Length: 1000\r\n"),
            _ if request.starts_with(b"GET /204") => head("204 No Content", ""),
            _ if request.starts_with(b"GET /304") => head(
                "304 Not Modified",
                "ETag: \"a\"\r\nContent-Length: 1000\r\n",
            ),
            _ => response("whole"),
        }
    });
    let (backend, outgrow) = front(script);
    let mut client = connect(&outgrow);
    let head = ask(
        &mut client,
        "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\n",
    );
    assert_eq!(field(&head, "Content-Length"), Some("1000"));
    let none = ask(
        &mut client,
        "GET /204 HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\n",
    );
    assert!(none.starts_with("HTTP/1.1 204 "), "{none}");
    assert_eq!(field(&none, "Content-Length"), None);
    let same = ask(
        &mut client,
        "GET /304 HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\n",
    );
    assert_eq!(field(&same, "ETag"), Some("\"a\""));
    let whole = ask(&mut client, GET, "whole");
    assert!(whole.starts_with("HTTP/1.1 200 "), "{whole}");
    assert_eq!(backend.connections().len(), 1);
}

#[test]
fn old_clients_are_served() {
    let script = Script::reply(|request| {
        if request.starts_with(b"GET /chunked") {
            response_chunked(&[b"in ", b"chunks"])
        } else {
            response("sized")
        }
    });
    let (backend, outgrow) = front(script);
    let answer = ask_until_close(&outgrow, "GET / HTTP/1.0\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nsized"),
        "{answer}"
    );
    let answer = ask_until_close(&outgrow, "GET /chunked HTTP/1.0\r\n\r\n");
    assert_eq!(field(&answer, "Transfer-Encoding"), None);
    assert!(answer.ends_with("\r\n\r\nin chunks"), "{answer}");
    let mut client = connect(&outgrow);
    for _ in 0..2 {
        let request = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        let answer = ask(&mut client, request, "sized");
        assert_eq!(field(&answer, "Connection"), Some("keep-alive"), "{answer}");
    }
    // The endpoint is spoken to in HTTP/1.1, with a Host, whatever the client speaks.
    for request in backend.requests() {
        let request = String::from_utf8_lossy(&request).into_owned();
        assert!(request.contains(" HTTP/1.1\r\n") && field(&request, "Host").is_some());
    }
}

#[test]
fn old_servers_are_understood() {
    let script = Script::every([
        Step::ReadRequest,
        Step::Send(b"HTTP/1.0 200 OK\r\n\r\nuntil the end".to_vec()),
        Step::Close,
    ]);
    let (_backend, outgrow) = front(script);
    let mut client = connect(&outgrow);
    for _ in 0..2 {
        let answer = ask(&mut client, GET, "0\r\n\r\n");
        assert_eq!(unchunked(&answer).0, "until the end");
    }
}

#[test]
fn after_a_switch_bytes_go_both_ways() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    let script = Script::every([
        Step::ReadRequest,
        Step::Send([switch.as_bytes(), b"hello "].concat()),
        Step::ReadBytes(5),
        Step::Send(b"world".to_vec()),
        Step::ReadBytes(3),
        Step::Close,
    ]);
    let (backend, outgrow) = front(script);
    let mut client = connect(&outgrow);
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    let answer = ask(&mut client, request, "hello ");
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert_eq!(field(&answer, "Upgrade"), Some("echo"));
    assert_eq!(ask(&mut client, "\0\r\n\r\n", "world"), "world");
    client.send(b"end").expect("sent");
    let exchange = client.receive_to_end(SOON).expect("received");
    assert_eq!((exchange.text().as_str(), exchange.end), ("", End::Closed));
    let request = only_request(&backend);
    assert_eq!(field(&request, "Upgrade"), Some("echo"), "{request}");
    let connection = field(&request, "Connection").unwrap_or_default();
    assert_eq!(connection.to_ascii_lowercase(), "upgrade", "{request}");
    // The tunnel ends when both sides have; then it is recorded.
    drop(client);
    assert!(records(&outgrow, 1)[0].contains("\" 101 "));
}

#[test]
fn an_upgrade_that_nobody_wants_is_an_ordinary_request() {
    let (_backend, outgrow) = front(Script::answer(response("plain")));
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h3000\r\n\r\n";
    let mut client = connect(&outgrow);
    assert!(ask(&mut client, request, "plain").starts_with("HTTP/1.1 200 "));
    assert!(ask(&mut client, GET, "plain").starts_with("HTTP/1.1 200 "));
}

#[test]
fn requests_in_pieces_are_whole() {
    let script = Script::reply(|request| {
        let body = request.len() - request.windows(4).position(|at| at == b"\r\n\r\n").unwrap() - 4;
        response(body.to_string())
    });
    let (backend, outgrow) = front(script);
    let request =
        b"POST /piece HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\nConnection: close\r\n\r\n\
                    0123456789012345678901234567890123456789";
    let address = outgrow.address("public").expect("an address");
    let pieces = raw::split_every(request, 7);
    let pause = Duration::from_millis(2);
    let exchange = raw::exchange(address, &pieces, pause, SOON).expect("an exchange");
    assert!(
        exchange.text().ends_with("\r\n\r\n40"),
        "{}",
        exchange.text()
    );
    assert!(only_request(&backend).starts_with("POST /piece HTTP/1.1\r\n"));
}

#[test]
fn what_is_no_http_is_refused_and_never_forwarded() {
    let (backend, outgrow) = front(Script::answer(response("no")));
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("GET /\n\n", "400"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "400",
        ),
        ("GET / HTTP/2.7\r\nHost: a\r\n\r\n", "505"),
    ] {
        let answer = ask_until_close(&outgrow, request);
        let line = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&line), "{request:?}: {answer}");
        assert_eq!(field(&answer, "Connection"), Some("close"), "{answer}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(10_000));
    assert!(ask_until_close(&outgrow, &long).starts_with("HTTP/1.1 414 "));
    let large = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(20_000)
    );
    assert!(ask_until_close(&outgrow, &large).starts_with("HTTP/1.1 431 "));
    assert_eq!(backend.received(), b"", "nothing was forwarded");
}
