//! Which responses may be compressed, and what their heads say then. Pure.

use outgrow_http::h1::framing::parse_length;
use outgrow_message::fields::list_members;
use outgrow_message::{BodyLength, Fields, Known, Method, ResponseHead};

use super::tags;
use crate::settings::{CompressSettings, ContentCoding};

/// Fields that speak of the very bytes that are sent (RFC 9530, and their forerunners).
const DIGESTS: [&[u8]; 4] = [b"Content-Digest", b"Repr-Digest", b"Digest", b"Content-MD5"];

/// Whether the response could be compressed for some client.
pub(crate) fn is_eligible(
    settings: &CompressSettings,
    head: &ResponseHead,
    method: Method,
) -> bool {
    let fields = &head.fields;
    // 206 and 416 speak of ranges of what is not compressed; what 206 and 304 say instead is in `describe`.
    let by_status = !matches!(head.status, 0..=199 | 204 | 205 | 206 | 304 | 416);
    by_status
        && method != Method::Connect
        && !fields.may_have(Known::ContentEncoding)
        && !says_no_transform(fields)
        && has_type(settings, fields)
        && is_large_enough(settings, head, method)
        && !has_digest(fields)
        && fields.get_named(b"Content-Range").is_none()
}

/// Whether a part of a response (206), or that it is as before (304), may be of one that could be compressed: such
/// heads need not say of what type it is, nor how long.
pub(crate) fn may_be_of_eligible(settings: &CompressSettings, fields: &Fields) -> bool {
    let essence = essence(fields);
    let says_no_type = essence.is_empty() || essence.eq_ignore_ascii_case(b"multipart/byteranges");
    !fields.may_have(Known::ContentEncoding)
        && !says_no_transform(fields)
        && (says_no_type || has_type(settings, fields))
        && !has_digest(fields)
}

/// `Cache-Control: no-transform` (RFC 9111 section 5.2.2.6).
pub(crate) fn says_no_transform(fields: &Fields) -> bool {
    list_members(fields.values(Known::CacheControl))
        .any(|directive| directive.eq_ignore_ascii_case(b"no-transform"))
}

/// Whether the message is one of gRPC, which compresses by itself, message by message.
pub(crate) fn is_grpc(fields: &Fields) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    essence(fields)
        .get(..GRPC.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
}

/// The type of the content, without parameters.
pub(crate) fn essence(fields: &Fields) -> &[u8] {
    let value = fields.get(Known::ContentType).unwrap_or_default();
    let end = value.iter().position(|&byte| byte == b';');
    value[..end.unwrap_or(value.len())].trim_ascii()
}

fn has_type(settings: &CompressSettings, fields: &Fields) -> bool {
    let essence = essence(fields);
    let is_stream = essence.eq_ignore_ascii_case(b"text/event-stream");
    !is_grpc(fields)
        && settings.types.iter().any(|pattern| {
            // A pattern that takes it in by accident would cost its memory for each user.
            let meant = !is_stream || matches!(pattern, crate::settings::TypePattern::Exact(_));
            meant && pattern.matches(essence)
        })
}

fn is_large_enough(settings: &CompressSettings, head: &ResponseHead, method: Method) -> bool {
    let length = match head.length {
        BodyLength::Known(bytes) => Some(bytes),
        // What a GET would have had.
        BodyLength::Empty if method == Method::Head => {
            head.fields.get(Known::ContentLength).and_then(parse_length)
        }
        BodyLength::Empty => Some(0),
        BodyLength::Unknown => None,
    };
    length.is_none_or(|bytes| bytes > 0 && bytes >= settings.min_size.0)
}

fn has_digest(fields: &Fields) -> bool {
    let named = |name: &&[u8]| fields.get_named(name).is_some();
    DIGESTS.iter().any(named)
}

/// Removes what says something of other bytes than those that are sent.
pub(crate) fn remove_digests(trailers: &mut Fields) {
    for name in DIGESTS {
        trailers.remove_named(name);
    }
}

/// Says that the response depends on `Accept-Encoding`.
pub(crate) fn put_vary(fields: &mut Fields) {
    let said = list_members(fields.values(Known::Vary))
        .any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding"));
    if !said {
        fields.append_to_list(Known::Vary, b"Vary", b"Accept-Encoding");
    }
}

