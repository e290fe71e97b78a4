//! The list of users: PgBouncer's `auth_file`.
//!
//! One user a line, `"user" "secret"`; two quotes within quotes are one; what follows on the line
//! is ignored, as PgBouncer does; lines that begin with `;` are comments. Stricter than PgBouncer,
//! which stops reading at the first odd line without a word to clients: every problem is told with
//! its line, and a quote that is not closed does not go on to the next line, where it would swallow
//! users.
//!
//! No file is read here.

use std::collections::BTreeMap;

use super::problem::{Problem, Problems};
use super::secret::Secret;

/// Longest name in bytes, as in PgBouncer. Postgres' own have up to 63.
pub const LONGEST_NAME: usize = 127;

/// Largest file in bytes.
pub const LARGEST_FILE: usize = 64 * 1024 * 1024;

/// Most users.
const MOST_USERS: usize = 500_000;

/// Users and their secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserList {
    users: BTreeMap<String, User>,
    warnings: Vec<Problem>,
}

/// A user of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What is stored; `None`: no login with a password.
    pub secret: Option<Secret>,
    /// The line that it is in.
    pub line: u32,
}

impl UserList {
    /// Reads a list. `name` is its path, for messages. All that is wrong is told at once.
    pub fn parse(text: &[u8], name: &str) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::new(name);
        let mut warnings = Problems::new(name);
        let mut users: BTreeMap<String, User> = BTreeMap::new();
        if text.len() > LARGEST_FILE {
            problems.add(1, format!("the file has more than {LARGEST_FILE} bytes"));
            return Err(problems.into_all());
        }
        for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
            let (user, secret) = match read_line(line) {
                Ok(None) => continue,
                Ok(Some(read)) => read,
                Err(text) => {
                    problems.add(number, text);
                    continue;
                }
            };
            if users.len() >= MOST_USERS {
                problems.add(number, format!("there are more than {MOST_USERS} users"));
                break;
            }
            if let Some(before) = users.get(&user) {
                let text = format!(
                    "user \"{user}\" is in line {} already: this line counts",
                    before.line
                );
                warnings.add(number, text);
            }
            users.insert(
                user,
                User {
                    secret,
                    line: number,
                },
            );
        }
        problems.or(Self {
            users,
            warnings: warnings.into_all(),
        })
    }

    /// A user.
    pub fn get(&self, user: &str) -> Option<&User> {
        self.users.get(user)
    }

    /// All users, by name: the order of PgBouncer's `SHOW USERS`.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &User)> {
        self.users.iter().map(|(name, user)| (name.as_str(), user))
    }

    /// What is odd and was taken all the same: users that are in the list twice.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Goes on with what was derived from the passwords of an older list, where they are the same.
    pub fn keep_derived(&mut self, older: &Self) {
        for (name, user) in &mut self.users {
            if let Some(before) = older.users.get(name)
                && before.secret == user.secret
            {
                user.secret.clone_from(&before.secret);
            }
        }
    }

    /// The list as a file.
    pub fn text(&self) -> Result<Vec<u8>, Unwritable> {
        let mut text = Vec::new();
        for (name, user) in &self.users {
            write_line(name, user.secret.as_ref(), &mut text)?;
        }
        Ok(text)
    }
}

/// A name or a password that cannot be written into a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name or a password with a line break or a NUL byte cannot be in a list of users")]
pub struct Unwritable;

/// Writes the line of one user.
pub fn write_line(
    user: &str,
    secret: Option<&Secret>,
    out: &mut Vec<u8>,
) -> Result<(), Unwritable> {
    let secret = secret.map(Secret::text).unwrap_or_default();
    let parts = [user.as_bytes(), &secret];
    let is_odd = |byte: &u8| matches!(byte, b'\n' | b'\r' | 0);
    if parts.iter().any(|part| part.iter().any(is_odd)) {
        return Err(Unwritable);
    }
    for (part, end) in parts.into_iter().zip([b' ', b'\n']) {
        out.push(b'"');
        for &byte in part {
            out.push(byte);
            if byte == b'"' {
                out.push(b'"');
            }
        }
        out.extend_from_slice(&[b'"', end]);
    }
    Ok(())
}

/// A line's user, if it is one of a user.
fn read_line(line: &[u8]) -> Result<Option<(String, Option<Secret>)>, String> {
    let rest = line.trim_ascii();
    match rest.first() {
        None | Some(b';') => return Ok(None),
        Some(b'"') => {}
        Some(b'#') => return Err("begins with `#`: comments begin with `;`".to_owned()),
        Some(_) => return Err(expected("the user's name")),
    }
    let (user, rest) = quoted(rest, "the user's name")?;
    let user = String::from_utf8(user).map_err(|_| "the user's name is not UTF-8".to_owned())?;
    if user.is_empty() {
        return Err("the user's name is empty".to_owned());
    }
    if user.len() > LONGEST_NAME {
        return Err(format!(
            "the user's name has {} bytes, more than {LONGEST_NAME}",
            user.len()
        ));
    }
    if user.contains('\0') {
        return Err("the user's name holds a NUL byte".to_owned());
    }
    let (secret, _ignored) = quoted(rest.trim_ascii_start(), "the password")?;
    match Secret::read(&secret) {
        Ok(secret) => Ok(Some((user, secret))),
        Err(problem) => Err(format!("user \"{user}\": {problem}")),
    }
}

fn expected(what: &str) -> String {
    format!("{what} is missing: write `\"user\" \"password\"`, in quotes")
}

/// What is in the quotes at the start, and what comes after them.
fn quoted<'a>(text: &'a [u8], what: &str) -> Result<(Vec<u8>, &'a [u8]), String> {
    let mut rest = text.strip_prefix(b"\"").ok_or_else(|| expected(what))?;
    let mut value = Vec::new();
    loop {
        let end = memchr::memchr(b'"', rest)
            .ok_or_else(|| format!("{what} has a quote (\") that is not closed"))?;
        value.extend_from_slice(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix(b"\"") {
            Some(after) => {
                value.push(b'"');
                rest = after;
            }
            None => return Ok((value, rest)),
        }
    }
}

#[cfg(test)]
mod tests;
