//! How problems are shown: for people with the line and a caret, for programs as JSON.

mod masked;

use std::borrow::Cow;
use std::fmt::Write as _;

use outgrow_core::settings::{Problem, Severity, Span};
use serde_json::json;

/// Most characters of a line that are shown.
const LINE_LIMIT: usize = 120;

/// How problems are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Text without colours: the output is not a terminal.
    Plain,
    /// Text with colours.
    Colour,
    /// One JSON object a line: file, line, column, severity, path, message, hint. Of what is not in the
    /// text (a file that it names), line and column are null.
    Json,
}

/// The text that the problems are about.
#[derive(Clone, Copy, Debug)]
pub struct Source<'t> {
    /// Name of the file as it was given.
    pub name: &'t str,
    /// What is in the file.
    pub text: &'t str,
}

/// The problems as text that ends with a newline; without a source (the command line) no place is
/// told but the option.
pub fn print(source: Option<Source<'_>>, problems: &[Problem], look: Look) -> String {
    let mut out = String::new();
    for problem in problems {
        match look {
            Look::Json => out.push_str(&json_line(source, problem)),
            Look::Plain | Look::Colour => people(&mut out, source, problem, look),
        }
    }
    out
}

fn json_line(source: Option<Source<'_>>, problem: &Problem) -> String {
    let place = source.map(|source| place(source.text, problem.span));
    let object = json!({
        "severity": severity(problem.severity),
        "file": source.map(|source| source.name),
        "line": place.as_ref().map(|place| place.line),
        "column": place.as_ref().map(|place| place.column),
        "path": problem.path,
        "message": problem.message,
        "hint": problem.hint,
    });
    format!("{object}\n")
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn people(out: &mut String, source: Option<Source<'_>>, problem: &Problem, look: Look) {
    let paint = |code: &'static str| if look == Look::Colour { code } else { "" };
    let (bold, red, yellow, off) = (
        paint("\x1b[1m"),
        paint("\x1b[31m"),
        paint("\x1b[33m"),
        paint("\x1b[0m"),
    );
    let loud = if problem.severity == Severity::Error {
        red
    } else {
        yellow
    };
    let word = if problem.severity == Severity::Error {
        ""
    } else {
        "warning: "
    };
    let subject = match (source, problem.path.as_str()) {
        (_, "") | (None, _) => String::new(),
        (Some(_), path) => format!("{path}: "),
    };
    let Some(source) = source else {
        let option = if problem.path.is_empty() {
            "command line"
        } else {
            &problem.path
        };
        let message = printable(&problem.message);
        let _ = writeln!(out, "{bold}{option}:{off} {loud}{word}{off}{message}");
        return hint(out, problem);
    };
    let place = place(source.text, problem.span);
    let _ = writeln!(
        out,
        "{bold}{}:{}:{}:{off} {loud}{word}{off}{}{}",
        source.name,
        place.line,
        place.column,
        printable(&subject),
        printable(&problem.message),
    );
    let shown = if is_secret(&problem.path) {
        None
    } else {
        masked::shown(source.text, &place, problem)
    };
    if let Some(shown) = shown.filter(|shown| !shown.text.trim().is_empty()) {
        let (line, caret) = excerpt(&shown);
        let _ = writeln!(out, "  {line}\n  {loud}{caret}{off}");
    }
    hint(out, problem);
}

fn hint(out: &mut String, problem: &Problem) {
    if let Some(hint) = &problem.hint {
        let _ = writeln!(out, "  hint: {}", printable(hint));
    }
}

/// A line with a token or with the environment of instances is not repeated: it may end in a log.
fn is_secret(path: &str) -> bool {
    path.split('.')
        .any(|key| matches!(key, "token" | "secret" | "ticket_secret" | "environment"))
}

/// Text without control characters: what stands in a file must not move the terminal's cursor.
fn printable(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                '\u{fffd}'
            } else {
                character
            }
        })
        .collect()
}

/// Where a problem is: line and column count from 1, the column in characters.
struct Place<'t> {
    line: usize,
    column: usize,
    /// Where the line begins in the whole text.
    start: usize,
    /// The line.
    text: Cow<'t, str>,
    /// How many characters of the line it is about, at least one.
    length: usize,
}

fn place(text: &str, span: Span) -> Place<'_> {
    let mut start = span.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let mut end = span.end.clamp(start, line_end.max(start));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Place {
        line: text[..line_start].matches('\n').count() + 1,
        column: text[line_start..start].chars().count() + 1,
        start: line_start,
        text: text[line_start..line_end].trim_end_matches('\r').into(),
        length: text[start..end.max(start)].chars().count().max(1),
    }
}

/// The part of the line that is shown and the carets below it.
fn excerpt(place: &Place<'_>) -> (String, String) {
    let before = place.column - 1;
    let skipped = if before + place.length > LINE_LIMIT {
        before.saturating_sub(LINE_LIMIT / 3)
    } else {
        0
    };
    let shown: Vec<char> = place.text.chars().skip(skipped).take(LINE_LIMIT).collect();
    let is_cut = place.text.chars().count() > skipped + shown.len();
    let mut line = String::new();
    let mut caret = String::new();
    if skipped > 0 {
        line.push('…');
        caret.push(' ');
    }
    let length = place
        .length
        .min(LINE_LIMIT - (before - skipped).min(LINE_LIMIT - 1));
    for (index, character) in shown.iter().enumerate() {
        let blank = if *character == '\t' { '\t' } else { ' ' };
        let mark = index + skipped >= before && index + skipped < before + length;
        line.push(match character {
            '\t' => '\t',
            control if control.is_control() => '\u{fffd}',
            other => *other,
        });
        caret.push(if mark { '^' } else { blank });
    }
    if before >= skipped + shown.len() {
        caret.push('^');
    }
    if is_cut {
        line.push('…');
    }
    (line.trim_end().to_owned(), caret.trim_end().to_owned())
}
