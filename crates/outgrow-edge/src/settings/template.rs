//! Texts with names in braces that a request fills in: the path and the host of a rewrite, the
//! target of a redirect. How they are filled in is in [`rewrite`](crate::rewrite).

use std::fmt;
use std::str::FromStr;

/// Longest template, in bytes.
const LENGTH_LIMIT: usize = 1024;
/// Most names in one template.
const NAME_LIMIT: usize = 16;

/// One piece of a template.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Piece {
    /// This text.
    Text(String),
    /// What the name in braces stands for.
    Name(String),
}

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without its other one, or with nothing between.
    #[error("a name stands in braces: {{name}}")]
    Braces,
    /// It is longer than 1024 bytes or has more than 16 names.
    #[error("it has more than 1024 bytes or 16 names")]
    Length,
    /// It has a character that cannot stand there.
    #[error("{0:?} cannot stand in it; write it percent-encoded")]
    Character(char),
    /// A percent sign without two hexadecimal digits.
    #[error("% needs two hexadecimal digits behind it")]
    Escape,
    /// A path that does not start with a slash.
    #[error("it does not start with /")]
    Slash,
    /// A path with an empty segment.
    #[error("it has an empty segment, . or ..")]
    Segment,
    /// A path with a query.
    #[error("the query is kept as it is and is no part of the path")]
    Query,
    /// A name that can only stand elsewhere.
    #[error("{{{0}}} cannot stand there")]
    Name(String),
    /// A redirect to neither a path nor a URL.
    #[error("it starts with neither / nor {{path}} nor http:// nor https://")]
    Target,
    /// A URL without a host, or with a name other than `{host}` in it.
    #[error(
        "between the scheme and the first / stands a host, or {{host}}, with or without a port: \
         what a request says must not decide where to"
    )]
    Authority,
    /// Not the name of a host.
    #[error("it is not the name of a host, with or without a port")]
    Host,
}

fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    if text.len() > LENGTH_LIMIT {
        return Err(TemplateError::Length);
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let at = rest.find(['{', '}']).unwrap_or(rest.len());
        if at > 0 {
            pieces.push(Piece::Text(rest[..at].to_owned()));
        }
        rest = &rest[at..];
        if rest.is_empty() {
            break;
        }
        let inner = rest.strip_prefix('{').ok_or(TemplateError::Braces)?;
        let (name, behind) = inner.split_once('}').ok_or(TemplateError::Braces)?;
        if name.is_empty() || name.contains('{') {
            return Err(TemplateError::Braces);
        }
        pieces.push(Piece::Name(name.to_owned()));
        rest = behind;
    }
    let names = pieces
        .iter()
        .filter(|piece| matches!(piece, Piece::Name(_)));
    if names.count() > NAME_LIMIT {
        return Err(TemplateError::Length);
    }
    Ok(pieces)
}

/// The texts between the names may have these characters.
fn check_texts(pieces: &[Piece], others: &str) -> Result<(), TemplateError> {
    for piece in pieces {
        let Piece::Text(text) = piece else { continue };
        let is_wrong =
            |character: &char| !character.is_ascii_alphanumeric() && !others.contains(*character);
        if let Some(character) = text.chars().find(is_wrong) {
            return Err(TemplateError::Character(character));
        }
        let is_hex = |escape: &str| {
            let digits = escape.as_bytes().get(..2);
            digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        };
        if !text.split('%').skip(1).all(is_hex) {
            return Err(TemplateError::Escape);
        }
    }
    Ok(())
}

