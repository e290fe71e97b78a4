//! What is wrong with a file, and where, in the words that PgBouncer logs.
//!
//! Values of databases and users are never told: there are passwords among them.

use outgrow_core::settings::nearest;

use super::value::ValueError;

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} ({}:{})", .place.file, .place.line)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What.
    pub kind: ProblemKind,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProblemKind {
    /// The line is no section, setting, include or comment.
    #[error("syntax error in configuration")]
    Syntax,
    /// There is no such section.
    #[error("invalid section \"{0}\" in configuration")]
    Section(String),
    /// The setting stands before any section.
    #[error("value without section: {0}")]
    NoSection(String),
    /// There is no section `[pgbouncer]`; the place is the end of the file.
    #[error("main section missing from config file")]
    NoMainSection,
    /// There is no such setting; the second is the one that was most likely meant.
    #[error("unknown parameter: pgbouncer/{name}{}", hint(*.nearest))]
    UnknownSetting {
        /// The name in the file.
        name: String,
        /// The setting that was most likely meant.
        nearest: Option<&'static str>,
    },
    /// The setting cannot have this value.
    #[error("invalid value \"{value}\" for parameter {name} in configuration: {reason}")]
    Value {
        /// The setting.
        name: String,
        /// The value in the file.
        value: String,
        /// What is wrong with it.
        reason: ValueError,
    },
    /// What stands behind a database or peer is no sequence of `key=value`.
    #[error("syntax error in connection string")]
    ConnectionString,
    /// What stands behind a user is no sequence of `key=value`.
    #[error("syntax error in user settings")]
    UserSettings,
    /// A database, user or peer has no such setting.
    #[error("unrecognized connection parameter: {key}{}", hint(*.nearest))]
    UnknownKey {
        /// The key in the file.
        key: String,
        /// The key that was most likely meant.
        nearest: Option<&'static str>,
    },
    /// The setting of a database, user or peer cannot have this value.
    #[error("invalid {key}: {reason}")]
    KeyValue {
        /// The key in the file.
        key: String,
        /// What is wrong with its value.
        reason: ValueError,
    },
    /// The console's name.
    #[error("database name \"{0}\" is reserved")]
    ReservedName(String),
    /// Longer than names are at servers.
    #[error("too long name: {0}")]
    LongName(String),
    /// The name of a peer.
    #[error("ids of peers must be a number larger than 0 and at most 65535")]
    PeerId,
    /// A peer without its host.
    #[error("host was not provided for peer {0}")]
    PeerHost(u16),
    /// An included file cannot be read; the second says why.
    #[error("could not load file \"{0}\": {1}")]
    Include(String, String),
    /// Files include each other more than ten deep, most likely in a circle.
    #[error("include nesting level too deep")]
    IncludeDepth,
    /// More files than anybody has.
    #[error("too many files are included")]
    IncludeCount,
}

impl ProblemKind {
    /// A key of a database, user or peer that is refused; without a reason it is not known.
    pub(super) fn entry(key: &str, reason: Option<ValueError>, known: &[&'static str]) -> Self {
        let key = key.to_owned();
        match reason {
            Some(reason) => Self::KeyValue { key, reason },
            None => Self::UnknownKey {
                nearest: nearest_of(&key, known.iter().copied()),
                key,
            },
        }
    }
}

/// The one of `known` that was most likely meant by `name`.
pub(super) fn nearest_of(
    name: &str,
    known: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    nearest(name, known)
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!(" (did you mean {nearest}?)"))
}
