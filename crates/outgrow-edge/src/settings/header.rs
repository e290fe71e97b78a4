//! Header fields in settings: names, values, and what a route sets and removes.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use outgrow_core::settings::{MapKey, TableReader};

use super::token::is_token_character;

/// Fields that say how a message is framed or what concerns one connection only. The engine
/// writes them; a setting that changed them would make the message ambiguous.
const OWNED_BY_THE_ENGINE: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

outgrow_core::settings! {
    /// What is changed in the header fields on the way.
    #[check = check_edits]
    pub struct HeaderEdits {
        /// Fields that are set: one that is there already is replaced, all of its lines. Trailers
        /// (RFC 9110 section 6.5), which come behind a body, are not touched.
        pub set: BTreeMap<HeaderName, HeaderText> = BTreeMap::new();
        /// Fields that are removed, all of their lines. Trailers (RFC 9110 section 6.5), which come
        /// behind a body, are not touched: who makes no difference between them and the head can still
        /// get such a field there.
        pub remove: Vec<HeaderName> = Vec::new();
    }
}

impl HeaderEdits {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// Whether the field is removed.
    pub fn removes(&self, name: &str) -> bool {
        self.remove.iter().any(|removed| removed.is(name))
    }
}

fn check_edits(edits: &HeaderEdits, table: &mut TableReader<'_, '_>) {
    for name in edits.set.keys().filter(|name| edits.remove.contains(name)) {
        let message = format!("{name} is both set and removed");
        table.problem(
            "remove",
            message,
            "`set` replaces the field; it need not be removed",
        );
    }
}

/// The name of a header field: a token (RFC 9110 section 5.6.2), none of those that frame the
/// message. Keeps the letters as they are written; compares without regard to case.
#[derive(Clone, Debug)]
pub struct HeaderName(String);

/// Why a text is not the name of a header field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderNameError {
    /// It is empty.
    #[error("it is empty")]
    Empty,
    /// It is longer than 256 bytes.
    #[error("it has more than 256 bytes")]
    Length,
    /// It has a character that is not one of a token.
    #[error("{0:?} cannot stand in the name of a field")]
    Character(char),
    /// The engine writes this field.
    #[error("this field says how the message is framed, outgrow writes it itself")]
    OwnedByTheEngine,
}

impl HeaderName {
    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is this name, without regard to case.
    pub fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name)
    }

    /// Any token, those of the engine too: for looking at, not for setting.
    pub(super) fn token(text: &str) -> Result<Self, HeaderNameError> {
        match text.len() {
            0 => return Err(HeaderNameError::Empty),
            257.. => return Err(HeaderNameError::Length),
            _ => {}
        }
        match text
            .chars()
            .find(|character| !is_token_character(*character))
        {
            Some(character) => Err(HeaderNameError::Character(character)),
            None => Ok(Self(text.to_owned())),
        }
    }

    fn lower(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.bytes().map(|byte| byte.to_ascii_lowercase())
    }
}

impl PartialEq for HeaderName {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

impl Eq for HeaderName {}

impl PartialOrd for HeaderName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for HeaderName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.lower().cmp(other.lower())
    }
}

impl Hash for HeaderName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.lower().for_each(|byte| state.write_u8(byte));
        state.write_u8(0xff);
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for HeaderName {
    type Err = HeaderNameError;

    fn from_str(text: &str) -> Result<Self, HeaderNameError> {
        let name = Self::token(text)?;
        if OWNED_BY_THE_ENGINE.iter().any(|owned| name.is(owned)) {
            return Err(HeaderNameError::OwnedByTheEngine);
        }
        Ok(name)
    }
}

impl MapKey for HeaderName {
    fn from_key(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|error: HeaderNameError| format!("is not the name of a header field: {error}"))
    }

    fn as_key(&self) -> &str {
        &self.0
    }
}

outgrow_core::text_setting!(
    HeaderName,
    "the name of a header field",
    ["X-Frame-Options"]
);

/// The value of a header field (RFC 9110 section 5.5): no CR, LF, NUL or other control character
/// but the tab, no blank at either end, at most 8 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderText(String);

/// Why a text is not the value of a header field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderTextError {
    /// It has a control character.
    #[error("{0:?} cannot stand in the value of a field")]
    Character(char),
    /// A blank stands at an end.
    #[error("a blank stands at its start or end")]
    Blank,
    /// It is longer than 8 KiB.
    #[error("it has more than 8192 bytes")]
    Length,
}

impl HeaderText {
    /// The value as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HeaderText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for HeaderText {
    type Err = HeaderTextError;

    fn from_str(text: &str) -> Result<Self, HeaderTextError> {
        let is_wrong = |character: &char| character.is_control() && *character != '\t';
        if let Some(character) = text.chars().find(is_wrong) {
            return Err(HeaderTextError::Character(character));
        }
        if text.starts_with([' ', '\t']) || text.ends_with([' ', '\t']) {
            return Err(HeaderTextError::Blank);
        }
        if text.len() > 8192 {
            return Err(HeaderTextError::Length);
        }
        Ok(Self(text.to_owned()))
    }
}

outgrow_core::text_setting!(HeaderText, "the value of a header field", ["DENY"]);
