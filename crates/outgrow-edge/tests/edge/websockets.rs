//! WebSockets that are told their end: at a border of frames, with time to answer, both sides.

use std::time::Duration;

use outgrow_testkit::backend::{Recorder, Step};
use outgrow_testkit::raw::{Client, End};
use outgrow_upstream::settings::ServiceTimeouts;

use crate::house::{House, Options};
use crate::{LIMIT, backend, client};

const UPGRADE: &[u8] = b"GET /x HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
const SWITCHED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: a\r\n\r\n";
/// Close of a client, masked: 1000.
const CLIENT_CLOSE: &[u8] = &[0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe8 ^ 2];
const IDLE: Duration = Duration::from_millis(200);

fn open(endpoint: &Recorder, tunnel_idle: Duration) -> (House, Client) {
    let service_timeouts = ServiceTimeouts {
        tunnel_idle,
        ..ServiceTimeouts::default()
    };
    let options = Options {
        service_timeouts,
        ..Options::default()
    };
    let house = House::start(&[endpoint.address()], &options).expect("an edge");
    let mut client = client(house.address, UPGRADE);
    assert!(client.receive_until(b"\r\n\r\n", LIMIT).expect("open"));
    (house, client)
}

/// What came behind the head of the response.
fn tunnel(received: &[u8]) -> Vec<u8> {
    let at = received.windows(4).position(|four| four == b"\r\n\r\n");
    received[at.expect("a head") + 4..].to_vec()
}

/// Silence in the middle of a frame is over when the rest of it comes: then, and not before, the
/// client is told, and hears nothing more. What it says until its own Close still gets through.
#[test]
fn an_idle_one_is_told_where_a_frame_ends() {
    let endpoint = backend([
        Step::ReadRequest,
        Step::Send([SWITCHED, &[0x82, 8, 1, 2, 3]].concat()),
        Step::Pause(IDLE * 4),
        Step::Send(vec![4, 5, 6, 7, 8, 0x82, 1, 9]),
        Step::ReadToEnd,
    ]);
    let (house, mut client) = open(&endpoint, IDLE);
    let close = [&[0x88, 6, 0x03, 0xe9][..], b"idle"].concat();
    assert!(client.receive_until(&close, LIMIT).expect("told"));
    assert_eq!(house.upgraded(), (1, 1, 1));
    let last_words = [0x82, 0x81, 0, 0, 0, 0, 7];
    client.send(&last_words).expect("open");
    client.send(CLIENT_CLOSE).expect("open");
    let rest = client.receive_to_end(LIMIT).expect("an end");
    assert_eq!(rest.end, End::Closed);
    let whole = [&[0x82, 8, 1, 2, 3, 4, 5, 6, 7, 8][..], &close].concat();
    assert_eq!(tunnel(&rest.received), whole);
    let said = [&last_words[..], CLIENT_CLOSE].concat();
    assert!(endpoint.wait(LIMIT, |all| all[0].received.ends_with(&said)));
    let record = house.records(1).remove(0);
    assert!(record.contains("stream_idle_timeout"), "{record}");
    assert_eq!(house.upgraded(), (0, 1, 1));
    assert!(house.becomes_empty());
}

/// A drain tells everybody, and the endpoint as well where the client says nothing.
#[test]
fn who_does_not_answer_is_ended_and_its_endpoint_is_told() {
    let endpoint = backend([
        Step::ReadRequest,
        Step::Send([SWITCHED, &[0x81, 2, b'h', b'i']].concat()),
        Step::ReadToEnd,
    ]);
    let (house, mut client) = open(&endpoint, Duration::from_secs(60));
    client.send(&[0x81, 0x80, 1, 2, 3, 4]).expect("open");
    assert!(endpoint.wait(LIMIT, |all| all[0].received.ends_with(&[1, 2, 3, 4])));
    house.drain(Duration::from_millis(800));
    let rest = client.receive_to_end(LIMIT).expect("an end");
    assert_eq!(rest.end, End::Closed);
    let expected = [
        &[0x81, 2, b'h', b'i', 0x88, 17, 0x03, 0xf4][..],
        b"service restart",
    ]
    .concat();
    assert_eq!(tunnel(&rest.received), expected);
    // Masked, so only its length and its beginning are known: 1001.
    assert!(endpoint.wait(LIMIT, |all| {
        let said = &all[0].received[all[0].received.len().saturating_sub(8)..];
        let code = [said[6] ^ said[2], said[7] ^ said[3]];
        said[..2] == [0x88, 0x82] && code == [0x03, 0xe9]
    }));
    let record = house.records(1).remove(0);
    assert!(record.contains("\"status\":101"), "{record}");
    assert!(!record.contains("idle"), "{record}");
    assert!(house.becomes_empty());
}

/// Whatever is no WebSocket is left alone until the end of the drain.
#[test]
fn other_protocols_are_told_nothing() {
    let switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let endpoint = backend([
        Step::ReadRequest,
        Step::Send([&switched[..], b"one"].concat()),
        Step::ReadBytes(3),
        Step::Send(b"two".to_vec()),
        Step::Close,
    ]);
    let house = House::start(&[endpoint.address()], &Options::default()).expect("an edge");
    let upgrade = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
    let mut client = client(house.address, upgrade);
    assert!(client.receive_until(b"one", LIMIT).expect("open"));
    house.drain(Duration::from_millis(1));
    client.send(b"now").expect("open");
    client.finish_sending().expect("open");
    let rest = client.receive_to_end(LIMIT).expect("an end");
    assert_eq!(tunnel(&rest.received), b"onetwo");
    assert_eq!(house.upgraded().2, 0);
}