macro_rules! template {
    ($(#[doc = $doc:literal])* $name:ident, $what:literal, [$($example:literal),+]) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            text: String,
            pieces: Vec<Piece>,
        }

        impl $name {
            /// Its pieces.
            pub fn pieces(&self) -> &[Piece] {
                &self.pieces
            }

            /// The names in it.
            pub fn names(&self) -> impl Iterator<Item = &str> {
                self.pieces.iter().filter_map(|piece| match piece {
                    Piece::Name(name) => Some(name.as_str()),
                    Piece::Text(_) => None,
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.text)
            }
        }

        impl FromStr for $name {
            type Err = TemplateError;

            fn from_str(text: &str) -> Result<Self, TemplateError> {
                let pieces = pieces(text)?;
                Self::check(text, &pieces)?;
                Ok(Self { text: text.to_owned(), pieces })
            }
        }

        outgrow_core::text_setting!($name, $what, [$($example),+]);
    };
}

template!(
    /// The path that is sent instead of the request's own.
    PathTemplate, "a path with names", ["/v2/{rest}", "/users/{id}"]
);

impl PathTemplate {
    fn check(text: &str, pieces: &[Piece]) -> Result<(), TemplateError> {
        if !text.starts_with('/') {
            return Err(TemplateError::Slash);
        }
        if text.contains(['?', '#']) {
            return Err(TemplateError::Query);
        }
        check_texts(pieces, "-._~!$&'()*+,;=:@/%")?;
        let mut segments = text.split('/').skip(1).peekable();
        while let Some(segment) = segments.next() {
            let is_last = segments.peek().is_none();
            if matches!(segment, "." | "..") || (segment.is_empty() && !is_last) {
                return Err(TemplateError::Segment);
            }
        }
        Ok(())
    }
}

template!(
    /// The host that is sent instead of the request's own.
    HostTemplate, "a host with names", ["inner.example", "{shop}.internal:8080"]
);

impl HostTemplate {
    fn check(text: &str, pieces: &[Piece]) -> Result<(), TemplateError> {
        check_texts(pieces, "-._:[]")?;
        let sample = text.replace(['{', '}'], "");
        let (host, port) = match sample.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (sample.as_str(), None),
        };
        let port_is_right = port.is_none_or(|port| port.parse::<u16>().is_ok());
        let host_is_right = if let Some(inner) = host.strip_prefix('[') {
            inner
                .strip_suffix(']')
                .is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
        } else {
            !host.is_empty() && !host.contains([':', '[', ']'])
        };
        if host_is_right && port_is_right {
            Ok(())
        } else {
            Err(TemplateError::Host)
        }
    }
}

template!(
    /// Where a redirect leads.
    RedirectTarget, "the target of a redirect", ["https://{host}{path}", "/new/{rest}"]
);

impl RedirectTarget {
    fn check(text: &str, pieces: &[Piece]) -> Result<(), TemplateError> {
        check_texts(pieces, "-._~!$&'()*+,;=:@/%?#[]")?;
        let behind = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"));
        let path = match behind {
            // What begins with two slashes is a host without a scheme: never by accident.
            None if text.starts_with('/') && !text.starts_with("//") => text,
            None if text.starts_with("{path}") => text,
            None => return Err(TemplateError::Target),
            Some(behind) => {
                let end = behind.find(['/', '?', '#']).unwrap_or(behind.len());
                let end = behind.find("{path}").map_or(end, |path| path.min(end));
                let (authority, path) = behind.split_at(end);
                let authority = authority.replacen("{host}", "host", 1);
                let host = authority.parse::<HostTemplate>();
                if host
                    .map_err(|_| TemplateError::Authority)?
                    .names()
                    .next()
                    .is_some()
                {
                    return Err(TemplateError::Authority);
                }
                path
            }
        };
        if path.contains("{host}") {
            return Err(TemplateError::Name("host".to_owned()));
        }
        // A query is not normalised: in a path it could make two slashes.
        let before_query = path.split('?').next().unwrap_or_default();
        if before_query.contains("{query}") {
            return Err(TemplateError::Name("query".to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_hosts_are_checked() {
        for text in ["/", "/a/{rest}", "/{rest}", "/{a}{b}/", "/a%20b"] {
            assert!(text.parse::<PathTemplate>().is_ok(), "{text}");
        }
        for text in [
            "", "a", "{rest}", "//a", "/a//b", "/../a", "/a?b", "/a%zz", "/{", "/}", "/{}", "/a b",
        ] {
            assert!(text.parse::<PathTemplate>().is_err(), "{text}");
        }
        for text in [
            "a",
            "a.example:80",
            "{shop}.internal",
            "[::1]:80",
            "10.0.0.1",
        ] {
            assert!(text.parse::<HostTemplate>().is_ok(), "{text}");
        }
        for text in ["", ":80", "a:b", "a/b", "a b", "a:1:2", "[::1", "http://a"] {
            assert!(text.parse::<HostTemplate>().is_err(), "{text}");
        }
    }

    /// Nothing that a request says decides to which host it is sent, but its own Host.
    #[test]
    fn targets_of_redirects_cannot_lead_anywhere() {
        let right = [
            "/new/{rest}",
            "{path}",
            "{path}/",
            "https://{host}{path}",
            "https://{host}:8443/x/{id}",
            "https://other.example",
            "https://other.example?a={query}",
            "http://[::1]:80/{rest}#top",
        ];
        for text in right {
            assert!(text.parse::<RedirectTarget>().is_ok(), "{text}");
        }
        let wrong = [
            "",
            "new",
            "{rest}",
            "//evil.example/",
            "/\\evil.example",
            "https://",
            "https:///x",
            "https://{id}.example/",
            "https://example.com{rest}",
            "https://{host}{rest}",
            "https://{host}{query}",
            "https://a@b/",
            "/x/{host}",
            "/{query}",
            "ftp://a/",
            "/a\r\nSet-Cookie: b",
        ];
        for text in wrong {
            assert!(text.parse::<RedirectTarget>().is_err(), "{text}");
        }
    }
}
