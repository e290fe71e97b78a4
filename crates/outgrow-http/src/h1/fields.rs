//! Field lines (RFC 9112 section 5).

use memchr::memchr;
use outgrow_core::Cause;
use outgrow_message::{Fields, Known, Span};

use super::token::{is_token, is_value};
use super::{Limits, Reject};

/// Reads the field lines of `fields`' own buffer from `at` up to the empty line at its end.
///
/// The buffer ends in CRLF CRLF (or CRLF for no line at all) and has no LF without CR: see
/// [`super::scan::Scan`].
pub(super) fn parse(fields: &mut Fields, mut at: usize, limits: &Limits) -> Result<(), Reject> {
    loop {
        let bytes = fields.bytes();
        let Some(length) = memchr(b'\n', &bytes[at..]) else {
            return Err(Reject::bad("a field line has no end"));
        };
        // The scan has seen a CR before every LF.
        let end = at + length.saturating_sub(1);
        if end <= at {
            return Ok(());
        }
        let line = &bytes[at..end];
        let (name, value) = split(line, at)?;
        check_lookalike(name.of(bytes))?;
        if fields.len() >= limits.fields {
            return Err(Reject::new(
                Cause::HeadTooLarge,
                "there are too many field lines",
            ));
        }
        fields.push_spans(name, value);
        at += length + 1;
    }
}

#[inline]
fn split(line: &[u8], at: usize) -> Result<(Span, Span), Reject> {
    let Some(colon) = memchr(b':', line) else {
        return Err(Reject::bad("a field line has no colon"));
    };
    let name = &line[..colon];
    if name.is_empty() || !is_token(name) {
        return Err(match line[0] {
            b' ' | b'\t' => Reject::bad("a field line is folded"),
            _ if name.last().is_some_and(u8::is_ascii_whitespace) => {
                Reject::bad("there is whitespace before a colon")
            }
            _ => Reject::bad("a field name is not a token"),
        });
    }
    let mut start = colon + 1;
    let mut end = line.len();
    while start < end && matches!(line[start], b' ' | b'\t') {
        start += 1;
    }
    while end > start && matches!(line[end - 1], b' ' | b'\t') {
        end -= 1;
    }
    if !is_value(&line[start..end]) {
        return Err(Reject::bad("a field value has a control character"));
    }
    Ok((Span::new(at, at + colon), Span::new(at + start, at + end)))
}

/// `Content_Length` is `Content-Length` to every application server that makes environment
/// variables of fields; what decides framing or identity must not come by that way.
pub(crate) fn check_lookalike(name: &[u8]) -> Result<(), Reject> {
    if memchr(b'_', name).is_none() || name.len() > 32 {
        return Ok(());
    }
    let mut dashed = [0; 32];
    for (to, from) in dashed.iter_mut().zip(name) {
        *to = if *from == b'_' { b'-' } else { *from };
    }
    match Known::of(&dashed[..name.len()]) {
        Known::ContentLength
        | Known::TransferEncoding
        | Known::Host
        | Known::Connection
        | Known::Upgrade
        | Known::Expect
        | Known::Te
        | Known::Trailer
        | Known::Forwarded
        | Known::XForwardedFor
        | Known::XForwardedHost
        | Known::XForwardedPort
        | Known::XForwardedProto => Err(Reject::bad("a field name imitates another one")),
        _ => Ok(()),
    }
}
