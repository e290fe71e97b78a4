//! The recorder against a raw client.

use super::*;
use crate::raw::{self, Client};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn records_every_byte_of_every_connection() {
    let recorder = Recorder::start(Script::silence()).unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let mut first = Client::connect(recorder.address()).unwrap();
    let mut second = Client::connect(recorder.address()).unwrap();
    for piece in raw::split_every(&bytes, 977) {
        first.send(piece).unwrap();
    }
    second.send(b"\r\n\0second").unwrap();
    assert!(recorder.wait(SOON, |connections| {
        connections.len() == 2
            && connections[0].received.len() == bytes.len()
            && connections[1].received.len() == 9
    }));
    assert_eq!(
        recorder.received(),
        [bytes.as_slice(), b"\r\n\0second"].concat()
    );
    drop(first);
    second.reset().unwrap();
    assert!(recorder.wait(SOON, |connections| {
        connections.iter().all(|one| one.finished)
    }));
    let ends: Vec<End> = recorder.connections().iter().map(|one| one.end).collect();
    assert_eq!(ends, [End::Closed, End::Reset]);
}

#[test]
fn answers_each_request_of_a_pipeline() {
    let script = Script::reply(|request| response([b"got ".as_slice(), &request[..6]].concat()));
    let recorder = Recorder::start(script).unwrap();
    let mut client = Client::connect(recorder.address()).unwrap();
    client
        .send(b"GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 2\r\n\r\nab")
        .unwrap();
    client.finish_sending().unwrap();
    let exchange = client.receive_to_end(SOON).unwrap();
    let expected = [response("got GET /1"), response("got POST /")].concat();
    assert_eq!((exchange.received, exchange.end), (expected, End::Closed));
    assert_eq!(recorder.requests().len(), 2);
}

#[test]
fn ends_as_the_script_says() {
    let half = response("whole body")[..42].to_vec();
    let script = Script::in_turn([
        vec![Step::ReadRequest, Step::Send(half.clone()), Step::Close],
        vec![Step::ReadRequest, Step::Reset],
        vec![Step::ReadBytes(4), Step::CloseAfter(3)],
        vec![Step::Silence],
    ]);
    let recorder = Recorder::start(script).unwrap();
    let request: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
    let ask = |limit| {
        let exchange = raw::exchange(recorder.address(), &[request], Duration::ZERO, limit);
        exchange
            .map(|exchange| (exchange.received, exchange.end))
            .unwrap()
    };
    assert_eq!(ask(SOON), (half, End::Closed));
    assert_eq!(ask(SOON), (vec![], End::Reset));
    let (received, end) = ask(SOON);
    assert!(received.is_empty() && end != End::Open);
    assert_eq!(ask(Duration::from_millis(50)), (vec![], End::Open));
}

#[test]
fn a_gate_holds_the_answer() {
    let gate = Gate::new();
    let script = Script::every([
        Step::ReadRequest,
        Step::Wait(gate.clone()),
        Step::Send(response("late")),
        Step::Close,
    ]);
    let recorder = Recorder::start(script).unwrap();
    let mut client = Client::connect(recorder.address()).unwrap();
    client.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(recorder.wait_requests(1, SOON));
    assert!(!client.receive_bytes(1, Duration::from_millis(30)).unwrap());
    gate.open();
    assert!(client.receive_until(b"late", SOON).unwrap());
}

#[test]
fn is_stopped_on_drop_with_connections_open() {
    let recorder = Recorder::start(Script::silence()).unwrap();
    let mut client = Client::connect(recorder.address()).unwrap();
    assert!(recorder.wait_connections(1, SOON));
    drop(recorder);
    assert_ne!(client.receive_to_end(SOON).unwrap().end, End::Open);
}
