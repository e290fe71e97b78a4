//! From TOML text to the tree that the rooms read.
//!
//! What the values mean is not known here.

use outgrow_core::settings::{Entry, Node, Problem, Span, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::FILE_LIMIT;

/// Most syntax errors that are told: behind the first few the rest is noise.
const ERRORS_LIMIT: usize = 20;

/// Parses the text; the errors are those of the syntax.
pub(super) fn parse(text: &str) -> Result<Node, Vec<Problem>> {
    if text.len() > FILE_LIMIT {
        let message = format!("the file is larger than {} MiB", FILE_LIMIT >> 20);
        return Err(vec![Problem::error(Span::default(), "", message)]);
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let problem = |error: &toml::de::Error| {
            let range = error.span().unwrap_or(0..0);
            let span = Span::new(range.start, range.end);
            Problem::error(span, "", error.message().replace('\n', " "))
        };
        let mut problems: Vec<Problem> = errors.iter().map(problem).collect();
        problems.sort_by_key(|problem| problem.span);
        problems.dedup_by_key(|problem| line_of(text, problem.span));
        problems.truncate(ERRORS_LIMIT);
        return Err(problems);
    }
    let span = Span::default();
    let value = Value::Table(entries(table.get_ref()));
    Ok(Node { span, value })
}

/// Offset of the line's start, to tell one error a line.
fn line_of(text: &str, span: Span) -> usize {
    let before = text.as_bytes().get(..span.start).unwrap_or_default();
    before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1)
}

fn entries(table: &DeTable<'_>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            key_span: span_of(key),
            node: node(value),
        })
        .collect();
    entries.sort_by_key(|entry| entry.key_span);
    entries
}

fn node(value: &Spanned<DeValue<'_>>) -> Node {
    let span = span_of(value);
    let value = match value.get_ref() {
        DeValue::String(text) => Value::String {
            text: text.to_string(),
            from_environment: false,
        },
        DeValue::Integer(number) => {
            match i128::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Integer(number),
                // More digits than any setting takes: out of range wherever it stands.
                Err(_) if number.as_str().starts_with('-') => Value::Integer(i128::MIN),
                Err(_) => Value::Integer(i128::MAX),
            }
        }
        DeValue::Float(number) => Value::Float(number.as_str().to_owned()),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(moment) => Value::Datetime(moment.to_string()),
        DeValue::Array(items) => Value::Array(items.iter().map(node).collect()),
        DeValue::Table(table) => Value::Table(entries(table)),
    };
    Node { span, value }
}

fn span_of<T>(spanned: &Spanned<T>) -> Span {
    let range = spanned.span();
    Span::new(range.start, range.end)
}
