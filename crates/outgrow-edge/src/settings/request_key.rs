//! What of a request a choice goes by, as settings write it: `"address"`, `"cookie:session"`.

use std::fmt;
use std::str::FromStr;

use super::token::is_token_character;
use super::{HeaderName, HeaderNameError};

/// Longest name of a cookie or a query key, in bytes.
const NAME_LIMIT: usize = 256;

/// The part of a request that keeps requests together: those in which it is the same are of one
/// user, as far as this setting can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RequestKey {
    /// The client's address. Behind a trusted proxy it is the one that the proxy tells.
    #[default]
    Address,
    /// The holder of the client's certificate (`[listener.NAME.tls.clients]`): its first alternative
    /// name, else its common name, else its fingerprint.
    Certificate,
    /// The normalised path.
    Path,
    /// The value of a header field.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(String),
    /// The value of a key in the query.
    Query(String),
}

/// Why a text is not a part of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestKeyError {
    /// It is none of the words.
    #[error("it is address, certificate, path, header:NAME, cookie:NAME or query:NAME")]
    Word,
    /// The name of a header field is none.
    #[error(transparent)]
    Header(#[from] HeaderNameError),
    /// The name of a cookie or of a query key is empty, too long, or has a character that cannot
    /// stand in it.
    #[error("a name is 1 to 256 letters, digits and -._~ and the like")]
    Name,
}

impl fmt::Display for RequestKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => formatter.write_str("address"),
            Self::Certificate => formatter.write_str("certificate"),
            Self::Path => formatter.write_str("path"),
            Self::Header(name) => write!(formatter, "header:{name}"),
            Self::Cookie(name) => write!(formatter, "cookie:{name}"),
            Self::Query(name) => write!(formatter, "query:{name}"),
        }
    }
}

impl FromStr for RequestKey {
    type Err = RequestKeyError;

    fn from_str(text: &str) -> Result<Self, RequestKeyError> {
        match text.split_once(':') {
            None if text == "address" => Ok(Self::Address),
            None if text == "certificate" => Ok(Self::Certificate),
            None if text == "path" => Ok(Self::Path),
            Some(("header", name)) => Ok(Self::Header(name.parse()?)),
            Some(("cookie", name)) => token(name).map(Self::Cookie),
            Some(("query", name)) => token(name).map(Self::Query),
            _ => Err(RequestKeyError::Word),
        }
    }
}

/// A name that stands in a Cookie field as it is (RFC 6265 section 4.1.1).
fn token(name: &str) -> Result<String, RequestKeyError> {
    if name.is_empty() || name.len() > NAME_LIMIT || !name.chars().all(is_token_character) {
        return Err(RequestKeyError::Name);
    }
    Ok(name.to_owned())
}

outgrow_core::text_setting!(
    RequestKey,
    "a part of a request",
    ["address", "cookie:session", "header:X-User"]
);
