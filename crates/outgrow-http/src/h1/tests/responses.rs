//! Response heads.

use std::time::Duration;

use outgrow_message::{BodyLength, Method, ResponseHead};

use super::refusal;
use crate::h1::scan::Scan;
use crate::h1::{Limits, Parsed, response};

fn check(method: Method, head: &str, expected: &str) {
    let bytes = format!("{}\r\n\r\n", head.replace('\n', "\r\n"));
    let mut head = ResponseHead::default();
    let limits = Limits::default();
    let parsed = response::parse(
        bytes.as_bytes(),
        &mut Scan::default(),
        &limits,
        method,
        &mut head,
    );
    let got = match parsed {
        Err(reject) => refusal(reject),
        Ok(Parsed::Incomplete) => "incomplete".to_owned(),
        Ok(Parsed::Complete(length)) => {
            assert_eq!(length, bytes.len());
            let reason = String::from_utf8_lossy(head.text(head.reason)).into_owned();
            let body = match head.length {
                BodyLength::Empty => "empty".to_owned(),
                BodyLength::Known(bytes) => format!("{bytes} bytes"),
                BodyLength::Unknown if head.until_close => "until close".to_owned(),
                BodyLength::Unknown => "chunks".to_owned(),
            };
            let stays = if head.keep_alive { "stays" } else { "closes" };
            format!("{} {reason:?} {body} {stays}", head.status)
        }
    };
    assert_eq!(got, expected, "{bytes:?}");
}

/// The start line's length counts whether it came in one piece or not.
#[test]
fn a_start_line_is_as_long_in_one_piece_as_in_two() {
    let limits = Limits {
        target_bytes: 100,
        ..Limits::default()
    };
    for length in [100, 200] {
        let mut text = format!(
            "HTTP/1.1 200 {}\r\nContent-Length: 2\r\n",
            "a".repeat(length)
        );
        for end in ["", "\r\n"] {
            text.push_str(end);
            let bytes = text.as_bytes();
            let mut verdicts = [0, 50, length].map(|cut| {
                let (mut scan, mut head) = (Scan::default(), ResponseHead::default());
                let mut part = |bytes: &[u8]| {
                    response::parse(bytes, &mut scan, &limits, Method::Get, &mut head).is_err()
                };
                (cut > 0 && part(&bytes[..cut])) || part(bytes)
            });
            verdicts.sort_unstable();
            assert_eq!(verdicts, [length > 100; 3], "{length}");
        }
    }
}

#[test]
fn status_lines() {
    let check = |line: &str, expected: &str| {
        check(Method::Get, &format!("{line}\nContent-Length: 1"), expected);
    };
    check("HTTP/1.1 200 OK", "200 \"OK\" 1 bytes stays");
    check("HTTP/1.1 200 ", "200 \"\" 1 bytes stays");
    check("HTTP/1.1 200", "200 \"\" 1 bytes stays");
    check("HTTP/1.1 999 A B\tC", "999 \"A B\\tC\" 1 bytes stays");
    check("HTTP/1.0 200 OK", "200 \"OK\" 1 bytes closes");
    check("HTTP/1.1 099 X", "400 the status line has no status");
    check("HTTP/1.1 20", "400 the status line has no status");
    check("HTTP/1.1  200 OK", "400 the status line has no status");
    check("HTTP/1.1 2x0 OK", "400 the status is not a number");
    check("HTTP/1.1 200OK", "400 the reason phrase is malformed");
    check("HTTP/1.1 200 O\u{1}", "400 the reason phrase is malformed");
    check("HTTP/2.0 200 OK", "505 the version is neither 1.0 nor 1.1");
    check("HTTP/1.12 200 OK", "400 the status line has no status");
    check("ICY 200 OK", "400 the version is malformed");
    check("HTTP", "400 the status line is too short");
}

#[test]
fn bodies() {
    let check = |method, head: &str, expected| check(method, &format!("HTTP/1.1 {head}"), expected);
    let get = Method::Get;
    check(get, "200 OK\nContent-Length: 5", "200 \"OK\" 5 bytes stays");
    check(
        get,
        "200 OK\nTransfer-Encoding: chunked",
        "200 \"OK\" chunks stays",
    );
    check(get, "200 OK", "200 \"OK\" until close closes");
    check(
        get,
        "200 OK\nConnection: keep-alive",
        "200 \"OK\" until close closes",
    );
    check(
        get,
        "200 OK\nConnection: close\nContent-Length: 5",
        "200 \"OK\" 5 bytes closes",
    );
    check(
        Method::Head,
        "200 OK\nContent-Length: 5",
        "200 \"OK\" empty stays",
    );
    check(Method::Head, "200 OK", "200 \"OK\" empty stays");
    check(
        Method::Head,
        "200 OK\nTransfer-Encoding: chunked",
        "200 \"OK\" empty stays",
    );
    check(get, "204 X\nContent-Length: 5", "204 \"X\" empty closes");
    check(get, "304 X\nContent-Length: 5", "304 \"X\" empty stays");
    check(get, "100 X", "100 \"X\" empty stays");
    check(get, "205 X\nContent-Length: 5", "205 \"X\" 5 bytes stays");
    let both = "400 both Transfer-Encoding and Content-Length are there";
    check(
        get,
        "200 OK\nContent-Length: 5\nTransfer-Encoding: chunked",
        both,
    );
    // Ambiguous is ambiguous, also where no body would follow.
    check(
        Method::Head,
        "200 OK\nContent-Length: 5\nTransfer-Encoding: chunked",
        both,
    );
    check(
        get,
        "304 X\nContent-Length: x",
        "400 Content-Length is not a number",
    );
}

#[test]
fn the_keep_alive_hint_is_read_with_care() {
    let check = |value: &[u8], expected: Option<u64>| {
        let mut head = ResponseHead::default();
        head.fields.push(b"Keep-Alive", value);
        let got = response::keep_alive_timeout(&head.fields);
        assert_eq!(
            got,
            expected.map(Duration::from_secs),
            "{}",
            String::from_utf8_lossy(value)
        );
    };
    check(b"timeout=5", Some(5));
    check(b"max=100, timeout=5", Some(5));
    check(b"timeout=0", Some(0));
    check(b"timeout=99999999999", Some(86_400));
    check(b"timeout=-1", None);
    check(b"timeout=", None);
    check(b"5", None);
}

/// RFC 9110 section 8.6: a server that announces a body where none may be may send it.
#[test]
fn who_announces_a_body_that_cannot_be_is_not_relied_on() {
    for (head, expected) in [
        ("HTTP/1.1 204 x", "204 \"x\" empty stays"),
        ("HTTP/1.1 204 x\nContent-Length: 0", "204 \"x\" empty stays"),
        (
            "HTTP/1.1 204 x\nContent-Length: 6",
            "204 \"x\" empty closes",
        ),
        (
            "HTTP/1.1 204 x\nTransfer-Encoding: chunked",
            "204 \"x\" empty closes",
        ),
        ("HTTP/1.1 304 x\nContent-Length: 6", "304 \"x\" empty stays"),
    ] {
        check(Method::Get, head, expected);
    }
}
