//! What of a line may be shown beside a problem: it may end in a log, and a line can hold a token
//! or a password besides what is wrong. Only the value that the problem is about is shown; every
//! other text in quotes is masked. Of a key that nobody knows, a misspelt `token` perhaps, the
//! value is not shown at all, nor of a line that cannot be read.

use std::borrow::Cow;
use std::ops::Range;

use outgrow_core::settings::Problem;

use super::Place;

/// What stands for a masked text.
const MASK: &str = "***";

/// The place with only what may be shown; none when nothing may.
pub(super) fn shown<'t>(text: &'t str, place: &Place<'t>, problem: &Problem) -> Option<Place<'t>> {
    let line = place.start..place.start + place.text.len();
    let is_syntax = problem.path.is_empty();
    let about = problem.span.start..problem.span.end;
    // A key is what a problem is about when a `=` follows it.
    let is_key = text
        .get(about.end..line.end.max(about.end))
        .is_some_and(|rest| rest.trim_start().starts_with('='));
    if is_syntax || is_key {
        return up_to_value(text, place, line, about);
    }
    let mut hidden: Vec<Range<usize>> = literals(text)
        .into_iter()
        .filter(|literal| literal.start < line.end && literal.end > line.start)
        .filter(|literal| !is_about(literal, &about))
        .map(|literal| literal.start.max(line.start)..literal.end.min(line.end))
        .collect();
    hidden.sort_by_key(|one| one.start);
    Some(mask(text, place, &line, &hidden))
}

/// Whether a literal is all of what the problem is about, but for its quotes.
fn is_about(literal: &Range<usize>, about: &Range<usize>) -> bool {
    let quotes = 1..=3;
    let before = literal.start.checked_sub(about.start);
    let after = about.end.checked_sub(literal.end);
    before.is_some_and(|count| quotes.contains(&count))
        && after.is_some_and(|count| quotes.contains(&count))
}

/// The line up to its value, when it has one; a header of a table is shown whole. What else a line
/// that cannot be read may be (the middle of a text of several lines), nobody knows.
fn up_to_value<'t>(
    text: &'t str,
    place: &Place<'t>,
    line: Range<usize>,
    about: Range<usize>,
) -> Option<Place<'t>> {
    let whole = &text[line.clone()];
    if whole.trim_start().starts_with('[') && !whole.contains(['"', '\'']) {
        return Some(mask(text, place, &line, &[]));
    }
    // In a table in one line: the keys before it may have values too.
    let from = literals(text)
        .into_iter()
        .map(|literal| literal.start)
        .find(|start| line.contains(start));
    let after = about.end.clamp(line.start, line.end);
    let value = text[after..line.end].find('=').map(|at| after + at + 1);
    let first = whole.find('=').map(|at| line.start + at + 1);
    let from = [from, value.or(first)].into_iter().flatten().min()?;
    let value = from..line.end;
    Some(mask(text, place, &line, std::slice::from_ref(&value)))
}

/// The line with `hidden` replaced, and the column where it is then.
fn mask<'t>(
    text: &'t str,
    place: &Place<'t>,
    line: &Range<usize>,
    hidden: &[Range<usize>],
) -> Place<'t> {
    let (mut column, length) = (place.column, place.length);
    let mut out = String::new();
    let mut at = line.start;
    let start = line.start
        + text[line.clone()]
            .char_indices()
            .nth(place.column - 1)
            .map_or(line.len(), |(index, _)| index);
    for range in hidden {
        out.push_str(&text[at..range.start]);
        let gap = if range.end == line.end && text[..range.start].ends_with('=') {
            " "
        } else {
            ""
        };
        if !range.is_empty() {
            out.push_str(gap);
            out.push_str(MASK);
        }
        if range.end <= start {
            let before = text[range.clone()].chars().count();
            column = (column + MASK.len() + gap.len()).saturating_sub(before);
        } else if range.start <= start {
            column = out.chars().count().saturating_sub(MASK.len()) + 1;
        }
        at = range.end;
    }
    out.push_str(&text[at..line.end]);
    let room = (out.chars().count() + 1).saturating_sub(column).max(1);
    Place {
        line: place.line,
        column: column.max(1),
        start: place.start,
        text: Cow::Owned(out),
        length: length.min(room),
    }
}

/// Where the texts in quotes are, without the quotes.
fn literals(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'#' => at += text[at..].find('\n').unwrap_or(text.len() - at),
            quote @ (b'"' | b'\'') => {
                let is_long = bytes[at..].starts_with(&[quote; 3]);
                let width = if is_long { 3 } else { 1 };
                let start = at + width;
                let end = end_of(bytes, start.min(bytes.len()), quote, is_long);
                found.push(start.min(end)..end);
                at = (end + width).min(bytes.len());
            }
            _ => at += 1,
        }
    }
    found
}

/// Where a text that begins at `start` ends; one of a single line at its end at the latest.
fn end_of(bytes: &[u8], start: usize, quote: u8, is_long: bool) -> usize {
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quote == b'"' => at += 1,
            b'\n' if !is_long => return at,
            _ if is_long && bytes[at..].starts_with(&[quote; 3]) => return at,
            byte if !is_long && byte == quote => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}
