//! What went wrong, on whose side, in which phase, and whether it may be tried again.
//!
//! Retry, outlier detection, breaker and record read only this; each protocol has one table
//! that maps it to a status. A fault never carries text from the network.

use std::fmt;

/// Whose fault it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client's: its bytes, its timing, its going away.
    Client,
    /// The endpoint's: refused, reset, slow, nonsense.
    Upstream,
    /// Our own limits or configuration.
    Outgrow,
}

/// In which phase of the exchange it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Reading the request's head.
    RequestHead,
    /// Finding the route.
    Route,
    /// Waiting for a permit or choosing an endpoint.
    Admit,
    /// Connecting to the endpoint.
    Connect,
    /// Sending the request (head or body) to the endpoint.
    Send,
    /// Reading the client's body.
    RequestBody,
    /// Waiting for the response's head.
    ResponseHead,
    /// Relaying the response's body.
    ResponseBody,
    /// A tunnel after an upgrade.
    Tunnel,
}

/// How much of the request the endpoint may have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sent {
    /// Not a byte: any request may go elsewhere.
    None,
    /// Some or all of it; it may have been executed.
    Maybe,
}

/// What happened. The name in lower snake case is the reason in the access record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant's sentence is its text()")]
pub enum Cause {
    BadRequest,
    BadTarget,
    BadHost,
    BadFraming,
    HeadTooLarge,
    TargetTooLong,
    BodyTooLarge,
    DecompressionRatio,
    DecompressionTimeout,
    UnsupportedCoding,
    BadCoding,
    NotImplemented,
    VersionNotSupported,
    ExpectationFailed,
    HeadTimeout,
    BodyTimeout,
    BodyTooSlow,
    SendTimeout,
    ClientGone,
    ResetFlood,
    ProxyHeader,
    NoRoute,
    MethodNotAllowed,
    NoFile,
    FileForbidden,
    FileFailed,
    FileChanged,
    FileLimit,
    NoEndpoint,
    QueueFull,
    QueueTimeout,
    ConnectRefused,
    ConnectTimeout,
    ConnectUnresolved,
    ConnectDenied,
    ConnectUnreachable,
    ConnectFailed,
    ConnectTls,
    UpstreamReset,
    UpstreamClosed,
    UpstreamBadResponse,
    UpstreamTruncated,
    UpstreamUnavailable,
    FirstByteTimeout,
    StreamIdleTimeout,
    RequestTimeout,
    Overload,
    MemoryLimit,
    Internal,
}

