//! What else a route asks of a request: its method, header fields, query and cookies.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use outgrow_core::settings::MapKey;
use outgrow_message::Method;

use super::HeaderName;
use super::token::is_token_character;

/// Most conditions of a route on header fields, on the query and on cookies, each.
pub const CONDITION_LIMIT: usize = 16;

/// What a route asks of a request besides host and path.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouteConditions<'r> {
    /// The methods; empty: any.
    pub methods: &'r [MethodName],
    /// Header fields.
    pub header: Option<&'r BTreeMap<FieldName, ValuePattern>>,
    /// Keys of the query.
    pub query: Option<&'r BTreeMap<KeyName, ValuePattern>>,
    /// Cookies.
    pub cookie: Option<&'r BTreeMap<KeyName, ValuePattern>>,
}

impl RouteConditions<'_> {
    /// How many there are but the method's.
    pub fn count(&self) -> usize {
        self.header.map_or(0, BTreeMap::len)
            + self.query.map_or(0, BTreeMap::len)
            + self.cookie.map_or(0, BTreeMap::len)
    }
}

/// A method as a route writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MethodName(String);

/// Why a text is not a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MethodNameError {
    /// It has a character that is not one of a token.
    #[error("a method has 1 to 32 letters")]
    Token,
    /// It is not in capitals.
    #[error("methods are written in capitals")]
    Case,
    /// Every listener refuses it.
    #[error("CONNECT is not implemented")]
    Connect,
}

impl MethodName {
    /// The name as it stands in requests.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a request's method is meant: this one, and HEAD where GET is.
    pub fn takes(&self, method: Method, text: &[u8]) -> bool {
        text == self.0.as_bytes() || (method == Method::Head && self.0 == "GET")
    }
}

impl fmt::Display for MethodName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for MethodName {
    type Err = MethodNameError;

    fn from_str(text: &str) -> Result<Self, MethodNameError> {
        if !(1..=32).contains(&text.len()) || !text.chars().all(is_token_character) {
            return Err(MethodNameError::Token);
        }
        if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Err(MethodNameError::Case);
        }
        if text == "CONNECT" {
            return Err(MethodNameError::Connect);
        }
        Ok(Self(text.to_owned()))
    }
}

outgrow_core::text_setting!(MethodName, "a method", ["GET", "POST"]);

/// The name of a header field that is looked at: any name, without regard to case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldName(HeaderName);

impl FieldName {
    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for FieldName {
    type Err = super::HeaderNameError;

    fn from_str(text: &str) -> Result<Self, super::HeaderNameError> {
        HeaderName::token(text).map(Self)
    }
}

impl MapKey for FieldName {
    fn from_key(text: &str) -> Result<Self, String> {
        let named = text.parse();
        named.map_err(|error| format!("is not the name of a header field: {error}"))
    }

    fn as_key(&self) -> &str {
        self.0.as_str()
    }
}

/// The name of a cookie or of a key of the query: 1 to 256 bytes of visible text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl MapKey for KeyName {
    fn from_key(text: &str) -> Result<Self, String> {
        if !(1..=256).contains(&text.len()) || text.chars().any(char::is_control) {
            return Err("cannot be a name: 1 to 256 bytes without control characters".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    fn as_key(&self) -> &str {
        &self.0
    }
}

/// What a value is to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ValuePattern {
    /// `*`: anything, as long as it is there.
    Present,
    /// This text.
    Exact(String),
    /// `text*`
    Prefix(String),
    /// `*text`
    Suffix(String),
}

/// Why a text is not a pattern of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValuePatternError {
    /// A `*` that is neither at the start nor at the end.
    #[error("one * stands alone, at the start or at the end")]
    Star,
    /// It is longer than 1024 bytes.
    #[error("it has more than 1024 bytes")]
    Length,
    /// It has a control character.
    #[error("{0:?} cannot stand in a value")]
    Character(char),
}

impl ValuePattern {
    /// Whether a value, given as its bytes one after the other, matches.
    pub fn matches(&self, mut value: impl Iterator<Item = u8> + Clone) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(text) => value.eq(text.bytes()),
            Self::Prefix(text) => text.bytes().all(|byte| value.next() == Some(byte)),
            Self::Suffix(text) => {
                let length = value.clone().count();
                length
                    .checked_sub(text.len())
                    .is_some_and(|skip| value.skip(skip).eq(text.bytes()))
            }
        }
    }

    /// Whether no value can match both.
    pub fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(text), pattern) | (pattern, Self::Exact(text)) => {
                !pattern.matches(text.bytes())
            }
            (Self::Prefix(one), Self::Prefix(two)) => {
                !one.starts_with(two.as_str()) && !two.starts_with(one.as_str())
            }
            (Self::Suffix(one), Self::Suffix(two)) => {
                !one.ends_with(two.as_str()) && !two.ends_with(one.as_str())
            }
            _ => false,
        }
    }
}

