//! What the head of an answer with a file says. Pure.

use std::ops::Range;
use std::sync::Arc;

use outgrow_message::{BodyLength, Fields, Known, Method, RequestHead, ResponseHead};

use super::conditions::{self, Validators, Verdict};
use super::lookup::Content;
use super::media;
use super::place;
use super::range::{Part, part_of};
use crate::settings::FilesSettings;

/// What is answered to a request for a file.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// This file, or that the client has it.
    File(Arc<Content>),
    /// That it is a directory, whose path has a slash at its end.
    LacksSlash,
    /// That its path has escapes that it does not need.
    Overescaped,
}

/// Writes the head of `content` as a response to a request; which bytes follow it. The file is known by
/// `validators`, and `is_coded` says of the head of the whole file whether that would be compressed.
pub(crate) fn write(
    settings: &FilesSettings,
    content: &Content,
    validators: &Validators,
    (request, is_coded): (&RequestHead, impl FnOnce(&ResponseHead) -> bool),
    head: &mut ResponseHead,
) -> Range<u64> {
    head.clear();
    head.status = 200;
    put_validators(settings, content, validators, &mut head.fields);
    head.fields.push(b"Accept-Ranges", b"bytes");
    put_type(settings, content, &mut head.fields);
    head.length = BodyLength::Known(content.length);
    let is_coded = is_coded(head);
    match conditions::verdict(&request.fields, validators) {
        Verdict::Proceed => {}
        Verdict::NotModified => return without_body(304, head),
        Verdict::Failed => return without_body(412, head),
    }
    let date_is_strong = !is_coded && settings.precompressed.is_empty();
    let range = match part(content, validators, request, date_is_strong) {
        Part::Unsatisfiable => {
            let told = format!("bytes */{}", content.length);
            head.fields.push(b"Content-Range", told.as_bytes());
            return without_body(416, head);
        }
        Part::Bytes(range) => {
            head.status = 206;
            let last = range.end - 1;
            let told = format!("bytes {}-{last}/{}", range.start, content.length);
            head.fields.push(b"Content-Range", told.as_bytes());
            range
        }
        Part::Whole => 0..content.length,
    };
    head.length = BodyLength::Known(range.end - range.start);
    if request.method == Method::Head {
        // What a GET would have had.
        let length = content.length.to_string();
        head.fields.push(b"Content-Length", length.as_bytes());
        head.length = BodyLength::Empty;
        return 0..0;
    }
    range
}

/// A range counts for GET only (RFC 9110 section 14.2).
fn part(
    content: &Content,
    validators: &Validators,
    request: &RequestHead,
    date_is_strong: bool,
) -> Part {
    let fields = &request.fields;
    match conditions::only(fields, b"Range") {
        Some(value)
            if request.method == Method::Get
                && conditions::range_counts(fields, validators, date_is_strong) =>
        {
            part_of(value, content.length)
        }
        _ => Part::Whole,
    }
}

/// Makes the head one without what speaks of a body. What is refused for what this request says has nothing that
/// would let a cache give it to others.
fn without_body(status: u16, head: &mut ResponseHead) -> Range<u64> {
    head.status = status;
    head.fields.remove(Known::ContentType);
    head.fields.remove(Known::ContentEncoding);
    if status != 416 {
        head.fields.remove_named(b"Accept-Ranges");
    }
    if status != 304 {
        head.fields.remove(Known::CacheControl);
    }
    head.length = match status {
        304 => BodyLength::Empty,
        _ => BodyLength::Known(0),
    };
    0..0
}

/// What a 304 says as well (RFC 9110 section 15.4.5).
fn put_validators(
    settings: &FilesSettings,
    content: &Content,
    validators: &Validators,
    fields: &mut Fields,
) {
    if let Some(tag) = &validators.tag {
        fields.push_as(Known::Etag, b"ETag", tag.as_bytes());
    }
    if let Some(modified) = validators.modified {
        let date = conditions::date(modified);
        fields.push(b"Last-Modified", date.as_bytes());
    }
    if content.is_fallback {
        // It stands for pages that may become files.
        fields.push(b"Cache-Control", b"no-cache");
    } else if let Some(text) = &settings.cache_control {
        fields.push(b"Cache-Control", text.as_str().as_bytes());
    }
    if !settings.precompressed.is_empty() {
        fields.push(b"Vary", b"Accept-Encoding");
    }
}

fn put_type(settings: &FilesSettings, content: &Content, fields: &mut Fields) {
    let extension = media::extension(place::last_name(&content.path)).unwrap_or_default();
    let own = settings
        .types
        .get(extension.as_str())
        .map(|text| text.as_str());
    let known = own.or_else(|| media::type_of(&extension));
    fields.push(b"Content-Type", known.unwrap_or(media::UNKNOWN).as_bytes());
    if let Some(coding) = content.coding {
        fields.push(b"Content-Encoding", coding.as_str().as_bytes());
    }
}

