//! Where something of an authority's is, as it is written: `https://host[:port]/path`.

use std::fmt;
use std::str::FromStr;

use outgrow_discover::http::{Server, ServerError};

/// A URL with `https://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    server: Server,
    target: String,
}

/// Why a text is no URL of an authority's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Without TLS anybody could be the authority.
    #[error("it begins with https://")]
    Scheme,
    /// The path has something that cannot be sent.
    #[error("the path has a character that is not allowed in a URL")]
    Path,
    /// What is before the path is no server.
    #[error("{0}")]
    Server(#[from] ServerError),
}

impl Url {
    /// Who answers.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        &self.target
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let rest = text.strip_prefix("https://").ok_or(UrlError::Scheme)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let has_port = match authority.rfind(']') {
            Some(bracket) => authority[bracket..].contains(':'),
            None => authority.contains(':'),
        };
        let server = match has_port {
            true => format!("https://{authority}"),
            false => format!("https://{authority}:443"),
        };
        if !target.bytes().all(|byte| byte.is_ascii_graphic()) || target.contains('#') {
            return Err(UrlError::Path);
        }
        let target = match target.starts_with('/') {
            true => target.to_owned(),
            false => format!("/{target}"),
        };
        Ok(Self {
            server: server.parse()?,
            target,
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.server.to_string();
        let server = server.strip_suffix(":443").unwrap_or(&server);
        write!(formatter, "{server}{}", self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_server_and_a_path() {
        let check = |text: &str, host: &str, port: u16, target: &str| {
            let url: Url = text.parse().expect(text);
            let server = url.server();
            assert_eq!((server.host(), server.port()), (host, port), "{text}");
            assert_eq!(url.target(), target, "{text}");
        };
        check("https://ca.example/dir", "ca.example", 443, "/dir");
        check("https://ca.example", "ca.example", 443, "/");
        check(
            "https://127.0.0.1:14000/a?b=c",
            "127.0.0.1",
            14_000,
            "/a?b=c",
        );
        check("https://[::1]/x", "::1", 443, "/x");
        check("https://[::1]:9/x", "::1", 9, "/x");
        for text in [
            "http://a/b",
            "a",
            "https://",
            "https://a/b c",
            "https://a:0/",
            "https://u@a/",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
        let text = "https://ca.example/dir";
        assert_eq!(text.parse::<Url>().expect("a URL").to_string(), text);
    }
}
