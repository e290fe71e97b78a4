//! Clients that take nothing of what they asked for, or next to nothing, more of them than the service has
//! permits: those who go on using the same service are served.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use outgrow_core::settings::ByteSize;
use outgrow_edge::settings::ListenerTimeouts;
use outgrow_testkit::backend::{Recorder, Step, response, response_chunked};
use outgrow_testkit::raw::Client;
use outgrow_upstream::settings::ServiceTimeouts;

use crate::house::{House, Options};
use crate::http2::{self, DATA, WINDOW_UPDATE, frame, frames, greeting_with};
use crate::{LIMIT, backend, get, last, talk};

/// What may be in flight at the service.
const PERMITS: u32 = 2;
const READERS: u32 = 6;

fn front(backend: &Recorder, timeouts: ListenerTimeouts) -> House {
    let options = Options {
        http2: true,
        max_connections: PERMITS,
        timeouts,
        service_timeouts: ServiceTimeouts {
            queue: LIMIT,
            ..ServiceTimeouts::default()
        },
        ..Options::default()
    };
    House::start(&[backend.address()], &options).expect("an edge")
}

/// An endpoint that answers each request with so many bytes.
fn answers(bytes: usize) -> Recorder {
    backend([
        Step::ReadRequest,
        Step::Send(response(vec![b'x'; bytes])),
        Step::Again,
    ])
}

/// One who takes whatever comes.
fn visit(address: SocketAddr) -> usize {
    let answer = talk(address, &last("/x"));
    let text = answer.text();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text:.300}");
    answer.received.len()
}

/// The streams of one who asks for much.
fn streams() -> impl Iterator<Item = u32> {
    (0..READERS).map(|number| 2 * number + 1)
}

/// Asks on all streams, with no window for any.
fn ask(house: &House) -> Client {
    let mut client = greeting_with(house.address, 0);
    let requests: Vec<u8> = streams().flat_map(http2::get).collect();
    client.send(&requests).expect("the edge reads");
    client
}

fn widen(client: &mut Client, bytes: u32) {
    let updates = streams().map(|stream| frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes()));
    client
        .send(&updates.collect::<Vec<_>>().concat())
        .expect("the edge reads");
}

/// The bytes that came on a stream.
fn data_of(received: &[u8], stream: u32) -> usize {
    let all = frames(received);
    let its = all.iter().filter(|one| one.0 == DATA && one.1 == stream);
    its.map(|one| one.2.len()).sum()
}

