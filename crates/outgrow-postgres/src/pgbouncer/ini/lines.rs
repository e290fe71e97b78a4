//! The lines of a file: sections, settings, includes; comments and empty lines are left out.
//!
//! Deliberately not here: which sections and settings there are (`mod.rs`).

use std::borrow::Cow;

/// One thing that a file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'t> {
    /// `%include NAME`.
    Include(&'t str),
    /// `[NAME]`.
    Section(&'t str),
    /// `KEY = VALUE`; the value reaches to the end of the line.
    Value {
        /// Without its quotes.
        key: Cow<'t, str>,
        /// Without blanks around it.
        value: &'t str,
    },
    /// Nothing of this.
    Broken,
}

/// All that `text` says, each with the number of its line.
pub(super) fn read(text: &str) -> Vec<(usize, Line<'_>)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut rest = line.trim_ascii();
        // A section may be followed by something else on the same line.
        while let Some((line, after)) = next(rest) {
            found.push((index + 1, line));
            rest = after.trim_ascii_start();
        }
    }
    found
}

/// What `text`, a line or the end of one, begins with, and the rest.
fn next(text: &str) -> Option<(Line<'_>, &str)> {
    if text.is_empty() || text.starts_with(['#', ';']) {
        return None;
    }
    if let Some(name) = text.strip_prefix("%include")
        && name.starts_with([' ', '\t'])
    {
        return Some((Line::Include(name.trim_ascii()), ""));
    }
    if let Some(name) = text.strip_prefix('[') {
        return Some(match name.split_once(']') {
            Some((name, after)) => (Line::Section(name), after),
            None => (Line::Broken, ""),
        });
    }
    let line = value(text).unwrap_or(Line::Broken);
    Some((line, ""))
}

fn value(text: &str) -> Option<Line<'_>> {
    let (key, after) = key(text)?;
    let value = after.trim_ascii_start().strip_prefix('=')?;
    let value = value.trim_ascii();
    (!key.is_empty()).then_some(Line::Value { key, value })
}

/// The key at the start of `text` and what follows it.
fn key(text: &str) -> Option<(Cow<'_, str>, &str)> {
    if let Some(quoted) = text.strip_prefix('\'') {
        let (key, after) = quoted.split_once('\'')?;
        return Some((key.into(), after));
    }
    let Some(mut quoted) = text.strip_prefix('"') else {
        let is_letter = |letter: char| {
            letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-' | '*')
        };
        let end = text.find(|letter| !is_letter(letter)).unwrap_or(text.len());
        let (key, after) = text.split_at(end);
        return Some((key.into(), after));
    };
    let mut key = String::new();
    loop {
        let (part, after) = quoted.split_once('"')?;
        key.push_str(part);
        let Some(again) = after.strip_prefix('"') else {
            return Some((key.into(), after));
        };
        key.push('"');
        quoted = again;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart() {
        let check = |text: &str, expected: &[(usize, Line<'_>)]| {
            assert_eq!(read(text), expected, "{text:?}");
        };
        let value = |key: &'static str, value: &'static str| {
            let key = key.into();
            Line::Value { key, value }
        };
        check("", &[]);
        check("\n  \n\t\n", &[]);
        check("; no\n# no\n  ;no", &[]);
        check("[a]", &[(1, Line::Section("a"))]);
        check("[ a ]", &[(1, Line::Section(" a "))]);
        check(
            "\n[a] k=v",
            &[(2, Line::Section("a")), (2, value("k", "v"))],
        );
        check("[a] ; c", &[(1, Line::Section("a"))]);
        check("[a", &[(1, Line::Broken)]);
        check("k=v", &[(1, value("k", "v"))]);
        check("  k\t= v w ;x \r\n", &[(1, value("k", "v w ;x"))]);
        check("k=", &[(1, value("k", ""))]);
        check("k==v", &[(1, value("k", "=v"))]);
        check("* = host=a", &[(1, value("*", "host=a"))]);
        check("a-b.c_1*=x", &[(1, value("a-b.c_1*", "x"))]);
        check("'a b' = x", &[(1, value("a b", "x"))]);
        check("'a\"b' = x", &[(1, value("a\"b", "x"))]);
        check("\"a \"\"b\" = x", &[(1, value("a \"b", "x"))]);
        check("%include a b ", &[(1, Line::Include("a b"))]);
        check("%include\ta", &[(1, Line::Include("a"))]);
        for broken in [
            "k",
            "k v",
            "= v",
            "k v = w",
            "'' = x",
            "'a = x",
            "\"a = x",
            "\"\" = x",
            "%include",
            "%other x",
            "%includea",
            "ä = 1",
            "a$b = 1",
        ] {
            check(broken, &[(1, Line::Broken)]);
        }
    }
}
