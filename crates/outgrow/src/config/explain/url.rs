//! The URL of a request to explain: what of it decides.

use std::fmt;

use outgrow_core::settings::Address;
use outgrow_edge::settings::ListenerSettings;
use outgrow_message::path::{PathProblem, normalise};

/// Why a URL cannot be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// A scheme other than http, https, ws and wss.
    Scheme(String),
    /// There is no host in it.
    Host,
    /// What stands where the host is to be is none.
    NoHost(String),
    /// The port is not 1..=65535.
    Port,
    /// The path is one that every listener refuses with 400.
    Path(PathProblem),
}

impl fmt::Display for UrlError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme(scheme) => write!(
                formatter,
                "{scheme:?} is not a scheme that can be explained; write http://, https://, tcp://, \
                 tls://, or the path alone"
            ),
            Self::Host => formatter.write_str("the URL has no host; write http://HOST/PATH"),
            Self::NoHost(host) => write!(
                formatter,
                "{host:?} is neither a host nor a path; write http://HOST/PATH, or the path alone"
            ),
            Self::Port => formatter.write_str("the port must be a number from 1 to 65535"),
            Self::Path(PathProblem::BadEscape) => formatter
                .write_str("a % needs two hexadecimal digits behind it; such a request gets 400"),
            Self::Path(PathProblem::EscapedNul) => {
                formatter.write_str("the path has an escaped NUL; such a request gets 400")
            }
            Self::Path(PathProblem::HiddenDotSegment) => formatter
                .write_str("the path hides a .. behind an escaped slash; such a request gets 400"),
        }
    }
}

impl std::error::Error for UrlError {}

/// The parts of a URL that decide.
pub(super) struct Url {
    /// Whether TLS is asked for; `None` when only a path was given.
    pub(super) tls: Option<bool>,
    /// Empty when only a path was given.
    pub(super) host: String,
    pub(super) port: u16,
    /// Normalised.
    pub(super) path: String,
    /// Without the question mark.
    pub(super) query: Option<String>,
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.split('#').next().unwrap_or_default();
        let (text, query) = match text.split_once('?') {
            Some((text, query)) => (text, Some(query.to_owned())),
            None => (text, None),
        };
        if text.starts_with('/') {
            return Ok(Self {
                tls: None,
                host: String::new(),
                port: 0,
                path: normal_path(text)?,
                query,
            });
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(UrlError::Scheme(scheme.to_owned())),
        };
        let at = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let authority = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let (host, port) = match authority.rsplit_once(':') {
            // The colons of an IPv6 address are inside of brackets.
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (authority, ""),
        };
        if host.is_empty() {
            return Err(UrlError::Host);
        }
        if !is_host(host) {
            return Err(UrlError::NoHost(host.to_owned()));
        }
        let port = match port {
            "" if tls => 443,
            "" => 80,
            port => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or(UrlError::Port)?,
        };
        Ok(Self {
            tls: Some(tls),
            host: host.to_owned(),
            port,
            path: normal_path(if path.is_empty() { "/" } else { path })?,
            query,
        })
    }

    pub(super) fn authority(&self) -> String {
        match (self.tls, self.port) {
            (None, _) => String::new(),
            (Some(true), 443) | (Some(false), 80) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    /// Whether a listener would get the request: its port and whether it speaks TLS decide. The
    /// host is not resolved.
    pub(super) fn reaches(&self, listener: &ListenerSettings) -> Result<(), String> {
        let Some(tls) = self.tls else { return Ok(()) };
        match &listener.address {
            Address::Unix(path) => Err(format!("listens at the socket {}", path.display())),
            Address::Tcp { port, .. } if *port != self.port && *port != 0 => {
                Err(format!("listens at port {port}, the URL has {}", self.port))
            }
            Address::Tcp { .. } if tls && listener.tls.is_none() => {
                Err("does not speak TLS, the URL is https".to_owned())
            }
            Address::Tcp { .. } if !tls && listener.tls.is_some() => {
                Err("speaks TLS only, the URL is http".to_owned())
            }
            Address::Tcp { .. } => Ok(()),
        }
    }
}

/// Whether a request with this host would be taken: a name, an address, or `*` for any name that a
/// wildcard has.
fn is_host(host: &str) -> bool {
    let of_name =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte) || byte >= 0x80;
    match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.bytes().all(of_name),
    }
}

fn normal_path(path: &str) -> Result<String, UrlError> {
    let mut out = Vec::new();
    normalise(path.as_bytes(), &mut out).map_err(UrlError::Path)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}
