//! Entity tags of responses that we compress (RFC 9110 section 8.8.3). Pure.
//!
//! What we send has other bytes than what the endpoint's strong tag stands for, so the client gets
//! a weak one: `"x"` becomes `W/"x--coded"`. By the mark it is known when it comes back, and the
//! endpoint is asked about `"x"`: so servers that compare tags letter by letter still answer with
//! 304, and a `PUT` with `If-Match`, which knows no weak tags, still works. A tag that the endpoint
//! made weak itself is left alone in both directions.
//!
//! `If-Range` is not translated: a part of our bytes cannot be continued with a part of the
//! endpoint's.

use outgrow_message::{Fields, Known};

const MARK: &[u8] = b"--coded";

/// The tag of what we make of a representation with this one; none where it stays.
pub(crate) fn weakened(tag: &[u8]) -> Option<Vec<u8>> {
    let [b'"', opaque @ .., b'"'] = tag else {
        return None;
    };
    Some([b"W/\"", opaque, MARK, b"\""].concat())
}

/// Makes the response's tag that of what we make of it.
pub(crate) fn weaken(fields: &mut Fields) {
    if let Some(tag) = fields.get(Known::Etag).and_then(weakened) {
        fields.set(b"ETag", &tag);
    }
}

/// Gives the endpoint's own tags back to it; whether there was one of ours.
pub(crate) fn restore(fields: &mut Fields) -> bool {
    let mut any = false;
    for name in [&b"If-None-Match"[..], b"If-Match"] {
        any |= restore_field(fields, name);
    }
    any
}

fn restore_field(fields: &mut Fields, name: &[u8]) -> bool {
    let values = || {
        let lines = fields.iter();
        lines.filter(|line| line.0 == Known::Other && line.1.eq_ignore_ascii_case(name))
    };
    let has_mark = |value: &[u8]| value.windows(MARK.len()).any(|part| part == MARK);
    if !values().any(|line| has_mark(line.2)) {
        return false;
    }
    let mut joined = Vec::new();
    let mut any = false;
    for (_, _, value) in values() {
        if !joined.is_empty() {
            joined.extend_from_slice(b", ");
        }
        any |= put_restored(value, &mut joined);
    }
    if any {
        fields.set(name, &joined);
    }
    any
}

/// Appends a list of tags with ours turned back; whether there was one.
fn put_restored(list: &[u8], out: &mut Vec<u8>) -> bool {
    let mut any = false;
    let mut rest = list;
    while let Some(start) = rest.iter().position(|&byte| byte == b'"') {
        let Some(length) = rest[start + 1..].iter().position(|&byte| byte == b'"') else {
            break;
        };
        let (before, opaque) = (&rest[..start], &rest[start + 1..start + 1 + length]);
        match (before.strip_suffix(b"W/"), opaque.strip_suffix(MARK)) {
            (Some(before), Some(own)) => {
                any = true;
                out.extend_from_slice(before);
                out.extend_from_slice(&[b"\"", own, b"\""].concat());
            }
            _ => out.extend_from_slice(&rest[..start + length + 2]),
        }
        rest = &rest[start + length + 2..];
    }
    out.extend_from_slice(rest);
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strong_tags_become_weak_ones_and_come_back() {
        for (tag, expected) in [
            ("\"x\"", Some("W/\"x--coded\"")),
            ("\"\"", Some("W/\"--coded\"")),
            ("W/\"x\"", None),
            ("x", None),
            ("\"", None),
            ("", None),
        ] {
            let weak = weakened(tag.as_bytes());
            assert_eq!(weak.as_deref(), expected.map(str::as_bytes), "{tag}");
            if let Some(weak) = weak {
                let mut out = Vec::new();
                assert!(put_restored(&weak, &mut out));
                assert_eq!(out, tag.as_bytes());
            }
        }
    }

    #[test]
    fn lists_are_turned_back_tag_by_tag() {
        let check = |lines: &[&str], expected: &[&str], any: bool| {
            let mut fields = Fields::default();
            for line in lines {
                fields.push(b"if-none-match", line.as_bytes());
            }
            assert_eq!(restore(&mut fields), any, "{lines:?}");
            let left: Vec<_> = fields
                .iter()
                .map(|line| String::from_utf8_lossy(line.2))
                .collect();
            assert_eq!(left, expected);
        };
        check(&["*"], &["*"], false);
        check(
            &["W/\"a\", \"b--coded\""],
            &["W/\"a\", \"b--coded\""],
            false,
        );
        check(&["W/\"a, --coded\",\"b\""], &["\"a, \",\"b\""], true);
        check(
            &["\"a\"", "W/\"b--coded\" , W/\"c\""],
            &["\"a\", \"b\" , W/\"c\""],
            true,
        );
        check(&["W/\"b--coded\", \"open"], &["\"b\", \"open"], true);
        check(&["W/b--coded"], &["W/b--coded"], false);
    }
}
