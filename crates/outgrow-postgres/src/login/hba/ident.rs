//! pg_ident.conf: which names of certificates and systems are which users.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::LARGEST_FILE;
use super::line::{self, Field, Token};
use super::pattern::Pattern;
use crate::login::problem::{Problem, Problems};

/// Most lines.
const MOST_LINES: usize = 10_000;

/// What stands for the first group of a pattern.
const GROUP: &str = "\\1";

/// All maps, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps(BTreeMap<String, Arc<Map>>);

/// One map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    name: String,
    lines: Vec<Mapping>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mapping {
    system: System,
    user: User,
}

/// Names of systems and certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
enum System {
    Exact(String),
    Pattern(Pattern),
}

/// Users that they may be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum User {
    All,
    Exact(String),
    Pattern(Pattern),
    /// With the group of the system's pattern between these two.
    Group(String, String),
}

impl Maps {
    /// Reads a pg_ident.conf. All that is wrong is told at once.
    pub fn parse(text: &str, name: &str) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::new(name);
        let mut maps: BTreeMap<String, Map> = BTreeMap::new();
        if text.len() > LARGEST_FILE {
            problems.add(1, format!("the file has more than {LARGEST_FILE} bytes"));
            return Err(problems.into_all());
        }
        let mut count = 0;
        for (number, line) in line::lines(text) {
            let fields = match line::fields(&line) {
                Ok(fields) if fields.is_empty() => continue,
                Ok(fields) => fields,
                Err(text) => {
                    problems.add(number, text);
                    continue;
                }
            };
            count += 1;
            if count > MOST_LINES {
                problems.add(number, format!("there are more than {MOST_LINES} lines"));
                break;
            }
            match mapping(&fields) {
                Ok((name, mapping)) => {
                    let map = maps.entry(name.clone()).or_insert(Map {
                        name,
                        lines: Vec::new(),
                    });
                    map.lines.push(mapping);
                }
                Err(text) => problems.add(number, text),
            }
        }
        let shared = maps.into_iter().map(|(name, map)| (name, Arc::new(map)));
        problems.or(Self(shared.collect()))
    }

    /// The map of that name.
    pub fn get(&self, name: &str) -> Option<Arc<Map>> {
        self.0.get(name).cloned()
    }
}

impl Map {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether somebody with this name in a certificate or of a system may be this user.
    pub fn allows(&self, system: &str, user: &str) -> bool {
        self.lines.iter().any(|line| line.allows(system, user))
    }
}

impl Mapping {
    fn allows(&self, system: &str, user: &str) -> bool {
        let is_system = match &self.system {
            System::Exact(name) => name == system,
            System::Pattern(pattern) => pattern.is_in(system),
        };
        is_system
            && match (&self.user, &self.system) {
                (User::All, _) => true,
                (User::Exact(name), _) => name == user,
                (User::Pattern(pattern), _) => pattern.is_in(user),
                // What is put in is a name and nothing else: `all` there is a user called so.
                (User::Group(before, after), System::Pattern(pattern)) => {
                    let group = pattern.first_group(system);
                    let middle = user
                        .strip_prefix(before.as_str())
                        .and_then(|rest| rest.strip_suffix(after.as_str()));
                    group.is_some() && group == middle
                }
                (User::Group(..), System::Exact(_)) => false,
            }
    }
}

fn mapping(fields: &[Field]) -> Result<(String, Mapping), String> {
    if let Some([Token { text, .. }]) = fields.first().map(Vec::as_slice)
        && ["include", "include_if_exists", "include_dir"].contains(&text.as_str())
    {
        return Err(format!("{text} is not supported: write the lines here"));
    }
    let words: Option<Vec<&Token>> = fields
        .iter()
        .map(|field| match &field[..] {
            [word] => Some(word),
            _ => None,
        })
        .collect();
    let words = words.ok_or("has a list: write a line for each")?;
    let [name, system, user] = words[..] else {
        return Err("write `MAP SYSTEM-USER USER`".to_owned());
    };
    let system = match system.pattern() {
        Some(pattern) => System::Pattern(Pattern::new(pattern)?),
        None => System::Exact(system.text.clone()),
    };
    let user = self::user(user, &system)?;
    Ok((name.text.clone(), Mapping { system, user }))
}

fn user(token: &Token, system: &System) -> Result<User, String> {
    if token.is_keyword("all") {
        return Ok(User::All);
    }
    if let Some(group) = token.after_mark('+') {
        return Err(format!(
            "\"+{group}\" needs the server's roles, which are not known here: write a line for \
             each user"
        ));
    }
    if let Some(pattern) = token.pattern() {
        return Pattern::new(pattern).map(User::Pattern);
    }
    match (token.text.split_once(GROUP), system) {
        (Some((before, after)), System::Pattern(pattern)) => {
            if !pattern.has_group() {
                return Err(format!(
                    "\"{}\" refers to a group, and the pattern has none: put parentheses around it",
                    token.text
                ));
            }
            Ok(User::Group(before.to_owned(), after.to_owned()))
        }
        _ => Ok(User::Exact(token.text.clone())),
    }
}
