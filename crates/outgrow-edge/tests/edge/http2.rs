//! HTTP/2 clients that mean no good, frame by frame.

use std::net::SocketAddr;
use std::time::Duration;

use outgrow_edge::settings::ListenerTimeouts;
use outgrow_testkit::backend::{Step, response};
use outgrow_testkit::raw::{Client, End};

use crate::house::{House, Options};
use crate::{LIMIT, backend, client};

const SHORT: Duration = Duration::from_millis(200);
pub(crate) const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
/// No limit of the client's own keeps the edge from sending.
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// `GET http://a.example/` as a whole request.
pub(crate) fn get(stream: u32) -> Vec<u8> {
    const END_STREAM_AND_HEADERS: u8 = 5;
    let block = [&[0x82, 0x86, 0x84, 0x01, 9][..], b"a.example"].concat();
    frame(HEADERS, END_STREAM_AND_HEADERS, stream, &block)
}

fn reset(stream: u32) -> Vec<u8> {
    const CANCEL: u32 = 8;
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// A client that has sent its preface and opened its windows.
fn greeting(address: SocketAddr) -> Client {
    greeting_with(address, LARGEST_WINDOW)
}

/// The same with so large a window for each stream.
pub(crate) fn greeting_with(address: SocketAddr, window: u32) -> Client {
    let window = [&[0, 4][..], &window.to_be_bytes()].concat();
    let more = LARGEST_WINDOW - 65_535;
    let hello = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &window),
        frame(WINDOW_UPDATE, 0, 0, &more.to_be_bytes()),
    ];
    client(address, &hello.concat())
}

/// The frames of `bytes`: kind, stream, payload.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            break;
        };
        frames.push((head[3], stream, payload.to_vec()));
        bytes = rest;
    }
    frames
}

fn options(send_idle: Duration, keep_alive: Duration) -> Options {
    Options {
        http2: true,
        timeouts: ListenerTimeouts {
            send_idle,
            keep_alive,
            ..ListenerTimeouts::default()
        },
        ..Options::default()
    }
}

#[test]
fn many_streams_are_answered() {
    let body = vec![b'x'; 100_000];
    let backend = backend([
        Step::ReadRequest,
        Step::Send(response(&body[..])),
        Step::Again,
    ]);
    let house = House::start(&[backend.address()], &options(LIMIT, LIMIT)).expect("an edge");
    let mut client = greeting(house.address);
    let streams: Vec<u32> = (0..50).map(|number| 2 * number + 1).collect();
    let requests: Vec<u8> = streams.iter().flat_map(|stream| get(*stream)).collect();
    client.send(&requests).expect("the edge reads");
    let data = |received: &[u8]| -> usize {
        let all = frames(received);
        let data = all.iter().filter(|frame| frame.0 == DATA);
        data.map(|frame| frame.2.len()).sum()
    };
    let wanted = streams.len() * body.len();
    let enough = |received: &[u8]| received.len() > wanted && data(received) == wanted;
    client.receive_until_true(LIMIT, enough).expect("open");
    assert_eq!(data(client.received()), wanted);
    let records = house.records(streams.len());
    for record in &records {
        assert!(record.contains("\"response_bytes\":100000"), "{record}");
        assert!(!record.contains("reason"), "{record}");
    }
    assert!(house.becomes_empty(), "{}", house.buffered_bytes());
}

/// Responses lie in our buffers: the client that wants them and does not read is let go, with
/// everything that was kept for it, and nobody writes down that it got them.
#[test]
fn a_client_that_reads_nothing_of_its_streams_is_let_go() {
    let body = vec![b'x'; 60_000];
    let backend = backend([
        Step::ReadRequest,
        Step::Send(response(&body[..])),
        Step::Again,
    ]);
    let options = options(SHORT, Duration::from_secs(60));
    let house = House::start(&[backend.address()], &options).expect("an edge");
    let mut client = greeting(house.address);
    let mut asked = 0;
    // As many as there may be at a time, until the kernel's buffers are full.
    while house.faults().is_empty() {
        let more: Vec<u8> = (0..100)
            .flat_map(|number| get(2 * (asked + number) + 1))
            .collect();
        asked += 100;
        if client.send(&more).is_err() {
            break;
        }
        // Each is over, one way or the other.
        let over = house.records(asked as usize).len();
        assert_eq!(over, asked as usize, "{:?}", house.faults());
        assert!(asked <= 1_000, "the edge buffers without end");
    }
    assert!(house.becomes_lonely(), "the connection stays for ever");
    assert!(house.becomes_empty());
    let records = house.records(asked as usize);
    let cut = records.iter().filter(|record| {
        record.contains("\"reason\":\"send_timeout\"") || record.contains("client_gone")
    });
    assert!(cut.count() > 0, "all are said to be complete");
    assert!(
        house.faults().contains_key("send_timeout"),
        "{:?}",
        house.faults()
    );
}

/// It does not even answer our PING.
#[test]
fn an_idle_connection_is_closed_whatever_its_client_does() {
    let backend = backend([Step::Silence]);
    let house = House::start(&[backend.address()], &options(LIMIT, SHORT)).expect("an edge");
    let mut client = greeting(house.address);
    let ended = client.receive_to_end(LIMIT).expect("an end");
    assert_ne!(ended.end, End::Open);
    assert!(
        frames(&ended.received)
            .iter()
            .any(|frame| frame.0 == GOAWAY)
    );
    assert!(house.becomes_lonely());
    assert!(house.faults().is_empty(), "{:?}", house.faults());
}

/// CVE-2023-44487, with the patience to let each stream reach the endpoint.
#[test]
fn a_client_that_resets_all_it_asks_for_is_let_go() {
    const AT_A_TIME: usize = 50;
    let backend = backend([Step::ReadRequest, Step::Silence]);
    let house = House::start(&[backend.address()], &options(LIMIT, LIMIT)).expect("an edge");
    let mut client = greeting(house.address);
    let mut asked = 0;
    while !house.faults().contains_key("reset_flood") {
        assert!(asked < 400, "nobody stops it");
        let streams = (asked..asked + AT_A_TIME).map(|number| 2 * number as u32 + 1);
        let requests: Vec<u8> = streams.clone().flat_map(get).collect();
        if client.send(&requests).is_err() {
            break;
        }
        asked += AT_A_TIME;
        if !backend.wait(SHORT, |all| all.len() >= asked) {
            break;
        }
        let resets: Vec<u8> = streams.flat_map(reset).collect();
        if client.send(&resets).is_err() {
            break;
        }
        assert!(house.becomes_at_least("client_gone", asked as u64));
    }
    assert!(asked > 200, "{asked} are no flood");
    assert!(
        house.becomes_faulty("reset_flood", 1),
        "{:?}",
        house.faults()
    );
    let ended = client.receive_to_end(LIMIT).expect("an end");
    assert_ne!(ended.end, End::Open);
    assert!(house.becomes_lonely() && house.becomes_empty());
}
