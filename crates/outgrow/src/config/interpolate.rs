//! Puts the environment into the texts of the tree: `${NAME}`, `${NAME:-default}`, `$${`.
//!
//! Keys are never touched. The environment is an argument.

use outgrow_core::settings::{Node, Reader, Value};

/// The tree with every text interpolated; a text that could not be is left as it is and told.
pub(super) fn interpolate(
    node: Node,
    environment: &dyn Fn(&str) -> Option<String>,
    reader: &mut Reader,
) -> Node {
    let span = node.span;
    let value = match node.value {
        Value::String { text, .. } if text.contains("${") => {
            let (text, from_environment) = match replace(&text, environment) {
                Ok(replaced) => replaced,
                Err(problem) => {
                    let (message, hint) = problem.message_and_hint();
                    reader.error_with_hint(span, message, hint);
                    (text, false)
                }
            };
            Value::String {
                text,
                from_environment,
            }
        }
        Value::Array(nodes) => {
            let each = |(index, node): (usize, Node)| {
                reader.inside(index.to_string(), |reader| {
                    interpolate(node, environment, reader)
                })
            };
            Value::Array(nodes.into_iter().enumerate().map(each).collect())
        }
        Value::Table(mut entries) => {
            for entry in &mut entries {
                let empty = Node {
                    span: entry.node.span,
                    value: Value::Boolean(false),
                };
                let node = std::mem::replace(&mut entry.node, empty);
                entry.node = reader.inside(entry.key.as_str(), |reader| {
                    interpolate(node, environment, reader)
                });
            }
            Value::Table(entries)
        }
        other => other,
    };
    Node { span, value }
}

/// What can be wrong with a `${…}`.
#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    /// The variable is not set and there is no default.
    Unset(String),
    /// What stands in the braces is not the name of a variable.
    Name(String),
    /// There is no closing brace.
    Open,
}

impl Wrong {
    fn message_and_hint(&self) -> (String, String) {
        match self {
            Self::Unset(name) => (
                format!("environment variable {name} is not set"),
                format!("set it, or write a default: ${{{name}:-default}}"),
            ),
            Self::Name(name) => (
                format!("{name:?} is not the name of a variable: letters, digits and _ only"),
                "a literal ${ is written $${".to_owned(),
            ),
            Self::Open => (
                "${ has no closing brace".to_owned(),
                "write ${NAME}; a literal ${ is written $${".to_owned(),
            ),
        }
    }
}

/// The text with every `${…}` replaced, and whether there was one.
fn replace(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(String, bool), Wrong> {
    let mut out = String::with_capacity(text.len());
    let mut found = false;
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let before = &rest[..at];
        let behind = &rest[at + 2..];
        if let Some(literal) = before.strip_suffix('$') {
            out.push_str(literal);
            out.push_str("${");
            rest = behind;
            continue;
        }
        let end = behind.find('}').ok_or(Wrong::Open)?;
        let (name, default) = match behind[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&behind[..end], None),
        };
        if !is_name(name) {
            return Err(Wrong::Name(name.to_owned()));
        }
        out.push_str(before);
        // As in a shell: with a default, a variable that is empty counts as not set.
        let value = environment(name).filter(|value| default.is_none() || !value.is_empty());
        match (value, default) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => out.push_str(default),
            (None, None) => return Err(Wrong::Unset(name.to_owned())),
        }
        found = true;
        rest = &behind[end + 1..];
    }
    out.push_str(rest);
    Ok((out, found))
}

fn is_name(name: &str) -> bool {
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(is_right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_replaced() {
        let environment = |name: &str| match name {
            "HOME" => Some("/root".to_owned()),
            "EMPTY" => Some(String::new()),
            "BRACES" => Some("${HOME}".to_owned()),
            _ => None,
        };
        let unset = |name: &str| Err(Wrong::Unset(name.to_owned()));
        let name = |name: &str| Err(Wrong::Name(name.to_owned()));
        type Row<'r> = (&'r str, Result<(&'r str, bool), Wrong>);
        let table: &[Row<'_>] = &[
            ("", Ok(("", false))),
            ("$HOME $", Ok(("$HOME $", false))),
            ("${HOME}", Ok(("/root", true))),
            ("a${HOME}b${HOME}c", Ok(("a/rootb/rootc", true))),
            ("${BRACES}", Ok(("${HOME}", true))),
            ("${EMPTY}", Ok(("", true))),
            ("${EMPTY:-x}", Ok(("x", true))),
            ("${NONE:-x:-y}", Ok(("x:-y", true))),
            ("${NONE:-}", Ok(("", true))),
            ("$${HOME}", Ok(("${HOME}", false))),
            ("$$${HOME}", Ok(("$${HOME}", false))),
            ("$${${HOME}", Ok(("${/root", true))),
            ("ü${HOME}ü", Ok(("ü/rootü", true))),
            ("${NONE}", unset("NONE")),
            ("${", Err(Wrong::Open)),
            ("x${HOME", Err(Wrong::Open)),
            ("${}", name("")),
            ("${A B}", name("A B")),
            ("${1}", name("1")),
            ("${#ITEMS}", name("#ITEMS")),
        ];
        for (text, expected) in table {
            let got = replace(text, &environment);
            let got = got.as_ref().map(|(text, found)| (text.as_str(), *found));
            assert_eq!(got, expected.as_ref().map(|pair| *pair), "{text}");
        }
    }
}
