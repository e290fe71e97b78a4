//! Entity tags of responses that we compress (RFC 9110 section 8.8.3). Pure.
//!
//! What we send has other bytes than what the endpoint's strong tag stands for, so the client gets
//! a weak one, with a mark of what was made of it: `"x"` becomes `W/"x--coded-gzip"`. By the mark it is known
//! when it comes back, and the endpoint is asked about `"x"`: so servers that compare tags letter by letter
//! still answer with 304, and a `PUT` with `If-Match`, which knows no weak tags, still works. A tag that the
//! endpoint made weak itself is left alone in both directions.
//!
//! A cache may ask about a variant that it has for others than who asks it now (RFC 9111 section 4.3.1), and
//! sends that one when it hears 304: so the endpoint is asked about those only whose coding is taken now. And
//! since parts of what we made are parts of nothing that the endpoint has, it never hears of them where a
//! part is asked for: not in `If-Match` of a GET, and [`drop_range`] answers `If-Range` for it.

use outgrow_message::{Fields, Known, Method, RequestHead};

use crate::settings::ContentCoding;

const MARK: &[u8] = b"--coded-";
/// Tags of a request that are turned back; of the others the endpoint knows nothing, and answers with the whole.
const MOST: usize = 32;

/// A tag of the endpoint's that came as one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Restored {
    /// What is between the quotes.
    opaque: Vec<u8>,
    coding: ContentCoding,
}

/// The tag of what `coding` makes of a representation with this one; none where it stays.
pub(crate) fn weakened(tag: &[u8], coding: ContentCoding) -> Option<Vec<u8>> {
    let [b'"', opaque @ .., b'"'] = tag else {
        return None;
    };
    Some(ours(opaque, coding))
}

fn ours(opaque: &[u8], coding: ContentCoding) -> Vec<u8> {
    let coding = coding.as_str().as_bytes();
    [b"W/\"", opaque, MARK, coding, b"\""].concat()
}

/// Makes the tag of a response to a request of `method` that of what we make of it. Where the request changes
/// something the tag is no tag of the response, but of what there is now (RFC 9110 section 8.8); where it makes
/// something, of that (section 15.3.2).
pub(crate) fn weaken(fields: &mut Fields, (method, status): (Method, u16), coding: ContentCoding) {
    if status == 201 || matches!(method, Method::Put | Method::Patch | Method::Delete) {
        return;
    }
    let weak = fields
        .get(Known::Etag)
        .and_then(|tag| weakened(tag, coding));
    if let Some(tag) = weak {
        fields.set(b"ETag", &tag);
    }
}

/// Makes the tag of a 304 the client's own; which coding that is of, if it is one of ours. Where the client has
/// several variants of one it is the one of the `best` coding, which a 200 would have.
pub(crate) fn confirm(
    fields: &mut Fields,
    restored: &[Restored],
    best: Option<ContentCoding>,
) -> Option<ContentCoding> {
    let tag = fields.get(Known::Etag)?;
    let [b'"', opaque @ .., b'"'] = tag.strip_prefix(b"W/").unwrap_or(tag) else {
        return None;
    };
    let fits = |one: &&Restored| one.opaque == opaque;
    let mut fitting = restored.iter().filter(fits);
    let is_best = fitting.find(|one| Some(one.coding) == best);
    let coding = is_best.or_else(|| restored.iter().find(fits))?.coding;
    let tag = ours(opaque, coding);
    fields.set(b"ETag", &tag);
    Some(coding)
}

/// Whether a request names a tag of what it has.
pub(crate) fn names_any(fields: &Fields) -> bool {
    values(fields, b"If-None-Match").any(|value| value.trim_ascii() != b"*")
}

/// Gives the endpoint's own tags back to it; those that came as ours. Those of codings that the client does not
/// take now stay as they are, where what is asked for is an answer: it could not be that one.
pub(crate) fn restore(
    request: &mut RequestHead,
    takes: impl Fn(&Fields, ContentCoding) -> bool,
) -> Vec<Restored> {
    let fields = &request.fields;
    if !["If-None-Match", "If-Match"]
        .iter()
        .any(|name| has_mark(fields, name.as_bytes()))
    {
        return Vec::new();
    }
    let reads = matches!(request.method, Method::Get | Method::Head);
    let asked = ContentCoding::ALL.map(|coding| !reads || takes(fields, coding));
    let may = |coding: ContentCoding| asked[coding as usize];
    let mut restored = Vec::new();
    restore_field(&mut request.fields, b"If-None-Match", may, &mut restored);
    if !reads {
        restore_field(&mut request.fields, b"If-Match", may, &mut restored);
    }
    restored
}

