//! Request heads (RFC 9112 sections 3 and 5, RFC 9110 section 7).

use memchr::memchr;
use outgrow_core::Cause;
use outgrow_message::fields::list_members;
use outgrow_message::path::PathProblem;
use outgrow_message::{BodyLength, Known, Method, RequestHead, Span, Target, Version};

use super::framing::{self, ConnectionOptions};
use super::scan::Scan;
use super::token::{is_authority, is_target, is_token};
use super::{Limits, Parsed, Reject, fields};

/// The longest method that is taken; RFC 9110 sets none, the longest registered one has 17.
const METHOD_BYTES: usize = 32;

/// What a TLS record of a handshake begins with (RFC 8446 section 5.1); no method does.
const TLS_HANDSHAKE: u8 = 22;

/// Reads a request head from the beginning of `bytes` into `head`, which is cleared.
///
/// `scan` remembers how far earlier calls with fewer bytes came; give a new one for a new head.
/// One empty line before the head is passed over (RFC 9112 section 2.2).
pub fn parse(
    bytes: &[u8],
    scan: &mut Scan,
    limits: &Limits,
    head: &mut RequestHead,
) -> Result<Parsed, Reject> {
    if bytes.first() == Some(&TLS_HANDSHAKE) {
        return Err(Reject::bad(
            "the client speaks TLS, and this listener does not",
        ));
    }
    let may_skip = !scan.passed_empty_line;
    let skipped = if may_skip && bytes.starts_with(b"\r\n") {
        2
    } else {
        0
    };
    let bytes = &bytes[skipped..];
    if may_skip && skipped == 0 && bytes == b"\r" {
        return Ok(Parsed::Incomplete);
    }
    let Some(end) = scan.head_end(bytes, limits)? else {
        return Ok(Parsed::Incomplete);
    };
    head.clear();
    head.fields.push_bytes(&bytes[..end]);
    let line_end = memchr(b'\n', bytes).map_or(0, |at| at.saturating_sub(1));
    if line_end == 0 {
        return Err(Reject::bad("the request line is empty"));
    }
    request_line(head, line_end, limits)?;
    fields::parse(&mut head.fields, line_end + 2, limits)?;
    decide(head)?;
    Ok(Parsed::Complete(skipped + end))
}

fn request_line(head: &mut RequestHead, line_end: usize, limits: &Limits) -> Result<(), Reject> {
    let line = &head.fields.bytes()[..line_end];
    let Some(method_end) = memchr(b' ', line) else {
        return Err(Reject::bad("the request line has no target"));
    };
    let method = &line[..method_end];
    check_method(method)?;
    let Some(target_length) = memchr(b' ', &line[method_end + 1..]) else {
        return Err(Reject::bad("the request line has no version"));
    };
    let target_end = method_end + 1 + target_length;
    let target = &line[method_end + 1..target_end];
    check_target(target, limits)?;
    let version = version(&line[target_end + 1..])?;
    head.version = version;
    head.method = Method::of(method);
    head.method_text = Span::new(0, method_end);
    head.target_text = Span::new(method_end + 1, target_end);
    take_target(head, method_end + 1, target_end)
}

/// What every version of HTTP asks of a method.
pub(crate) fn check_method(method: &[u8]) -> Result<(), Reject> {
    if method.is_empty() || method.len() > METHOD_BYTES || !is_token(method) {
        return Err(Reject::bad("the method is not a token"));
    }
    Ok(())
}

/// What every version of HTTP asks of a target before its form is looked at.
pub(crate) fn check_target(target: &[u8], limits: &Limits) -> Result<(), Reject> {
    if target.len() > limits.target_bytes {
        return Err(Reject::new(
            Cause::TargetTooLong,
            "the request target is too long",
        ));
    }
    if target.is_empty() || !is_target(target) {
        return Err(Reject::new(
            Cause::BadTarget,
            "the request target has a forbidden character",
        ));
    }
    Ok(())
}

pub(super) fn version(text: &[u8]) -> Result<Version, Reject> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Reject::new(
                Cause::VersionNotSupported,
                "the version is neither 1.0 nor 1.1",
            ))
        }
        _ => Err(Reject::bad("the version is malformed")),
    }
}