impl Cause {
    /// The machine-readable reason, as in the record and in metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::BadTarget => "bad_target",
            Self::BadHost => "bad_host",
            Self::BadFraming => "bad_framing",
            Self::HeadTooLarge => "head_too_large",
            Self::TargetTooLong => "target_too_long",
            Self::BodyTooLarge => "body_too_large",
            Self::DecompressionRatio => "decompression_ratio",
            Self::DecompressionTimeout => "decompression_timeout",
            Self::UnsupportedCoding => "unsupported_coding",
            Self::BadCoding => "bad_coding",
            Self::NotImplemented => "not_implemented",
            Self::VersionNotSupported => "version_not_supported",
            Self::ExpectationFailed => "expectation_failed",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooSlow => "body_too_slow",
            Self::SendTimeout => "send_timeout",
            Self::ClientGone => "client_gone",
            Self::ResetFlood => "reset_flood",
            Self::ProxyHeader => "proxy_header",
            Self::NoRoute => "no_route",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::NoFile => "no_file",
            Self::FileForbidden => "file_forbidden",
            Self::FileFailed => "file_failed",
            Self::FileChanged => "file_changed",
            Self::FileLimit => "file_limit",
            Self::NoEndpoint => "no_endpoint",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectUnresolved => "connect_unresolved",
            Self::ConnectDenied => "connect_denied",
            Self::ConnectUnreachable => "connect_unreachable",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTls => "connect_tls",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamClosed => "upstream_closed",
            Self::UpstreamBadResponse => "upstream_bad_response",
            Self::UpstreamTruncated => "upstream_truncated",
            Self::UpstreamUnavailable => "upstream_unavailable",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::StreamIdleTimeout => "stream_idle_timeout",
            Self::RequestTimeout => "request_timeout",
            Self::Overload => "overload",
            Self::MemoryLimit => "memory_limit",
            Self::Internal => "internal",
        }
    }

    /// A sentence that is safe to show to a client: no address, no name of a part of ours.
    pub fn text(self) -> &'static str {
        match self {
            Self::BadRequest => "The request is malformed.",
            Self::BadTarget => "The request target is malformed.",
            Self::BadHost => "The Host header is missing, repeated or malformed.",
            Self::BadFraming => "The length of the request body is ambiguous or malformed.",
            Self::HeadTooLarge => "The request header fields are too large.",
            Self::TargetTooLong => "The request target is too long.",
            Self::BodyTooLarge => "The request body is larger than allowed.",
            Self::DecompressionRatio => {
                "The request body becomes too much larger when it is decompressed."
            }
            Self::DecompressionTimeout => "The server had no time to decompress the request body.",
            Self::UnsupportedCoding => "The content coding of the request body is not supported.",
            Self::BadCoding => "The request body cannot be decompressed.",
            Self::NotImplemented => "The request asks for something that is not implemented.",
            Self::VersionNotSupported => "The HTTP version is not supported.",
            Self::ExpectationFailed => "The expectation cannot be met.",
            Self::HeadTimeout => "The request did not arrive in time.",
            Self::BodyTimeout => "The request body did not arrive in time.",
            Self::BodyTooSlow => "The request body came too slowly.",
            Self::SendTimeout => "The client did not take the response in time.",
            Self::ClientGone => "The client closed the connection.",
            Self::ResetFlood => "The client resets what it asks for.",
            Self::ProxyHeader => "Nobody who is believed says whose connection it is.",
            Self::NoRoute => "Nothing is served here: no route matches this host and path.",
            Self::MethodNotAllowed => "The method is not allowed here.",
            Self::NoFile => "There is no such file.",
            Self::FileForbidden => "The file may not be read.",
            Self::FileFailed => "The file cannot be read.",
            Self::FileChanged => "The file was changed while it was sent.",
            Self::FileLimit => "The server sends too many files at a time.",
            Self::NoEndpoint => "The service has no endpoint that could answer.",
            Self::QueueFull => "The service is busy and its queue is full.",
            Self::QueueTimeout => "The service is busy; waiting for it took too long.",
            Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::ConnectUnresolved
            | Self::ConnectDenied
            | Self::ConnectUnreachable
            | Self::ConnectFailed
            | Self::ConnectTls => "The service could not be reached.",
            Self::UpstreamReset | Self::UpstreamClosed => {
                "The service closed the connection before it answered."
            }
            Self::UpstreamBadResponse => "The service sent a malformed response.",
            Self::UpstreamTruncated => "The service's response ended early.",
            Self::UpstreamUnavailable => "The service says that it is unavailable.",
            Self::FirstByteTimeout => "The service did not answer in time.",
            Self::StreamIdleTimeout => "The service stopped sending.",
            Self::RequestTimeout => "The request took too long.",
            Self::Overload => "The server has too many connections.",
            Self::MemoryLimit => "The server is short of memory for this request.",
            Self::Internal => "The server failed to handle the request.",
        }
    }
}

/// One failure, with everything that decides what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whose it was.
    pub side: Side,
    /// When in the exchange.
    pub phase: Phase,
    /// What.
    pub cause: Cause,
    /// Whether the endpoint may have seen the request.
    pub sent: Sent,
}

impl Fault {
    /// A fault of the client.
    pub fn client(phase: Phase, cause: Cause) -> Self {
        Self {
            side: Side::Client,
            phase,
            cause,
            sent: Sent::None,
        }
    }

    /// A fault of the endpoint.
    pub fn upstream(phase: Phase, cause: Cause, sent: Sent) -> Self {
        Self {
            side: Side::Upstream,
            phase,
            cause,
            sent,
        }
    }

    /// A limit of ours.
    pub fn outgrow(phase: Phase, cause: Cause) -> Self {
        Self {
            side: Side::Outgrow,
            phase,
            cause,
            sent: Sent::None,
        }
    }

    /// Whether another endpoint could do better. That the request allows it (idempotent, body
    /// still there, nothing forwarded to the client yet) is the caller's to know.
    pub fn another_may_help(self) -> bool {
        self.side == Side::Upstream
            && matches!(
                self.phase,
                Phase::Connect | Phase::Send | Phase::ResponseHead | Phase::Admit
            )
            && !matches!(self.cause, Cause::FirstByteTimeout | Cause::RequestTimeout)
    }

    /// Whether it counts against the endpoint's health. Silence within a response does not: it is
    /// how event streams are, and clients decide how many of them end in the same moment.
    pub fn blames_endpoint(self) -> bool {
        self.side == Side::Upstream
            && match self.cause {
                Cause::RequestTimeout => self.phase == Phase::ResponseHead,
                Cause::StreamIdleTimeout => false,
                _ => true,
            }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} ({:?}, {:?})",
            self.cause.reason(),
            self.side,
            self.phase
        )
    }
}

impl std::error::Error for Fault {}