/// Takes the `Range` out of a request whose `If-Range` cannot hold, with it: what it names is a weak tag, which
/// never does (RFC 9110 section 13.1.5), or a date, which what we make of a response has like the response
/// itself, where we may have made something of it for this client. Many endpoints compare in another way. Two of
/// them say nothing.
pub(crate) fn drop_range(request: &mut RequestHead, may_be_coded: bool) {
    let fields = &mut request.fields;
    let is_strong = |value: &[u8]| value.starts_with(b"\"");
    let is_weak = |value: &[u8]| value.starts_with(b"W/");
    let mut values = values(fields, b"If-Range");
    let holds = match (values.next(), values.next()) {
        (None, _) => true,
        (Some(value), None) => is_strong(value) || !is_weak(value) && !may_be_coded,
        (Some(_), Some(_)) => false,
    };
    drop(values);
    if !holds {
        fields.remove_named(b"Range");
        fields.remove_named(b"If-Range");
    }
}

/// Whether one of our tags may be in these lines.
fn has_mark(fields: &Fields, name: &[u8]) -> bool {
    let has_mark = |value: &[u8]| value.windows(MARK.len()).any(|part| part == MARK);
    values(fields, name).any(has_mark)
}

fn values<'a>(fields: &'a Fields, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let is_it = move |line: &(Known, &[u8], &[u8])| {
        line.0 == Known::Other && line.1.eq_ignore_ascii_case(name)
    };
    fields.iter().filter(is_it).map(|line| line.2)
}

fn restore_field(
    fields: &mut Fields,
    name: &[u8],
    may: impl Fn(ContentCoding) -> bool,
    restored: &mut Vec<Restored>,
) {
    let mut joined = Vec::new();
    let before = restored.len();
    for value in values(fields, name) {
        if !joined.is_empty() {
            joined.extend_from_slice(b", ");
        }
        put_restored(value, &mut joined, &may, restored);
    }
    if restored.len() > before {
        fields.set(name, &joined);
    }
}

/// Appends a list of tags with ours turned back that `may` be.
fn put_restored(
    list: &[u8],
    out: &mut Vec<u8>,
    may: impl Fn(ContentCoding) -> bool,
    restored: &mut Vec<Restored>,
) {
    let mut rest = list;
    while let Some(start) = rest.iter().position(|&byte| byte == b'"') {
        let Some(length) = rest[start + 1..].iter().position(|&byte| byte == b'"') else {
            break;
        };
        let (before, opaque) = (&rest[..start], &rest[start + 1..start + 1 + length]);
        match (before.strip_suffix(b"W/"), endpoints_own(opaque)) {
            (Some(before), Some(own)) if restored.len() < MOST && may(own.coding) => {
                out.extend_from_slice(before);
                out.extend_from_slice(&[b"\"", &own.opaque[..], b"\""].concat());
                restored.push(own);
            }
            _ => out.extend_from_slice(&rest[..start + length + 2]),
        }
        rest = &rest[start + length + 2..];
    }
    out.extend_from_slice(rest);
}

