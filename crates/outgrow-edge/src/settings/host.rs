//! What a route matches: host patterns and path prefixes.
//!
//! How they are looked up is in [`router`](crate::router).

use std::fmt::{self, Write as _};
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

/// A path prefix as a route writes it: `/` or segments without a slash at the end. Compared with
/// normalised paths, so it is normalised alike: escapes of unreserved characters are decoded, the
/// others are in upper case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathPrefix(String);

/// Why a text is not a path prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathPrefixError {
    /// It does not start with a slash.
    #[error("it does not start with /")]
    Slash,
    /// It has a query or a fragment.
    #[error("a query or fragment is not a part of the path")]
    Query,
    /// It has a `*`.
    #[error("it is a prefix already: leave out the *")]
    Star,
    /// It has an empty segment, `.` or `..`: no normalised path starts with it.
    #[error("no path starts with it: empty segments, . and .. are resolved first")]
    Segment,
    /// It has a character that stands in no path.
    #[error("{0:?} cannot stand in a path; write it percent-encoded")]
    Character(char),
    /// A percent sign without two hexadecimal digits.
    #[error("% needs two hexadecimal digits behind it")]
    Escape,
    /// It is longer than 1024 bytes.
    #[error("it has more than 1024 bytes")]
    Length,
}

impl PathPrefix {
    /// The prefix of every path.
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// The prefix: `/`, or without a slash at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for PathPrefix {
    type Err = PathPrefixError;

    fn from_str(text: &str) -> Result<Self, PathPrefixError> {
        if !text.starts_with('/') {
            return Err(PathPrefixError::Slash);
        }
        if text.len() > 1024 {
            return Err(PathPrefixError::Length);
        }
        if text.contains(['?', '#']) {
            return Err(PathPrefixError::Query);
        }
        if text.contains('*') {
            return Err(PathPrefixError::Star);
        }
        let path = normalise_escapes(text)?;
        let path = path.strip_suffix('/').unwrap_or(&path);
        if path.is_empty() {
            return Ok(Self::root());
        }
        let mut segments = path[1..].split('/');
        if segments.any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(PathPrefixError::Segment);
        }
        Ok(Self(path.to_owned()))
    }
}

/// Decodes escapes of unreserved characters (RFC 3986 section 2.3), writes the others in upper
/// case, and refuses what cannot stand in a path (section 3.3).
fn normalise_escapes(text: &str) -> Result<String, PathPrefixError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character == '%' {
            let digit = |character: Option<char>| character.and_then(|digit| digit.to_digit(16));
            let high = digit(rest.next()).ok_or(PathPrefixError::Escape)?;
            let low = digit(rest.next()).ok_or(PathPrefixError::Escape)?;
            let byte = (high * 16 + low) as u8;
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
        } else if character.is_ascii_alphanumeric() || "-._~!$&'()+,;=:@/".contains(character) {
            out.push(character);
        } else {
            return Err(PathPrefixError::Character(character));
        }
    }
    Ok(out)
}

outgrow_core::text_setting!(PathPrefix, "a path prefix", ["/", "/api"]);
