//! Heads of requests, well formed and malformed.

use outgrow_message::{Method, RequestHead};

use super::super::qpack;
use super::*;

fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut section = Vec::new();
    qpack::begin(&mut section);
    for (name, value) in fields {
        section.extend(literal(name, value));
    }
    section
}

/// The reason why a head with these fields behind its usual ones is refused; none when it is not.
fn refused(fields: &[(&str, &str)]) -> Option<&'static str> {
    let usual = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "shop.example"),
        (":path", "/a?b"),
    ];
    refused_as_it_is(&[&usual, fields].concat())
}

fn refused_as_it_is(fields: &[(&str, &str)]) -> Option<&'static str> {
    match parts(&section(fields), true, Limits::default()) {
        Ok(parts) => parts
            .fill(&mut RequestHead::default())
            .err()
            .map(|one| one.detail),
        Err(Broken::Stopped(reject)) => Some(reject.detail),
        Err(Broken::Coding) => Some("coding"),
    }
}

/// A field with a literal name, whatever it is.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut line = Vec::new();
    match name.len() {
        short @ 0..7 => line.push(0x20 | short as u8),
        long => {
            line.push(0x27);
            line.push((long - 7) as u8);
        }
    }
    line.extend_from_slice(name.as_bytes());
    match value.len() {
        short @ 0..127 => line.push(short as u8),
        long => {
            line.push(0x7f);
            assert!(long - 127 < 128);
            line.push((long - 127) as u8);
        }
    }
    line.extend_from_slice(value.as_bytes());
    line
}

#[test]
fn a_usual_head_is_taken() {
    let encoded = section(&[
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "shop.example"),
        (":path", "/order?x=1"),
        ("cookie-a", "1"),
        ("content-length", "7"),
    ]);
    let parts = parts(&encoded, false, Limits::default()).expect("a head");
    assert!(parts.may_have_body());
    let mut head = RequestHead::default();
    parts.fill(&mut head).expect("accepted");
    assert_eq!(head.version, Version::Http3);
    assert_eq!(head.method, Method::Post);
    assert_eq!(head.text(head.target_text), b"/order?x=1");
    assert_eq!(head.text(head.authority), b"shop.example");
    assert_eq!(head.fields.get_named(b"cookie-a"), Some(&b"1"[..]));
}

#[test]
fn a_websocket_is_asked_for_by_connect() {
    let fields = |protocol| {
        let usual = [
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", "https"),
            (":authority", "shop.example"),
            (":path", "/live"),
        ];
        section(&usual)
    };
    let read = |section: &[u8], ends| match parts(section, ends, Limits::default()) {
        Ok(parts) => parts,
        Err(problem) => panic!("{problem:?}"),
    };
    let parts = read(&fields("websocket"), false);
    assert!(parts.is_tunnel());
    let mut head = RequestHead::default();
    parts.fill(&mut head).expect("accepted");
    assert!(head.wants_upgrade && head.length.is_empty());
    assert_eq!((head.method, head.version), (Method::Get, Version::Http3));
    let refused = |section: &[u8], ends| {
        let filled = read(section, ends).fill(&mut RequestHead::default());
        filled.expect_err("it is refused").cause
    };
    assert_eq!(
        refused(&fields("connect-udp"), false),
        Cause::NotImplemented
    );
    assert_eq!(refused(&fields("websocket"), true), Cause::BadRequest);
    let plain = section(&[(":method", "CONNECT"), (":authority", "a:1")]);
    assert_eq!(refused(&plain, false), Cause::NotImplemented);
    for fields in [
        &[
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":authority", "a"),
        ][..],
        &[
            (":method", "CONNECT"),
            (":protocol", ""),
            (":scheme", "https"),
            (":authority", "a"),
            (":path", "/"),
        ],
    ] {
        assert!(refused_as_it_is(fields).is_some(), "{fields:?}");
    }
}

