//! The PROXY protocol: whom to believe, and what is passed on.

use std::{
    io::{Read, Write},
    time::Duration,
};

use outgrow_testkit::{
    outgrow::Outgrow,
    raw::{self, Client, End},
};

use super::{Server, config, connect, recorded};
use crate::shop::SOON;

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.0/8\"]";
const OTHERS: &str = "trusted_proxies = [\"192.0.2.0/24\"]";
const LINE: &[u8] = b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 443\r\n";

/// The same in version 2, with fields.
fn binary() -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    let mut rest = vec![198, 51, 100, 7, 203, 0, 113, 1];
    rest.extend(4711_u16.to_be_bytes());
    rest.extend(443_u16.to_be_bytes());
    rest.extend([5, 0, 4]);
    rest.extend(b"name");
    rest.extend([0xe0, 0, 3]);
    rest.extend(b"own");
    bytes.extend((rest.len() as u16).to_be_bytes());
    bytes.extend(rest);
    bytes
}

/// A server that says what it heard to the end.
fn hears() -> Server {
    Server::start(|mut stream| {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = stream.write_all(&bytes);
    })
}

fn start(tcp: &str, service: &str, server: &Server) -> Outgrow {
    Outgrow::start(&config(&[server.address], tcp, service, "")).expect("outgrow starts")
}

/// Sends all of it, and gives what the server heard.
fn heard(outgrow: &Outgrow, bytes: &[&[u8]]) -> Vec<u8> {
    let mut client = connect(outgrow);
    client.send(&bytes.concat()).expect("sent");
    client.finish_sending().expect("ended");
    let exchange = client.receive_to_end(SOON).expect("received");
    assert_eq!(exchange.end, End::Closed, "{}", exchange.text());
    exchange.received
}

#[test]
fn a_known_proxy_is_believed_and_what_follows_is_the_clients() {
    let server = hears();
    for mode in ["required", "optional"] {
        let tcp = format!("proxy_protocol = \"{mode}\"\n{TRUSTED}");
        for header in [LINE.to_vec(), binary()] {
            let outgrow = start(&tcp, "", &server);
            assert_eq!(heard(&outgrow, &[&header, b"hello"]), b"hello");
            recorded(&outgrow, &["198.51.100.7 TCP public in=5"]);
        }
    }
}

#[test]
fn nobody_else_is_and_it_is_said_why() {
    let server = hears();
    let refused = |tcp: &str, bytes: &[u8], reason: &str| {
        let outgrow = start(tcp, "", &server);
        let before = server.taken();
        let address = outgrow.address("public").expect("one");
        // Half of a header must not look like all that there is. Whether we send before the reset or
        // after it.
        let exchange = raw::exchange(address, &[bytes], Duration::ZERO, SOON);
        let exchange = exchange.expect("connected");
        assert_eq!(
            (exchange.text(), exchange.end),
            (String::new(), End::Reset),
            "{reason}"
        );
        recorded(&outgrow, &[reason, "127.0.0.1 TCP public in=0 out=0"]);
        server.taken() - before
    };
    let required = |others: &str| {
        format!("proxy_protocol = \"required\"\n{others}\ntimeouts = {{ hello = \"300ms\" }}")
    };
    let optional = format!("proxy_protocol = \"optional\"\n{OTHERS}");
    let reason = "reason=proxy_untrusted detail=\"127.0.0.1 is none of the proxies";
    assert_eq!(refused(&required(OTHERS), LINE, reason), 0);
    assert_eq!(
        refused(
            &required(TRUSTED),
            b"GET / HTTP/1.1",
            "reason=proxy_header detail=\"there is no"
        ),
        0
    );
    let spoiled = b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 99999\r\n";
    assert_eq!(
        refused(&required(TRUSTED), spoiled, "reason=proxy_header"),
        0
    );
    assert_eq!(
        refused(&required(TRUSTED), &LINE[..20], "reason=proxy_timeout"),
        0
    );
    // Where clients may come too, a header of theirs goes no further, however it comes.
    refused(&optional, LINE, "reason=proxy_untrusted");
    refused(&optional, &binary(), "reason=proxy_untrusted");
}

#[test]
fn clients_come_beside_proxies_where_they_may() {
    let server = hears();
    let outgrow = start(
        &format!("proxy_protocol = \"optional\"\n{OTHERS}"),
        "",
        &server,
    );
    for said in [&b"PROXIMITY"[..], b"\r\n\r\nx", b"P", b""] {
        assert_eq!(heard(&outgrow, &[said]), said);
    }
    // A server that speaks first does not have to wait for what the client might be.
    let server = Server::echo("first");
    let outgrow = start(
        &format!("proxy_protocol = \"optional\"\n{OTHERS}"),
        "",
        &server,
    );
    let mut client = connect(&outgrow);
    assert!(client.receive_until(b"first", SOON).expect("received"));
}

