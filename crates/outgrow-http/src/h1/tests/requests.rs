//! Request heads.

use outgrow_message::{BodyLength, RequestHead, Target, Version};

use super::refusal;
use crate::h1::scan::Scan;
use crate::h1::{Limits, Parsed, request};

/// What a head says, in one line.
fn meaning(head: &RequestHead) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let form = match head.target {
        Target::Origin => "origin",
        Target::Absolute => "absolute",
        Target::Authority => "authority",
        Target::Asterisk => "asterisk",
    };
    let query = head.query.map_or(String::new(), |query| {
        format!("?{}", text(head.text(query)))
    });
    let mut line = format!(
        "{} {form} {} {}{query}",
        text(head.text(head.method_text)),
        text(head.text(head.authority)),
        text(head.path()),
    );
    if head.version == Version::Http10 {
        line.push_str(" 1.0");
    }
    match head.length {
        BodyLength::Empty => {}
        BodyLength::Known(bytes) => line.push_str(&format!(" {bytes} bytes")),
        BodyLength::Unknown => line.push_str(" chunks"),
    }
    for (said, word) in [
        (!head.keep_alive, " closes"),
        (head.expects_continue, " expects"),
        (head.wants_upgrade, " upgrades"),
    ] {
        line.push_str(if said { word } else { "" });
    }
    line
}

fn parse(bytes: &[u8]) -> String {
    let mut head = RequestHead::default();
    match request::parse(bytes, &mut Scan::default(), &Limits::default(), &mut head) {
        Ok(Parsed::Complete(length)) => {
            assert_eq!(length, bytes.len(), "all of it is the head");
            meaning(&head)
        }
        Ok(Parsed::Incomplete) => "incomplete".to_owned(),
        Err(reject) => refusal(reject),
    }
}

/// `head` is in LF lines without the empty one.
fn check(head: &str, expected: &str) {
    let bytes = format!("{}\r\n\r\n", head.replace('\n', "\r\n"));
    assert_eq!(parse(bytes.as_bytes()), expected, "{head}");
    // The same, byte by byte, with the same result at the same byte or before it.
    let mut scan = Scan::default();
    let mut request = RequestHead::default();
    for end in 1..=bytes.len() {
        match request::parse(
            &bytes.as_bytes()[..end],
            &mut scan,
            &Limits::default(),
            &mut request,
        ) {
            Ok(Parsed::Incomplete) => assert!(end < bytes.len(), "{head}"),
            Ok(Parsed::Complete(length)) => {
                assert_eq!(
                    (length, meaning(&request).as_str()),
                    (bytes.len(), expected)
                );
            }
            Err(reject) => {
                assert_eq!(refusal(reject), expected, "{head}");
                return;
            }
        }
    }
}

#[test]
fn targets() {
    check(
        "GET /a/b?c=d HTTP/1.1\nHost: a.b:80",
        "GET origin a.b:80 /a/b?c=d",
    );
    check("GET /a?b?c HTTP/1.1\nHost: a", "GET origin a /a?b?c");
    check("GET /? HTTP/1.1\nHost: a", "GET origin a /?");
    check("GET //a/./../b HTTP/1.1\nHost: a", "GET origin a /b");
    check("GET /%41%2f HTTP/1.1\nHost: a", "GET origin a /A%2F");
    check("GET http://b:1/x HTTP/1.1\nHost: a", "GET absolute b:1 /x");
    check("GET HtTpS://b HTTP/1.1\nHost: a", "GET absolute b /");
    check("GET http://b?q HTTP/1.1\nHost: a", "GET absolute b /?q");
    check(
        "GET http://[::1]:80/ HTTP/1.1\nHost: a",
        "GET absolute [::1]:80 /",
    );
    check("OPTIONS * HTTP/1.1\nHost: a", "OPTIONS asterisk a *");
    check("OPTIONS http://b HTTP/1.1\nHost: a", "OPTIONS asterisk b *");
    check(
        "GET * HTTP/1.1\nHost: a",
        "400 the target * is for OPTIONS only",
    );
    check(
        "CONNECT a:1 HTTP/1.1\nHost: a",
        "501 CONNECT is not implemented",
    );
    check(
        "GET a:1 HTTP/1.1\nHost: a",
        "400 the request target is neither a path nor an http URL",
    );
    check(
        "GET http://a@b/ HTTP/1.1\nHost: a",
        "400 the request target's authority is malformed",
    );
    check(
        "GET /%4 HTTP/1.1\nHost: a",
        "400 the path has a malformed escape",
    );
    check(
        "GET /%00 HTTP/1.1\nHost: a",
        "400 the path has an escaped NUL",
    );
    check(
        "GET /..%2f HTTP/1.1\nHost: a",
        "400 the path hides a dot segment behind an escape",
    );
    check(
        "GET /a#b HTTP/1.1\nHost: a",
        "400 the request target has a forbidden character",
    );
    check(
        "GET /é HTTP/1.1\nHost: a",
        "400 the request target has a forbidden character",
    );
}

