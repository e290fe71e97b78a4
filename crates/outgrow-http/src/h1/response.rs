//! Response heads (RFC 9112 sections 4 and 6). As strict as for requests: what an endpoint sends
//! ambiguously is a 502, never forwarded.

use std::time::Duration;

use memchr::memchr;
use outgrow_message::fields::list_members;
use outgrow_message::{BodyLength, Fields, Known, Method, ResponseHead, Span};

use super::framing::{self, ConnectionOptions};
use super::scan::Scan;
use super::token::is_value;
use super::{Limits, Parsed, Reject, fields, request};

/// Reads a response head, to a request of `method`, from the beginning of `bytes` into `head`,
/// which is cleared. `scan` as in [`request::parse`].
pub fn parse(
    bytes: &[u8],
    scan: &mut Scan,
    limits: &Limits,
    method: Method,
    head: &mut ResponseHead,
) -> Result<Parsed, Reject> {
    let Some(end) = scan.head_end(bytes, limits)? else {
        return Ok(Parsed::Incomplete);
    };
    head.clear();
    head.fields.push_bytes(&bytes[..end]);
    let line_end = memchr(b'\n', bytes).map_or(0, |at| at.saturating_sub(1));
    status_line(head, line_end)?;
    fields::parse(&mut head.fields, line_end + 2, limits)?;
    decide(head, method)?;
    Ok(Parsed::Complete(end))
}

fn status_line(head: &mut ResponseHead, line_end: usize) -> Result<(), Reject> {
    let line = &head.fields.bytes()[..line_end];
    let (Some(version), Some(rest)) = (line.get(..8), line.get(8..)) else {
        return Err(Reject::bad("the status line is too short"));
    };
    head.version = request::version(version)?;
    let [b' ', hundreds @ b'1'..=b'9', tens, ones, rest @ ..] = rest else {
        return Err(Reject::bad("the status line has no status"));
    };
    if !tens.is_ascii_digit() || !ones.is_ascii_digit() {
        return Err(Reject::bad("the status is not a number"));
    }
    // RFC 9112 wants the space even before an empty reason; many servers leave it out.
    let reason_start = match rest {
        [] => line_end,
        [b' ', reason @ ..] if is_value(reason) => line_end - reason.len(),
        _ => return Err(Reject::bad("the reason phrase is malformed")),
    };
    head.status =
        u16::from(hundreds - b'0') * 100 + u16::from(tens - b'0') * 10 + u16::from(ones - b'0');
    head.reason = Span::new(reason_start, line_end);
    Ok(())
}

fn decide(head: &mut ResponseHead, method: Method) -> Result<(), Reject> {
    let declared = framing::declared(&head.fields, head.version)?;
    let options = ConnectionOptions::of(&head.fields)?;
    head.keep_alive = options.persists(head.version);
    if ResponseHead::never_has_body(head.status, method) {
        head.length = BodyLength::Empty;
        if head.status < 200 || head.status == 204 {
            // RFC 9110 section 8.6, RFC 9112 section 6.1: these have neither Content-Length nor
            // Transfer-Encoding. What such a server sends next is not to be relied on.
            head.keep_alive &= declared.is_none_or(|length| length == BodyLength::Known(0));
            head.fields.remove(Known::ContentLength);
        }
        return Ok(());
    }
    match declared {
        Some(length) => head.length = length,
        None => {
            head.length = BodyLength::Unknown;
            head.until_close = true;
            head.keep_alive = false;
        }
    }
    Ok(())
}

/// How long the server says that it keeps the connection idle: `Keep-Alive: timeout=N`, a hint
/// that HTTP/1.1 never standardised and nearly all servers give.
pub fn keep_alive_timeout(fields: &Fields) -> Option<Duration> {
    let mut hints = list_members(fields.values(Known::KeepAlive));
    let text = hints.find_map(|hint| hint.strip_prefix(b"timeout="))?;
    framing::parse_length(text).map(|seconds| Duration::from_secs(seconds.min(86_400)))
}
