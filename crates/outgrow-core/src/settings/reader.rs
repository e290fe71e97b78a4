//! The reader: collects problems and knows where in the file it is.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::peers;
use crate::settings::{Entry, Node, Problem, Setting, Span, Value, nearest};

/// Longest text of a wrong value that is repeated in a message, in characters.
const QUOTED_LIMIT: usize = 60;

/// Collects what is wrong while the settings are read.
#[derive(Debug, Default)]
pub struct Reader {
    problems: Vec<Problem>,
    path: Vec<String>,
}

impl Reader {
    /// A reader that has found nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything that was wrong, in the order of the file.
    pub fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.span);
        self.problems
    }

    /// How many problems there are so far.
    pub fn count(&self) -> usize {
        self.problems.len()
    }

    /// The keys that lead to the setting that is being read, joined by dots.
    pub fn path(&self) -> String {
        self.path.join(".")
    }

    /// Tells of an error at `span` in the setting that is being read.
    pub fn error(&mut self, span: Span, message: impl Into<String>) {
        let problem = Problem::error(span, self.path(), message);
        self.problems.push(problem);
    }

    /// Tells of an error and what to do about it.
    pub fn error_with_hint(
        &mut self,
        span: Span,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let problem = Problem::error(span, self.path(), message).with_hint(hint);
        self.problems.push(problem);
    }

    /// Adds a problem that was made elsewhere.
    pub fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Tells that the value is of another type than `expected`, which reads like `a string`.
    pub fn wrong_type(&mut self, node: &Node, expected: &str, example: &str) {
        let message = format!("expected {expected}, found {}", node.what());
        self.error_with_hint(node.span, message, format!("write for example {example}"));
    }

    /// Tells that the value is of the right type and yet not one that can be used.
    pub fn wrong_value(&mut self, node: &Node, text: &str, reason: impl Display, hint: String) {
        let message = format!("{} {reason}", quoted(text));
        self.error_with_hint(node.span, message, hint);
    }

    /// Reads something one level down: problems found in `read` have `key` in their path.
    pub fn inside<R>(&mut self, key: impl Into<String>, read: impl FnOnce(&mut Self) -> R) -> R {
        self.path.push(key.into());
        let result = read(self);
        self.path.pop();
        result
    }

    /// The text of a string; tells of anything else.
    pub fn string<'n>(&mut self, node: &'n Node, expected: &str, example: &str) -> Option<&'n str> {
        match &node.value {
            Value::String { text, .. } => Some(text),
            _ => {
                self.wrong_type(node, expected, example);
                None
            }
        }
    }
}

/// A wrong text as it is repeated in a message: quoted, escaped and cut to a bearable length.
pub(crate) fn quoted(text: &str) -> String {
    if text.chars().count() <= QUOTED_LIMIT {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(QUOTED_LIMIT).collect();
    format!("{start:?}…")
}

/// Reads one table: which keys were asked for, and so which ones are unknown.
///
/// Several rooms may read from the same table one after the other; the keys that none of them
/// knows are told by [`finish`](Self::finish).
#[derive(Debug)]
pub struct TableReader<'n, 'r> {
    reader: &'r mut Reader,
    entries: &'n [Entry],
    span: Span,
    known: Vec<&'static str>,
}

impl<'n, 'r> TableReader<'n, 'r> {
    /// Starts to read `node`; tells and gives `None` when it is not a table.
    pub fn new(node: &'n Node, reader: &'r mut Reader) -> Option<Self> {
        match &node.value {
            Value::Table(entries) => Some(Self {
                reader,
                entries,
                span: node.span,
                known: Vec::new(),
            }),
            _ => {
                reader.wrong_type(node, "a table", "{ key = value }");
                None
            }
        }
    }

    /// The reader, to tell of problems that are not about one key.
    pub fn reader(&mut self) -> &mut Reader {
        self.reader
    }

    /// Where the table starts: its header or its braces.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Whether the key was written in the file.
    pub fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// Where the value of `key` was written, or else where the table starts.
    pub fn span_of(&self, key: &str) -> Span {
        self.entry(key).map_or(self.span, |entry| entry.node.span)
    }

    fn entry(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Reads the value of `key`; `None` when it is not there or wrong.
    pub fn read<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        self.known.push(key);
        let entry = self.entry(key)?;
        self.reader
            .inside(key, |reader| T::read(&entry.node, reader))
    }

    /// Tells when the value is outside of `range`, and gives `None` then.
    pub fn within<T: Setting + PartialOrd>(
        &mut self,
        key: &'static str,
        value: Option<T>,
        range: &RangeInclusive<T>,
    ) -> Option<T> {
        let value = value?;
        if range.contains(&value) {
            return Some(value);
        }
        let text = |value: &T| value.text().unwrap_or_default();
        let message = format!(
            "{} is outside of what is possible: {} to {}",
            text(&value),
            text(range.start()),
            text(range.end())
        );
        let bound = if value < *range.start() {
            range.start()
        } else {
            range.end()
        };
        let hint = format!("the nearest possible value is {}", text(bound));
        self.problem(key, message, hint);
        None
    }

    /// Tells when `key` was not written.
    pub fn require(&mut self, key: &'static str, example: &str) {
        if !self.has(key) {
            let message = format!("`{key}` is missing");
            let hint = format!("add it, for example: {key} = {example}");
            self.reader.error_with_hint(self.span, message, hint);
        }
    }

    /// Tells of an error in the value of `key`, with what to do about it.
    pub fn problem(&mut self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        let span = self.span_of(key);
        let (message, hint) = (message.into(), hint.into());
        self.reader
            .inside(key, |reader| reader.error_with_hint(span, message, hint));
    }

    /// Tells of the one of two keys that is there without the other, of which neither is of use
    /// alone. Each comes with whether it is there.
    pub fn both_or_none(&mut self, (one, has_one): (&str, bool), (other, has_other): (&str, bool)) {
        let (key, missing) = match (has_one, has_other) {
            (true, false) => (one, other),
            (false, true) => (other, one),
            _ => return,
        };
        let message = format!("there is no `{missing}`, and one is of no use without the other");
        self.problem(key, message, "write both, or none of them");
    }

    /// Tells of every key that nobody asked for, with the nearest one that is known.
    pub fn finish(self) {
        for entry in self.entries {
            if self.known.contains(&entry.key.as_str()) {
                continue;
            }
            let message = format!("unknown key {}", quoted(&entry.key));
            let known = || nearest(&entry.key, self.known.iter().copied());
            let hint = match peers::ours(&entry.key, &self.known).or_else(known) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            self.reader.inside(entry.key.as_str(), |reader| {
                reader.error_with_hint(entry.key_span, message, hint);
            });
        }
    }
}
