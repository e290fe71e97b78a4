//! What a route by ClientHello looks for: server names and application protocols.

use std::fmt;
use std::str::FromStr;

use outgrow_core::settings::address::is_name;

/// Longest name of a protocol, in bytes (RFC 7301 section 3.1).
const LONGEST_PROTOCOL: usize = 255;

/// A server name as a route writes it; lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerNamePattern {
    /// This name only.
    Exact(String),
    /// Every name below; the text starts with the dot: `.example` for `*.example`.
    Below(String),
}

/// Why a text is not a server name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerNamePatternError {
    /// A lone `*`.
    #[error("leave `server_name` out to match any")]
    Any,
    /// A `*` that is not the whole first label.
    #[error("* can only be the whole first label, *.example")]
    Wildcard,
    /// It is no name.
    #[error("it is not the name of a host; SNI has no addresses and no ports")]
    Name,
}

impl fmt::Display for ServerNamePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => formatter.write_str(name),
            Self::Below(suffix) => write!(formatter, "*{suffix}"),
        }
    }
}

impl FromStr for ServerNamePattern {
    type Err = ServerNamePatternError;

    fn from_str(text: &str) -> Result<Self, ServerNamePatternError> {
        if text == "*" {
            return Err(ServerNamePatternError::Any);
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let (is_below, rest) = match name.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, name.as_str()),
        };
        if rest.contains('*') {
            return Err(ServerNamePatternError::Wildcard);
        }
        if !is_name(rest) || rest.parse::<std::net::IpAddr>().is_ok() {
            return Err(ServerNamePatternError::Name);
        }
        Ok(match is_below {
            true => Self::Below(format!(".{rest}")),
            false => Self::Exact(name),
        })
    }
}

outgrow_core::text_setting!(
    ServerNamePattern,
    "a server name",
    ["shop.example", "*.example"]
);

/// An application protocol as ALPN names it: `h2`, `http/1.1`, `imap`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlpnName(String);

/// Why a text is not the name of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a protocol has 1 to 255 visible ASCII characters")]
pub struct AlpnNameError;

impl AlpnName {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for AlpnName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for AlpnName {
    type Err = AlpnNameError;

    fn from_str(text: &str) -> Result<Self, AlpnNameError> {
        let is_good = (1..=LONGEST_PROTOCOL).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_good.then(|| Self(text.to_owned())).ok_or(AlpnNameError)
    }
}

outgrow_core::text_setting!(AlpnName, "a protocol", ["h2", "http/1.1"]);
