//! Where in an application a statement comes from, as its comments say: sqlcommenter's
//! (`/*route='%2Fusers',traceparent='00-…'*/`) and those of Rails (`/*controller:users,action:show*/`).
//!
//! A comment is at the text's start or at its end, where frameworks put them; one in the middle is
//! somebody's remark. Everything in it is anybody's text: it is shown, and nothing follows from it.

use std::sync::Arc;

use super::finding::Origin;

/// The longest comment that is read, in bytes.
const MOST_COMMENT: usize = 2048;
/// The longest value that is kept, in bytes.
const MOST_VALUE: usize = 200;

/// Whether a text has a comment where frameworks put them. A glance.
#[inline]
pub(crate) fn has_comment(text: &[u8]) -> bool {
    let text = text.trim_ascii_end();
    let text = text.strip_suffix(b";").unwrap_or(text);
    text.ends_with(b"*/") || text.starts_with(b"/*")
}

/// What the comments of a text say; none when they say nothing that is known.
pub(crate) fn read(text: &[u8]) -> Option<Origin> {
    let text = text.trim_ascii();
    let text = text.strip_suffix(b";").unwrap_or(text).trim_ascii_end();
    let mut origin = Origin::default();
    let mut names = Names::default();
    for comment in [at_end(text), at_start(text)].into_iter().flatten() {
        let Ok(comment) = std::str::from_utf8(comment) else {
            continue;
        };
        for pair in Pairs(comment) {
            names.take(pair, &mut origin);
        }
    }
    origin.action = origin.action.take().or(names.action());
    (origin != Origin::default()).then_some(origin)
}

fn at_end(text: &[u8]) -> Option<&[u8]> {
    let inside = text.strip_suffix(b"*/")?;
    let tail = &inside[inside.len().saturating_sub(MOST_COMMENT)..];
    let start = tail.windows(2).rposition(|two| two == b"/*")?;
    Some(&tail[start + 2..])
}

fn at_start(text: &[u8]) -> Option<&[u8]> {
    let inside = text.strip_prefix(b"/*")?;
    let head = &inside[..inside.len().min(MOST_COMMENT)];
    let end = head.windows(2).position(|two| two == b"*/")?;
    Some(&head[..end])
}

/// Controller and action, which are told apart from each other.
#[derive(Default)]
struct Names {
    controller: Option<String>,
    action: Option<String>,
}

impl Names {
    fn take(&mut self, (key, value): (&str, String), origin: &mut Origin) {
        let mut value = value;
        let mut end = value.len().min(MOST_VALUE);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        value.truncate(end);
        if value.is_empty() {
            return;
        }
        match key {
            "route" | "http_route" => origin.route = Some(value.into()),
            "traceparent" => origin.trace = Some(value.into()),
            "application" => origin.application = Some(value.into()),
            "controller" | "namespaced_controller" => self.controller = Some(value),
            "action" | "job" => self.action = Some(value),
            _ => {}
        }
    }

    fn action(self) -> Option<Arc<str>> {
        match (self.controller, self.action) {
            (Some(controller), Some(action)) => Some(format!("{controller}#{action}").into()),
            (controller, action) => controller.or(action).map(Into::into),
        }
    }
}

/// `key='value'` or `key:value`, with commas between.
struct Pairs<'t>(&'t str);

impl<'t> Iterator for Pairs<'t> {
    type Item = (&'t str, String);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.0.trim_start_matches([',', ' ']);
        let end = text.find(['=', ':'])?;
        let (key, rest) = (text[..end].trim(), &text[end + 1..]);
        let (value, rest) = match rest.strip_prefix('\'') {
            Some(quoted) => {
                let end = quoted_end(quoted)?;
                (decode(&quoted[..end]), &quoted[end + 1..])
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (decode(rest[..end].trim()), &rest[end..])
            }
        };
        self.0 = rest;
        Some((key, value))
    }
}

/// Where a quoted value ends; `\'` does not end it.
fn quoted_end(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'\'' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

/// What a value stands for: percent-encoded, with backslashes before quotes. Control characters are
/// left out: it is shown in terminals.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = rest.hexadecimal();
        match (byte, hex) {
            (b'%', Some(value)) => {
                bytes.push(value);
                rest.next();
                rest.next();
            }
            (b'\\', _) => {}
            _ => bytes.push(byte),
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    text.chars().filter(|one| !one.is_control()).collect()
}

/// The next two characters as a number of two hexadecimal digits.
trait Ahead {
    fn hexadecimal(&self) -> Option<u8>;
}

impl Ahead for std::str::Bytes<'_> {
    fn hexadecimal(&self) -> Option<u8> {
        let mut ahead = self.clone();
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (high, low) = (digit(ahead.next()?)?, digit(ahead.next()?)?);
        Some((high * 16 + low) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Route, action and trace.
    fn check(text: &str, expected: [&str; 3]) {
        let origin = read(text.as_bytes()).unwrap_or_default();
        let told = [&origin.route, &origin.action, &origin.trace];
        let told = told.map(|one| one.as_deref().unwrap_or_default());
        assert_eq!(told, expected, "{text}");
        let is_told = expected != ["", "", ""];
        assert!(!is_told || has_comment(text.as_bytes()), "{text}");
    }

    #[test]
    fn comments_say_where_statements_come_from() {
        check(
            "SELECT 1 /*route='%2Fusers%2F%3Aid',traceparent='00-ab-cd-01'*/",
            ["/users/:id", "", "00-ab-cd-01"],
        );
        check(
            "SELECT 1 /*action='show',controller='users',framework='rails'*/;",
            ["", "users#show", ""],
        );
        check(
            "/*application:Shop,controller:users,action:show*/ SELECT 1",
            ["", "users#show", ""],
        );
        check("SELECT 1 /* controller='it\\'s' */", ["", "it's", ""]);
        check("SELECT 1 /*job:Mailer*/", ["", "Mailer", ""]);
        check("SELECT 1 /*route='a%0ab%1b[31m'*/", ["ab[31m", "", ""]);
        check("SELECT 1", ["", "", ""]);
        check("SELECT 1 /* a remark: of some kind */", ["", "", ""]);
        check("SELECT 1 /*route='unfinished*/", ["", "", ""]);
        check("SELECT 1 /*route='%zz%4'*/", ["%zz%4", "", ""]);
        check("SELECT 1 /*=,:,'=*/", ["", "", ""]);
        check("*/", ["", "", ""]);
        check("/*", ["", "", ""]);
        check("/*/", ["", "", ""]);
    }

    #[test]
    fn values_are_bounded() {
        let long = format!("SELECT 1 /*route='{}'*/", "ü".repeat(500));
        let route = read(long.as_bytes()).and_then(|origin| origin.route);
        assert_eq!(route.map(|route| route.len()), Some(MOST_VALUE));
        let longer = format!("SELECT 1 /*route='{}'*/", "x".repeat(5000));
        assert_eq!(read(longer.as_bytes()), None);
    }
}
