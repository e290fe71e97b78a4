//! Which endpoint takes a connection, and who may have one.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use outgrow_testkit::raw::{Client, End};

use super::{Server, connect, echoed, nobody, recorded, records, reset, said, start};
use crate::shop::SOON;

/// The name that the server says first.
fn name(client: &mut Client) -> String {
    assert!(client.receive_bytes(1, SOON).expect("received"), "a name");
    String::from_utf8(client.take_received()).expect("text")
}

#[test]
fn connections_are_spread_and_stay_by_address_where_that_is_wanted() {
    let (a, b) = (Server::echo("a"), Server::echo("b"));
    let endpoints = [a.address, b.address];
    let outgrow = start(&endpoints, "", "balance = \"round_robin\"");
    let mut clients: Vec<_> = (0..4).map(|_| connect(&outgrow)).collect();
    let names: BTreeSet<_> = clients.iter_mut().map(name).collect();
    assert_eq!(names.len(), 2);
    let outgrow = start(&endpoints, "", "balance = \"ip_hash\"");
    let names: BTreeSet<_> = (0..6).map(|_| name(&mut connect(&outgrow))).collect();
    assert_eq!(names.len(), 1);
}

/// One that refuses is passed over, and ejected; what the client said early is not lost.
#[test]
fn another_endpoint_takes_what_one_has_refused() {
    let good = Server::echo("");
    let dead = nobody();
    let service = "balance = \"round_robin\"\noutlier = { consecutive_failures = 3 }";
    let outgrow = start(&[dead, good.address], "", service);
    for _ in 0..12 {
        let mut client = connect(&outgrow);
        echoed(&mut client, "said at once");
        client.finish_sending().expect("ended");
        client.receive_to_end(SOON).expect("received");
    }
    assert_eq!(good.taken(), 12);
    let lines = records(&outgrow, 12);
    let retried = lines
        .iter()
        .filter(|line| line.contains("retries=1"))
        .count();
    assert!(
        (1..=4).contains(&retried),
        "{retried}: ejected after three: {lines:#?}"
    );
    assert!(lines.iter().all(|line| !line.contains("reason=")));
}

/// An address at which nobody answers, nor refuses: its queue of connections is full.
struct Hole {
    address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Hole {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        rustix::net::listen(&listener, 1).expect("a short queue");
        let address = listener.local_addr().expect("an address");
        let mut queued = Vec::new();
        let limit = Duration::from_millis(100);
        while let Ok(stream) = TcpStream::connect_timeout(&address, limit) {
            queued.push(stream);
            assert!(queued.len() < 100, "the queue is never full");
        }
        Self {
            address,
            _listener: listener,
            _queued: queued,
        }
    }
}

#[test]
fn one_that_says_nothing_has_its_time_then_another_is_tried() {
    let (hole, good) = (Hole::new(), Server::echo(""));
    let balance = "balance = \"round_robin\"\ntimeouts = { connect = \"300ms\" }";
    let outgrow = start(&[hole.address, good.address], "", balance);
    for _ in 0..2 {
        let mut client = connect(&outgrow);
        echoed(&mut client, "said at once");
        client.finish_sending().expect("ended");
        client.receive_to_end(SOON).expect("received");
    }
    let lines = records(&outgrow, 2);
    let retried = lines.iter().filter(|line| line.contains("retries=1"));
    assert_eq!(retried.count(), 1, "{lines:#?}");
    let outgrow = start(&[hole.address], "", balance);
    assert_eq!(said(&outgrow, b"hello"), (Vec::new(), true));
    recorded(&outgrow, &["reason=connect_timeout", "in=0 out=0"]);
}

/// It is not waited for the endpoint for nobody.
#[test]
fn a_client_that_leaves_before_it_is_connected_is_noticed() {
    let hole = Hole::new();
    let outgrow = start(&[hole.address], "", "timeouts = { connect = \"1m\" }");
    let address = outgrow.address("public").expect("a public listener");
    let client = TcpStream::connect(address).expect("a connection");
    // Longer than the time in which nobody looks.
    std::thread::sleep(Duration::from_millis(200));
    reset(client);
    recorded(&outgrow, &["reason=client_gone", "in=0 out=0"]);
}

#[test]
fn with_nobody_there_it_is_reset_and_said_why() {
    let outgrow = start(&[nobody()], "", "");
    assert_eq!(said(&outgrow, b""), (Vec::new(), true));
    recorded(&outgrow, &["reason=connect_refused", "in=0 out=0"]);
}

