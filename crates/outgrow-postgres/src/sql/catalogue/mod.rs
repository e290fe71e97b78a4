//! What a database's catalogue says about names: which functions are known, and which names are suspect
//! because something of that name may write or answer differently on a replica.
//!
//! It is built of the rows of [`LOAD`] and never changes; a new one takes its place. By names only, whatever
//! their schema: a name is suspect when anything of it is. Functions are believed what they are declared
//! to be: one in PL/pgSQL that is wrongly declared `STABLE` is taken for one that only reads (the server
//! lets it do nothing but call volatile ones).
//!
//! It is out of date from the moment when somebody changes a definition until it is loaded again: after a
//! definition that was seen here ([`Facts::defines`](super::facts::Facts::defines)) and, for those of
//! others, when [`GENERATION`] answers differently, every few seconds. In between, functions that are new
//! are unknown and so nothing is proven of who calls them; what is missed are functions that became
//! volatile and relations that became views.

mod query;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;

use super::lexer::Token;
use super::name::Key;
use query::kind;
pub use query::{GENERATION, LOAD};
use table::Table;

/// Constructs of the grammar that look like calls and of which older versions know nothing, by the
/// version that they came with.
const CONSTRUCTS: [(&str, u32); 11] = [
    ("json_array", 160_000),
    ("json_arrayagg", 160_000),
    ("json_object", 160_000),
    ("json_objectagg", 160_000),
    ("json", 170_000),
    ("json_scalar", 170_000),
    ("json_serialize", 170_000),
    ("json_exists", 170_000),
    ("json_query", 170_000),
    ("json_value", 170_000),
    ("json_table", 170_000),
];

/// Operators that are used without being named: by `IN`, `BETWEEN`, `LIKE`, `CASE`, `USING`, rows and
/// negative numbers.
const IMPLICIT_OPERATORS: [&[u8]; 14] = [
    b"=", b"<>", b"<", b">", b"<=", b">=", b"~~", b"!~~", b"~~*", b"!~~*", b"~", b"!~", b"-", b"+",
];

/// How much a catalogue may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Names.
    pub names: usize,
    /// Bytes of all names.
    pub bytes: usize,
}

impl Default for Limits {
    /// 250,000 names of together 8 MiB: of databases with more nothing is proven.
    fn default() -> Self {
        Self {
            names: 250_000,
            bytes: 8 << 20,
        }
    }
}

/// Why nothing can be proven with a catalogue, whatever the statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Useless {
    /// It was never loaded.
    Absent,
    /// It has more names than the limits allow.
    TooLarge,
    /// The server's version is not one that the rules hold for (12 to 18), or not told.
    Version(u32),
    /// The server's rows are not what was asked for.
    Garbled,
    /// An operator that is used without being named is suspect: somebody made a volatile `=`.
    Operator(String),
    /// A type of the system's is suspect: somebody made a volatile cast to it, or a default operator class.
    Type(String),
}

impl fmt::Display for Useless {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => formatter.write_str("the catalogue is not loaded yet"),
            Self::TooLarge => formatter.write_str("the catalogue has more names than are taken"),
            Self::Version(version) => write!(formatter, "unknown server version {version}"),
            Self::Garbled => formatter.write_str("the catalogue could not be read"),
            Self::Operator(name) => write!(
                formatter,
                "operator {name} has a volatile function, and is used without being named; declare it STABLE"
            ),
            Self::Type(name) => write!(
                formatter,
                "type {name} has a cast or a default operator class with a volatile function; declare it STABLE"
            ),
        }
    }
}

/// What is known of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flags(u8);

impl Flags {
    /// There are functions of this name, and all of them only read.
    pub(crate) const FUNCTION: Self = Self(1);
    pub(crate) const SUSPECT_FUNCTION: Self = Self(2);
    pub(crate) const SUSPECT_ATTRIBUTE: Self = Self(4);
    pub(crate) const SUSPECT_RELATION: Self = Self(8);
    pub(crate) const SUSPECT_TYPE: Self = Self(16);

    pub(crate) fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    /// Whether the name says something wherever it stands, not only before `(`.
    fn is_suspect_anywhere(self) -> bool {
        self.0 & (Self::SUSPECT_ATTRIBUTE.0 | Self::SUSPECT_RELATION.0 | Self::SUSPECT_TYPE.0) != 0
    }
}

/// What a database's catalogue says about names.
#[derive(Debug)]
pub struct Catalogue {
    useless: Option<Useless>,
    version: u32,
    generation: Box<str>,
    names: Table,
    suspect_operators: Box<[Box<[u8]>]>,
    /// A suspect name has bytes that are not ASCII, which a client may write in another encoding.
    has_foreign_suspects: bool,
    asks_sequences: bool,
    counts: Counts,
}

/// How many names of which kind a catalogue has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Functions that only read.
    pub functions: usize,
    /// Functions that are suspect.
    pub suspect_functions: usize,
    /// Relations that are suspect.
    pub suspect_relations: usize,
    /// Types that are suspect.
    pub suspect_types: usize,
    /// Operators that are suspect.
    pub suspect_operators: usize,
}

impl Default for Catalogue {
    /// One with which nothing can be proven, until another is loaded.
    fn default() -> Self {
        Builder::new(Limits::default()).finish_as(Some(Useless::Absent))
    }
}

impl Catalogue {
    /// Why nothing can be proven with it, if so.
    pub fn useless(&self) -> Option<&Useless> {
        self.useless.as_ref()
    }

