//! What is to be known of gRPC over HTTP ("gRPC over HTTP2", PROTOCOL-HTTP2.md of the gRPC project):
//! which requests are gRPC, how long they have, and statuses. Pure; messages are never looked into.

use std::time::Duration;

use outgrow_core::{Cause, Fault, Side};
use outgrow_message::{Fields, Known};

/// The status of a call that went well.
pub const OK: u8 = 0;
/// The service cannot be used now; another try may help.
pub const UNAVAILABLE: u8 = 14;
/// The highest status that there is.
const HIGHEST: u8 = 16;
const CONTENT_TYPE: &[u8] = b"application/grpc";

/// What a content type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// gRPC.
    Grpc,
    /// gRPC-Web: for browsers, which see no trailers.
    Web,
    /// The same in base64.
    WebText,
}

impl Kind {
    /// The content type, without what it may say of the encoding.
    pub fn content_type(self) -> &'static [u8] {
        match self {
            Self::Grpc => CONTENT_TYPE,
            Self::Web => b"application/grpc-web",
            Self::WebText => b"application/grpc-web-text",
        }
    }
}

/// The kind of a message with these fields, and what its content type says of the encoding (`+proto`);
/// none when it is no gRPC.
pub fn kind(fields: &Fields) -> Option<(Kind, &[u8])> {
    kind_of(fields.get(Known::ContentType)?)
}

/// The same of a content type.
pub fn kind_of(content_type: &[u8]) -> Option<(Kind, &[u8])> {
    let start = content_type.get(..CONTENT_TYPE.len())?;
    if !start.eq_ignore_ascii_case(CONTENT_TYPE) {
        return None;
    }
    let rest = &content_type[CONTENT_TYPE.len()..];
    let starts = |with: &[u8]| {
        let start = rest.get(..with.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    let (kind, rest) = if starts(b"-web-text") {
        (Kind::WebText, &rest[9..])
    } else if starts(b"-web") {
        (Kind::Web, &rest[4..])
    } else {
        (Kind::Grpc, rest)
    };
    matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t')).then_some((kind, rest))
}

/// How long the client of a call waits (`grpc-timeout`): up to eight digits and a unit.
pub fn timeout(fields: &Fields) -> Option<Duration> {
    let value = fields.get_named(b"grpc-timeout")?;
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits
        .iter()
        .fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(number * 3_600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The status that a head or a trailer section says.
pub fn status(fields: &Fields) -> Option<u8> {
    let text = fields.get_named(b"grpc-status")?;
    let text = std::str::from_utf8(text).ok()?;
    text.parse().ok().filter(|status| *status <= HIGHEST)
}

/// Whether a status says that the server failed, rather than the call: UNKNOWN, DEADLINE_EXCEEDED,
/// INTERNAL, UNAVAILABLE, DATA_LOSS.
pub fn is_server_error(status: u8) -> bool {
    matches!(status, 2 | 4 | 13 | UNAVAILABLE | 15)
}

/// The status that tells a client of `fault`; none when nobody is there to be told.
pub fn status_of(fault: Fault) -> Option<u8> {
    const DEADLINE_EXCEEDED: u8 = 4;
    const RESOURCE_EXHAUSTED: u8 = 8;
    const UNIMPLEMENTED: u8 = 12;
    const INTERNAL: u8 = 13;
    Some(match fault.cause {
        Cause::ClientGone | Cause::SendTimeout | Cause::ResetFlood | Cause::ProxyHeader => {
            return None;
        }
        Cause::BodyTooLarge | Cause::HeadTooLarge if fault.side == Side::Client => {
            RESOURCE_EXHAUSTED
        }
        Cause::NoRoute | Cause::MethodNotAllowed | Cause::NotImplemented => UNIMPLEMENTED,
        Cause::HeadTimeout
        | Cause::BodyTimeout
        | Cause::BodyTooSlow
        | Cause::FirstByteTimeout
        | Cause::StreamIdleTimeout
        | Cause::RequestTimeout => DEADLINE_EXCEEDED,
        Cause::NoEndpoint
        | Cause::QueueFull
        | Cause::QueueTimeout
        | Cause::Overload
        | Cause::DecompressionTimeout
        | Cause::FileLimit
        | Cause::MemoryLimit
        | Cause::ConnectRefused
        | Cause::ConnectTimeout
        | Cause::ConnectUnresolved
        | Cause::ConnectDenied
        | Cause::ConnectUnreachable
        | Cause::ConnectFailed
        | Cause::ConnectTls
        | Cause::UpstreamReset
        | Cause::UpstreamClosed
        | Cause::UpstreamTruncated
        | Cause::UpstreamUnavailable => UNAVAILABLE,
        _ => INTERNAL,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in lines {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    #[test]
    fn kinds_of_content_types() {
        for (text, expected) in [
            ("application/grpc", Some((Kind::Grpc, ""))),
            ("Application/gRPC+proto", Some((Kind::Grpc, "+proto"))),
            (
                "application/grpc;charset=x",
                Some((Kind::Grpc, ";charset=x")),
            ),
            ("application/grpc-web+proto", Some((Kind::Web, "+proto"))),
            ("application/grpc-web", Some((Kind::Web, ""))),
            ("application/grpc-web-text", Some((Kind::WebText, ""))),
            (
                "application/grpc-web-text+proto",
                Some((Kind::WebText, "+proto")),
            ),
            ("application/grpc-other", None),
            ("application/grpcx", None),
            ("application/json", None),
            ("", None),
        ] {
            let expected = expected.map(|(kind, rest)| (kind, rest.as_bytes()));
            assert_eq!(kind(&fields(&[("content-type", text)])), expected, "{text}");
        }
        assert_eq!(kind(&fields(&[])), None);
    }

    #[test]
    fn timeouts_are_read_strictly() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("4m", Some(Duration::from_millis(4))),
            ("5u", Some(Duration::from_micros(5))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("0S", Some(Duration::ZERO)),
            ("999999999S", None),
            ("S", None),
            ("-1S", None),
            ("1s", None),
            ("1", None),
        ] {
            assert_eq!(
                timeout(&fields(&[("grpc-timeout", text)])),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn statuses_are_read_strictly() {
        for (text, expected) in [("0", Some(0)), ("14", Some(14)), ("17", None), ("x", None)] {
            assert_eq!(
                status(&fields(&[("grpc-status", text)])),
                expected,
                "{text}"
            );
        }
    }
}
