//! Field sections as we send them: from the static table where it has what we say, as plain text
//! where it has not. Huffman's code would save a few bytes of what is mostly short.

use super::integer;
use super::static_table::{index_of, with_value};

/// The first entry of `:status`.
const STATUS: usize = 24;
/// The others, which stand apart.
const MORE_STATUS: usize = 63;

/// Begins a field section, which needs no dynamic table.
pub(in crate::h3) fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0]);
}

/// Appends `:status`.
pub(in crate::h3) fn put_status(status: u16, out: &mut Vec<u8>) {
    let text = status.to_string();
    let value = text.as_bytes();
    match with_value(STATUS, value).or_else(|| with_value(MORE_STATUS, value)) {
        Some(index) => integer::put(index, 6, 0xc0, out),
        None => {
            integer::put(STATUS, 4, 0x50, out);
            put_value(value, out);
        }
    }
}

/// Appends a field; its name becomes lower case.
pub(in crate::h3) fn put_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    /// Longer than any name of the static table.
    const LONGEST: usize = 32;
    let mut lower = [0; LONGEST];
    let known = lower.get_mut(..name.len()).and_then(|lower| {
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        index_of(lower)
    });
    match known {
        Some(index) => match with_value(index, value) {
            Some(index) => return integer::put(index, 6, 0xc0, out),
            None => integer::put(index, 4, 0x50, out),
        },
        None => {
            integer::put(name.len(), 3, 0x20, out);
            out.extend(name.iter().map(u8::to_ascii_lowercase));
        }
    }
    put_value(value, out);
}

fn put_value(value: &[u8], out: &mut Vec<u8>) {
    integer::put(value.len(), 7, 0, out);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let long = "x".repeat(5_000);
        let fields = [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Type", "image/webp"),
            ("X-Request-Id", "0123"),
            ("Access-Control-Allow-Credentials", "true"),
            (
                "A-Name-That-Is-Longer-Than-Any-That-There-Is",
                long.as_str(),
            ),
            ("empty", ""),
        ];
        for status in [100, 103, 200, 204, 301, 404, 425, 500, 599] {
            let mut section = Vec::new();
            begin(&mut section);
            put_status(status, &mut section);
            for (name, value) in fields {
                put_field(name.as_bytes(), value.as_bytes(), &mut section);
            }
            let mut read = Vec::new();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let done = decode(&section, |name, value| {
                read.push((text(name), text(value)));
                Ok::<_, ()>(())
            });
            assert_eq!(done, Ok(()));
            let mut expected = vec![(":status".to_owned(), status.to_string())];
            let fields = fields.iter();
            expected.extend(
                fields.map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_owned())),
            );
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn what_the_static_table_has_is_short() {
        let mut section = Vec::new();
        put_status(200, &mut section);
        put_field(b"Vary", b"accept-encoding", &mut section);
        assert_eq!(section, [0xc0 + 25, 0xc0 + 59]);
    }
}
