//! Who may come from where, and how they prove who they are: pg_hba.conf and pg_ident.conf.
//!
//! Postgres' syntax, with PgBouncer's freedoms (white space around commas, `all` in maps). What
//! needs a catalogue of roles (`samerole`, `+group`), name resolution (host names as addresses) or
//! something that is not spoken here (GSSAPI, LDAP, PAM, RADIUS) is refused in words when the file
//! is read, never ignored: a rule that is not understood must not let the next one decide.
//!
//! Patterns (`/…`) are those of the `regex-lite` crate: the same as Postgres' for what people write
//! there (anchors, classes, groups, repetitions), linear in time whatever the pattern, and bounded
//! in size, which a matcher of our own would have to be made first. Back references and look-ahead
//! are refused. Where alternatives could match, Postgres takes the longest one and this the first;
//! only `\1` in pg_ident.conf could tell.
//!
//! No file is read here: texts come in, and files that they name through an argument.

mod address;
mod ident;
mod line;
mod names;
mod pattern;
mod rule;
#[cfg(test)]
mod tests;

pub use address::Interface;
pub use ident::{Map, Maps};
pub use rule::{Kind, Rule};

use super::facts::Facts;
use super::problem::{Problem, Problems};

/// Most rules of a file.
const MOST_RULES: usize = 10_000;

/// Largest file, and all files that it names together, in bytes.
pub const LARGEST_FILE: usize = 4 * 1024 * 1024;

/// Reads a file that a rule names (`@file`): its text, or why it cannot be read. Names that are
/// not absolute have been joined to the folder of the file that they are in.
pub type Files<'a> = dyn FnMut(&str) -> Result<String, String> + 'a;

/// The rules, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hba {
    rules: Vec<Rule>,
}

impl Hba {
    /// Reads a pg_hba.conf. `name` is its path, for messages and for the names of other files;
    /// `maps` are those that rules may refer to. All that is wrong is told at once.
    pub fn parse(
        text: &str,
        name: &str,
        maps: &Maps,
        files: &mut Files<'_>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::new(name);
        let mut rules = Vec::new();
        if text.len() > LARGEST_FILE {
            problems.add(1, format!("the file has more than {LARGEST_FILE} bytes"));
            return Err(problems.into_all());
        }
        let mut reader = names::Reader::new(files, LARGEST_FILE);
        for (number, line) in line::lines(text) {
            match line::fields(&line) {
                Ok(fields) if fields.is_empty() => {}
                Ok(fields) => match rule::parse(number, name, &fields, maps, &mut reader) {
                    Ok(rule) => rules.push(rule),
                    Err(texts) => texts
                        .into_iter()
                        .for_each(|text| problems.add(number, text)),
                },
                Err(text) => problems.add(number, text),
            }
            if rules.len() > MOST_RULES {
                problems.add(number, format!("there are more than {MOST_RULES} rules"));
                break;
            }
        }
        problems.or(Self { rules })
    }

    /// The first rule that fits. Without one the client is refused
    /// ([`Refusal::no_rule`](super::Refusal::no_rule)). `interfaces` are the machine's own
    /// addresses, for `samehost` and `samenet`.
    pub fn rule(&self, facts: &Facts<'_>, interfaces: &[Interface]) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.fits(facts, interfaces))
    }

    /// All rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}
