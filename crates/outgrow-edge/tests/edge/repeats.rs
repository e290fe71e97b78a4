//! What is sent a second time, and what never is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outgrow_testkit::backend::{Recorder, Script, Step, response};

use crate::house::{House, Options};
use crate::{LIMIT, backend, client, get, last, talk};

fn in_turn(connections: Vec<Vec<Step>>) -> Recorder {
    Recorder::start(Script::in_turn(connections)).expect("a port")
}

/// Reads a request and breaks off without an answer.
fn breaks() -> Vec<Step> {
    vec![Step::ReadRequest, Step::Reset]
}

fn answers() -> Vec<Step> {
    vec![Step::ReadRequest, Step::Send(response("ok")), Step::Again]
}

fn post(fields: &str) -> Vec<u8> {
    format!(
        "POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n{fields}\
         Connection: close\r\n\r\nhello"
    )
    .into_bytes()
}

#[test]
fn only_what_may_be_repeated_is_sent_twice() {
    let put = b"PUT /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\
        Connection: close\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n";
    let key = "Idempotency-Key: 7\r\n";
    for (name, request, honour, times) in [
        ("a GET", last("/x"), false, 2),
        ("a PUT with a body", put.to_vec(), false, 2),
        ("a POST", post(""), true, 1),
        (
            "a POST with a key that the route does not honour",
            post(key),
            false,
            1,
        ),
        ("a POST with a key", post(key), true, 2),
    ] {
        let backend = in_turn(vec![breaks(), answers()]);
        let options = Options {
            idempotency_key: honour,
            ..Options::default()
        };
        let house = House::start(&[backend.address()], &options).expect("an edge");
        let answer = talk(house.address, &request);
        let status = if times == 2 {
            "HTTP/1.1 200 "
        } else {
            "HTTP/1.1 502 "
        };
        assert!(
            answer.text().starts_with(status),
            "{name}: {}",
            answer.text()
        );
        let seen = backend.requests();
        assert_eq!(seen.len(), times, "{name}");
        assert!(
            times == 1 || seen[0] == seen[1],
            "{name} was sent otherwise the second time"
        );
    }
}

/// The endpoint never sees the key, so it cannot know the second request for the first.
#[test]
fn a_key_that_is_nominated_away_makes_nothing_repeatable() {
    let backend = in_turn(vec![breaks(), answers()]);
    let options = Options {
        idempotency_key: true,
        ..Options::default()
    };
    let house = House::start(&[backend.address()], &options).expect("an edge");
    let request = post("Idempotency-Key: 7\r\nConnection: Idempotency-Key\r\n");
    let answer = talk(house.address, &request);
    assert!(
        answer.text().starts_with("HTTP/1.1 502 "),
        "{}",
        answer.text()
    );
    assert_eq!(backend.requests().len(), 1);
}

/// Once is enough: an endpoint that breaks every time is not asked for ever.
#[test]
fn a_request_is_repeated_once() {
    let backend = in_turn(vec![breaks()]);
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    let answer = talk(house.address, &last("/x"));
    assert!(
        answer.text().starts_with("HTTP/1.1 502 "),
        "{}",
        answer.text()
    );
    assert_eq!(backend.requests().len(), 2);
}

/// A request that ends the instance which reads it: were each end of a pooled connection taken for
/// one that was idle, it would go through all instances.
#[test]
fn a_request_that_ends_its_instance_ends_two_at_most() {
    let ended = Arc::new(AtomicUsize::new(0));
    let instances: Vec<_> = (0..4).map(|_| Fragile::start(&ended)).collect();
    let addresses: Vec<_> = instances.iter().map(|one| one.address).collect();
    let house = House::start(&addresses, &Options::default()).expect("an edge");
    for _ in 0..1_000 {
        let mut client = client(house.address, &get("/warm"));
        assert!(client.receive_until(b"ok", LIMIT).expect("open"));
        let warm = |one: &Fragile| one.connections.load(Ordering::SeqCst) > 0;
        if instances.iter().all(warm) {
            break;
        }
    }
    let answer = talk(house.address, &last("/crash"));
    assert!(
        answer.text().starts_with("HTTP/1.1 502 "),
        "{}",
        answer.text()
    );
    assert_eq!(ended.load(Ordering::SeqCst), 2);
}