/// What one of our tags was made of.
fn endpoints_own(opaque: &[u8]) -> Option<Restored> {
    ContentCoding::ALL.into_iter().find_map(|coding| {
        let own = opaque.strip_suffix(coding.as_str().as_bytes())?;
        let opaque = own.strip_suffix(MARK)?.to_vec();
        Some(Restored { opaque, coding })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ContentCoding::{Br, Gzip, Zstd};

    fn request(method: Method, lines: &[(&str, &str)]) -> RequestHead {
        let mut request = RequestHead::default();
        request.clear();
        request.method = method;
        for (name, value) in lines {
            request.fields.push(name.as_bytes(), value.as_bytes());
        }
        request
    }

    fn lines(fields: &Fields) -> Vec<String> {
        let lines = fields.iter();
        lines
            .map(|line| String::from_utf8_lossy(line.2).into_owned())
            .collect()
    }

    #[test]
    fn strong_tags_become_weak_ones_and_come_back() {
        for (tag, expected) in [
            ("\"x\"", Some("W/\"x--coded-gzip\"")),
            ("\"\"", Some("W/\"--coded-gzip\"")),
            ("W/\"x\"", None),
            ("x", None),
            ("\"", None),
            ("", None),
        ] {
            let weak = weakened(tag.as_bytes(), Gzip);
            assert_eq!(weak.as_deref(), expected.map(str::as_bytes), "{tag}");
            if let Some(weak) = weak {
                let (mut out, mut restored) = (Vec::new(), Vec::new());
                put_restored(&weak, &mut out, |_| true, &mut restored);
                assert_eq!(out, tag.as_bytes());
                assert_eq!(restored.len(), 1);
            }
        }
    }

    #[test]
    fn lists_are_turned_back_tag_by_tag() {
        let check = |values: &[&str], expected: &[&str], codings: &[ContentCoding]| {
            let named: Vec<_> = values
                .iter()
                .map(|value| ("if-none-match", *value))
                .collect();
            let mut request = request(Method::Get, &named);
            // This client does not take Brotli.
            let restored = restore(&mut request, |_, coding| coding != Br);
            let found: Vec<_> = restored.iter().map(|one| one.coding).collect();
            assert_eq!(found, codings, "{values:?}");
            assert_eq!(lines(&request.fields), expected);
        };
        check(&["*"], &["*"], &[]);
        let strong = ["W/\"a\", \"b--coded-gzip\", W/\"b--coded\", W/\"b--gzip\""];
        check(&strong, &strong, &[]);
        check(
            &["W/\"a, --coded-gzip\",\"b\""],
            &["\"a, \",\"b\""],
            &[Gzip],
        );
        check(
            &["\"a\"", "W/\"b--coded-zstd\" , W/\"c\""],
            &["\"a\", \"b\" , W/\"c\""],
            &[Zstd],
        );
        check(
            &["W/\"b--coded-br\", W/\"b--coded-gzip\", \"open"],
            &["W/\"b--coded-br\", \"b\", \"open"],
            &[Gzip],
        );
        check(&["W/b--coded-gzip"], &["W/b--coded-gzip"], &[]);
    }

    #[test]
    fn so_many_are_turned_back_and_no_more() {
        let list = vec!["W/\"--coded-gzip\""; 1_000].join(", ");
        let mut request = request(
            Method::Get,
            &[("If-None-Match", &list), ("If-None-Match", &list)],
        );
        let restored = restore(&mut request, |_, _| true);
        assert_eq!(restored.len(), MOST);
        let left = lines(&request.fields).concat().matches("--coded-").count();
        assert_eq!(left, 2_000 - MOST);
    }

    #[test]
    fn if_match_is_turned_back_only_where_something_is_changed() {
        let tag = "W/\"b--coded-br\"";
        for (method, expected) in [
            (Method::Get, tag),
            (Method::Head, tag),
            (Method::Put, "\"b\""),
            (Method::Delete, "\"b\""),
        ] {
            let mut request = request(method, &[("If-Match", tag)]);
            restore(&mut request, |_, _| true);
            assert_eq!(lines(&request.fields), [expected], "{method:?}");
        }
        // Whoever changes something knows what it read, whatever it takes now.
        let mut request = request(Method::Put, &[("If-None-Match", tag)]);
        restore(&mut request, |_, _| false);
        assert_eq!(lines(&request.fields), ["\"b\""]);
    }

    #[test]
    fn a_304_names_the_variant_that_the_client_has() {
        let check = |tag: &str, best: Option<ContentCoding>, expected: &str| {
            let list = "W/\"a--coded-br\", W/\"a--coded-gzip\", \"b\", W/\"c--coded-zstd\"";
            let mut request = request(Method::Get, &[("If-None-Match", list)]);
            let restored = restore(&mut request, |_, _| true);
            let mut fields = Fields::default();
            fields.push(b"ETag", tag.as_bytes());
            confirm(&mut fields, &restored, best);
            assert_eq!(lines(&fields), [expected], "{tag} {best:?}");
        };
        check("\"a\"", Some(Br), "W/\"a--coded-br\"");
        check("\"a\"", Some(Gzip), "W/\"a--coded-gzip\"");
        check("\"a\"", Some(Zstd), "W/\"a--coded-br\"");
        check("W/\"c\"", Some(Br), "W/\"c--coded-zstd\"");
        // What came as it is stays so.
        check("\"b\"", Some(Br), "\"b\"");
        check("\"d\"", Some(Br), "\"d\"");
        check("d", Some(Br), "d");
    }

    #[test]
    fn no_part_is_added_to_what_it_is_no_part_of() {
        const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (value, may_be_coded, stays) in [
            ("\"a\"", true, true),
            ("W/\"a\"", true, false),
            ("W/\"a\"", false, false),
            ("W/\"a--coded-gzip\"", true, false),
            (DATE, true, false),
            (DATE, false, true),
        ] {
            let sent = [("Range", "bytes=0-1"), ("If-Range", value)];
            let mut request = request(Method::Get, &sent);
            drop_range(&mut request, may_be_coded);
            let expected = if stays { 2 } else { 0 };
            assert_eq!(
                request.fields.iter().count(),
                expected,
                "{value} {may_be_coded}"
            );
        }
        let mut alone = request(Method::Get, &[("Range", "bytes=0-1")]);
        drop_range(&mut alone, true);
        assert_eq!(alone.fields.iter().count(), 1);
        let sent = [
            ("Range", "bytes=0-1"),
            ("If-Range", "\"a\""),
            ("If-Range", "W/\"a\""),
        ];
        let mut twice = request(Method::Get, &sent);
        drop_range(&mut twice, false);
        assert_eq!(twice.fields.iter().count(), 0);
    }

    #[test]
    fn a_tag_of_what_was_changed_is_left_alone() {
        for (method, expected) in [
            ((Method::Get, 200), "W/\"a--coded-zstd\""),
            ((Method::Post, 200), "W/\"a--coded-zstd\""),
            ((Method::Post, 201), "\"a\""),
            ((Method::Put, 200), "\"a\""),
        ] {
            let mut fields = Fields::default();
            fields.push(b"ETag", b"\"a\"");
            weaken(&mut fields, method, Zstd);
            assert_eq!(lines(&fields), [expected], "{method:?}");
        }
    }
}
