//! The one table that maps a fault to an HTTP status.

use outgrow_core::{Cause, Fault, Side};

/// The status that tells a client of `fault`; none when nobody is there to be told.
pub fn of(fault: Fault) -> Option<u16> {
    Some(match fault.cause {
        Cause::ClientGone | Cause::SendTimeout | Cause::ResetFlood | Cause::ProxyHeader => {
            return None;
        }
        Cause::BadCoding => 400,
        Cause::BadRequest | Cause::BadTarget | Cause::BadHost | Cause::BadFraming => {
            if fault.side == Side::Upstream {
                502
            } else {
                400
            }
        }
        Cause::HeadTooLarge => {
            if fault.side == Side::Upstream {
                502
            } else {
                431
            }
        }
        Cause::TargetTooLong => 414,
        Cause::BodyTooLarge | Cause::DecompressionRatio => 413,
        Cause::UnsupportedCoding => 415,
        Cause::NotImplemented => {
            if fault.side == Side::Upstream {
                502
            } else {
                501
            }
        }
        Cause::VersionNotSupported => {
            if fault.side == Side::Upstream {
                502
            } else {
                505
            }
        }
        Cause::ExpectationFailed => 417,
        Cause::HeadTimeout | Cause::BodyTimeout | Cause::BodyTooSlow => 408,
        // The client is the one that was waited for.
        Cause::RequestTimeout if fault.side == Side::Client => 408,
        Cause::NoRoute | Cause::NoFile => 404,
        Cause::FileForbidden => 403,
        Cause::MethodNotAllowed => 405,
        Cause::NoEndpoint
        | Cause::QueueFull
        | Cause::QueueTimeout
        | Cause::Overload
        | Cause::UpstreamUnavailable
        | Cause::DecompressionTimeout
        | Cause::FileLimit
        | Cause::MemoryLimit => 503,
        Cause::ConnectRefused
        | Cause::ConnectUnresolved
        | Cause::ConnectDenied
        | Cause::ConnectUnreachable
        | Cause::ConnectFailed
        | Cause::ConnectTls
        | Cause::UpstreamReset
        | Cause::UpstreamClosed
        | Cause::UpstreamBadResponse
        | Cause::UpstreamTruncated => 502,
        Cause::ConnectTimeout
        | Cause::FirstByteTimeout
        | Cause::StreamIdleTimeout
        | Cause::RequestTimeout => 504,
        Cause::Internal | Cause::FileFailed | Cause::FileChanged => 500,
    })
}