/// An endpoint that closes the connection on which `/crash` is asked for, and answers all else.
struct Fragile {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Fragile {
    fn start(ended: &Arc<AtomicUsize>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let connections: Arc<AtomicUsize> = Arc::default();
        let (count, ended) = (Arc::clone(&connections), Arc::clone(ended));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let ended = Arc::clone(&ended);
                std::thread::spawn(move || Self::serve(stream, &ended));
            }
        });
        Self {
            address,
            connections,
        }
    }

    fn serve(mut stream: TcpStream, ended: &AtomicUsize) {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if buffer[..count].starts_with(b"GET /crash ") {
                ended.fetch_add(1, Ordering::SeqCst);
                return;
            }
            if stream.write_all(&response("ok")).is_err() {
                return;
            }
        }
    }
}

/// A byte of a response is a sign that it was executed, and so is an interim response.
#[test]
fn what_was_answered_in_part_is_not_repeated() {
    for part in ["HTTP/1.1 2", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
        let first = vec![Step::ReadRequest, Step::Send(part.into()), Step::Close];
        let backend = in_turn(vec![first, answers()]);
        let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
        let answer = talk(house.address, &last("/x"));
        assert!(
            answer.text().contains("HTTP/1.1 502 "),
            "{part:?}: {}",
            answer.text()
        );
        assert_eq!(backend.requests().len(), 1, "{part:?}");
    }
}

/// The endpoint closes its idle connection: the next request takes another one, whatever it is.
#[test]
fn a_connection_that_was_closed_while_idle_costs_nothing() {
    for request in [last("/x"), post("")] {
        let once = vec![Step::ReadRequest, Step::Send(response("ok")), Step::Close];
        let backend = in_turn(vec![once, answers()]);
        let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
        let mut client = client(house.address, &get("/1"));
        assert!(client.receive_until(b"\r\n\r\nok", LIMIT).expect("open"));
        assert!(backend.wait(LIMIT, |all| all[0].requests.len() == 1));
        // The end of the idle connection has arrived when the next request comes.
        std::thread::sleep(Duration::from_millis(100));
        client.send(&request).expect("the edge reads");
        let answer = client.receive_to_end(LIMIT).expect("an answer");
        assert!(answer.text().ends_with("\r\n\r\nok"), "{}", answer.text());
        assert_eq!(backend.requests().len(), 2);
    }
}

/// A body larger than is kept cannot be sent again, and nothing pretends that it could.
#[test]
fn a_large_body_is_not_repeated_in_part() {
    let backend = in_turn(vec![
        vec![Step::ReadBytes(200_000), Step::Reset],
        vec![Step::ReadRequest, Step::Send(response("ok")), Step::Again],
    ]);
    let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
    let head = b"PUT /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 300000\r\n\
        Connection: close\r\n\r\n";
    let answer = talk(house.address, &[&head[..], &vec![b'x'; 300_000]].concat());
    assert!(
        answer.text().starts_with("HTTP/1.1 502 "),
        "{}",
        answer.text()
    );
    assert!(backend.requests().is_empty());
    assert!(house.becomes_empty());
}

#[test]
fn an_endpoint_that_refuses_is_passed_over_for_any_request() {
    let gone = backend(answers());
    let address = gone.address();
    drop(gone);
    let good = backend(answers());
    for _ in 0..8 {
        let house = House::start(&[address, good.address()], &Options::default()).expect("an edge");
        let answer = talk(house.address, &post(""));
        assert!(answer.text().ends_with("ok"), "{}", answer.text());
    }
    assert_eq!(good.requests().len(), 8);
}
