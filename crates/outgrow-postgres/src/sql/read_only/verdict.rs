//! What a proof ends with, and why.

use std::fmt;

/// Whether a text only reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It only reads, and reads nothing that is different on a replica: proven by its names.
    ReadOnly,
    /// A hint says so, and no keyword says otherwise; who wrote it answers for it.
    Claimed,
    /// A keyword says that it writes, locks rows, or does what no replica can.
    Writes(Finding),
    /// It may write, or answer differently on a replica.
    Unproven(Finding),
}

impl Verdict {
    /// Whether a replica may execute it.
    pub fn allows_replica(&self) -> bool {
        matches!(self, Self::ReadOnly | Self::Claimed)
    }

    /// Of what replicas have refused, whatever was proven of it.
    pub(crate) fn refused() -> Self {
        Self::Unproven(Finding {
            cause: Cause::Refused,
            token: Excerpt::default(),
        })
    }

    /// What stands in the way of a replica.
    pub fn finding(&self) -> Option<&Finding> {
        match self {
            Self::ReadOnly | Self::Claimed => None,
            Self::Writes(finding) | Self::Unproven(finding) => Some(finding),
        }
    }

    /// The worse one; of two equal ones the first.
    pub(crate) fn worse(self, other: Self) -> Self {
        let badness = |verdict: &Self| match verdict {
            Self::ReadOnly => 0,
            Self::Claimed => 1,
            Self::Unproven(_) => 2,
            Self::Writes(_) => 3,
        };
        if badness(&other) > badness(&self) {
            other
        } else {
            self
        }
    }
}

/// Why, and by which token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// Why.
    pub cause: Cause,
    /// The token that says so.
    pub token: Excerpt,
}

/// Why a text is not proven to only read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The statement is of a kind that writes, or that replicas refuse.
    Statement,
    /// A keyword that writes stands in it: `INSERT`, `UPDATE`, `DELETE`, `MERGE`, `CREATE` in a part of `WITH`.
    Keyword,
    /// It locks rows: `FOR UPDATE`, `FOR SHARE`.
    RowLock,
    /// It makes a table: `SELECT … INTO`.
    Into,
    /// A function of this name is volatile, or may call one that is, or answers for one server only.
    Function,
    /// No function of this name was there when the catalogue was loaded.
    UnknownFunction,
    /// A function of this name may be called by `row.name`.
    Attribute,
    /// A relation of this name is a view that calls such a function or locks rows, a sequence, a foreign or
    /// unlogged table, or has a policy that calls such a function.
    Relation,
    /// A type of this name has a check, a cast or a part that calls such a function.
    Type,
    /// An operator of this name calls such a function.
    Operator,
    /// A setting whose value may be another one on a replica, or cannot be told.
    Setting,
    /// It changes or asks for what belongs to the session: settings, listening, prepared statements.
    Session,
    /// It executes a prepared statement by name: it does what that one was proven to do, with arguments
    /// that only read.
    Prepared,
    /// It goes on with a cursor, on the connection where that was opened.
    Cursor,
    /// Replicas have no serializable transactions, and none that write.
    Transaction,
    /// A hint asks for the primary.
    Hint,
    /// A name that cannot be compared: with Unicode escapes, longer than the server's, or not ASCII where
    /// that matters.
    Name,
    /// A token that cannot be told.
    Lexical,
    /// A replica has refused it.
    Refused,
    /// The catalogue is not loaded or useless ([`Catalogue::useless`](super::Catalogue::useless)).
    Catalogue,
}

impl Cause {
    /// What it is called in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Statement => "statement",
            Self::Keyword => "keyword",
            Self::RowLock => "row_lock",
            Self::Into => "into",
            Self::Function => "function",
            Self::UnknownFunction => "unknown_function",
            Self::Attribute => "attribute",
            Self::Relation => "relation",
            Self::Type => "type",
            Self::Operator => "operator",
            Self::Setting => "setting",
            Self::Session => "session",
            Self::Prepared => "prepared",
            Self::Cursor => "cursor",
            Self::Transaction => "transaction",
            Self::Hint => "hint",
            Self::Name => "name",
            Self::Lexical => "lexical",
            Self::Refused => "refused",
            Self::Catalogue => "catalogue",
        }
    }
}

/// Bytes of an excerpt at most.
const LONGEST_EXCERPT: usize = 30;

/// The beginning of a token, in place.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Excerpt {
    bytes: [u8; LONGEST_EXCERPT],
    length: u8,
}

impl Excerpt {
    pub(crate) fn of(token: &[u8]) -> Self {
        let length = token.len().min(LONGEST_EXCERPT);
        let mut bytes = [0; LONGEST_EXCERPT];
        bytes[..length].copy_from_slice(&token[..length]);
        Self {
            bytes,
            length: length as u8,
        }
    }

    /// Its bytes, at most 30.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} `{}`", self.cause.as_str(), self.token)
    }
}
