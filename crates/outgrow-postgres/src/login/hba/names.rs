//! Lists of databases and of users.

use std::collections::BTreeSet;
use std::path::Path;

use super::Files;
use super::line::{self, Token};
use super::pattern::Pattern;

/// How deep files may name files, as in Postgres.
const DEEPEST: u32 = 10;

/// Most names of a list, those of the files that it names included.
const MOST_NAMES: usize = 100_000;

/// What a list is of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Databases,
    Users,
}

/// A list, as a condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    all: bool,
    same_user: bool,
    replication: bool,
    exact: BTreeSet<String>,
    patterns: Vec<Pattern>,
}

impl Names {
    /// Whether a database with this name is meant, wanted by this user.
    pub(super) fn has_database(&self, name: &str, user: &str) -> bool {
        self.all || (self.same_user && name == user) || self.has_name(name)
    }

    /// Whether this user is meant.
    pub(super) fn has_user(&self, name: &str) -> bool {
        self.all || self.has_name(name)
    }

    /// Whether physical replication is meant.
    pub(super) fn has_replication(&self) -> bool {
        self.replication
    }

    fn has_name(&self, name: &str) -> bool {
        self.exact.contains(name) || self.patterns.iter().any(|pattern| pattern.is_in(name))
    }
}

/// Reads lists, and the files that they name.
pub(super) struct Reader<'a, 'b> {
    files: &'a mut Files<'b>,
    /// Bytes that may still be read.
    left: usize,
}

impl<'a, 'b> Reader<'a, 'b> {
    pub(super) fn new(files: &'a mut Files<'b>, left: usize) -> Self {
        Self { files, left }
    }

    /// Reads a list in the file of that name.
    pub(super) fn names(
        &mut self,
        tokens: &[Token],
        what: What,
        file: &str,
    ) -> Result<Names, String> {
        let mut names = Names::default();
        self.add(&mut names, tokens, what, file, 0)?;
        Ok(names)
    }

    fn add(
        &mut self,
        names: &mut Names,
        tokens: &[Token],
        what: What,
        file: &str,
        depth: u32,
    ) -> Result<(), String> {
        let is_database = what == What::Databases;
        for token in tokens {
            if names.exact.len() + names.patterns.len() >= MOST_NAMES {
                return Err(format!("has more than {MOST_NAMES} names"));
            }
            if token.is_keyword("all") {
                names.all = true;
            } else if is_database && token.is_keyword("sameuser") {
                names.same_user = true;
            } else if is_database && token.is_keyword("replication") {
                names.replication = true;
            } else if is_database
                && ["samerole", "samegroup"]
                    .iter()
                    .any(|one| token.is_keyword(one))
            {
                return Err(format!(
                    "\"{}\" needs the server's roles, which are not known here: write the \
                     databases and users themselves",
                    token.text
                ));
            } else if let Some(group) = token.after_mark('+').filter(|_| !is_database) {
                return Err(format!(
                    "\"+{group}\" needs the server's roles, which are not known here: write the \
                     users themselves, or a file of them (@file)"
                ));
            } else if let Some(other) = token.after_mark('@').filter(|name| !name.is_empty()) {
                let path = beside(file, other);
                self.add_file(names, &path, what, depth + 1)?;
            } else if let Some(pattern) = token.pattern() {
                names.patterns.push(Pattern::new(pattern)?);
            } else {
                names.exact.insert(token.text.clone());
            }
        }
        Ok(())
    }

    fn add_file(
        &mut self,
        names: &mut Names,
        path: &str,
        what: What,
        depth: u32,
    ) -> Result<(), String> {
        if depth > DEEPEST {
            return Err(format!("\"{path}\" is named by {DEEPEST} files in a row"));
        }
        let text = (self.files)(path).map_err(|why| format!("cannot read \"{path}\": {why}"))?;
        let left = self.left.checked_sub(text.len());
        self.left = left.ok_or_else(|| format!("\"{path}\" is too large"))?;
        for (number, line) in line::lines(&text) {
            let within = |text: String| format!("\"{path}\" line {number}: {text}");
            for field in line::fields(&line).map_err(within)? {
                self.add(names, &field, what, path, depth).map_err(within)?;
            }
        }
        Ok(())
    }
}

/// The path of a file that another one names.
fn beside(file: &str, name: &str) -> String {
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    folder.join(name).to_string_lossy().into_owned()
}