/// However it comes, an answer that is here as a whole needs its endpoint no more.
#[test]
fn an_answer_that_is_here_holds_no_permit() {
    let body = vec![b'x'; 1_000];
    let (first, second) = body.split_at(400);
    let whole = response(&body);
    let begun = whole[..whole.len() - second.len()].to_vec();
    let chunks = response_chunked(&[first, second]);
    let chunk = chunks[..chunks.len() - 500].to_vec();
    let end = chunks[chunks.len() - 500..].to_vec();
    let until_close = [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", &body[..]].concat();
    let pause = || Step::Pause(Duration::from_millis(50));
    let shapes = [
        vec![Step::ReadRequest, Step::Send(whole), Step::Again],
        vec![
            Step::ReadRequest,
            Step::Send(begun),
            pause(),
            Step::Send(second.to_vec()),
            Step::Again,
        ],
        vec![
            Step::ReadRequest,
            Step::Send(chunk),
            pause(),
            Step::Send(end),
            Step::Again,
        ],
        vec![Step::ReadRequest, Step::Send(until_close), Step::Close],
    ];
    for (at, steps) in shapes.into_iter().enumerate() {
        let backend = backend(steps);
        let house = front(&backend, ListenerTimeouts::default());
        let mut reader = ask(&house);
        for _ in 0..2 {
            assert!(backend.wait_requests(READERS as usize, LIMIT), "shape {at}");
            assert!(visit(house.address) > body.len(), "shape {at}");
            let waiting = house.shared.ledger.waiting_bytes();
            assert!(
                waiting >= body.len() as u64 * u64::from(READERS),
                "{waiting}"
            );
            widen(&mut reader, 1);
            thread::sleep(Duration::from_millis(20));
        }
        // All of it comes when there is room for it.
        widen(&mut reader, 10_000);
        let enough =
            |received: &[u8]| streams().all(|stream| data_of(received, stream) == body.len());
        reader.receive_until_true(LIMIT, enough).expect("open");
        assert!(enough(reader.received()), "shape {at}");
        for record in house.records(READERS as usize + 2) {
            assert!(
                record.contains("\"response_bytes\":1000"),
                "shape {at}: {record}"
            );
            assert!(!record.contains("reason"), "shape {at}: {record}");
        }
        assert!(house.becomes_empty());
        assert_eq!(house.shared.ledger.waiting_bytes(), 0);
    }
}

/// Who takes it byte by byte is left all the same, and its memory is there again.
#[test]
fn an_answer_that_is_here_does_not_wait_for_hours() {
    let backend = answers(1_000);
    let timeouts = ListenerTimeouts {
        send_idle: Duration::from_secs(1),
        ..ListenerTimeouts::default()
    };
    let house = front(&backend, timeouts);
    let mut reader = ask(&house);
    let begun = Instant::now();
    while house.faults().get("send_timeout") != Some(&u64::from(READERS)) {
        assert!(begun.elapsed() < LIMIT, "{:?}", house.faults());
        widen(&mut reader, 1);
        thread::sleep(Duration::from_millis(50));
    }
    assert!(house.becomes_empty(), "{}", house.buffered_bytes());
}

/// Where more than half of the memory is in use, what waits is bounded by the permits.
#[test]
fn an_answer_that_is_here_keeps_its_permit_where_memory_is_short() {
    let backend = answers(1_000);
    let options = Options {
        http2: true,
        max_connections: PERMITS,
        ..Options::default()
    };
    let house = House::start(&[backend.address()], &options).expect("an edge");
    let others = house.shared.ledger.charge(options.memory_bytes / 2);
    let _others = others.expect("room for them");
    let mut reader = ask(&house);
    assert!(backend.wait_requests(PERMITS as usize, LIMIT));
    thread::sleep(Duration::from_millis(100));
    assert_eq!(backend.requests().len(), PERMITS as usize);
    widen(&mut reader, 10_000);
    assert!(backend.wait_requests(READERS as usize, LIMIT));
}

/// An answer that is larger than what is read ahead needs its endpoint until it is taken. Who takes next to
/// nothing of it is left, however often it takes that.
#[test]
fn who_takes_too_little_is_left() {
    let second = Duration::from_secs(1);
    let timeouts = |send_rate: u64| ListenerTimeouts {
        send_idle: second,
        send_rate: ByteSize(send_rate),
        ..ListenerTimeouts::default()
    };
    let backend = answers(20_000_000);
    // Streams that get a byte of window twenty times a second.
    let house = front(&backend, timeouts(500));
    let mut reader = ask(&house);
    thread::scope(|scope| {
        let visitor = scope.spawn(|| visit(house.address));
        while !visitor.is_finished() {
            widen(&mut reader, 1);
            thread::sleep(Duration::from_millis(50));
        }
        assert!(visitor.join().expect("served") > 20_000_000);
    });
    assert!(
        house.becomes_at_least("send_timeout", 2),
        "{:?}",
        house.faults()
    );
    drop(reader);
    // Connections of HTTP/1.1 that take megabytes a second where tens of them are wanted.
    let house = front(&backend, timeouts(50_000_000));
    let reader = |_| {
        let mut stream = TcpStream::connect(house.address).expect("a connection");
        stream.write_all(&get("/x")).expect("the edge reads");
        stream.set_nonblocking(true).expect("a mode");
        stream
    };
    let mut readers: Vec<TcpStream> = (0..READERS).map(reader).collect();
    let mut bite = vec![0; 64 * 1024];
    thread::scope(|scope| {
        let visitor = scope.spawn(|| visit(house.address));
        while !visitor.is_finished() {
            for reader in &mut readers {
                // Nothing there, and one that was left, are fine.
                let _ = reader.read(&mut bite);
            }
            thread::sleep(Duration::from_millis(20));
        }
        assert!(visitor.join().expect("served") > 20_000_000);
    });
    assert!(
        house.becomes_at_least("send_timeout", 2),
        "{:?}",
        house.faults()
    );
}

/// While nothing waits for it a client is not slow: events that come now and then.
#[test]
fn who_waits_for_events_takes_all_there_is() {
    let head =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut steps = vec![Step::ReadRequest, Step::Send(head.to_vec())];
    for _ in 0..6 {
        steps.push(Step::Pause(Duration::from_millis(100)));
        steps.push(Step::Send(b"a\r\ndata: 1\n\n\n\r\n".to_vec()));
    }
    steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
    let backend = backend(steps);
    let short = Duration::from_millis(200);
    let timeouts = ListenerTimeouts {
        send_idle: short,
        send_rate: ByteSize::gib(1),
        ..ListenerTimeouts::default()
    };
    let house = front(&backend, timeouts);
    let answer = talk(house.address, &last("/x"));
    assert!(answer.text().ends_with("0\r\n\r\n"), "{}", answer.text());
    assert!(house.faults().is_empty(), "{:?}", house.faults());
}
