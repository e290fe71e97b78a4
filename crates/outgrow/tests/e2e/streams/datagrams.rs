//! UDP: sessions of sources, answers from the address that was asked, bounds.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use outgrow_testkit::outgrow::Outgrow;
use serde_json::Value;

use super::records;
use crate::shop::SOON;

/// A server that answers each datagram with its name and it, `times` times; zero: it is silent.
fn server(name: &'static str, times: usize) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let address = socket.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut bytes = [0; 65_535];
        while let Ok((length, source)) = socket.recv_from(&mut bytes) {
            let answer = [name.as_bytes(), &bytes[..length]].concat();
            for _ in 0..times {
                let _ = socket.send_to(&answer, source);
            }
        }
    });
    address
}

fn start(endpoints: &[SocketAddr], udp: &str, service: &str) -> Outgrow {
    let endpoints: Vec<String> = endpoints.iter().map(|one| format!("\"{one}\"")).collect();
    let endpoints = endpoints.join(", ");
    let text = format!(
        r#"
[access]
to = "access.log"
[udp.public]
address = "%public%"
service = "app"
{udp}
[service.app]
endpoints = [{endpoints}]
{service}
"#
    );
    Outgrow::start(&text).expect("outgrow starts")
}

fn client(outgrow: &Outgrow) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let public = outgrow.address("public").expect("one");
    socket.connect(public).expect("connected");
    socket.set_read_timeout(Some(SOON)).expect("set");
    socket
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 65_535];
    let length = socket.recv(&mut bytes).expect("an answer");
    bytes.truncate(length);
    bytes
}

/// The numbers of the listener.
fn told(outgrow: &Outgrow) -> Value {
    let state = outgrow.admin_get("/state").expect("told").json();
    state.expect("JSON")["udp"][0].clone()
}

fn wait_for(outgrow: &Outgrow, what: &str, is_it: impl Fn(&Value) -> bool) {
    let seen = outgrow.wait(what, SOON, |outgrow| is_it(&told(outgrow)).then_some(()));
    assert!(seen.is_ok(), "{what}: {}", told(outgrow));
}

#[test]
fn a_source_stays_at_its_endpoint_and_is_answered_from_where_it_asked() {
    let endpoints = [server("a", 1), server("b", 1)];
    let outgrow = start(&endpoints, "", "balance = \"round_robin\"");
    let clients: Vec<_> = (0..4).map(|_| client(&outgrow)).collect();
    let mut names = std::collections::BTreeSet::new();
    for client in &clients {
        client.send(b"1").expect("sent");
        let first = receive(client);
        for _ in 0..3 {
            client.send(b"1").expect("sent");
            assert_eq!(receive(client), first);
        }
        names.insert(first);
    }
    assert_eq!(names.len(), 2, "both are used");
    // Empty ones, and large ones.
    clients[0].send(b"").expect("sent");
    assert_eq!(receive(&clients[0]).len(), 1);
    let large = vec![7; 60_000];
    clients[0].send(&large).expect("sent");
    assert_eq!(receive(&clients[0])[1..], large);
    assert_eq!(told(&outgrow)["open"], 4);
}

#[test]
fn silence_and_expected_answers_end_a_session() {
    let outgrow = start(&[server("", 1)], "idle = \"200ms\"", "");
    let one = client(&outgrow);
    one.send(b"hello").expect("sent");
    receive(&one);
    wait_for(&outgrow, "the end", |told| {
        told["open"] == 0 && told["ends"]["finished"] == 1
    });
    assert!(records(&outgrow, 1)[0].contains("127.0.0.1 UDP public in=5 out=5"));
    let outgrow = start(&[server("", 2)], "idle = \"1h\"\nresponses = 2", "");
    let one = client(&outgrow);
    one.send(b"hello").expect("sent");
    receive(&one);
    receive(&one);
    wait_for(&outgrow, "the end", |told| {
        told["open"] == 0 && told["ends"]["finished"] == 1
    });
}

/// Nobody there (ICMP), or nobody who answers: the others are used.
#[test]
fn endpoints_that_do_not_answer_are_ejected() {
    let nobody = UdpSocket::bind("127.0.0.1:0")
        .expect("bound")
        .local_addr()
        .expect("one");
    for (bad, udp) in [
        (nobody, "idle = \"5s\""),
        (server("", 0), "idle = \"100ms\"\nresponses = 1"),
    ] {
        let service = "balance = \"round_robin\"\noutlier = { consecutive_failures = 2 }";
        let outgrow = start(&[bad, server("good", 1)], udp, service);
        let ejected = outgrow.wait("an ejection", SOON, |outgrow| {
            let one = client(outgrow);
            one.set_read_timeout(Some(Duration::from_millis(20))).ok()?;
            one.send(b"?").ok()?;
            let _ = one.recv(&mut [0; 16]);
            outgrow.stderr().contains("ejected").then_some(())
        });
        ejected.expect("it is ejected");
        for _ in 0..6 {
            let one = client(&outgrow);
            one.send(b"?").expect("sent");
            assert_eq!(receive(&one), b"good?");
        }
    }
}

/// A server that answers who says hello, and nobody else.
fn polite() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let address = socket.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut bytes = [0; 100];
        while let Ok((length, source)) = socket.recv_from(&mut bytes) {
            if &bytes[..length] == b"hello" {
                let _ = socket.send_to(b"hello", source);
            }
        }
    });
    address
}

/// A flood of sources that nobody answers costs what is allowed, and nobody who was answered.
#[test]
fn sessions_are_bounded_and_who_was_answered_stays() {
    let address = polite();
    let outgrow = start(&[address], "max_sessions = 8\nidle = \"1h\"", "");
    let friend = client(&outgrow);
    friend.send(b"hello").expect("sent");
    receive(&friend);
    for _ in 0..200 {
        client(&outgrow).send(b"flood").expect("sent");
    }
    wait_for(&outgrow, "the flood", |told| {
        told["sessions"].as_u64() > Some(100) && told["ends"]["gave_way"].as_u64() > Some(90)
    });
    // Each worker has its part of them.
    wait_for(&outgrow, "the bound", |told| {
        told["open"].as_u64() <= Some(9)
    });
    friend.send(b"hello").expect("sent");
    receive(&friend);
    wait_for(&outgrow, "both answers", |told| told["sent"] == 2);
}

/// The same where it is the endpoint that has no more room: who comes later is served all the same.
#[test]
fn a_flood_takes_no_places_at_the_endpoint() {
    let outgrow = start(&[polite()], "idle = \"1h\"", "max_connections = 24");
    let friend = client(&outgrow);
    friend.send(b"hello").expect("sent");
    receive(&friend);
    for _ in 0..200 {
        client(&outgrow).send(b"flood").expect("sent");
    }
    wait_for(&outgrow, "the flood", |told| {
        told["ends"]["gave_way"].as_u64() > Some(150)
    });
    for _ in 0..10 {
        let newcomer = client(&outgrow);
        newcomer.send(b"hello").expect("sent");
        receive(&newcomer);
    }
    friend.send(b"hello").expect("sent");
    receive(&friend);
}

#[test]
fn an_upgrade_and_a_reload_go_on_answering() {
    let outgrow = start(&[server("", 1)], "idle = \"1s\"", "");
    let one = client(&outgrow);
    one.send(b"before").expect("sent");
    assert_eq!(receive(&one), b"before");
    outgrow.upgrade(None).expect("upgraded");
    for _ in 0..3 {
        one.send(b"after").expect("sent");
        assert_eq!(receive(&one), b"after");
    }
    let status = outgrow.stop().expect("stopped");
    assert!(status.success());
}