/// An endpoint that takes connections and resets them at once is no better than a dead one.
#[test]
fn one_that_resets_at_once_is_ejected() {
    let bad = Server::start(reset);
    let good = Server::echo("good");
    let service = "balance = \"round_robin\"\noutlier = { consecutive_failures = 2 }";
    let outgrow = start(&[bad.address, good.address], "", service);
    let ejected = || outgrow.stderr().contains("ejected");
    for _ in 0..40 {
        said(&outgrow, b"");
        if ejected() {
            break;
        }
    }
    assert!(ejected(), "{}", outgrow.stderr());
    let before = bad.taken();
    for _ in 0..6 {
        assert_eq!(said(&outgrow, b""), (b"good".to_vec(), false));
    }
    assert_eq!(bad.taken(), before);
}

#[test]
fn there_are_no_more_than_may_be() {
    let server = Server::echo("hello");
    let refused = |outgrow: &_, reason: &str| {
        let mut first = connect(outgrow);
        echoed(&mut first, "mine");
        assert_eq!(said(outgrow, b""), (Vec::new(), true));
        recorded(outgrow, &[reason]);
        echoed(&mut first, "still mine");
        first.finish_sending().expect("ended");
        first.receive_to_end(SOON).expect("received");
        // The place is free again. Until then a reset may come before the system has told of the connection.
        let again = outgrow.wait("a place", SOON, |outgrow| {
            let mut client = Client::connect(outgrow.address("public")?).ok()?;
            client
                .receive_until(b"hello", Duration::from_millis(500))
                .ok()?
                .then_some(())
        });
        again.expect("a place");
    };
    let outgrow = start(&[server.address], "max_connections = 1", "");
    refused(&outgrow, "reason=too_many_connections");
    let outgrow = start(&[server.address], "max_connections_per_address = 1", "");
    refused(&outgrow, "reason=too_many_of_address");
}

/// At the limit of the endpoint one waits in line, and then has its turn.
#[test]
fn who_waits_has_a_turn() {
    let server = Server::echo("hello");
    let service = "max_connections = 1\ntimeouts = { queue = \"10s\" }";
    let outgrow = start(&[server.address], "", service);
    let mut first = connect(&outgrow);
    assert!(first.receive_until(b"hello", SOON).expect("received"));
    let mut second = connect(&outgrow);
    second.send(b"early").expect("sent");
    assert!(
        !second
            .receive_bytes(1, Duration::from_millis(300))
            .expect("received")
    );
    assert_eq!(server.taken(), 1);
    first.reset().expect("reset");
    assert!(second.receive_until(b"early", SOON).expect("received"));
    // And one who has waited too long is told by a reset.
    let service = "max_connections = 1\ntimeouts = { queue = \"200ms\" }";
    let outgrow = start(&[server.address], "", service);
    let mut first = connect(&outgrow);
    assert!(first.receive_until(b"hello", SOON).expect("received"));
    let mut second = connect(&outgrow);
    assert_eq!(
        second.receive_to_end(SOON).expect("received").end,
        End::Reset
    );
    recorded(&outgrow, &["reason=queue_timeout"]);
}

/// A check that fails takes an endpoint out, and connections stay where they are unless they are to
/// end.
#[test]
fn an_endpoint_that_is_down_keeps_its_connections_or_not() {
    for (tcp, is_reset) in [("", false), ("endpoint_down = \"reset\"", true)] {
        let (says, said) = (
            Server::echo("here"),
            std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true)),
        );
        let well = std::sync::Arc::clone(&said);
        // Its check is a server of its own kind: it answers as long as it is well.
        let server = Server::start(move |mut stream| {
            use std::io::Write;
            let mut first = [0; 1];
            if stream.read(&mut first).unwrap_or(0) == 0 {
                return;
            }
            if first == *b"?" {
                let answer = if well.load(std::sync::atomic::Ordering::SeqCst) {
                    "good"
                } else {
                    "bad"
                };
                let _ = stream.write_all(answer.as_bytes());
                return;
            }
            let _ = stream.write_all(&first);
            let _ = std::io::copy(&mut stream.try_clone().expect("cloned"), &mut stream);
        });
        drop(says);
        let service = "check = { kind = \"tcp\", send = \"?\", expect = \"good\", interval = \"50ms\", fast_interval = \"20ms\", fall = 2, rise = 1 }\npanic_threshold = 0";
        let outgrow = start(&[server.address], tcp, service);
        let mut client = connect(&outgrow);
        echoed(&mut client, "x");
        said.store(false, std::sync::atomic::Ordering::SeqCst);
        outgrow.wait_told("is down").expect("it is told");
        if is_reset {
            assert_eq!(
                client.receive_to_end(SOON).expect("received").end,
                End::Reset
            );
            recorded(&outgrow, &["reason=endpoint_down"]);
        } else {
            echoed(&mut client, "still here");
        }
    }
}
