//! Field names that some part of Outgrow acts upon, as small numbers.

macro_rules! known {
    ($($variant:ident = $text:literal,)*) => {
        /// A field name that something here acts upon; [`Known::Other`] for all the rest.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "each variant is the field of that name")]
        pub enum Known { Other, $($variant,)* }

        impl Known {
            /// The name in lower case; empty for [`Known::Other`].
            pub fn name(self) -> &'static str {
                match self { Self::Other => "", $(Self::$variant => $text,)* }
            }

            /// All names but [`Known::Other`].
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
        }
    };
}

known! {
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    AcceptLanguage = "accept-language",
    Authorization = "authorization",
    CacheControl = "cache-control",
    Connection = "connection",
    ContentEncoding = "content-encoding",
    ContentLength = "content-length",
    ContentType = "content-type",
    Cookie = "cookie",
    Date = "date",
    Etag = "etag",
    Expect = "expect",
    Forwarded = "forwarded",
    Host = "host",
    Http2Settings = "http2-settings",
    IdempotencyKey = "idempotency-key",
    KeepAlive = "keep-alive",
    Location = "location",
    MaxForwards = "max-forwards",
    Origin = "origin",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthorization = "proxy-authorization",
    ProxyConnection = "proxy-connection",
    Referer = "referer",
    RetryAfter = "retry-after",
    SecWebsocketAccept = "sec-websocket-accept",
    SecWebsocketKey = "sec-websocket-key",
    Server = "server",
    SetCookie = "set-cookie",
    Te = "te",
    Traceparent = "traceparent",
    Trailer = "trailer",
    TransferEncoding = "transfer-encoding",
    Upgrade = "upgrade",
    UserAgent = "user-agent",
    Vary = "vary",
    Via = "via",
    XForwardedFor = "x-forwarded-for",
    XForwardedHost = "x-forwarded-host",
    XForwardedPort = "x-forwarded-port",
    XForwardedProto = "x-forwarded-proto",
    XRequestId = "x-request-id",
}

const fn candidates(length: usize, first: u8) -> &'static [Known] {
    use Known as K;
    match (length, first) {
        (2, b't') => &[K::Te],
        (3, b'v') => &[K::Via],
        (4, b'd') => &[K::Date],
        (4, b'e') => &[K::Etag],
        (4, b'h') => &[K::Host],
        (4, b'v') => &[K::Vary],
        (6, b'a') => &[K::Accept],
        (6, b'c') => &[K::Cookie],
        (6, b'e') => &[K::Expect],
        (6, b'o') => &[K::Origin],
        (6, b's') => &[K::Server],
        (7, b'r') => &[K::Referer],
        (7, b't') => &[K::Trailer],
        (7, b'u') => &[K::Upgrade],
        (8, b'l') => &[K::Location],
        (9, b'f') => &[K::Forwarded],
        (10, b'c') => &[K::Connection],
        (10, b'k') => &[K::KeepAlive],
        (10, b's') => &[K::SetCookie],
        (10, b'u') => &[K::UserAgent],
        (11, b'r') => &[K::RetryAfter],
        (11, b't') => &[K::Traceparent],
        (12, b'c') => &[K::ContentType],
        (12, b'm') => &[K::MaxForwards],
        (12, b'x') => &[K::XRequestId],
        (13, b'a') => &[K::Authorization],
        (13, b'c') => &[K::CacheControl],
        (14, b'c') => &[K::ContentLength],
        (14, b'h') => &[K::Http2Settings],
        (15, b'a') => &[K::AcceptEncoding, K::AcceptLanguage],
        (15, b'i') => &[K::IdempotencyKey],
        (15, b'x') => &[K::XForwardedFor],
        (16, b'c') => &[K::ContentEncoding],
        (16, b'p') => &[K::ProxyConnection],
        (16, b'x') => &[K::XForwardedHost, K::XForwardedPort],
        (17, b's') => &[K::SecWebsocketKey],
        (17, b't') => &[K::TransferEncoding],
        (17, b'x') => &[K::XForwardedProto],
        (18, b'p') => &[K::ProxyAuthenticate],
        (19, b'p') => &[K::ProxyAuthorization],
        (20, b's') => &[K::SecWebsocketAccept],
        _ => &[],
    }
}

impl Known {
    /// The number of a name in any case.
    #[inline]
    pub fn of(name: &[u8]) -> Self {
        let Some(first) = name.first() else {
            return Self::Other;
        };
        candidates(name.len(), first.to_ascii_lowercase())
            .iter()
            .copied()
            .find(|known| name.eq_ignore_ascii_case(known.name().as_bytes()))
            .unwrap_or(Self::Other)
    }

    /// Whether the field speaks of one connection only and is never forwarded
    /// (RFC 9110 section 7.6.1; `Proxy-Authenticate` and `Proxy-Authorization` as in 11.7).
    #[inline]
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::Te
                | Self::Trailer
                | Self::TransferEncoding
                | Self::Upgrade
                | Self::Http2Settings
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case() {
        for &known in Known::ALL {
            assert_eq!(
                Known::of(known.name().as_bytes()),
                known,
                "{}",
                known.name()
            );
            assert_eq!(Known::of(known.name().to_uppercase().as_bytes()), known);
        }
        for other in [
            "",
            "x",
            "hos",
            "hostt",
            "content-lengtH2",
            "transfer_encoding",
        ] {
            assert_eq!(Known::of(other.as_bytes()), Known::Other, "{other}");
        }
        assert!(Known::ALL.len() < 63, "the presence set is one word");
    }
}
