//! What can be told of a request that was refused: for the record only, nothing is decided by it.
//!
//! Deliberately not here: fields. Who is asked and by whom is not to be believed of such a head.

use memchr::{memchr, memchr2};
use outgrow_message::RequestHead;

use super::request::check_method;
use super::token::is_target;

/// Longest target that is kept of a refused head, in bytes.
const TARGET_BYTES: usize = 1024;

/// Puts the method and the target of the request line that `bytes` begin with into `head`, which is
/// cleared, as far as they are there and are such. The head is still one of a GET, whatever the method's
/// text.
pub(crate) fn line_of(bytes: &[u8], head: &mut RequestHead) {
    head.clear();
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let line = &bytes[..memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len())];
    let Some(method_end) = memchr(b' ', line) else {
        return;
    };
    let (method, rest) = (&line[..method_end], &line[method_end + 1..]);
    if check_method(method).is_err() {
        return;
    }
    head.method_text = head.fields.push_bytes(method);
    let target = &rest[..memchr(b' ', rest).unwrap_or(rest.len()).min(TARGET_BYTES)];
    if target.is_empty() || !is_target(target) {
        return;
    }
    let mark = memchr(b'?', target).unwrap_or(target.len());
    head.raw_path = head.fields.push_bytes(&target[..mark]);
    head.query = target
        .get(mark + 1..)
        .map(|query| head.fields.push_bytes(query));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], method: &str, path: &str, query: Option<&str>) {
        let mut head = RequestHead::default();
        head.raw_path = head.fields.push_bytes(b"/of/another");
        line_of(bytes, &mut head);
        let text = |span| String::from_utf8_lossy(head.text(span)).into_owned();
        assert_eq!(text(head.method_text), method, "{bytes:?}");
        assert_eq!(text(head.raw_path), path, "{bytes:?}");
        assert_eq!(head.query.map(text).as_deref(), query, "{bytes:?}");
    }

    #[test]
    fn the_line_is_taken_as_far_as_it_is_one() {
        check(b"GET /a?b=c HTTP/1.1\r\nA: b\n", "GET", "/a", Some("b=c"));
        check(b"\r\nPUT /a", "PUT", "/a", None);
        check(b"GET /a b c HTTP/1.1\r\n", "GET", "/a", None);
        check(b"GET /a\nHost: a\n\n", "GET", "/a", None);
        check(b"GET ", "GET", "", None);
        check(b"GET /a\x01b HTTP/1.1\r\n", "GET", "", None);
        check(b"G(T / HTTP/1.1\r\n", "", "", None);
        check(b"GET\r\n", "", "", None);
        check(b"", "", "", None);
        check(b"\r\n\r\nGET / HTTP/1.1\r\n", "", "", None);
        check(&[b'A'; 100], "", "", None);
        let long = [b"GET /".as_slice(), &[b'a'; 9000]].concat();
        check(
            &long,
            "GET",
            &format!("/{}", "a".repeat(TARGET_BYTES - 1)),
            None,
        );
    }
}
