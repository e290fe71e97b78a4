//! The path that a probe asks for: sent as it is written.

use std::fmt;
use std::str::FromStr;

/// A path with an optional query, as it stands in a request line (origin-form, RFC 9112 section
/// 3.2.1): starts with `/`, visible ASCII only, no fragment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestPath(String);

/// Why a text is not a path that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestPathError {
    /// It does not start with a slash.
    #[error("it does not start with /")]
    Slash,
    /// It has a character that cannot stand in a request line.
    #[error("{0:?} cannot stand in a path; write it percent-encoded")]
    Character(char),
    /// It is longer than 1024 bytes.
    #[error("it has more than 1024 bytes")]
    Length,
}

impl RequestPath {
    /// The path as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for RequestPath {
    fn default() -> Self {
        Self("/".to_owned())
    }
}

impl fmt::Display for RequestPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for RequestPath {
    type Err = RequestPathError;

    fn from_str(text: &str) -> Result<Self, RequestPathError> {
        if !text.starts_with('/') {
            return Err(RequestPathError::Slash);
        }
        if text.len() > 1024 {
            return Err(RequestPathError::Length);
        }
        let is_wrong = |character: &char| {
            !character.is_ascii_graphic() || matches!(character, '#' | '"' | '<' | '>' | '\\')
        };
        match text.chars().find(is_wrong) {
            Some(character) => Err(RequestPathError::Character(character)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

crate::text_setting!(RequestPath, "a path", ["/readyz"]);