#[test]
fn endpoints_are_told_whose_connection_it_is() {
    let server = hears();
    let outgrow = start("", "proxy_protocol = \"v1\"", &server);
    let mut client = connect(&outgrow);
    let near = client.local_address().expect("one");
    client.send(b"hello").expect("sent");
    client.finish_sending().expect("ended");
    let said = client.receive_to_end(SOON).expect("received").text();
    let public = outgrow.address("public").expect("one");
    let line = format!(
        "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nhello",
        near.port(),
        public.port()
    );
    assert_eq!(said, line);
    // What a proxy has said goes on, with its fields.
    let tcp = format!("proxy_protocol = \"required\"\n{TRUSTED}");
    let outgrow = start(&tcp, "proxy_protocol = \"v2\"", &server);
    let header = binary();
    assert_eq!(
        heard(&outgrow, &[&header, b"hello"]),
        [&header[..], b"hello"].concat()
    );
    let outgrow = start(&tcp, "proxy_protocol = \"v1\"", &server);
    assert_eq!(
        heard(&outgrow, &[&header, b"hello"]),
        [LINE, b"hello"].concat()
    );
}

/// A check speaks for itself.
#[test]
fn a_check_begins_with_a_header_too() {
    let server = Server::start(|mut stream| {
        let mut bytes = [0; 18];
        if stream.read_exact(&mut bytes).is_ok() && bytes == *b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0?!" {
            let _ = stream.write_all(b"good");
        }
    });
    let service = "proxy_protocol = \"v2\"\ncheck = { kind = \"tcp\", send = \"?!\", expect = \"good\", interval = \"100ms\", rise = 1 }\npanic_threshold = 0";
    let outgrow = start("", service, &server);
    let up = outgrow.wait("it is up", SOON, |outgrow| {
        let state = outgrow.admin_get("/state").ok()?.json().ok()?;
        let endpoint = &state["services"][0]["endpoints"][0];
        (endpoint["health"] == "up").then_some(())
    });
    up.expect("it is up");
    let _ = Client::connect(outgrow.address("public").expect("one"));
}

/// HTTP and TLS behind a proxy: the client is whom it names, in records and for the endpoint.
#[test]
fn the_edge_believes_a_known_proxy_too() {
    let server = Server::start(|mut stream| {
        let mut bytes = [0; 4096];
        let length = stream.read(&mut bytes).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..length]).to_lowercase();
        let line = text
            .lines()
            .find(|line| line.starts_with("x-forwarded-for"));
        let body = line.unwrap_or("nobody").to_owned();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = stream.write_all((head + &body).as_bytes());
    });
    let start = |listener: &str| {
        let text = format!(
            "[access]\nto = \"access.log\"\n[listener.public]\naddress = \"%public%\"\n{listener}\n\
             [service.app]\nendpoints = [\"{}\"]\n[route.app]\nservice = \"app\"\n",
            server.address
        );
        Outgrow::start(&text).expect("outgrow starts")
    };
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let ask = |outgrow: &Outgrow, bytes: &[&[u8]]| {
        let mut client = connect(outgrow);
        client.send(&bytes.concat()).expect("sent");
        client.receive_to_end(SOON).expect("received").text()
    };
    for header in [LINE.to_vec(), binary()] {
        let outgrow = start(&format!("proxy_protocol = \"required\"\n{TRUSTED}"));
        let answer = ask(&outgrow, &[&header, request]);
        assert!(
            answer.ends_with("x-forwarded-for: 198.51.100.7"),
            "{answer}"
        );
        recorded(&outgrow, &["198.51.100.7 \"GET a/ HTTP/1.1\" 200"]);
        assert_eq!(ask(&outgrow, &[request]), "", "it must say whose it is");
    }
    let others = format!("proxy_protocol = \"required\"\n{OTHERS}");
    assert_eq!(
        ask(&start(&others), &[LINE, request]),
        "",
        "it is none of them"
    );
    let outgrow = start(&format!("proxy_protocol = \"optional\"\n{OTHERS}"));
    assert!(ask(&outgrow, &[request]).ends_with("x-forwarded-for: 127.0.0.1"));
    // A client's own header is no HTTP.
    assert!(ask(&outgrow, &[LINE, request]).starts_with("HTTP/1.1 400"));
    assert!(ask(&outgrow, &[&binary(), request]).starts_with("HTTP/1.1 400"));
}
