//! The hosts that a route matches. How they are looked up is in [`router`](crate::router).

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use outgrow_core::settings::address::is_name;

/// A host as a route writes it; lower case, without port and trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This host only.
    Exact(String),
    /// Every name below; the text starts with the dot: `.example` for `*.example`.
    Below(String),
}

/// Why a text is not a host pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostPatternError {
    /// A lone `*`.
    #[error("leave `host` out to match any host")]
    Any,
    /// A `*` that is not the whole first label.
    #[error("* can only be the whole first label, *.example")]
    Wildcard,
    /// It has a port.
    #[error("a port does not count: every listener serves every route")]
    Port,
    /// It has a scheme or a path.
    #[error("a host has no scheme and no path")]
    Url,
    /// It is not the name of a host.
    #[error("it is neither a name nor an IP address; write names with other letters in punycode")]
    Name,
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => formatter.write_str(host),
            Self::Below(suffix) => write!(formatter, "*{suffix}"),
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        if text == "*" {
            return Err(HostPatternError::Any);
        }
        if text.contains('/') {
            return Err(HostPatternError::Url);
        }
        let host = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if let Some(rest) = host.strip_prefix("*.") {
            return match rest {
                rest if rest.contains('*') => Err(HostPatternError::Wildcard),
                rest if rest.contains(':') => Err(HostPatternError::Port),
                rest if is_name(rest) => Ok(Self::Below(format!(".{rest}"))),
                _ => Err(HostPatternError::Name),
            };
        }
        if host.contains('*') {
            return Err(HostPatternError::Wildcard);
        }
        if let Some(inner) = host.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostPatternError::Port)?;
            inner
                .parse::<Ipv6Addr>()
                .map_err(|_| HostPatternError::Name)?;
            return Ok(Self::Exact(host));
        }
        if host.contains(':') {
            return Err(HostPatternError::Port);
        }
        if host.parse::<std::net::Ipv4Addr>().is_ok() || is_name(&host) {
            return Ok(Self::Exact(host));
        }
        Err(HostPatternError::Name)
    }
}

outgrow_core::text_setting!(HostPattern, "a host", ["shop.example", "*.example"]);
