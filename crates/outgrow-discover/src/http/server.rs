//! Where a registry answers, as it is written: `http://host:port` or `https://host:port`.

use std::fmt;
use std::str::FromStr;

use outgrow_core::settings::{Address, AddressError};

/// Where a registry answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
    is_encrypted: bool,
}

/// Why a text is no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// It begins with neither `http://` nor `https://`.
    #[error("it begins with http:// or https://")]
    Scheme,
    /// Something follows the port.
    #[error("nothing follows the port")]
    Path,
    /// What follows is no address.
    #[error("{0}")]
    Address(#[from] AddressError),
}

impl Server {
    /// A port of this machine.
    pub fn loopback(port: u16) -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port,
            is_encrypted: false,
        }
    }

    /// A server that is spoken to over TLS.
    pub fn encrypted(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            is_encrypted: true,
        }
    }

    /// Whether it is spoken to over TLS.
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// The name or the address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port as they are written in a request.
    pub fn authority(&self) -> String {
        Address::tcp(self.host.clone(), self.port).to_string()
    }
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        write!(formatter, "{scheme}://{}", self.authority())
    }
}

impl FromStr for Server {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        let (is_encrypted, rest) = match text.strip_prefix("http://") {
            Some(rest) => (false, rest),
            None => (
                true,
                text.strip_prefix("https://").ok_or(ServerError::Scheme)?,
            ),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@']) {
            return Err(ServerError::Path);
        }
        match rest.parse()? {
            Address::Tcp { host, port } if port > 0 => Ok(Self {
                host,
                port,
                is_encrypted,
            }),
            _ => Err(ServerError::Address(AddressError::Port)),
        }
    }
}

outgrow_core::text_setting!(Server, "a server's URL", ["http://127.0.0.1:2379"]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_urls_without_a_path() {
        let check = |text: &str, expected: Result<&str, ServerError>| {
            let read: Result<Server, _> = text.parse();
            assert_eq!(
                read.map(|server| server.to_string()),
                expected.map(str::to_owned)
            );
        };
        check("http://127.0.0.1:2379", Ok("http://127.0.0.1:2379"));
        check("http://etcd:2379/", Ok("http://etcd:2379"));
        check("http://[::1]:1", Ok("http://[::1]:1"));
        check("https://etcd:1", Ok("https://etcd:1"));
        check("https://[fd00::1]:6443/", Ok("https://[fd00::1]:6443"));
        check("HTTPS://etcd:1", Err(ServerError::Scheme));
        check("etcd:1", Err(ServerError::Scheme));
        check("http://etcd:1/v3", Err(ServerError::Path));
        check("http://me@etcd:1", Err(ServerError::Path));
        check(
            "http://etcd",
            Err(ServerError::Address(AddressError::PortMissing)),
        );
        check(
            "http://etcd:0",
            Err(ServerError::Address(AddressError::Port)),
        );
        check("http://unix:/a", Err(ServerError::Path));
    }
}
