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
            pub const fn name(self) -> &'static str {
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

/// The longest name there is.
const LONGEST: usize = 20;
/// Names of one length and one first letter, at most.
const ALIKE: usize = 2;

/// A name as it is compared: in words, with the bits that the case of a letter makes.
#[derive(Clone, Copy)]
struct Pattern {
    known: Known,
    words: [u64; 3],
    /// 0x20 where a letter stands, so that no other byte is taken for another one.
    cases: [u64; 3],
}

const NOTHING: Pattern = Pattern {
    known: Known::Other,
    words: [0; 3],
    cases: [0; 3],
};

/// By length and by the low five bits of the first byte, which are the same in both cases.
static PATTERNS: [[[Pattern; ALIKE]; 32]; LONGEST + 1] = patterns();

const fn patterns() -> [[[Pattern; ALIKE]; 32]; LONGEST + 1] {
    let mut table = [[[NOTHING; ALIKE]; 32]; LONGEST + 1];
    let mut index = 0;
    while index < Known::ALL.len() {
        let known = Known::ALL[index];
        let name = known.name().as_bytes();
        let mut pattern = Pattern {
            known,
            words: [0; 3],
            cases: [0; 3],
        };
        let mut at = 0;
        while at < name.len() {
            let shift = at % 8 * 8;
            pattern.words[at / 8] |= (name[at] as u64) << shift;
            if name[at].is_ascii_lowercase() {
                pattern.cases[at / 8] |= 0x20 << shift;
            }
            at += 1;
        }
        let row = &mut table[name.len()][(name[0] & 31) as usize];
        let mut free = 0;
        // A third name of its kind would end the compilation here.
        while !matches!(row[free].known, Known::Other) {
            free += 1;
        }
        row[free] = pattern;
        index += 1;
    }
    table
}

impl Known {
    /// The number of a name in any case.
    #[inline]
    pub fn of(name: &[u8]) -> Self {
        let (Some(first), true) = (name.first(), name.len() <= LONGEST) else {
            return Self::Other;
        };
        let row = &PATTERNS[name.len()][usize::from(first & 31)];
        if row[0].known == Self::Other {
            return Self::Other;
        }
        let mut bytes = [0; 24];
        bytes[..name.len()].copy_from_slice(name);
        let (words, _) = bytes.as_chunks::<8>();
        for pattern in row {
            let differs = (0..3).fold(0, |differs, at| {
                let word = u64::from_le_bytes(words[at]) | pattern.cases[at];
                differs | (word ^ pattern.words[at])
            });
            if differs == 0 {
                return pattern.known;
            }
        }
        Self::Other
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

    /// One byte of each name changed to every other: as a comparison of texts says.
    #[test]
    fn no_other_name_is_taken_for_one() {
        for known in Known::ALL {
            let name = known.name().as_bytes();
            for at in 0..name.len() {
                for byte in 0..=u8::MAX {
                    let mut changed = name.to_vec();
                    changed[at] = byte;
                    let same = |one: &&Known| changed.eq_ignore_ascii_case(one.name().as_bytes());
                    let expected = Known::ALL.iter().find(same).copied();
                    let found = Known::of(&changed);
                    assert_eq!(found, expected.unwrap_or(Known::Other), "{changed:?}");
                }
            }
        }
    }
}
