//! Large bodies are streamed: memory stays bounded whoever is slow, and an early answer is seen.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use outgrow_testkit::{
    backend::{Recorder, Script, Step},
    outgrow::Outgrow,
    raw::End,
};

use super::{Front, ask_until_close, connect, field};
use crate::{
    limits::{peak_memory, resident_memory},
    shop::{self, SOON},
};

/// Large against any buffer, small against a test's time.
const LARGE: usize = 100 * 1024 * 1024;

/// How much the data process may grow by one large body, in bytes: far below the body.
const GROWTH: u64 = 16 * 1024 * 1024;

static BLOCK: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// A backend that takes any body and answers with as much as the target says (`/N`). It ends
/// with the test's process.
fn pump() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            // A client that leaves in between is part of some tests.
            thread::spawn(move || drop(answer(stream)));
        }
    });
    address
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut block = vec![0; 256 * 1024];
    let end = loop {
        if let Some(place) = bytes.windows(4).position(|at| at == b"\r\n\r\n") {
            break place + 4;
        }
        let count = stream.read(&mut block)?;
        bytes.extend_from_slice(&block[..count]);
        if count == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut left = field(&head, "Content-Length").map_or(0, |text| text.parse().unwrap_or(0));
    left -= bytes.len() - end;
    while left > 0 {
        let count = stream.read(&mut block)?;
        if count == 0 {
            return Ok(());
        }
        left -= count;
    }
    let size = head
        .split(' ')
        .nth(1)
        .and_then(|target| target[1..].parse().ok())
        .unwrap_or(0);
    stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").as_bytes())?;
    send(&mut stream, size)
}

fn send(stream: &mut TcpStream, size: usize) -> io::Result<()> {
    let mut left = size;
    while left > 0 {
        let count = left.min(BLOCK.len());
        stream.write_all(&BLOCK[..count])?;
        left -= count;
    }
    Ok(())
}

fn public(outgrow: &Outgrow) -> TcpStream {
    let address = outgrow.address("public").expect("an address");
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    stream
}

/// Reads to the end and gives the number of bytes.
fn rest_length(mut stream: TcpStream) -> usize {
    let mut block = vec![0; 256 * 1024];
    let mut count = 0;
    loop {
        match stream.read(&mut block).expect("received") {
            0 => return count,
            came => count += came,
        }
    }
}

/// Reads a head, byte by byte.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("received");
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Reads to the end and gives the number of bytes behind the head.
fn body_length(mut stream: TcpStream) -> usize {
    let head = read_head(&mut stream);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    rest_length(stream)
}

fn grown(outgrow: &Outgrow, before: u64) -> u64 {
    peak_memory(shop::data_pid(outgrow)).saturating_sub(before)
}

#[test]
fn large_bodies_pass_through_bounded_memory() {
    let outgrow = Front::default().start(&[pump()]);
    let before = resident_memory(shop::data_pid(&outgrow));

    let mut download = public(&outgrow);
    let request = format!("GET /{LARGE} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    download.write_all(request.as_bytes()).expect("sent");
    assert_eq!(body_length(download), LARGE);

    let mut upload = public(&outgrow);
    let head = format!(
        "POST /5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {LARGE}\r\n\r\n"
    );
    upload.write_all(head.as_bytes()).expect("sent");
    send(&mut upload, LARGE).expect("sent");
    assert_eq!(body_length(upload), 5);

    let grown = grown(&outgrow, before);
    assert!(grown < GROWTH, "the data process grew by {grown} bytes");
}

#[test]
fn a_slow_reader_holds_the_endpoint_back() {
    let outgrow = Front::default().start(&[pump()]);
    let before = resident_memory(shop::data_pid(&outgrow));
    let request = format!("GET /{LARGE} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut slow: Vec<TcpStream> = (0..8).map(|_| public(&outgrow)).collect();
    for stream in &mut slow {
        stream.write_all(request.as_bytes()).expect("sent");
        read_head(stream);
    }
    // Eight responses of 100 MB wait now; others are served all the same.
    let quick = ask_until_close(
        &outgrow,
        "GET /7 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    assert!(quick.ends_with("\r\n\r\nxxxxxxx"), "{quick}");
    let grown = grown(&outgrow, before);
    assert!(grown < GROWTH, "the data process grew by {grown} bytes");
    let last = slow.pop().expect("a stream");
    assert_eq!(rest_length(last), LARGE, "the rest comes when it is read");
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends() {
    let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nnever";
    let script = Script::every([
        Step::ReadBytes(1000),
        Step::Send(refusal.into()),
        Step::Silence,
    ]);
    let backend = Recorder::start(script).expect("a backend");
    let outgrow = Front::default().before(&backend);
    let mut client = connect(&outgrow);
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n");
    client.send(head.as_bytes()).expect("sent");
    client.send(&BLOCK).expect("sent");
    let came = client.receive_until(b"never", SOON).expect("received");
    let answer = String::from_utf8_lossy(client.received()).into_owned();
    assert!(came && answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(field(&answer, "Connection"), Some("close"));
    assert_ne!(
        client.receive_to_end(SOON).expect("received").end,
        End::Open
    );
}

#[test]
fn bodies_beyond_the_limit_are_413() {
    let script = Script::every([Step::Silence]);
    let backend = Recorder::start(script).expect("a backend");
    let outgrow = Front {
        listener: "body_limit = \"10KiB\"",
        route: "body_limit = \"1KiB\"",
        ..Front::default()
    }
    .before(&backend);
    let declared = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n";
    let answer = ask_until_close(&outgrow, declared);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(backend.connections().len(), 0, "it was not asked at all");
    let chunk = "a".repeat(1000);
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n{chunk}\r\n3e8\r\n\
         {chunk}\r\n0\r\n\r\n"
    );
    let answer = ask_until_close(&outgrow, &chunked);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[test]
fn an_endpoint_that_breaks_off_leaves_a_response_visibly_short() {
    let sized = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec();
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_vec();
    let script = Script::in_turn([
        vec![Step::ReadRequest, Step::Send(sized), Step::Close],
        vec![
            Step::ReadRequest,
            Step::Send(chunked),
            Step::Pause(Duration::from_millis(50)),
            Step::Reset,
        ],
    ]);
    let backend = Recorder::start(script).expect("a backend");
    let outgrow = Front::default().before(&backend);
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let sized = ask_until_close(&outgrow, request);
    assert!(sized.ends_with("\r\n\r\nhalf"), "{sized}");
    let chunked = ask_until_close(&outgrow, request);
    assert!(
        chunked.contains("half") && !chunked.ends_with("0\r\n\r\n"),
        "{chunked}"
    );
    for record in super::records(&outgrow, 2) {
        assert!(record.contains(" reason=upstream_truncated"), "{record}");
    }
}
