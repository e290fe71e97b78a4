//! Each named timeout, and what the client and the record are told.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use outgrow_testkit::{
    backend::{Gate, Recorder, Script, Step, response},
    http,
    raw::End,
};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

use super::{Front, WHILE, ask, ask_until_close, connect, records};
use crate::shop::SOON;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const GET_AND_CLOSE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn silent() -> Recorder {
    Recorder::start(Script::silence()).expect("a backend")
}

fn sound() -> Recorder {
    Recorder::start(Script::answer(response("sound"))).expect("a backend")
}

#[test]
fn a_head_that_does_not_come_is_408() {
    let backend = sound();
    let outgrow = Front {
        listener: "timeouts = { head = \"300ms\" }",
        ..Front::default()
    }
    .before(&backend);
    let answer = ask_until_close(&outgrow, "GET / HTTP/1.1\r\nHo");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(records(&outgrow, 1)[0].contains(" reason=head_timeout"));
    // Nobody who said nothing is owed an answer.
    assert_eq!(ask_until_close(&outgrow, ""), "");
    assert_eq!(backend.connections().len(), 0);
}

#[test]
fn a_body_that_does_not_come_is_408() {
    let backend = silent();
    let outgrow = Front {
        listener: "timeouts = { body_idle = \"300ms\" }",
        ..Front::default()
    }
    .before(&backend);
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf";
    let answer = ask_until_close(&outgrow, request);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(records(&outgrow, 1)[0].contains(" reason=body_timeout"));
}

#[test]
fn an_idle_connection_is_closed() {
    let backend = sound();
    let outgrow = Front {
        listener: "timeouts = { keep_alive = \"300ms\" }",
        ..Front::default()
    }
    .before(&backend);
    let mut client = connect(&outgrow);
    ask(&mut client, GET, "sound");
    let rest = client.receive_to_end(SOON).expect("received");
    assert_eq!((rest.text().as_str(), rest.end), ("", End::Closed));
}

#[test]
fn an_endpoint_that_does_not_answer_is_504() {
    let backend = silent();
    let outgrow = Front {
        service: "timeouts = { first_byte = \"300ms\" }",
        ..Front::default()
    }
    .before(&backend);
    let answer = http::get(&outgrow.url("public", "/")).expect("an answer");
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(
        answer.text().contains("reason: first_byte_timeout"),
        "{}",
        answer.text()
    );
    assert!(records(&outgrow, 1)[0].contains(" 504 "));
    // It may be at work on it still, so it is not asked again.
    assert_eq!(backend.connections().len(), 1);
}

#[test]
fn a_whole_exchange_has_its_limit() {
    let slow = Step::SendSlowly {
        bytes: response("x".repeat(1000)),
        piece: 1,
        pause: Duration::from_millis(20),
    };
    let backend = Recorder::start(Script::every([Step::ReadRequest, slow])).expect("a backend");
    let outgrow = Front {
        service: "timeouts = { request = \"500ms\" }",
        ..Front::default()
    }
    .before(&backend);
    let began = Instant::now();
    let answer = ask_until_close(&outgrow, GET_AND_CLOSE);
    assert!(began.elapsed() < WHILE, "{:?}", began.elapsed());
    assert!(
        answer.starts_with("HTTP/1.1 504 "),
        "no head came in time: {answer}"
    );
    assert!(records(&outgrow, 1)[0].contains(" reason=request_timeout"));
}

#[test]
fn a_response_that_stops_is_cut_off() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun".to_vec();
    let backend = Recorder::start(Script::every([
        Step::ReadRequest,
        Step::Send(head),
        Step::Silence,
    ]));
    let backend = backend.expect("a backend");
    let outgrow = Front {
        service: "timeouts = { stream_idle = \"300ms\" }",
        ..Front::default()
    }
    .before(&backend);
    let answer = ask_until_close(&outgrow, GET);
    assert!(answer.ends_with("begun"), "{answer}");
    assert!(records(&outgrow, 1)[0].contains(" reason=stream_idle_timeout"));
}

#[test]
fn a_client_that_takes_nothing_is_left() {
    let backend = Recorder::start(Script::answer(response("x".repeat(20_000_000))));
    let backend = backend.expect("a backend");
    let outgrow = Front {
        listener: "timeouts = { send_idle = \"300ms\" }",
        ..Front::default()
    }
    .before(&backend);
    let mut client =
        TcpStream::connect(outgrow.address("public").expect("an address")).expect("a connection");
    client.write_all(GET.as_bytes()).expect("sent");
    assert!(records(&outgrow, 1)[0].contains(" reason=send_timeout"));
}

/// An address whose queue of connections is full: connecting to it takes for ever. The streams
/// fill the queue.
fn full() -> (rustix::fd::OwnedFd, SocketAddr, Vec<TcpStream>) {
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&listener, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port");
    listen(&listener, 0).expect("listening");
    let address = getsockname(&listener).expect("an address");
    let address = SocketAddr::try_from(address).expect("an Internet address");
    let wait = Duration::from_millis(300);
    let mut held = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, wait) {
        held.push(stream);
        assert!(held.len() < 100, "the queue is never full");
    }
    (listener, address, held)
}