/// Makes the head that of the compressed response to a request of `method`.
pub(crate) fn rewrite(head: &mut ResponseHead, method: Method, coding: ContentCoding) {
    let (status, fields) = (head.status, &mut head.fields);
    fields.push(b"Content-Encoding", coding.as_str().as_bytes());
    fields.remove(Known::ContentLength);
    // Ranges would be of other bytes than those that the client has.
    fields.remove_named(b"Accept-Ranges");
    tags::weaken(fields, (method, status), coding);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: BodyLength = BodyLength::Known(5_000);

    fn head(status: u16, length: BodyLength, lines: &[(&str, &str)]) -> ResponseHead {
        let mut head = ResponseHead::default();
        head.status = status;
        head.length = length;
        for (name, value) in lines {
            head.fields.push(name.as_bytes(), value.as_bytes());
        }
        head
    }

    #[test]
    fn what_may_be_compressed() {
        const HTML: (&str, &str) = ("Content-Type", "text/html; charset=utf-8");
        let mut settings = CompressSettings::default();
        settings.types.push("text/*".parse().expect("a type"));
        type Row<'a> = (u16, BodyLength, &'a [(&'a str, &'a str)], bool);
        let table: &[Row<'_>] = &[
            (200, LARGE, &[HTML], true),
            (200, BodyLength::Unknown, &[HTML], true),
            (404, LARGE, &[HTML], true),
            (200, BodyLength::Known(1_024), &[HTML], true),
            (200, BodyLength::Known(1_023), &[HTML], false),
            (200, BodyLength::Empty, &[HTML], false),
            (206, LARGE, &[HTML], false),
            (204, BodyLength::Empty, &[HTML], false),
            (304, BodyLength::Empty, &[HTML], false),
            (200, LARGE, &[("Content-Type", "image/png")], false),
            (200, LARGE, &[], false),
            (200, LARGE, &[HTML, ("Content-Encoding", "br")], false),
            (200, LARGE, &[HTML, ("Content-Encoding", "identity")], false),
            (200, LARGE, &[HTML, ("Content-Range", "bytes 0-1/2")], false),
            (
                200,
                LARGE,
                &[HTML, ("Cache-Control", "public, No-Transform")],
                false,
            ),
            (200, LARGE, &[HTML, ("Repr-Digest", "sha-256=:x:")], false),
            (
                200,
                LARGE,
                &[("Content-Type", "application/grpc+json")],
                false,
            ),
            (200, LARGE, &[("Content-Type", "text/x-own")], true),
            (
                200,
                BodyLength::Unknown,
                &[("Content-Type", "text/event-stream")],
                false,
            ),
        ];
        for (status, length, lines, expected) in table {
            let head = head(*status, *length, lines);
            let is = is_eligible(&settings, &head, Method::Get);
            assert_eq!(is, *expected, "{status} {length:?} {lines:?}");
        }
        let answer = head(200, BodyLength::Empty, &[HTML, ("Content-Length", "2000")]);
        assert!(is_eligible(&settings, &answer, Method::Head));
        settings
            .types
            .push("text/event-stream".parse().expect("a type"));
        let stream = head(
            200,
            BodyLength::Unknown,
            &[("Content-Type", "Text/Event-Stream")],
        );
        assert!(is_eligible(&settings, &stream, Method::Get));
    }

    #[test]
    fn what_may_be_of_something_compressed() {
        let settings = CompressSettings::default();
        for (lines, expected) in [
            (&[][..], true),
            (&[("Content-Type", "text/html")], true),
            (&[("Content-Type", "image/png")], false),
            (
                &[("Content-Type", "multipart/byteranges; boundary=a")],
                true,
            ),
            (&[("Content-Encoding", "br")], false),
            (&[("Cache-Control", "no-transform")], false),
            (&[("Repr-Digest", "sha-256=:x:")], false),
        ] {
            let fields = head(206, LARGE, lines).fields;
            assert_eq!(
                may_be_of_eligible(&settings, &fields),
                expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn heads_say_what_was_done() {
        let lines = [
            ("Vary", "Origin"),
            ("ETag", "\"v1\""),
            ("Accept-Ranges", "bytes"),
            ("Content-Length", "5000"),
        ];
        let mut head = head(200, BodyLength::Known(5_000), &lines);
        put_vary(&mut head.fields);
        put_vary(&mut head.fields);
        rewrite(&mut head, Method::Get, ContentCoding::Br);
        let left: Vec<_> = head
            .fields
            .iter()
            .map(|line| format!("{}: {}", line.1.escape_ascii(), line.2.escape_ascii()))
            .collect();
        let expected = [
            "Vary: Origin, Accept-Encoding",
            "Content-Encoding: br",
            "ETag: W/\\\"v1--coded-br\\\"",
        ];
        assert_eq!(left, expected);
        for said in ["*", "accept-encoding", "a, Accept-Encoding"] {
            let mut fields = Fields::default();
            fields.push(b"Vary", said.as_bytes());
            put_vary(&mut fields);
            assert_eq!(fields.get(Known::Vary), Some(said.as_bytes()));
        }
    }
}