/// Where the directory that a request means has its slash: the path as it was routed, which begins
/// with one slash, and the query.
pub(crate) fn with_slash(request: &RequestHead, out: &mut Vec<u8>) {
    out.clear();
    put_path(request.path(), out);
    out.push(b'/');
    put_query(request, out);
}

/// The path as it was routed without escapes that it does not need, and the query.
pub(crate) fn canonical(request: &RequestHead, out: &mut Vec<u8>) {
    out.clear();
    put_path(&place::without_needless_escapes(request.path()), out);
    put_query(request, out);
}

fn put_path(path: &[u8], out: &mut Vec<u8>) {
    for &byte in path {
        match byte {
            // Browsers take it for a slash, and two of them for a host.
            b'\\' => out.extend_from_slice(b"%5C"),
            b'"' | b'<' | b'>' | b'#' | 0..=0x20 | 0x7f.. => {
                out.extend_from_slice(format!("%{byte:02X}").as_bytes());
            }
            byte => out.push(byte),
        }
    }
}

fn put_query(request: &RequestHead, out: &mut Vec<u8>) {
    if let Some(query) = request.query {
        out.push(b'?');
        out.extend_from_slice(request.text(query));
    }
}

#[cfg(test)]
mod tests {
    use outgrow_message::Ledger;

    use super::super::lookup::Data;
    use super::*;

    fn content() -> Content {
        Content {
            path: b"a/b.html".to_vec(),
            coding: None,
            is_fallback: false,
            length: 10,
            validators: Validators {
                tag: Some("\"t\"".to_owned()),
                modified: Some(784_111_777),
            },
            data: Data::Here {
                bytes: b"0123456789".to_vec(),
                _charge: Ledger::new(1 << 20).charge(10).expect("room"),
            },
        }
    }

    fn check(method: Method, lines: &[(&str, &str)], status: u16, told: &str, bytes: Range<u64>) {
        let mut request = RequestHead::default();
        request.clear();
        request.method = method;
        for (name, value) in lines {
            request.fields.push(name.as_bytes(), value.as_bytes());
        }
        let mut head = ResponseHead::default();
        let settings = FilesSettings {
            cache_control: "max-age=60".parse().ok(),
            ..FilesSettings::default()
        };
        let content = content();
        let asked = (&request, |whole: &ResponseHead| whole.status != 200);
        let range = write(&settings, &content, &content.validators, asked, &mut head);
        let names: Vec<_> = head
            .fields
            .iter()
            .map(|line| line.1.escape_ascii().to_string())
            .collect();
        assert_eq!(
            (head.status, names.join(" ").as_str(), range),
            (status, told, bytes),
            "{method:?} {lines:?}"
        );
    }

    #[test]
    fn heads_say_what_follows() {
        const ALL: &str = "ETag Last-Modified Cache-Control Accept-Ranges Content-Type";
        const PART: &str =
            "ETag Last-Modified Cache-Control Accept-Ranges Content-Type Content-Range";
        check(Method::Get, &[], 200, ALL, 0..10);
        check(
            Method::Head,
            &[],
            200,
            "ETag Last-Modified Cache-Control Accept-Ranges Content-Type Content-Length",
            0..0,
        );
        check(Method::Get, &[("Range", "bytes=2-3")], 206, PART, 2..4);
        check(Method::Get, &[("Range", "bytes=2-3,8-9")], 200, ALL, 0..10);
        check(
            Method::Get,
            &[("Range", "bytes=2-3"), ("If-Range", "\"u\"")],
            200,
            ALL,
            0..10,
        );
        let none = "ETag Last-Modified Accept-Ranges Content-Range";
        check(Method::Get, &[("Range", "bytes=10-")], 416, none, 0..0);
        check(
            Method::Get,
            &[("If-None-Match", "\"t\"")],
            304,
            "ETag Last-Modified Cache-Control",
            0..0,
        );
        check(
            Method::Get,
            &[("If-Match", "\"u\"")],
            412,
            "ETag Last-Modified",
            0..0,
        );
        let head = "ETag Last-Modified Cache-Control Accept-Ranges Content-Type Content-Length";
        check(Method::Head, &[("Range", "bytes=2-3")], 200, head, 0..0);
    }

    #[test]
    fn a_slash_is_added_and_nothing_else() {
        for (path, query, expected) in [
            ("/a/b", None, "/a/b/"),
            ("/a", Some("q=1"), "/a/?q=1"),
            ("/\\evil.example", None, "/%5Cevil.example/"),
            ("/a%20b", None, "/a%20b/"),
        ] {
            let mut request = RequestHead::default();
            request.clear();
            request.raw_path = request.fields.push_bytes(path.as_bytes());
            request.query = query.map(|query: &str| request.fields.push_bytes(query.as_bytes()));
            request.normalise_path().expect("a path");
            let mut out = Vec::new();
            with_slash(&request, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }
}
