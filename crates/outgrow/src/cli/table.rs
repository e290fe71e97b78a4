//! Tables for people, of what the state of a running outgrow says.

use std::fmt::Write as _;

use serde_json::Value;

/// The values of a list of the state.
pub(super) fn list<'s>(state: &'s Value, key: &str) -> impl Iterator<Item = &'s Value> {
    state[key].as_array().into_iter().flatten()
}

/// A row of texts that are known.
pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Columns as wide as their widest cell.
pub(super) fn write(out: &mut String, rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        let _ = writeln!(out, "{}", line.join("  ").trim_end());
    }
}

/// A value as it is shown.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
