//! Addresses as they are written in the file: `host:port` or `unix:/path`.
//!
//! No name is resolved here.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Longest path of a Unix socket, in bytes: `sockaddr_un` has 108 with the closing NUL.
const UNIX_PATH_LIMIT: usize = 107;

/// An address to listen at or to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// TCP: an IP address or a name, and a port.
    Tcp {
        /// The IP address without brackets, or a name.
        host: String,
        /// 0..=65535; 0 is any free one, for listening only.
        port: u16,
    },
    /// A Unix socket in the file system.
    Unix(PathBuf),
}

/// Why a text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no colon in it.
    #[error("the port is missing")]
    PortMissing,
    /// What follows the last colon is not 0..=65535.
    #[error("the port must be a number up to 65535")]
    Port,
    /// Nothing stands before the port.
    #[error("the host is missing; 0.0.0.0 is every IPv4 address, [::] every address")]
    HostMissing,
    /// The host is neither an IP address nor a name.
    #[error("the host is neither an IP address nor a name")]
    Host,
    /// An IPv6 address has no brackets.
    #[error("an IPv6 address stands in brackets, [::1]:80")]
    Brackets,
    /// It starts like a URL.
    #[error("an address has no scheme: leave out what stands before ://")]
    Scheme,
    /// Nothing stands behind `unix:`.
    #[error("the path of the socket is missing")]
    PathMissing,
    /// The path is longer than the system allows.
    #[error("the path of a socket has at most 107 bytes")]
    PathTooLong,
    /// The path has a NUL byte.
    #[error("a path has no NUL byte")]
    PathNul,
}

impl Address {
    /// A TCP address.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self::Tcp {
            host: host.into(),
            port,
        }
    }

    /// The address of the socket when the host is an IP address: nothing needs to be resolved.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp { host, port } => {
                let ip: IpAddr = host.parse().ok()?;
                Some(SocketAddr::new(ip, *port))
            }
            Self::Unix(_) => None,
        }
    }

    /// Whether only this machine can reach it: 127.0.0.0/8, ::1, `localhost` or a Unix socket.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => {
                host.eq_ignore_ascii_case("localhost")
                    || host
                        .parse::<IpAddr>()
                        .is_ok_and(|ip| ip.to_canonical().is_loopback())
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => {
                write!(formatter, "[{host}]:{port}")
            }
            Self::Tcp { host, port } => write!(formatter, "{host}:{port}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        if text.contains("://") {
            return Err(AddressError::Scheme);
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            // `8080` is a port to whoever writes it.
            let is_port = text.parse::<u16>().is_ok();
            return Err(match is_port {
                true => AddressError::HostMissing,
                false => AddressError::PortMissing,
            });
        };
        let host = host_of(host)?;
        if port.is_empty() {
            return Err(AddressError::PortMissing);
        }
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AddressError::Port);
        }
        let port = port.parse().map_err(|_| AddressError::Port)?;
        Ok(Self::Tcp { host, port })
    }
}

fn unix(path: &str) -> Result<Address, AddressError> {
    match path.len() {
        0 => Err(AddressError::PathMissing),
        1..=UNIX_PATH_LIMIT if path.contains('\0') => Err(AddressError::PathNul),
        1..=UNIX_PATH_LIMIT => Ok(Address::Unix(PathBuf::from(path))),
        _ => Err(AddressError::PathTooLong),
    }
}

fn host_of(host: &str) -> Result<String, AddressError> {
    if host.is_empty() {
        return Err(AddressError::HostMissing);
    }
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or(AddressError::Brackets)?;
        let ip: std::net::Ipv6Addr = inner.parse().map_err(|_| AddressError::Host)?;
        return Ok(ip.to_string());
    }
    if host.contains(':') {
        return Err(AddressError::Brackets);
    }
    if host.parse::<IpAddr>().is_ok() || is_name(host) {
        return Ok(host.to_ascii_lowercase());
    }
    Err(AddressError::Host)
}

/// Whether the text can be the name of a host: labels of up to 63 letters, digits, `-` and `_`,
/// at most 253 bytes; all digits and dots is not a name but a wrong IPv4 address.
pub fn is_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label_is_right = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let last_is_number = text
        .rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    (1..=253).contains(&text.len()) && !last_is_number && text.split('.').all(label_is_right)
}

crate::text_setting!(
    Address,
    "an address",
    ["127.0.0.1:8080", "unix:/run/app.sock"]
);
