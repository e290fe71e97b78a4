//! Heads as they are written.

use outgrow_message::{BodyLength, Known, RequestHead, ResponseHead, Version};

use crate::h1::encode::{self, Connection, Framing};
use crate::h1::scan::Scan;
use crate::h1::{Limits, Parsed, request};

fn forwarded(head: &str, upgrade: Option<&[u8]>) -> String {
    let bytes = format!("{}\r\n\r\n", head.replace('\n', "\r\n"));
    let mut head = RequestHead::default();
    let parsed = request::parse(
        bytes.as_bytes(),
        &mut Scan::default(),
        &Limits::default(),
        &mut head,
    );
    assert_eq!(parsed, Ok(Parsed::Complete(bytes.len())));
    head.fields.remove_hop_by_hop();
    let mut out = Vec::new();
    encode::request(&head, b"endpoint:1", upgrade, &mut out);
    String::from_utf8_lossy(&out).replace("\r\n", "\n")
}

#[test]
fn requests_are_written_in_one_form() {
    let check = |head: &str, expected: &str| {
        assert_eq!(forwarded(head, None), format!("{expected}\n\n"), "{head}");
    };
    check("GET /a?b HTTP/1.1\nhOST:a", "GET /a?b HTTP/1.1\nHost: a");
    check("GET / HTTP/1.0", "GET / HTTP/1.1\nHost: endpoint:1");
    check("GET / HTTP/1.1\nHost:", "GET / HTTP/1.1\nHost: endpoint:1");
    check(
        "GET http://b:2/x?y HTTP/1.1\nHost: a",
        "GET /x?y HTTP/1.1\nHost: b:2",
    );
    check(
        "GET http://b?y HTTP/1.1\nHost: a",
        "GET /?y HTTP/1.1\nHost: b",
    );
    check("OPTIONS * HTTP/1.1\nHost: a", "OPTIONS * HTTP/1.1\nHost: a");
    check(
        "GET //a/%7e HTTP/1.1\nHost: a",
        "GET //a/%7e HTTP/1.1\nHost: a",
    );
    check(
        "GET /a/../b//c?../d HTTP/1.1\nHost: a",
        "GET /b/c?../d HTTP/1.1\nHost: a",
    );
    check(
        "GET /a/%2e%2E/b HTTP/1.1\nHost: a",
        "GET /b HTTP/1.1\nHost: a",
    );
    check(
        "POST / HTTP/1.1\nX:  1 \nContent-Length:007\nHost: a\ny:",
        "POST / HTTP/1.1\nHost: a\nX: 1\ny: \nContent-Length: 7",
    );
    check(
        "POST / HTTP/1.1\nHost: a\nConnection: x\nX: 1\nTE: trailers\ntransfer-encoding: CHUNKED",
        "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked",
    );
    assert_eq!(
        forwarded(
            "GET / HTTP/1.1\nHost: a\nConnection: upgrade\nUpgrade: x",
            Some(b"x")
        ),
        "GET / HTTP/1.1\nHost: a\nConnection: upgrade\nUpgrade: x\n\n"
    );
}

#[test]
fn responses_are_written_in_one_form() {
    let check = |framing, connection, expected: &str| {
        let mut head = ResponseHead::default();
        head.status = 200;
        head.fields.push(b"X-A", b"1");
        head.fields.push(b"Content-Length", b"99");
        head.fields.push(b"Host", b"no");
        let mut out = Vec::new();
        encode::response(&head, framing, connection, &mut out);
        let text = String::from_utf8_lossy(&out).replace("\r\n", "\n");
        assert_eq!(text, format!("HTTP/1.1 200 OK\nX-A: 1\n{expected}\n"));
    };
    check(Framing::None, Connection::Implied, "");
    check(
        Framing::Length(5),
        Connection::KeepAlive,
        "Content-Length: 5\nConnection: keep-alive\n",
    );
    check(
        Framing::Chunked,
        Connection::Close,
        "Transfer-Encoding: chunked\nConnection: close\n",
    );
    check(
        Framing::UntilClose,
        Connection::Close,
        "Connection: close\n",
    );
    check(
        Framing::None,
        Connection::Upgrade(b"x"),
        "Connection: upgrade\nUpgrade: x\n",
    );
    assert_eq!(
        Connection::to_client(Version::Http11, true),
        Connection::Implied
    );
    assert_eq!(
        Connection::to_client(Version::Http10, true),
        Connection::KeepAlive
    );
    assert_eq!(
        Connection::to_client(Version::Http10, false),
        Connection::Close
    );
}

#[test]
fn a_reason_comes_through_and_is_made_up_where_there_is_none() {
    let check = |status, reason: &[u8], expected: &str| {
        let mut head = ResponseHead::default();
        head.status = status;
        head.reason = head.fields.push_bytes(reason);
        let mut out = Vec::new();
        encode::response(&head, Framing::None, Connection::Implied, &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            format!("HTTP/1.1 {expected}\r\n\r\n")
        );
    };
    check(200, b"Fine", "200 Fine");
    check(404, b"", "404 Not Found");
    check(299, b"", "299 ");
}

/// What was removed from a head is not written, and what was added is.
#[test]
fn edits_are_written() {
    let mut head = RequestHead::default();
    head.method_text = head.fields.push_bytes(b"GET");
    head.raw_path = head.fields.push_bytes(b"/");
    head.normalise_path().expect("a good path");
    head.length = BodyLength::Empty;
    head.fields.push(b"Cookie", b"a");
    head.fields.push(b"X-B", b"b");
    head.fields.remove(Known::Cookie);
    head.fields.set(b"x-b", b"c");
    let mut out = Vec::new();
    encode::request(&head, b"h", None, &mut out);
    assert_eq!(out, b"GET / HTTP/1.1\r\nHost: h\r\nx-b: c\r\n\r\n");
}
