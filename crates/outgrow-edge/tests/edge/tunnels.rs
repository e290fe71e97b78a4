//! Upgraded connections: every byte gets through, also those that come early, and both ends end.

use std::time::Duration;

use outgrow_testkit::backend::{Gate, Step, response};
use outgrow_testkit::raw::End;

use crate::house::{House, Options};
use crate::{LIMIT, backend, client, get, last, talk};

const UPGRADE: &[u8] = b"GET /x HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
const SWITCHED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: a\r\n\r\n";

#[test]
fn early_bytes_on_both_sides_are_part_of_the_tunnel() {
    let backend = backend([
        Step::ReadRequest,
        Step::Send([SWITCHED, b"first from the endpoint"].concat()),
        Step::ReadBytes(b"early later".len()),
        Step::Send(b" and more".to_vec()),
        Step::Close,
    ]);
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    let mut client = client(house.address, &[UPGRADE, b"early"].concat());
    assert!(
        client
            .receive_until(b"first from the endpoint", LIMIT)
            .expect("open")
    );
    client.send(b" later").expect("the tunnel is open");
    assert!(client.receive_until(b" and more", LIMIT).expect("open"));
    let head = String::from_utf8_lossy(client.received()).into_owned();
    assert!(
        head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{head}"
    );
    assert!(
        head.contains("Connection: upgrade\r\nUpgrade: websocket\r\n"),
        "{head}"
    );
    client.finish_sending().expect("open");
    let rest = client.receive_to_end(LIMIT).expect("an end");
    assert_eq!(rest.end, End::Closed);
    let connection = &backend.connections()[0];
    assert!(
        connection.text().ends_with("\r\n\r\nearly later"),
        "{}",
        connection.text()
    );
    let request = String::from_utf8_lossy(&connection.requests[0]).into_owned();
    assert!(
        request.contains("Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        "{request}"
    );
    assert!(house.becomes_empty());
}

#[test]
fn much_goes_through_in_both_directions_at_once() {
    let size = 4 << 20;
    let backend = backend([
        Step::ReadRequest,
        Step::Send([SWITCHED, &vec![b'd'; size]].concat()),
        Step::ReadBytes(size),
        Step::Close,
    ]);
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    let up = vec![b'u'; size];
    let answer =
        outgrow_testkit::raw::exchange(house.address, &[UPGRADE, &up], Duration::ZERO, LIMIT)
            .expect("a connection");
    assert_eq!(
        answer.received.iter().filter(|byte| **byte == b'd').count() - count_d(),
        size
    );
    assert!(backend.wait(LIMIT, |all| all[0].received.ends_with(&up)));
    assert!(house.becomes_empty());
}

/// How many there are in the head.
fn count_d() -> usize {
    SWITCHED.iter().filter(|byte| **byte == b'd').count()
}

/// The end of one direction leaves the other one as it is.
#[test]
fn a_half_closed_tunnel_still_carries_the_other_half() {
    let gate = Gate::new();
    let backend = backend([
        Step::ReadRequest,
        Step::Send(SWITCHED.to_vec()),
        Step::Wait(gate.clone()),
        Step::Send(b"late".to_vec()),
        Step::Close,
    ]);
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    let mut client = client(house.address, UPGRADE);
    assert!(client.receive_until(b"\r\n\r\n", LIMIT).expect("open"));
    client.send(b"bye").expect("open");
    client.finish_sending().expect("open");
    gate.open();
    assert!(client.receive_until(b"late", LIMIT).expect("open"));
    assert!(backend.wait(LIMIT, |all| all[0].text().ends_with("bye")));
}

#[test]
fn a_switch_that_nobody_asked_for_is_a_bad_answer() {
    let backend = backend([
        Step::ReadRequest,
        Step::Send([SWITCHED, b"forged"].concat()),
        Step::Silence,
    ]);
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    for request in [
        last("/x"),
        // h2c is not forwarded as an upgrade, so there is none to answer.
        b"GET /x HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n"
            .to_vec(),
        b"GET /x HTTP/1.0\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            .to_vec(),
    ] {
        let answer = talk(house.address, &request);
        assert!(
            answer.text().starts_with("HTTP/1.1 502 "),
            "{}",
            answer.text()
        );
        assert!(!answer.text().contains("forged"));
    }
    let seen = String::from_utf8_lossy(&backend.received()).into_owned();
    assert!(!seen.to_ascii_lowercase().contains("upgrade"), "{seen}");
}

/// The endpoint does not switch: what the client sent in advance is its next request, and is read
/// as strictly as any.
#[test]
fn what_follows_a_refused_upgrade_is_http() {
    let backend = backend([Step::ReadRequest, Step::Send(response("no")), Step::Again]);
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    let answer = talk(
        house.address,
        &[UPGRADE, b"\x81\x85\0\0\0\0hello\r\n\r\n"].concat(),
    );
    let text = answer.text();
    assert!(
        text.starts_with("HTTP/1.1 200 ") && text.contains("\r\n\r\nnoHTTP/1.1 400 "),
        "{text}"
    );
    assert_eq!(backend.requests().len(), 1);
    let answer = talk(house.address, &[UPGRADE, &get("/2"), &last("/3")].concat());
    assert_eq!(answer.text().matches("HTTP/1.1 200 ").count(), 3);
    assert_eq!(backend.requests().len(), 4);
}

/// An upgrade with a body: the tunnel begins behind it.
#[test]
fn a_body_before_the_tunnel_is_not_a_part_of_it() {
    let backend = backend([
        Step::ReadRequest,
        Step::Send(SWITCHED.to_vec()),
        Step::ReadBytes(b"tunnel".len()),
        Step::Close,
    ]);
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    let request =
        b"POST /x HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\ntunnel";
    let mut client = client(house.address, request);
    assert!(backend.wait(LIMIT, |all| !all.is_empty()
        && all[0].text().ends_with("\r\n5\r\nhello\r\n0\r\n\r\ntunnel")));
    assert!(client.receive_until(b"\r\n\r\n", LIMIT).expect("open"));
}
