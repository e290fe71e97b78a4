//! The conditions of a route, compiled: whether they hold, or else which one does not and what was
//! seen instead.

use outgrow_message::{Known, RequestHead};

use crate::settings::{FieldName, KeyName, MethodName, RouteConditions, ValuePattern};

use super::pairs::{cookies, decoded, query};

/// The conditions of one route, besides host and path.
#[derive(Clone, Debug)]
pub(super) struct Conditions {
    methods: Box<[MethodName]>,
    fields: Box<[(FieldName, ValuePattern)]>,
    query: Box<[(KeyName, ValuePattern)]>,
    cookies: Box<[(KeyName, ValuePattern)]>,
}

/// Whether conditions hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Holds,
    /// All but the method's.
    Method,
    Fails,
}

/// A condition that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What is looked at: `method`, `header X-Beta`, `query a`, `cookie b`.
    pub subject: String,
    /// What it is to be.
    pub wanted: String,
    /// What it is: the values, none when it is not there.
    pub seen: Vec<String>,
}

impl Conditions {
    /// None when there is nothing to ask.
    pub(super) fn new(conditions: &RouteConditions<'_>) -> Option<Box<Self>> {
        if conditions.methods.is_empty() && conditions.count() == 0 {
            return None;
        }
        let each = |(name, pattern): (&KeyName, &ValuePattern)| (name.clone(), pattern.clone());
        let field = |(name, pattern): (&FieldName, &ValuePattern)| (name.clone(), pattern.clone());
        Some(Box::new(Self {
            methods: conditions.methods.into(),
            fields: conditions.header.into_iter().flatten().map(field).collect(),
            query: conditions.query.into_iter().flatten().map(each).collect(),
            cookies: conditions.cookie.into_iter().flatten().map(each).collect(),
        }))
    }

    pub(super) fn methods(&self) -> &[MethodName] {
        &self.methods
    }

    /// How many there are but the method's.
    pub(super) fn count(&self) -> usize {
        self.fields.len() + self.query.len() + self.cookies.len()
    }

    /// Whether they hold for a request.
    pub(super) fn judge(&self, request: &RequestHead) -> Verdict {
        let rest = self.fields.iter().all(|(name, pattern)| {
            values(request, name).any(|value| pattern.matches(value.iter().copied()))
        }) && self.query.iter().all(|(name, pattern)| {
            query_values(request, name).any(|value| pattern.matches(decoded(value)))
        }) && self.cookies.iter().all(|(name, pattern)| {
            cookie_values(request, name).any(|value| pattern.matches(value.iter().copied()))
        });
        match rest {
            false => Verdict::Fails,
            true if self.takes_method(request) => Verdict::Holds,
            true => Verdict::Method,
        }
    }

    fn takes_method(&self, request: &RequestHead) -> bool {
        let text = request.text(request.method_text);
        let mut methods = self.methods.iter();
        self.methods.is_empty() || methods.any(|method| method.takes(request.method, text))
    }

    /// What does not hold, for explaining.
    pub(super) fn failed(&self, request: &RequestHead) -> Vec<Failed> {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let mut failed = Vec::new();
        if !self.takes_method(request) {
            let methods: Vec<&str> = self.methods.iter().map(MethodName::as_str).collect();
            failed.push(Failed {
                subject: "method".to_owned(),
                wanted: methods.join(", "),
                seen: vec![text(request.text(request.method_text))],
            });
        }
        let mut tell = |subject: String, pattern: &ValuePattern, seen: Vec<Vec<u8>>| {
            if !seen
                .iter()
                .any(|value| pattern.matches(value.iter().copied()))
            {
                failed.push(Failed {
                    subject,
                    wanted: pattern.to_string(),
                    seen: seen.iter().map(|value| text(value)).collect(),
                });
            }
        };
        for (name, pattern) in &self.fields {
            let seen = values(request, name).map(<[u8]>::to_vec).collect();
            tell(format!("header {}", name.as_str()), pattern, seen);
        }
        for (name, pattern) in &self.query {
            let seen = query_values(request, name);
            let seen = seen.map(|value| decoded(value).collect()).collect();
            tell(format!("query {}", name.as_str()), pattern, seen);
        }
        for (name, pattern) in &self.cookies {
            let seen = cookie_values(request, name).map(<[u8]>::to_vec).collect();
            tell(format!("cookie {}", name.as_str()), pattern, seen);
        }
        failed
    }
}

/// The values of all lines of a header field.
fn values<'r>(request: &'r RequestHead, name: &FieldName) -> impl Iterator<Item = &'r [u8]> {
    let known = Known::of(name.as_str().as_bytes());
    let lines = request.fields.iter().filter(move |(number, text, _)| {
        *number == known
            && (known != Known::Other || text.eq_ignore_ascii_case(name.as_str().as_bytes()))
    });
    lines.map(|(.., value)| value)
}

/// The values of a key of the query, as they stand there.
fn query_values<'r>(request: &'r RequestHead, name: &KeyName) -> impl Iterator<Item = &'r [u8]> {
    let text = request.query.map_or(&b""[..], |span| request.text(span));
    let pairs = query(text).filter(|(key, _)| decoded(key).eq(name.as_str().bytes()));
    pairs.map(|(_, value)| value)
}

/// The values of a cookie.
fn cookie_values<'r>(request: &'r RequestHead, name: &KeyName) -> impl Iterator<Item = &'r [u8]> {
    let pairs = request.fields.values(Known::Cookie).flat_map(cookies);
    let pairs = pairs.filter(|(key, _)| *key == name.as_str().as_bytes());
    pairs.map(|(_, value)| value)
}
