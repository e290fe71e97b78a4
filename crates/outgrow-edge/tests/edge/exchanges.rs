//! Exchanges out of the ordinary: interim and early responses, bodies where none may be, pipelines,
//! bytes that nobody asked for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use outgrow_testkit::backend::{Recorder, Script, Step, response};
use outgrow_testkit::raw::{Client, End};

use crate::house::{House, Options};
use crate::{LIMIT, backend, client, get, last, talk};

const EXPECTING: &[u8] = b"POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\
    Expect: 100-continue\r\nConnection: close\r\n\r\n";

/// A client that waits for 100 Continue gets it while the endpoint waits for the body.
#[test]
fn an_interim_response_goes_out_at_once() {
    let backend = backend([
        Step::ReadBytes(1),
        Step::Send(
            b"HTTP/1.1 100 Continue\r\nX-Interim: 1\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n"
                .to_vec(),
        ),
        Step::ReadRequest,
        Step::Send(response("thanks")),
        Step::Again,
    ]);
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    let mut client = client(house.address, EXPECTING);
    let interim = b"HTTP/1.1 100 Continue\r\nX-Interim: 1\r\n\r\n";
    assert!(
        client.receive_until(interim, LIMIT).expect("open"),
        "no 100 Continue came"
    );
    assert_eq!(client.take_received(), interim);
    client.send(b"hello").expect("the edge reads");
    let answer = client.receive_to_end(LIMIT).expect("an answer");
    assert!(
        answer.text().starts_with("HTTP/1.1 200 OK\r\n"),
        "{}",
        answer.text()
    );
    assert!(answer.text().ends_with("\r\n\r\nthanks"));
}

#[test]
fn an_http10_client_never_sees_an_interim_response() {
    let backend = backend([
        Step::ReadRequest,
        Step::Send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec()),
        Step::Send(response("ok")),
        Step::Again,
    ]);
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    let answer = talk(house.address, b"GET /x HTTP/1.0\r\nHost: a.example\r\n\r\n");
    assert!(
        answer.text().starts_with("HTTP/1.1 200 OK\r\n"),
        "{}",
        answer.text()
    );
}

/// An endpoint that only ever promises is cut short, and costs no memory meanwhile.
#[test]
fn interim_responses_without_end_are_a_bad_answer() {
    let flood = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(200_000);
    let backend = backend([Step::ReadRequest, Step::Send(flood), Step::Close]);
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    let answer = talk(house.address, &last("/x"));
    let text = answer.text();
    assert!(
        text.contains("HTTP/1.1 502 ") && text.contains("upstream_bad_response"),
        "{}",
        text.len()
    );
    assert!(
        answer.received.len() < 64 * 1024,
        "{}",
        answer.received.len()
    );
    assert!(house.becomes_empty());
}

/// The endpoint answers before it has the body: the client gets the answer, is told that the
/// connection ends, and it does.
#[test]
fn an_early_answer_ends_the_connection_in_order() {
    let backend = backend([
        Step::ReadBytes(1),
        Step::Send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!".to_vec()),
        Step::Silence,
    ]);
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    let head = b"POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000\r\n\r\npart";
    let mut client = client(house.address, head);
    let answer = client.receive_to_end(LIMIT).expect("an answer");
    let text = answer.text();
    assert!(
        text.starts_with("HTTP/1.1 413 ") && text.ends_with("no!"),
        "{text}"
    );
    assert!(
        text.contains("\r\nConnection: close\r\n"),
        "the client may send another: {text}"
    );
    assert_eq!(answer.end, End::Closed);
}

