//! Who stalls is the one who is told so, others do not notice, and nobody's waiting costs time.

use std::time::{Duration, Instant};

use outgrow_edge::settings::ListenerTimeouts;
use outgrow_testkit::backend::{Step, response};
use outgrow_testkit::raw::End;
use outgrow_upstream::settings::ServiceTimeouts;

use crate::house::{House, Options};
use crate::{LIMIT, backend, client, get, last, talk};

const SHORT: Duration = Duration::from_millis(200);

fn impatient() -> Options {
    Options {
        timeouts: ListenerTimeouts {
            head: SHORT,
            body_idle: SHORT,
            keep_alive: SHORT,
            send_idle: SHORT,
            ..ListenerTimeouts::default()
        },
        ..Options::default()
    }
}

#[test]
fn a_client_that_stalls_is_the_one_to_blame() {
    let early = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".to_vec();
    let half = "POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\nhello";
    for (sent, steps, status, reason) in [
        (
            "GET /x HT",
            vec![Step::Silence],
            "HTTP/1.1 408 ",
            "head_timeout",
        ),
        (
            "GET /x HTTP/1.1\r\nHost",
            vec![Step::Silence],
            "HTTP/1.1 408 ",
            "head_timeout",
        ),
        (half, vec![Step::Silence], "HTTP/1.1 408 ", "body_timeout"),
        // The endpoint has begun to answer, and waits for the rest of the body.
        (
            half,
            vec![Step::ReadBytes(1), Step::Send(early), Step::Silence],
            "HTTP/1.1 200 ",
            "body_timeout",
        ),
    ] {
        let backend = backend(steps);
        let house = House::start(&[backend.address()], &impatient()).expect("an edge");
        let answer = talk(house.address, sent.as_bytes());
        assert!(
            answer.text().starts_with(status),
            "{sent:?}: {}",
            answer.text()
        );
        assert_eq!(answer.end, End::Closed);
        assert!(!answer.text().ends_with("0\r\n\r\n"));
        let faults = house.faults();
        assert_eq!(
            faults.into_iter().collect::<Vec<_>>(),
            [(reason, 1)],
            "{sent:?}"
        );
        assert!(house.becomes_empty());
    }
}

#[test]
fn an_idle_client_is_closed_without_a_word() {
    let backend = backend([Step::ReadRequest, Step::Send(response("ok")), Step::Again]);
    let house = House::start(&[backend.address()], &impatient()).expect("an edge");
    let mut client = client(house.address, &get("/x"));
    assert!(client.receive_until(b"\r\n\r\nok", LIMIT).expect("open"));
    client.take_received();
    let rest = client.receive_to_end(LIMIT).expect("an end");
    assert_eq!((rest.text().as_str(), rest.end), ("", End::Closed));
    assert!(house.faults().is_empty(), "{:?}", house.faults());
}

#[test]
fn an_endpoint_that_stalls_is_the_one_to_blame() {
    let part = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello".to_vec();
    for (steps, status, reason) in [
        (
            vec![Step::ReadRequest, Step::Silence],
            "HTTP/1.1 504 ",
            "first_byte_timeout",
        ),
        (
            vec![
                Step::ReadRequest,
                Step::Send(b"HTTP/1.1 2".to_vec()),
                Step::Silence,
            ],
            "HTTP/1.1 504 ",
            "first_byte_timeout",
        ),
        (
            vec![Step::ReadRequest, Step::Send(part), Step::Silence],
            "HTTP/1.1 200 ",
            "stream_idle_timeout",
        ),
    ] {
        let backend = backend(steps);
        let service_timeouts = ServiceTimeouts {
            first_byte: SHORT,
            stream_idle: SHORT,
            ..ServiceTimeouts::default()
        };
        let options = Options {
            service_timeouts,
            ..Options::default()
        };
        let house = House::start(&[backend.address()], &options).expect("an edge");
        let answer = talk(house.address, &last("/x"));
        assert!(
            answer.text().starts_with(status),
            "{reason}: {}",
            answer.text()
        );
        assert_eq!(
            house.faults().into_iter().collect::<Vec<_>>(),
            [(reason, 1)]
        );
        assert_eq!(backend.requests().len(), 1, "{reason}");
    }
}

/// A timeout that has run out does not keep the next one from running out.
#[test]
fn one_timeout_comes_after_the_other() {
    let backend = backend([Step::ReadRequest, Step::Silence]);
    let service_timeouts = ServiceTimeouts {
        first_byte: SHORT,
        ..ServiceTimeouts::default()
    };
    let options = Options {
        service_timeouts,
        ..impatient()
    };
    let house = House::start(&[backend.address()], &options).expect("an edge");
    let mut client = client(house.address, &get("/1"));
    assert!(client.receive_until(b"HTTP/1.1 504 ", LIMIT).expect("open"));
    assert_eq!(
        client.end(),
        End::Open,
        "a 504 leaves the connection as it is"
    );
    client.send(&get("/2")).expect("the edge reads");
    // A second 504, and then the end of an idle connection.
    let rest = client.receive_to_end(LIMIT).expect("an end");
    assert_eq!(
        rest.text().matches("HTTP/1.1 504 ").count(),
        2,
        "{}",
        rest.text()
    );
    assert_eq!(rest.end, End::Closed, "an idle connection stays for ever");
}

