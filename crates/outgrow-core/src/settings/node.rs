//! The tree that settings are read from, with the place of every value in the source text.
//!
//! It knows no file format: the binary builds it from TOML, tests build it by hand.

use std::fmt;

/// A range of bytes in the source text, `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset behind the last byte.
    pub end: usize,
}

impl Span {
    /// The bytes `start..end`.
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where the value was written; for a table under a `[header]` the header.
    pub span: Span,
    /// The value.
    pub value: Value,
}

/// What can be written in a settings file.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text. `from_environment` says that at least a part of it was put in from the environment,
    /// where all is text: then numbers and booleans are read from it too.
    String {
        /// The text, after interpolation.
        text: String,
        /// Whether `${NAME}` was replaced in it.
        from_environment: bool,
    },
    /// A whole number.
    Integer(i128),
    /// A number with a fraction, as it was written.
    Float(String),
    /// `true` or `false`.
    Boolean(bool),
    /// A date or a time; no setting takes one yet, so the text is all that is kept.
    Datetime(String),
    /// `[a, b]`
    Array(Vec<Node>),
    /// A table, in the order in which it was written.
    Table(Vec<Entry>),
}

/// One key of a table with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key, unquoted.
    pub key: String,
    /// Where the key was written.
    pub key_span: Span,
    /// The value.
    pub node: Node,
}

impl Node {
    /// A string that did not come from the environment.
    pub fn string(span: Span, text: impl Into<String>) -> Self {
        let value = Value::String {
            text: text.into(),
            from_environment: false,
        };
        Self { span, value }
    }

    /// The entry named `key`, when this is a table that has it.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Table(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The entry at `path`, one key for each level.
    pub fn find(&self, path: &[&str]) -> Option<&Entry> {
        let (first, rest) = path.split_first()?;
        let entry = self.entry(first)?;
        if rest.is_empty() {
            Some(entry)
        } else {
            entry.node.find(rest)
        }
    }

    /// What the value is, as said in messages: `a string`, `an integer`.
    pub fn what(&self) -> &'static str {
        match &self.value {
            Value::String { .. } => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a number with a fraction",
            Value::Boolean(_) => "a boolean",
            Value::Datetime(_) => "a date or time",
            Value::Array(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}..{}", self.start, self.end)
    }
}