#[test]
fn an_endpoint_that_cannot_be_reached_is_504() {
    let (_listener, address, _held) = full();
    let outgrow = Front {
        service: "timeouts = { connect = \"300ms\" }",
        ..Front::default()
    }
    .start(&[address]);
    let answer = http::get(&outgrow.url("public", "/")).expect("an answer");
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(records(&outgrow, 1)[0].contains(" reason=connect_timeout"));
}

#[test]
fn a_busy_service_has_a_queue_with_an_end() {
    let gate = Gate::new();
    let script = Script::every([
        Step::ReadRequest,
        Step::Wait(gate.clone()),
        Step::Send(response("late")),
        Step::Again,
    ]);
    let backend = Recorder::start(script).expect("a backend");
    let service = "max_connections = 1\nqueue = 1\ntimeouts = { queue = \"1s\" }";
    let outgrow = Front {
        service,
        ..Front::default()
    }
    .before(&backend);
    let mut first = connect(&outgrow);
    first.send(GET.as_bytes()).expect("sent");
    assert!(backend.wait_requests(1, SOON));
    let mut second = connect(&outgrow);
    second.send(GET.as_bytes()).expect("sent");
    let queued = |outgrow: &outgrow_testkit::outgrow::Outgrow| {
        let queue = crate::shop::state(outgrow)["services"][0]["queue"].as_u64();
        (queue == Some(1)).then_some(())
    };
    outgrow
        .wait("one waits in the queue", SOON, queued)
        .expect("queued");
    let third = http::get(&outgrow.url("public", "/")).expect("an answer");
    assert_eq!(third.status, 503, "{}", third.text());
    assert!(
        third.text().contains("reason: queue_full"),
        "{}",
        third.text()
    );
    assert_eq!(third.header("Retry-After"), Some("1"));
    assert!(
        second
            .receive_until(b"reason: queue_timeout", SOON)
            .expect("received")
    );
    gate.open();
    assert!(first.receive_until(b"late", SOON).expect("received"));
}

#[test]
fn an_application_that_reads_late_is_not_taken_for_a_machine_that_is_gone() {
    // Much longer than `unacknowledged`: the machine's window is full all the time.
    let script = Script::every([
        Step::Pause(Duration::from_secs(2)),
        Step::ReadRequest,
        Step::Send(response("read")),
    ]);
    let backend = Recorder::start(script).expect("a backend");
    let outgrow = Front {
        service: "timeouts = { unacknowledged = \"300ms\" }",
        ..Front::default()
    }
    .before(&backend);
    let body = "x".repeat(8 << 20);
    let request = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = ask_until_close(&outgrow, &request);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(backend.connections().len(), 1, "it was not begun anew");
}

/// A byte now and then keeps `body_idle` from being over, and does not keep the endpoint's connection.
#[test]
fn a_body_that_only_trickles_is_not_waited_for() {
    let backend = Recorder::start(Script::silence()).expect("a backend");
    let front = Front {
        listener: "timeouts = { body_idle = \"1s\", body_rate = 1000 }",
        ..Front::default()
    };
    let outgrow = front.before(&backend);
    let trickle = |field: &str, first: usize, piece: &[u8], most: Duration| {
        let mut client = connect(&outgrow);
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{field}Content-Length: 1000000\r\n\r\n");
        client.send(head.as_bytes()).expect("sent");
        client.send(&vec![b'x'; first]).expect("sent");
        let begin = Instant::now();
        while begin.elapsed() < most {
            // It may be over by now.
            let _over = client.send(piece);
            let pause = Duration::from_millis(50);
            if client.receive_until(b"\r\n\r\n", pause).unwrap_or(true) {
                let text = String::from_utf8_lossy(&client.take_received()).into_owned();
                return Some((text, begin.elapsed()));
            }
        }
        None
    };
    // Neither a quick beginning nor a field that anybody can send buys more time.
    let call = "Content-Type: application/grpc\r\n";
    let cases = [("", 0, "408"), ("", 100_000, "408"), (call, 0, "200")];
    for (number, (field, first, status)) in cases.into_iter().enumerate() {
        let (answer, took) = trickle(field, first, b"x", WHILE).expect("an answer");
        let begins = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&begins), "{field} {first}: {answer}");
        assert!(took >= Duration::from_millis(900), "{took:?}");
        assert!(took < Duration::from_secs(4), "{took:?}");
        let record = &records(&outgrow, number + 1)[number];
        assert!(
            record.contains(" reason=body_too_slow"),
            "{field}: {record}"
        );
    }
    let metrics = outgrow.admin_get("/metrics").expect("metrics").text();
    let counted = "outgrow_faults_total{reason=\"body_too_slow\"} 3";
    assert!(metrics.contains(counted), "{metrics}");
    // Two thousand bytes a second are enough.
    let answer = trickle("", 0, &[b'x'; 100], Duration::from_secs(4));
    assert!(answer.is_none(), "{answer:?}");
}
