//! Bytes both ways: whole, in order, with their ends as they were.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use outgrow_testkit::raw::End;

use super::{Server, config, connect, echoed, recorded, records, reset, start};
use crate::shop::SOON;

#[test]
fn either_side_may_speak_first_and_end_first() {
    let server = Server::echo("hello ");
    let outgrow = start(&[server.address], "", "");
    let mut client = connect(&outgrow);
    assert!(client.receive_until(b"hello ", SOON).expect("received"));
    echoed(&mut client, "one");
    echoed(&mut client, "two");
    // What is said after the client's own end still comes.
    client.send(b"three").expect("sent");
    client.finish_sending().expect("ended");
    let exchange = client.receive_to_end(SOON).expect("received");
    assert_eq!(
        (exchange.text(), exchange.end),
        ("three".to_owned(), End::Closed)
    );
    let endpoint = format!("endpoint={}", server.address);
    recorded(
        &outgrow,
        &[
            "127.0.0.1 TCP public in=11 out=17 us=",
            "service=app",
            &endpoint,
            "connect_us=",
        ],
    );
    let line = records(&outgrow, 1).remove(0);
    assert!(
        !line.contains("reason="),
        "an orderly end has no reason: {line}"
    );
}

#[test]
fn a_server_that_ends_first_still_hears() {
    let (said, heard) = std::sync::mpsc::channel();
    let server = Server::start(move |mut stream| {
        stream.write_all(b"bye").expect("sent");
        stream.shutdown(Shutdown::Write).expect("ended");
        let mut rest = String::new();
        stream.read_to_string(&mut rest).expect("heard");
        said.send(rest).expect("somebody waits");
    });
    let outgrow = start(&[server.address], "", "");
    let mut client = connect(&outgrow);
    let exchange = client.receive_to_end(SOON).expect("received");
    assert_eq!(
        (exchange.text(), exchange.end),
        ("bye".to_owned(), End::Closed)
    );
    client.send(b"and this").expect("sent");
    client.finish_sending().expect("ended");
    assert_eq!(heard.recv_timeout(SOON).expect("heard"), "and this");
}

#[test]
fn a_reset_is_passed_on_as_one() {
    // Of the server: what was cut off does not look complete.
    let server = Server::start(|mut stream| {
        stream.write_all(b"half of it").expect("sent");
        let _ = stream.read(&mut [0; 16]);
        reset(stream);
    });
    let outgrow = start(&[server.address], "", "");
    let mut client = connect(&outgrow);
    assert!(client.receive_until(b"half of it", SOON).expect("received"));
    client.send(b"go").expect("sent");
    let exchange = client.receive_to_end(SOON).expect("received");
    assert_eq!(exchange.end, End::Reset);
    recorded(&outgrow, &["reason=endpoint_reset", "out=10"]);
    // Of the client.
    let (said, heard) = std::sync::mpsc::channel();
    let server = Server::start(move |mut stream| {
        stream.write_all(b"hello").expect("sent");
        let mut bytes = Vec::new();
        let end = stream.read_to_end(&mut bytes);
        said.send(end.map_err(|error| error.kind()))
            .expect("somebody waits");
    });
    let outgrow = start(&[server.address], "", "");
    let mut client = connect(&outgrow);
    assert!(client.receive_until(b"hello", SOON).expect("received"));
    client.reset().expect("reset");
    let end = heard.recv_timeout(SOON).expect("heard");
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
    recorded(&outgrow, &["reason=client_reset"]);
}