impl fmt::Display for ValuePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => formatter.write_str("*"),
            Self::Exact(text) => formatter.write_str(text),
            Self::Prefix(text) => write!(formatter, "{text}*"),
            Self::Suffix(text) => write!(formatter, "*{text}"),
        }
    }
}

impl FromStr for ValuePattern {
    type Err = ValuePatternError;

    fn from_str(text: &str) -> Result<Self, ValuePatternError> {
        if text.len() > 1024 {
            return Err(ValuePatternError::Length);
        }
        if let Some(character) = text.chars().find(|character| character.is_control()) {
            return Err(ValuePatternError::Character(character));
        }
        let pattern = match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (Some(""), _) => return Ok(Self::Present),
            (None, None) => Self::Exact(text.to_owned()),
            (Some(rest), None) => Self::Suffix(rest.to_owned()),
            (None, Some(rest)) => Self::Prefix(rest.to_owned()),
            (Some(_), Some(_)) => return Err(ValuePatternError::Star),
        };
        match &pattern {
            Self::Exact(rest) | Self::Prefix(rest) | Self::Suffix(rest) if rest.contains('*') => {
                Err(ValuePatternError::Star)
            }
            _ => Ok(pattern),
        }
    }
}

outgrow_core::text_setting!(ValuePattern, "a pattern", ["beta", "*", "v2*", "*.example"]);

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> ValuePattern {
        text.parse().unwrap()
    }

    #[test]
    fn patterns_match_and_exclude() {
        let table = [
            ("*", "", true),
            ("*", "x", true),
            ("", "", true),
            ("", "x", false),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("ab*", "ab", true),
            ("ab*", "abc", true),
            ("ab*", "a", false),
            ("*bc", "abc", true),
            ("*bc", "bc", true),
            ("*bc", "c", false),
        ];
        for (text, value, expected) in table {
            assert_eq!(
                pattern(text).matches(value.bytes()),
                expected,
                "{text} {value}"
            );
            assert_eq!(pattern(text).to_string(), text);
        }
        for text in ["**", "a*b", "*a*", "a**", "a\nb"] {
            assert!(text.parse::<ValuePattern>().is_err(), "{text}");
        }
        let table = [
            ("a", "b", true),
            ("a", "a", false),
            ("ab", "a*", false),
            ("ba", "a*", true),
            ("a*", "b*", true),
            ("a*", "ab*", false),
            ("*a", "*b", true),
            ("*a", "*ba", false),
            ("a*", "*b", false),
            ("*", "a", false),
        ];
        for (one, two, expected) in table {
            assert_eq!(
                pattern(one).excludes(&pattern(two)),
                expected,
                "{one} {two}"
            );
            assert_eq!(
                pattern(two).excludes(&pattern(one)),
                expected,
                "{two} {one}"
            );
        }
    }

    #[test]
    fn methods_are_tokens_in_capitals() {
        for text in ["GET", "PURGE", "M-SEARCH", "PATCH"] {
            assert!(text.parse::<MethodName>().is_ok(), "{text}");
        }
        for text in ["", "get", "Get", "G T", "CONNECT", &"A".repeat(33)] {
            assert!(text.parse::<MethodName>().is_err(), "{text}");
        }
        let get: MethodName = "GET".parse().unwrap();
        assert!(get.takes(Method::Get, b"GET") && get.takes(Method::Head, b"HEAD"));
        assert!(!get.takes(Method::Post, b"POST"));
    }
}