/// A client that still sends when it is refused gets the answer, not a reset.
#[test]
fn a_client_that_is_refused_while_it_sends_gets_the_answer() {
    let backend = backend([Step::Silence]);
    let options = Options {
        body_limit: Some(1_000),
        ..Options::default()
    };
    let house = House::start(&[backend.address()], &options).expect("an edge");
    let head = b"POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3000000\r\n\r\n";
    let answer = talk(house.address, &[&head[..], &vec![b'x'; 3_000_000]].concat());
    assert!(
        answer.text().starts_with("HTTP/1.1 413 "),
        "{:?} {}",
        answer.end,
        answer.text()
    );
    assert_eq!(answer.end, End::Closed);
    let chunks = [b"3e8\r\n", &[b'x'; 1_000][..], b"\r\n"]
        .concat()
        .repeat(100);
    let head = b"POST /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = talk(house.address, &[&head[..], &chunks].concat());
    assert!(
        answer.text().starts_with("HTTP/1.1 413 "),
        "{:?} {}",
        answer.end,
        answer.text()
    );
    assert!(
        backend
            .connections()
            .iter()
            .all(|one| !one.text().ends_with("0\r\n\r\n"))
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let echo = |request: &[u8]| {
        let text = String::from_utf8_lossy(request);
        response(text.split(' ').nth(1).expect("a target"))
    };
    let backend = backend([Step::ReadRequest, Step::Reply(Arc::new(echo)), Step::Again]);
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    let mut all = Vec::new();
    for number in 0..200 {
        all.extend_from_slice(&get(&format!("/{number}")));
        all.extend_from_slice(
            format!(
                "POST /p{number} HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello"
            )
            .as_bytes(),
        );
    }
    all.extend_from_slice(&last("/last"));
    let answer = talk(house.address, &all);
    let text = answer.text();
    let bodies: Vec<_> = text
        .split("HTTP/1.1 200 OK\r\n")
        .skip(1)
        .map(|one| one.split("\r\n\r\n").nth(1).expect("a body"))
        .collect();
    assert_eq!((bodies.len(), bodies[400]), (401, "/last"));
    for number in 0..200 {
        assert_eq!(bodies[2 * number], format!("/{number}"));
        assert_eq!(bodies[2 * number + 1], format!("/p{number}"));
    }
    assert_eq!(backend.connections().len(), 1, "one connection is enough");
}

/// What an endpoint sends where no body may be stays there: neither this client nor the next one
/// gets a byte of it.
#[test]
fn bytes_that_nobody_asked_for_reach_nobody() {
    let forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    for (method, answer) in [
        (
            "GET",
            "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\n",
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n",
        ),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n",
        ),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
    ] {
        for late in [false, true] {
            let first = match late {
                false => vec![
                    Step::ReadRequest,
                    Step::Send(format!("{answer}{forged}").into()),
                    Step::Silence,
                ],
                true => vec![
                    Step::ReadRequest,
                    Step::Send(answer.into()),
                    Step::Pause(Duration::from_millis(100)),
                    Step::Send(forged.into()),
                    Step::Silence,
                ],
            };
            let second = vec![
                Step::ReadRequest,
                Step::Send(response("honest")),
                Step::Again,
            ];
            let backend = Recorder::start(Script::in_turn(vec![first, second])).expect("a port");
            let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
            let request = format!("{method} /1 HTTP/1.1\r\nHost: a.example\r\n\r\n");
            let mut client = client(house.address, request.as_bytes());
            assert!(client.receive_until(b"\r\n\r\n", LIMIT).expect("open"));
            if late {
                // The bytes have arrived when the next request asks for a connection.
                thread::sleep(Duration::from_millis(200));
            }
            client.send(&last("/2")).expect("the edge reads");
            let all = client.receive_to_end(LIMIT).expect("an answer").text();
            assert!(!all.contains("forged"), "{answer:?} {late}: {all}");
            assert!(all.ends_with("honest"), "{answer:?} {late}: {all}");
        }
    }
}

/// A request whose body breaks off, or breaks the rules, is not executed as if whole.
#[test]
fn a_broken_body_never_looks_whole_to_an_endpoint() {
    let head = "POST /x HTTP/1.1\r\nHost: a.example\r\n";
    for (body, status) in [
        ("Content-Length: 10\r\n\r\nhello", ""),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", ""),
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: 1\r\n",
            "",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n\r\n",
            "HTTP/1.1 400 ",
        ),
    ] {
        let backend = backend([Step::ReadRequest, Step::Send(response("ok")), Step::Again]);
        let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
        let mut client = client(house.address, format!("{head}{body}").as_bytes());
        if status.is_empty() {
            assert!(backend.wait(LIMIT, |all| {
                all.iter().any(|one| one.text().contains("hello"))
            }));
            client.finish_sending().expect("open");
        }
        let answer = client.receive_to_end(LIMIT).expect("an end");
        assert!(
            answer.text().starts_with(status),
            "{body:?}: {}",
            answer.text()
        );
        let told = backend.wait(LIMIT, |all| all.iter().all(|one| one.end != End::Open));
        assert!(told, "the endpoint is not told");
        assert!(backend.requests().is_empty(), "{body:?} was seen whole");
        assert!(house.becomes_empty());
    }
}