#[test]
fn what_is_malformed_is_refused() {
    assert_eq!(refused(&[]), None);
    assert_eq!(refused(&[("te", "trailers"), ("x-a", "b")]), None);
    for fields in [
        &[("x-a", "b"), (":path", "/late")][..],
        &[(":path", "/again")],
        &[(":method", "POST")],
        &[(":unknown", "x")],
        &[(":protocol", "websocket")],
        &[("Upper", "x")],
        &[("", "x")],
        &[("a b", "x")],
        &[("x-a", "b\r\nc: d")],
        &[("x-a", " padded")],
        &[("connection", "close")],
        &[("keep-alive", "1")],
        &[("proxy-connection", "close")],
        &[("transfer-encoding", "chunked")],
        &[("upgrade", "websocket")],
        &[("te", "gzip")],
        &[("host", "other.example")],
        &[("content-length", "1"), ("content-length", "1")],
        &[("content-length", "-1")],
        &[("content_length", "1")],
    ] {
        assert!(refused(fields).is_some(), "{fields:?}");
    }
    for fields in [
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "a"),
        ][..],
        &[(":method", "GET"), (":path", "/"), (":authority", "a")],
        &[(":scheme", "https"), (":path", "/"), (":authority", "a")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/")],
        &[
            (":method", "GET"),
            (":scheme", "ftp"),
            (":path", "/"),
            (":authority", "a"),
        ],
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/a#b"),
            (":authority", "a"),
        ],
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", ""),
            (":authority", "a"),
        ],
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "x"),
            (":authority", "a"),
        ],
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/"),
            (":authority", "a@b"),
        ],
        &[
            (":method", "G T"),
            (":scheme", "https"),
            (":path", "/"),
            (":authority", "a"),
        ],
        &[(":method", "CONNECT"), (":authority", "a:443")],
    ] {
        assert!(refused_as_it_is(fields).is_some(), "{fields:?}");
    }
    // Host alone says who is meant as well.
    let host = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/"),
        ("host", "a"),
    ];
    assert_eq!(refused_as_it_is(&host), None);
}

#[test]
fn heads_are_bounded() {
    let limits = Limits {
        head_bytes: 300,
        fields: 5,
        ..Limits::default()
    };
    let check = |count: usize, value: &str, expected: Option<Cause>| {
        let usual = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "a"),
            (":path", "/"),
        ];
        let more = vec![("x-field", value); count];
        let encoded = section(&[&usual, more.as_slice()].concat());
        let cause = match parts(&encoded, true, limits) {
            Ok(_) => None,
            Err(Broken::Stopped(reject)) => Some(reject.cause),
            Err(Broken::Coding) => Some(Cause::Internal),
        };
        assert_eq!(cause, expected, "{count} of {value}");
    };
    check(5, "v", None);
    check(6, "v", Some(Cause::HeadTooLarge));
    check(1, &"v".repeat(250), Some(Cause::HeadTooLarge));
}

/// Whatever a section is, it is read or refused; what is read is bounded.
#[test]
fn no_section_does_harm() {
    let seed = 0x0068_7474_7033;
    let mut random = outgrow_core::Random::from_seed(seed);
    let usual = section(&[
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "shop.example"),
        (":path", "/a?b"),
        ("content-length", "7"),
        ("cookie", "a=b"),
    ]);
    let limits = Limits::default();
    let (mut read, mut refused) = (0, 0);
    for turn in 0..60_000 {
        let mut bytes = usual.clone();
        if turn % 3 == 0 {
            bytes = (0..random.below(80))
                .map(|_| random.next_u64() as u8)
                .collect();
            bytes.splice(..0, [0, 0]);
        }
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] = random.next_u64() as u8,
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, random.next_u64() as u8),
            }
        }
        let mut head = RequestHead::default();
        let filled = parts(&bytes, false, limits).map(|parts| parts.fill(&mut head));
        match filled {
            Ok(Ok(())) => {
                read += 1;
                assert!(
                    head.fields.len() <= limits.fields,
                    "seed {seed:#x}, turn {turn}"
                );
                assert_eq!(
                    head.target_text.len as usize,
                    head.text(head.target_text).len()
                );
            }
            _ => refused += 1,
        }
    }
    assert!(
        read > 5_000 && refused > 5_000,
        "{read} read, {refused} refused"
    );
}