pub(crate) fn take_target(head: &mut RequestHead, start: usize, end: usize) -> Result<(), Reject> {
    let target = &head.fields.bytes()[start..end];
    let bad = |detail| Err(Reject::new(Cause::BadTarget, detail));
    if head.method == Method::Connect {
        return Err(Reject::new(
            Cause::NotImplemented,
            "CONNECT is not implemented",
        ));
    }
    if target[0] == b'/' {
        head.target = Target::Origin;
        return take_path(head, start, end);
    }
    if target == b"*" {
        if head.method != Method::Options {
            return bad("the target * is for OPTIONS only");
        }
        head.target = Target::Asterisk;
        head.raw_path = Span::new(start, end);
        return Ok(());
    }
    let scheme_len = [&b"http://"[..], b"https://"]
        .iter()
        .find(|scheme| {
            target
                .get(..scheme.len())
                .is_some_and(|t| t.eq_ignore_ascii_case(scheme))
        })
        .map(|scheme| scheme.len());
    let Some(scheme_len) = scheme_len else {
        return bad("the request target is neither a path nor an http URL");
    };
    let rest = &target[scheme_len..];
    let length = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?'))
        .unwrap_or(rest.len());
    if !is_authority(&rest[..length]) {
        return bad("the request target's authority is malformed");
    }
    let authority_start = start + scheme_len;
    let path_start = authority_start + length;
    head.authority = Span::new(authority_start, path_start);
    if head.method == Method::Options && path_start == end {
        // RFC 9112 section 3.2.4: of the server as a whole, and the last proxy says so.
        head.target = Target::Asterisk;
        head.raw_path = head.fields.push_bytes(b"*");
        return Ok(());
    }
    head.target = Target::Absolute;
    take_path(head, path_start, end)
}

fn take_path(head: &mut RequestHead, start: usize, end: usize) -> Result<(), Reject> {
    let text = &head.fields.bytes()[start..end];
    let question = memchr(b'?', text);
    let path_end = question.map_or(end, |at| start + at);
    head.query = question.map(|at| Span::new(start + at + 1, end));
    head.raw_path = if path_end == start {
        head.fields.push_bytes(b"/")
    } else {
        Span::new(start, path_end)
    };
    head.normalise_path().map_err(|problem| {
        let detail = match problem {
            PathProblem::BadEscape => "the path has a malformed escape",
            PathProblem::EscapedNul => "the path has an escaped NUL",
            PathProblem::HiddenDotSegment => "the path hides a dot segment behind an escape",
        };
        Reject::new(Cause::BadTarget, detail)
    })
}

fn decide(head: &mut RequestHead) -> Result<(), Reject> {
    check_host(head)?;
    head.length = match framing::declared(&head.fields, head.version)? {
        Some(length) => length,
        None => BodyLength::Empty,
    };
    let options = ConnectionOptions::of(&head.fields)?;
    head.keep_alive = options.persists(head.version);
    if head.version == Version::Http11 {
        head.expects_continue = expectation(head)?;
        head.wants_upgrade = options.upgrade && has_forwardable_upgrade(head);
    } else {
        // RFC 9110 section 10.1.1: HTTP/1.0 has none, and what goes on is HTTP/1.1.
        head.fields.remove(Known::Expect);
    }
    Ok(())
}

fn check_host(head: &mut RequestHead) -> Result<(), Reject> {
    let bad = |detail| Err(Reject::new(Cause::BadHost, detail));
    let mut hosts = head.fields.values(Known::Host);
    let host = hosts.next();
    if hosts.next().is_some() {
        return bad("Host is repeated");
    }
    match host {
        None if head.version == Version::Http11 => bad("Host is missing"),
        None => Ok(()),
        Some(host) if !host.is_empty() && !is_authority(host) => bad("Host is malformed"),
        Some(_) => {
            // What the target says goes before Host (RFC 9112 section 3.2.2).
            if head.authority.len == 0 {
                head.authority = head.fields.span_of(Known::Host).unwrap_or_default();
            }
            Ok(())
        }
    }
}

pub(crate) fn expectation(head: &RequestHead) -> Result<bool, Reject> {
    if !head.fields.may_have(Known::Expect) {
        return Ok(false);
    }
    let mut values = head.fields.values(Known::Expect);
    match (values.next(), values.next()) {
        (Some(value), None) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
        _ => Err(Reject::new(
            Cause::ExpectationFailed,
            "the expectation is not 100-continue",
        )),
    }
}

/// Protocols whose upgrade would take the connection out of sight of our own checks are not
/// forwarded: h2c would carry requests that nothing here has read. What is no protocol at all
/// (RFC 9110 section 7.8) is not forwarded either: somebody could read one of those out of it.
fn has_forwardable_upgrade(head: &RequestHead) -> bool {
    let mut any = false;
    for protocol in list_members(head.fields.values(Known::Upgrade)) {
        let mut parts = protocol.splitn(2, |&byte| byte == b'/');
        let name = parts.next().unwrap_or_default();
        let version = parts.next();
        let well_formed = !name.is_empty()
            && is_token(name)
            && version.is_none_or(|version| !version.is_empty() && is_token(version));
        let hidden = [&b"h2c"[..], b"h2", b"http", b"tls"]
            .iter()
            .any(|hidden| name.eq_ignore_ascii_case(hidden));
        if hidden || !well_formed {
            return false;
        }
        any = true;
    }
    any
}