/// A client that goes away is noticed while the endpoint still thinks: at once when it resets, and after a
/// second when it closes its side, since it may read on.
#[test]
fn an_endpoint_is_told_that_the_client_left() {
    for reset in [false, true] {
        let backend = backend([Step::ReadRequest, Step::Silence]);
        let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
        let client: Client = client(house.address, &get("/x"));
        assert!(backend.wait_requests(1, LIMIT));
        match reset {
            true => client.reset().expect("open"),
            false => drop(client),
        }
        assert!(
            backend.wait(Duration::from_secs(2), |all| all[0].end != End::Open),
            "{reset}"
        );
        assert!(
            house.becomes_faulty("client_gone", 1),
            "{:?}",
            house.faults()
        );
    }
}

/// Asks and says with the end of its side that it asks nothing more.
fn ask_only(address: SocketAddr, requests: &[u8]) -> Client {
    let mut client = client(address, requests);
    client.finish_sending().expect("open");
    client
}

/// Who closes its side may read on: what it asked before is answered, in however many parts.
#[test]
fn a_client_that_closed_its_side_is_answered() {
    let pause = || Step::Pause(Duration::from_millis(600));
    let whole = response("first second");
    let (first, second) = whole.split_at(whole.len() - 6);
    let backend = backend([
        Step::ReadRequest,
        pause(),
        Step::Send(first.to_vec()),
        pause(),
        Step::Send(second.to_vec()),
        Step::Again,
    ]);
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    let mut client = ask_only(house.address, &[get("/1"), get("/2")].concat());
    let answers = client.receive_to_end(LIMIT).expect("open").text();
    assert_eq!(answers.matches("first second").count(), 2, "{answers}");
    // The next one has not closed its side, and has all the time there is.
    let answer = talk(house.address, &last("/3")).text();
    assert!(answer.ends_with("first second"), "{answer}");
    assert!(house.faults().is_empty(), "{:?}", house.faults());
}

/// In line it is one that has left: who has left is not served before those who are there.
#[test]
fn a_client_that_closed_its_side_does_not_stay_in_line() {
    let backend = backend([Step::ReadRequest, Step::Silence]);
    let options = Options {
        max_connections: 1,
        ..Options::default()
    };
    let house = House::start(&[backend.address()], &options).expect("an edge");
    let _busy = client(house.address, &get("/1"));
    assert!(backend.wait_requests(1, LIMIT));
    let mut in_line = ask_only(house.address, &get("/2"));
    let begun = Instant::now();
    in_line.receive_to_end(LIMIT).expect("open");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(
        house.becomes_faulty("client_gone", 1),
        "{:?}",
        house.faults()
    );
}

/// It takes a large answer at its own pace.
#[test]
fn a_client_that_closed_its_side_may_read_slowly() {
    let backend = backend([
        Step::ReadRequest,
        Step::Send(response(vec![b'x'; 20_000_000])),
        Step::Again,
    ]);
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    let mut client = ask_only(house.address, &get("/1"));
    assert!(backend.wait_requests(1, LIMIT));
    thread::sleep(Duration::from_millis(1_500));
    let answer = client.receive_to_end(LIMIT).expect("open");
    assert!(answer.received.len() > 20_000_000);
    assert!(house.faults().is_empty(), "{:?}", house.faults());
}

/// Hop-by-hop fields that a client nominates cannot take away what Outgrow adds or what frames.
#[test]
fn a_client_cannot_nominate_away_what_the_endpoint_is_told() {
    let backend = backend([Step::ReadRequest, Step::Send(response("ok")), Step::Again]);
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    let request = b"POST /x HTTP/1.1\r\nHost: a.example\r\nCookie: c\r\nX-Mine: 1\r\n\
        Content-Length: 5\r\nConnection: close, X-Mine, X-Forwarded-For, X-Forwarded-Proto, Via,\
        X-Request-Id, Host, Content-Length, Cookie, Connection\r\n\r\nhello";
    let answer = talk(house.address, request);
    assert!(answer.text().ends_with("ok"));
    let seen = String::from_utf8_lossy(&backend.requests()[0]).into_owned();
    for kept in [
        "\r\nHost: a.example\r\n",
        "\r\nCookie: c\r\n",
        "\r\nX-Forwarded-For: 127.0.0.1\r\n",
        "\r\nX-Forwarded-Proto: http\r\n",
        "\r\nVia: 1.1 outgrow\r\n",
        "\r\nX-Request-Id: ",
        "\r\nContent-Length: 5\r\n",
    ] {
        assert_eq!(seen.matches(kept).count(), 1, "{kept:?} in {seen}");
    }
    assert!(
        !seen.contains("X-Mine") && !seen.contains("Connection"),
        "{seen}"
    );
}