/// A client that reads nothing is let go, with everything that was kept for it.
#[test]
fn a_client_that_reads_nothing_is_let_go() {
    let backend = backend([
        Step::ReadRequest,
        Step::Send(response(vec![b'x'; 32 << 20])),
        Step::Again,
    ]);
    let house = House::start(&[backend.address()], &impatient()).expect("an edge");
    let mut client = client(house.address, &get("/x"));
    assert!(
        backend.wait(LIMIT, |all| all.first().is_some_and(|one| one.finished)),
        "still held"
    );
    assert!(house.becomes_empty());
    let answer = client.receive_to_end(LIMIT).expect("an end");
    assert!(answer.received.len() < 32 << 20);
    assert!(
        house.becomes_faulty("send_timeout", 1),
        "{:?}",
        house.faults()
    );
}

/// However long somebody waits for somebody else, the worker's thread does nothing meanwhile.
#[test]
fn waiting_costs_no_time() {
    let silent = backend([Step::ReadRequest, Step::Silence]);
    // Long enough for what is measured; afterwards it ends those whose client cannot be watched
    // because more is pipelined than is read.
    let first_byte = Duration::from_secs(3);
    let service_timeouts = ServiceTimeouts {
        first_byte,
        ..ServiceTimeouts::default()
    };
    let options = Options {
        service_timeouts,
        ..Options::default()
    };
    let house = House::start(&[silent.address()], &options).expect("an edge");
    let pipelined = get("/1").repeat(2_000);
    let half = b"POST /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe";
    let waiting: Vec<_> = [&pipelined[..], half, &get("/1"), b"GET /x HT", b""]
        .into_iter()
        .map(|bytes| client(house.address, bytes))
        .collect();
    assert!(silent.wait_requests(2, LIMIT));
    let flowing = backend([
        Step::ReadRequest,
        Step::Send(response(vec![b'x'; 32 << 20])),
        Step::Again,
    ]);
    let unread = House::start(&[flowing.address()], &Options::default()).expect("an edge");
    let slow = client(unread.address, &get("/x"));
    assert!(flowing.wait_requests(1, LIMIT));
    std::thread::sleep(Duration::from_millis(200));
    let spent = cpu_time_of_workers();
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(500));
    let spent = cpu_time_of_workers().saturating_sub(spent);
    assert!(
        spent < Duration::from_millis(60),
        "{spent:?} in {:?}",
        start.elapsed()
    );
    drop((waiting, slow));
    assert!(house.becomes_empty() && unread.becomes_empty());
}

/// What all threads of this process named `worker-N` have used so far.
fn cpu_time_of_workers() -> Duration {
    const TICKS_PER_SECOND: u64 = 100;
    let mut ticks = 0;
    for task in std::fs::read_dir("/proc/self/task")
        .expect("Linux")
        .flatten()
    {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        if let Some((name, rest)) = stat.rsplit_once(") ")
            && name.contains("(worker-")
        {
            let times = rest.split(' ').skip(11).take(2);
            ticks += times
                .filter_map(|text| text.parse::<u64>().ok())
                .sum::<u64>();
        }
    }
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}

/// A moment without memory is a 503 and nobody's fault; afterwards all is as before.
#[test]
fn without_memory_there_is_a_clear_answer() {
    let large = response(vec![b'x'; 1 << 20]);
    let backend = backend([Step::ReadRequest, Step::Send(large), Step::Again]);
    let options = Options {
        memory_bytes: 20 * 1024,
        ..Options::default()
    };
    let house = House::start(&[backend.address()], &options).expect("an edge");
    let before = Instant::now();
    for number in 1..=4 {
        let answer = talk(house.address, &last("/x"));
        let text = answer.text();
        assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
        assert!(house.becomes_faulty("memory_limit", number));
    }
    assert!(
        before.elapsed() < Duration::from_secs(8),
        "nobody waits for memory"
    );
    assert!(house.becomes_empty());
    let faults = house.faults();
    assert!(
        faults.keys().all(|reason| *reason == "memory_limit"),
        "{faults:?}"
    );
}

/// Not even the request can be read: it is answered and recorded all the same.
#[test]
fn without_any_memory_there_is_a_clear_answer() {
    let backend = backend([Step::ReadRequest, Step::Send(response("ok")), Step::Again]);
    let options = Options {
        memory_bytes: 0,
        ..Options::default()
    };
    let house = House::start(&[backend.address()], &options).expect("an edge");
    for number in 1..=4 {
        let answer = talk(house.address, &last("/x"));
        assert!(
            answer.text().starts_with("HTTP/1.1 503 "),
            "{}",
            answer.text()
        );
        assert_eq!(answer.end, End::Closed);
        assert!(house.becomes_faulty("memory_limit", number));
    }
    for record in house.records(4) {
        assert!(record.contains("\"status\":503"), "{record}");
    }
}

/// Those who read nothing hold what they can get; everybody else is served.
#[test]
fn clients_that_do_not_read_leave_memory_to_others() {
    let answer = std::sync::Arc::new(|request: &[u8]| match request.starts_with(b"GET /large ") {
        true => response(vec![b'x'; 16 << 20]),
        false => response("ok"),
    });
    let backend = backend([Step::ReadRequest, Step::Reply(answer), Step::Again]);
    let options = Options {
        memory_bytes: 4 << 20,
        ..Options::default()
    };
    let house = House::start(&[backend.address()], &options).expect("an edge");
    let mut idle = Vec::new();
    for _ in 0..24 {
        let mut client = client(house.address, &get("/large"));
        assert!(client.receive_until(b"\r\n\r\n", LIMIT).expect("open"));
        idle.push(client);
    }
    // The kernel's buffers are full: from here on they hold ours.
    assert!(
        house.becomes_full((4 << 20) / 2),
        "{}",
        house.buffered_bytes()
    );
    for _ in 0..50 {
        let answer = talk(house.address, &last("/small"));
        assert!(answer.text().ends_with("ok"), "{}", answer.text());
    }
    assert!(house.faults().is_empty(), "{:?}", house.faults());
}