#[test]
fn lines_and_versions() {
    check("M-SEARCH /x HTTP/1.1\nHost: a", "M-SEARCH origin a /x");
    check("GET /x HTTP/1.0", "GET origin  /x 1.0 closes");
    check("GET /x HTTP/1.0\nHost: a", "GET origin a /x 1.0 closes");
    check("GET /x HTTP/1.1", "400 Host is missing");
    check("GET /x HTTP/1.1\nHost: a\nhost: a", "400 Host is repeated");
    check("GET /x HTTP/1.1\nHost: a b", "400 Host is malformed");
    check("GET /x HTTP/1.1\nHost:", "GET origin  /x");
    check(
        "GET /x HTTP/1.2\nHost: a",
        "505 the version is neither 1.0 nor 1.1",
    );
    check(
        "GET /x HTTP/2.0\nHost: a",
        "505 the version is neither 1.0 nor 1.1",
    );
    check("GET /x http/1.1\nHost: a", "400 the version is malformed");
    check("GET /x HTTP/1.1 \nHost: a", "400 the version is malformed");
    check("GET /x\nHost: a", "400 the request line has no version");
    check("GET\nHost: a", "400 the request line has no target");
    check(
        "GET  /x HTTP/1.1\nHost: a",
        "400 the request target has a forbidden character",
    );
    check("GE@ /x HTTP/1.1\nHost: a", "400 the method is not a token");
    check(" GET /x HTTP/1.1\nHost: a", "400 the method is not a token");
    check(
        "GET /x HTTP/1.1\nHost: a\nX : 1",
        "400 there is whitespace before a colon",
    );
    check(
        "GET /x HTTP/1.1\nHost: a\n X: 1",
        "400 a field line is folded",
    );
    check(
        "GET /x HTTP/1.1\nHost: a\nX",
        "400 a field line has no colon",
    );
    check(
        "GET /x HTTP/1.1\nHost: a\nX(: 1",
        "400 a field name is not a token",
    );
    check(
        "GET /x HTTP/1.1\nHost: a\nX: \u{7}",
        "400 a field value has a control character",
    );
    check(
        "GET /x HTTP/1.1\nHost: a\nContent_Length: 1",
        "400 a field name imitates another one",
    );
    check("GET /x HTTP/1.1\nHost: a\nX_Y: 1", "GET origin a /x");
}

#[test]
fn bodies() {
    let check = |lines: &str, expected: &str| {
        let head = format!("POST / HTTP/1.1\nHost: a\n{lines}");
        let meaning = expected.starts_with(' ');
        let expected = if meaning {
            format!("POST origin a /{expected}")
        } else {
            expected.into()
        };
        check(&head, &expected);
    };
    check("Content-Length: 0", " 0 bytes");
    check("content-LENGTH:\t007 ", " 7 bytes");
    check(
        "Content-Length: 9223372036854775807",
        " 9223372036854775807 bytes",
    );
    check(
        "Content-Length: 9223372036854775808",
        "400 Content-Length is not a number",
    );
    check("Content-Length: 1, 1", "400 Content-Length is not a number");
    check(
        "Content-Length: 1\nContent-Length: 1",
        "400 Content-Length is repeated",
    );
    check("Transfer-Encoding: chunked", " chunks");
    check("Transfer-Encoding: Chunked", " chunks");
    check(
        "Transfer-Encoding: chunked\nTransfer-Encoding: chunked",
        "400 Transfer-Encoding is repeated",
    );
    check(
        "Transfer-Encoding: gzip, chunked",
        "501 a transfer coding is not implemented",
    );
    check(
        "Transfer-Encoding: chunked, gzip",
        "400 Transfer-Encoding is not chunked",
    );
    check(
        "Transfer-Encoding: xchunked",
        "400 Transfer-Encoding is not chunked",
    );
    let both = "400 both Transfer-Encoding and Content-Length are there";
    check("Transfer-Encoding: chunked\nContent-Length: 1", both);
    check("Content-Length: 1\nTransfer-Encoding: identity", both);
}