/// Much more than a buffer, beyond what brings a pipe, both ways at once, with a reader that is slow.
#[test]
fn much_goes_both_ways_whole() {
    const LENGTH: usize = 48 << 20;
    let piece: Vec<u8> = (0..1_000_003_u32)
        .map(|at| (at * 7 + at / 251) as u8)
        .collect();
    let outgrow = start(&[Server::echo("").address], "", "");
    let stream = TcpStream::connect(outgrow.address("public").expect("one")).expect("connected");
    let mut reader = stream.try_clone().expect("cloned");
    let mut writer = stream;
    let send = piece.clone();
    let sender = std::thread::spawn(move || {
        let mut left = LENGTH;
        while left > 0 {
            let length = left.min(send.len());
            writer.write_all(&send[..length]).expect("sent");
            left -= length;
        }
        writer.shutdown(Shutdown::Write).expect("ended");
    });
    let mut at = 0;
    let mut bytes = vec![0; 100_000];
    loop {
        if at % 97 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let read = reader.read(&mut bytes).expect("read");
        if read == 0 {
            break;
        }
        for &byte in &bytes[..read] {
            assert_eq!(byte, piece[at % piece.len()], "at {at}");
            at += 1;
        }
    }
    sender.join().expect("all was sent");
    assert_eq!(at, LENGTH);
    let told = format!("in={LENGTH} out={LENGTH}");
    recorded(&outgrow, &[&told]);
}

#[test]
fn silence_and_age_end_a_connection_with_a_reset() {
    let server = Server::echo("hello");
    let timeouts = "timeouts = { idle = \"300ms\" }";
    let outgrow = start(&[server.address], timeouts, "");
    let mut client = connect(&outgrow);
    // What is said keeps it.
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(150));
        echoed(&mut client, "still here");
    }
    let exchange = client.receive_to_end(SOON).expect("received");
    assert_eq!(exchange.end, End::Reset);
    recorded(&outgrow, &["reason=idle_timeout"]);
    let timeouts = "timeouts = { lifetime = \"400ms\" }";
    let outgrow = start(&[server.address], timeouts, "");
    let mut client = connect(&outgrow);
    let began = std::time::Instant::now();
    while client.end() == End::Open && began.elapsed() < SOON {
        let _ = client.send(b"x");
        let _ = client.receive_until(b"never", Duration::from_millis(50));
    }
    assert_eq!(client.end(), End::Reset);
    assert!(began.elapsed() >= Duration::from_millis(300));
    recorded(&outgrow, &["reason=lifetime"]);
}

#[test]
fn half_a_connection_may_have_less_patience() {
    let server = Server::start(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
        std::thread::sleep(SOON);
    });
    let timeouts = "timeouts = { idle = \"1h\", half_closed = \"200ms\" }";
    let outgrow = start(&[server.address], timeouts, "");
    let mut client = connect(&outgrow);
    client.send(b"that was all").expect("sent");
    client.finish_sending().expect("ended");
    let exchange = client.receive_to_end(SOON).expect("received");
    assert_eq!(exchange.end, End::Reset);
    recorded(&outgrow, &["in=12", "reason=idle_timeout"]);
}

#[test]
fn a_unix_socket_is_an_endpoint_and_a_listener_too() {
    use std::os::unix::net::{UnixListener, UnixStream};
    let folder = std::env::temp_dir().join(format!("outgrow-tcp-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let (inner, outer) = (folder.join("inner"), folder.join("outer"));
    let listener = UnixListener::bind(&inner).expect("bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut text = String::new();
            let _ = stream.read_to_string(&mut text);
            let _ = stream.write_all(text.to_uppercase().as_bytes());
        }
    });
    let text = config(&[], "", "", "").replace(
        "endpoints = []",
        &format!("endpoints = [\"unix:{}\"]", inner.display()),
    );
    let text = text.replace("%public%", &format!("unix:{}", outer.display()));
    let outgrow = outgrow_testkit::outgrow::Outgrow::start(&text).expect("outgrow starts");
    let mut client = UnixStream::connect(&outer).expect("connected");
    client.write_all(b"hello").expect("sent");
    client.shutdown(Shutdown::Write).expect("ended");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("received");
    assert_eq!(answer, "HELLO");
    recorded(&outgrow, &[" - TCP public in=5 out=5"]);
    drop(outgrow);
    let _ = std::fs::remove_dir_all(folder);
}
