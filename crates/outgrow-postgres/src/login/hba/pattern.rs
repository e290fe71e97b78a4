//! A pattern that names match.

use regex_lite::{Regex, RegexBuilder};

/// Longest pattern in bytes.
const LONGEST: usize = 1024;

/// Largest compiled pattern in bytes.
const LARGEST: usize = 128 * 1024;

/// Deepest nesting of groups.
const DEEPEST: u32 = 50;

/// Longest name that may match, in bytes: what comes from clients bounds no work otherwise.
const LONGEST_NAME: usize = 1024;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Regex);

impl Pattern {
    /// Compiles it, or says why it cannot be.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("the pattern has more than {LONGEST} bytes"));
        }
        let mut builder = RegexBuilder::new(text);
        // As in Postgres, where a dot is any character.
        builder.dot_matches_new_line(true);
        builder.size_limit(LARGEST).nest_limit(DEEPEST);
        let compiled = builder.build();
        compiled
            .map(Self)
            .map_err(|error| format!("the pattern \"{text}\" cannot be used: {error}"))
    }

    /// Whether it is found somewhere in the name.
    pub(super) fn is_in(&self, name: &str) -> bool {
        name.len() <= LONGEST_NAME && self.0.is_match(name)
    }

    /// Whether it has a group to take out.
    pub(super) fn has_group(&self) -> bool {
        self.0.captures_len() > 1
    }

    /// What its first group is in the name. `None` when the pattern is not found, or without the
    /// group.
    pub(super) fn first_group<'a>(&self, name: &'a str) -> Option<&'a str> {
        if name.len() > LONGEST_NAME {
            return None;
        }
        Some(self.0.captures(name)?.get(1)?.as_str())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}
