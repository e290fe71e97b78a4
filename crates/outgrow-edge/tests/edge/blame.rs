//! Whose fault it is, and what follows for the endpoint's health.

use std::time::Duration;

use outgrow_testkit::backend::{Recorder, Script, Step, response};
use outgrow_upstream::settings::ServiceTimeouts;

use crate::house::{House, Options};
use crate::{LIMIT, backend, client, get, last, talk};

const SHORT: Duration = Duration::from_millis(200);

fn timeouts(service_timeouts: ServiceTimeouts) -> Options {
    Options {
        service_timeouts,
        ..Options::default()
    }
}

/// The whole exchange takes too long: whoever is waited for is the one to blame.
#[test]
fn clients_cannot_have_an_endpoint_ejected() {
    let part = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nhello".to_vec();
    let upload = b"POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\nhello";
    let hurried = ServiceTimeouts {
        request: SHORT,
        ..ServiceTimeouts::default()
    };
    let quiet = ServiceTimeouts {
        stream_idle: SHORT,
        ..ServiceTimeouts::default()
    };
    for (name, request, steps, options, status, reason, failures) in [
        (
            "a slow upload",
            upload.to_vec(),
            vec![Step::Silence],
            timeouts(hurried.clone()),
            "HTTP/1.1 408 ",
            "request_timeout",
            0,
        ),
        (
            "a quiet stream of events",
            get("/x"),
            vec![Step::ReadRequest, Step::Send(part), Step::Silence],
            timeouts(quiet),
            "HTTP/1.1 200 ",
            "stream_idle_timeout",
            0,
        ),
        (
            "an endpoint that does not answer",
            get("/x"),
            vec![Step::ReadRequest, Step::Silence],
            timeouts(hurried),
            "HTTP/1.1 504 ",
            "request_timeout",
            1,
        ),
    ] {
        let backend = backend(steps);
        let house = House::start(&[backend.address()], &options).expect("an edge");
        let mut client = client(house.address, &request);
        assert!(
            client
                .receive_until(status.as_bytes(), LIMIT)
                .expect("open"),
            "{name}"
        );
        assert!(
            house.becomes_faulty(reason, 1),
            "{name}: {:?}",
            house.faults()
        );
        assert_eq!(house.failures(), failures, "{name}");
    }
}

/// A request whose time is over while it waits in line is not executed afterwards.
#[test]
fn the_time_of_a_request_runs_while_it_waits_in_line() {
    let switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
        Upgrade: tcp\r\n\r\n";
    let tunnel = vec![
        Step::ReadRequest,
        Step::Send(switched.to_vec()),
        Step::Silence,
    ];
    let answers = vec![Step::ReadRequest, Step::Send(response("ok")), Step::Again];
    let backend = Recorder::start(Script::in_turn(vec![tunnel, answers])).expect("a port");
    let options = Options {
        max_connections: 1,
        ..timeouts(ServiceTimeouts {
            request: SHORT,
            ..ServiceTimeouts::default()
        })
    };
    let house = House::start(&[backend.address()], &options).expect("an edge");
    let upgrade = b"GET /t HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\n\
        Upgrade: tcp\r\n\r\n";
    // A tunnel has no end of its time; it holds the only permit.
    let mut holder = client(house.address, upgrade);
    assert!(holder.receive_until(b"\r\n\r\n", LIMIT).expect("open"));
    let post = b"POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\
        Connection: close\r\n\r\nhello";
    let answer = talk(house.address, post);
    assert!(
        answer.text().starts_with("HTTP/1.1 504 "),
        "{}",
        answer.text()
    );
    assert_eq!(house.failures(), 0);
    drop(holder);
    let answer = talk(house.address, &last("/after"));
    assert!(answer.text().ends_with("ok"), "{}", answer.text());
    let seen = backend.received();
    assert!(
        !seen.windows(5).any(|at| at == b"POST "),
        "it was executed all the same"
    );
}
