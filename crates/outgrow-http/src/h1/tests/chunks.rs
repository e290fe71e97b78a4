//! The chunked coding.

use outgrow_message::Fields;

use super::refusal;
use crate::h1::chunk::{Decoder, SIZE_LINE_BYTES, write_size};

/// The data, then `|` and the trailer lines, of a body that comes in pieces.
fn decode(bytes: &[u8], piece: usize) -> String {
    let mut decoder = Decoder::default();
    let mut trailers = Fields::default();
    let mut data = String::new();
    let (mut at, mut here) = (0, 0);
    while here < bytes.len() {
        here = (here + piece).min(bytes.len());
        loop {
            let step = match decoder.step(&bytes[at..here], &mut trailers) {
                Ok(step) => step,
                Err(reject) => return refusal(reject),
            };
            let end = at + step.skip + step.data;
            data.push_str(&String::from_utf8_lossy(&bytes[at + step.skip..end]));
            at = end;
            decoder.took(step.data);
            assert_eq!(step.done, decoder.is_done());
            if step.done {
                let left = &bytes[at..];
                let lines = trailers
                    .iter()
                    .map(|(_, name, value)| [name, b"=", value].concat());
                let lines: Vec<_> = lines
                    .map(|line| String::from_utf8_lossy(&line).into_owned())
                    .collect();
                return format!(
                    "{data}|{}|{}",
                    lines.join(","),
                    String::from_utf8_lossy(left)
                );
            }
            if step.data == 0 {
                break;
            }
        }
    }
    format!("{data}...")
}

#[test]
fn bodies() {
    let check = |body: &str, expected: &str| {
        for piece in [1, 2, 3, 5, 1_000] {
            assert_eq!(
                decode(body.as_bytes(), piece),
                expected,
                "{body:?} in pieces of {piece}"
            );
        }
    };
    check("0\r\n\r\n", "||");
    check("5\r\nhello\r\n0\r\n\r\n", "hello||");
    // Who the client is no trailer says.
    check(
        "0\r\nX-A: 1\r\nClient_Cert: 1\r\nX-Forwarded-User: 1\r\n\r\n",
        "|X-A=1|",
    );
    check("2\r\nhe\r\n003\r\nllo\r\n00\r\n\r\n", "hello||");
    check(
        "A;x=\"y;z\"\r\n0123456789\r\n0;q\r\nX: 1\r\nHost: b\r\nY: 2\r\n\r\n",
        "0123456789|X=1,Y=2|",
    );
    check("5\r\nhe", "he...");
    check("5\r\nhello\r\n0\r\n", "hello...");
    check("+5\r\n", "400 a chunk size is malformed");
    check("5 \r\n", "400 a chunk size is malformed");
    check("5\n", "400 a chunk size is malformed");
    check("1000000000000000\r\n", "400 a chunk size is too large");
    check("5\rx", "400 a chunk size line is malformed");
    check("5;\r\n", "400 a chunk extension is malformed");
    check("5;a\n", "400 a chunk extension is malformed");
    check("1\r\nxy", "400 chunk data is longer than its size");
    check("1\r\nx\n", "400 chunk data is longer than its size");
    check("0\r\nX\r\n\r\n", "400 a field line has no colon");
    check("0\r\n\n", "400 a line ends in LF without CR");
}

#[test]
fn what_follows_a_body_is_left_alone() {
    assert_eq!(decode(b"1\r\nx\r\n0\r\n\r\nGET /", 1_000), "x||GET /");
    assert_eq!(
        decode(b"1\r\nx\r\n0\r\nX: 1\r\n\r\n\r\n", 1_000),
        "x|X=1|\r\n"
    );
}

#[test]
fn sizes_are_written_without_zeros() {
    let check = |size: usize, expected: &str| {
        let mut out = [0; SIZE_LINE_BYTES];
        let length = write_size(size, &mut out);
        assert_eq!(&out[..length], format!("{expected}\r\n").as_bytes());
    };
    check(0, "0");
    check(15, "f");
    check(16, "10");
    check(0xffff, "ffff");
    check(0x1_0000, "10000");
    check(usize::MAX, "ffffffffffffffff");
}