    /// What [`GENERATION`] answered when it was loaded.
    pub fn generation(&self) -> &str {
        &self.generation
    }

    /// The server's version as it says it (`server_version_num`: 150018 for 15.18), 0 if it did not.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// How many names it has.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether a function, a default or a view asks for what sequences gave the session last: `lastval`
    /// or `currval`.
    pub fn asks_sequences(&self) -> bool {
        self.asks_sequences
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        let operators = self.suspect_operators.iter();
        size_of::<Self>()
            + self.names.bytes()
            + operators.map(|name| name.len() + 16).sum::<usize>()
    }

    /// What is known of a name, which is `name` in the text `text`.
    #[inline]
    pub(crate) fn flags(&self, key: Key, text: &[u8], name: Token) -> Flags {
        self.names
            .find(key, text, name)
            .map_or(Flags::default(), Flags)
    }

    /// The same, quickly, of a name that stands anywhere: functions' flags may be left out.
    #[inline(always)]
    pub(crate) fn flags_anywhere(&self, key: Key, text: &[u8], name: Token) -> Flags {
        if self.names.may_be_suspect(key) {
            self.flags(key, text, name)
        } else {
            Flags::default()
        }
    }

    pub(crate) fn is_suspect_operator(&self, operator: &[u8]) -> bool {
        !self.suspect_operators.is_empty() && {
            let name = if operator == b"!=" { b"<>" } else { operator };
            self.suspect_operators
                .iter()
                .any(|suspect| **suspect == *name)
        }
    }

    pub(crate) fn has_foreign_suspects(&self) -> bool {
        self.has_foreign_suspects
    }
}

/// Builds a catalogue of the rows of [`LOAD`].
#[derive(Debug)]
pub struct Builder {
    limits: Limits,
    version: Option<u32>,
    generation: String,
    names: Vec<(Box<[u8]>, u8)>,
    bytes: usize,
    operators: Vec<Box<[u8]>>,
    useless: Option<Useless>,
    asks_sequences: bool,
    counts: Counts,
}

impl Builder {
    /// Without any row yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            version: None,
            generation: String::new(),
            names: Vec::new(),
            bytes: 0,
            operators: Vec::new(),
            useless: None,
            asks_sequences: false,
            counts: Counts::default(),
        }
    }

    /// Takes a row: its two columns as text.
    pub fn row(&mut self, kind: &[u8], name: &[u8]) {
        self.bytes += name.len();
        if self.names.len() >= self.limits.names || self.bytes > self.limits.bytes {
            self.useless = Some(Useless::TooLarge);
            return;
        }
        let text = || String::from_utf8_lossy(name).into_owned();
        let counts = &mut self.counts;
        let (flag, count) = match kind {
            [kind::VERSION] => {
                self.version = text().parse().ok();
                return;
            }
            [kind::GENERATION] => {
                self.generation = text();
                return;
            }
            [kind::ASKS_SEQUENCES] => {
                self.asks_sequences = true;
                return;
            }
            [kind::SUSPECT_OPERATOR] => {
                counts.suspect_operators += 1;
                if IMPLICIT_OPERATORS.contains(&name) {
                    self.useless = Some(Useless::Operator(text()));
                }
                self.operators.push(name.into());
                return;
            }
            [kind::SUSPECT_SYSTEM_TYPE] => {
                self.useless = Some(Useless::Type(text()));
                return;
            }
            [kind::FUNCTION] => (Flags::FUNCTION, &mut counts.functions),
            [kind::SUSPECT_FUNCTION] => (Flags::SUSPECT_FUNCTION, &mut counts.suspect_functions),
            [kind::SUSPECT_ATTRIBUTE] => (Flags::SUSPECT_ATTRIBUTE, &mut 0),
            [kind::SUSPECT_RELATION] => (Flags::SUSPECT_RELATION, &mut counts.suspect_relations),
            [kind::SUSPECT_TYPE] => (Flags::SUSPECT_TYPE, &mut counts.suspect_types),
            _ => {
                self.useless = Some(Useless::Garbled);
                return;
            }
        };
        *count += 1;
        self.names.push((name.into(), flag.0));
    }

    /// The catalogue of the rows taken.
    pub fn finish(mut self) -> Catalogue {
        let version = self.version.unwrap_or_default();
        for (name, since) in CONSTRUCTS {
            if version >= since {
                self.names.push((name.as_bytes().into(), Flags::FUNCTION.0));
            }
        }
        // A server of 9 or 10 has other rules, one of 19 may have.
        if self.useless.is_none() && !(120_000..190_000).contains(&version) {
            self.useless = Some(Useless::Version(version));
        }
        let useless = self.useless.take();
        self.finish_as(useless)
    }

    fn finish_as(self, useless: Option<Useless>) -> Catalogue {
        let is_suspect = |flags: u8| Flags(flags).is_suspect_anywhere();
        let has_foreign_suspects = self
            .names
            .iter()
            .any(|(name, flags)| !name.is_ascii() && is_suspect(*flags));
        let (names, useless) = match (useless, Table::new(&self.names, is_suspect)) {
            (None, Some(table)) => (table, None),
            (useless, _) => (Table::default(), Some(useless.unwrap_or(Useless::Garbled))),
        };
        Catalogue {
            useless,
            version: self.version.unwrap_or_default(),
            generation: self.generation.into(),
            names,
            suspect_operators: self.operators.into(),
            has_foreign_suspects,
            asks_sequences: self.asks_sequences,
            counts: self.counts,
        }
    }
}
