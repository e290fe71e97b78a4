//! Which of several goes with what a ClientHello says.

use std::collections::HashMap;

use super::ClientHello;
use crate::settings::{AlpnName, ServerNamePattern};

/// What one of several is for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The server names; empty for any.
    pub server_names: Vec<ServerNamePattern>,
    /// The protocols; empty for any.
    pub protocols: Vec<AlpnName>,
}

/// Values by ClientHello: an exact name before a wildcard, a longer wildcard before a shorter one,
/// any of them before no name; one that asks for protocols before one that does not.
#[derive(Clone, Debug)]
pub struct Routes<T> {
    exact: HashMap<String, Choice<T>>,
    /// By the suffix with its dot.
    below: HashMap<String, Choice<T>>,
    any: Choice<T>,
    /// For what nothing else is for.
    rest: Option<T>,
}

#[derive(Clone, Debug)]
struct Choice<T> {
    by_protocol: Vec<(Vec<AlpnName>, T)>,
    other: Option<T>,
}

impl<T> Default for Choice<T> {
    fn default() -> Self {
        Self {
            by_protocol: Vec::new(),
            other: None,
        }
    }
}

impl<T> Choice<T> {
    fn find(&self, hello: &ClientHello) -> Option<&T> {
        let offers = |names: &[AlpnName]| {
            let mut offered = hello.protocols();
            offered.any(|offer| names.iter().any(|name| name.as_bytes() == offer))
        };
        let by_protocol = self.by_protocol.iter().find(|(names, _)| offers(names));
        by_protocol.map(|(_, value)| value).or(self.other.as_ref())
    }
}

impl<T: Clone> Routes<T> {
    /// Of these; `rest` is for everything else.
    pub fn new(all: Vec<(Asked, T)>, rest: Option<T>) -> Self {
        let mut routes = Self {
            exact: HashMap::new(),
            below: HashMap::new(),
            any: Choice::default(),
            rest,
        };
        for (asked, value) in all {
            if asked.server_names.is_empty() {
                put(&mut routes.any, &asked, value);
                continue;
            }
            for name in &asked.server_names {
                let choice = match name {
                    ServerNamePattern::Exact(name) => routes.exact.entry(name.clone()),
                    ServerNamePattern::Below(suffix) => routes.below.entry(suffix.clone()),
                };
                put(choice.or_default(), &asked, value.clone());
            }
        }
        routes
    }

    /// Whether a ClientHello decides; else all is for [`Routes::rest`].
    pub fn looks(&self) -> bool {
        let any = &self.any;
        let has_any = any.other.is_some() || !any.by_protocol.is_empty();
        has_any || !self.exact.is_empty() || !self.below.is_empty()
    }

    /// What is for everything else.
    pub fn rest(&self) -> Option<&T> {
        self.rest.as_ref()
    }

    /// What is for this one.
    pub fn find(&self, hello: &ClientHello) -> Option<&T> {
        let name = hello.server_name.as_deref();
        let exact = name.and_then(|name| self.exact.get(name)?.find(hello));
        let below = || {
            let name = name?;
            let mut dots = name.match_indices('.');
            dots.find_map(|(dot, _)| self.below.get(&name[dot..])?.find(hello))
        };
        exact
            .or_else(below)
            .or_else(|| self.any.find(hello))
            .or(self.rest.as_ref())
    }
}

fn put<T>(choice: &mut Choice<T>, asked: &Asked, value: T) {
    if asked.protocols.is_empty() {
        choice.other = Some(value);
    } else {
        choice.by_protocol.push((asked.protocols.clone(), value));
    }
}