#[test]
fn connections() {
    let check = |version: &str, lines: &str, expected: &str| {
        let old = if version == "1.0" { " 1.0" } else { "" };
        let expected = match expected.starts_with('4') {
            true => expected.to_owned(),
            false => format!("GET origin a /{old}{expected}"),
        };
        check(
            &format!("GET / HTTP/{version}\nHost: a\n{lines}"),
            &expected,
        );
    };
    check("1.1", "Connection: keep-alive", "");
    check("1.1", "Connection: x,, CLOSE", " closes");
    check(
        "1.1",
        "Connection: keep-alive\nConnection: close",
        " closes",
    );
    check(
        "1.1",
        "Connection: a b",
        "400 a Connection option is not a token",
    );
    let many = |count| format!("Connection: {}", vec!["a"; count].join(","));
    check("1.1", &many(32), "");
    check("1.1", &many(33), "400 too many Connection options");
    check("1.0", "Connection: Keep-Alive", "");
    check("1.0", "Connection: keep-alive, close", " closes");
    check("1.1", "Expect: 100-Continue", " expects");
    check(
        "1.1",
        "Expect: 100-continue\nExpect: x",
        "417 the expectation is not 100-continue",
    );
    check("1.0", "Expect: 100-continue", " closes");
    check("1.0", "Expect: x", " closes");
    check(
        "1.1",
        "Connection: upgrade\nUpgrade: websocket",
        " upgrades",
    );
    check("1.1", "Connection: Upgrade\nUpgrade: a/1, b", " upgrades");
    check("1.1", "Upgrade: websocket", "");
    check("1.1", "Connection: upgrade", "");
    check("1.1", "Connection: upgrade\nUpgrade:", "");
    check("1.0", "Connection: upgrade\nUpgrade: websocket", " closes");
    for hidden in [
        "h2c",
        "H2C",
        "h2",
        "HTTP/2.0",
        "http/3",
        "TLS/1.3",
        "websocket, h2c",
        "h2c/1",
        "a b",
        "/1",
        "a/",
    ] {
        check(
            "1.1",
            &format!("Connection: upgrade\nUpgrade: {hidden}"),
            "",
        );
    }
    check(
        "1.1",
        "Connection: upgrade\nUpgrade: websocket\nUpgrade: h2c",
        "",
    );
}

#[test]
fn one_empty_line_before_a_request_is_passed_over() {
    let good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(parse(format!("\r\n{good}").as_bytes()), "GET origin a /");
    assert_eq!(
        parse(format!("\r\n\r\n{good}").as_bytes()),
        "400 the request line is empty"
    );
    assert_eq!(
        parse(format!("\n{good}").as_bytes()),
        "400 a line ends in LF without CR"
    );
    for (bytes, expected) in [
        ("\r", "incomplete"),
        ("\r\n", "incomplete"),
        ("\r\nG", "incomplete"),
    ] {
        assert_eq!(parse(bytes.as_bytes()), expected);
    }
    // The line end in front may come in two pieces.
    let mut scan = Scan::default();
    let mut head = RequestHead::default();
    let bytes = format!("\r\n{good}");
    for end in 1..bytes.len() {
        let parsed = request::parse(
            &bytes.as_bytes()[..end],
            &mut scan,
            &Limits::default(),
            &mut head,
        );
        assert_eq!(parsed, Ok(Parsed::Incomplete), "{end}");
    }
    let parsed = request::parse(bytes.as_bytes(), &mut scan, &Limits::default(), &mut head);
    assert_eq!(parsed, Ok(Parsed::Complete(bytes.len())));
}

/// Every limit holds to the byte, and is told by its own status.
#[test]
fn limits() {
    let limits = Limits {
        head_bytes: 200,
        fields: 3,
        target_bytes: 50,
    };
    let check = |target: usize, lines: usize, value: usize, expected: &str| {
        let target = "t".repeat(target - 1);
        let value = "v".repeat(value);
        let lines = "X: 1\r\n".repeat(lines);
        let bytes = format!("GET /{target} HTTP/1.1\r\nHost: a\r\n{lines}V: {value}\r\n\r\n");
        let mut head = RequestHead::default();
        let parsed = request::parse(bytes.as_bytes(), &mut Scan::default(), &limits, &mut head);
        let got = parsed.map_or_else(refusal, |_| bytes.len().to_string());
        assert_eq!(got, expected);
    };
    check(50, 0, 1, "82");
    check(51, 0, 1, "414 the request target is too long");
    check(150, 0, 1, "414 the request target is too long");
    check(1, 1, 1, "39");
    check(1, 2, 1, "431 there are too many field lines");
    check(50, 0, 119, "200");
    check(50, 0, 120, "431 the head is too large");
}
