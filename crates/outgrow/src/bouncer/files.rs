//! The files that the settings name: users, rules, maps. What is wrong with them is logged and the
//! rest counts, as with PgBouncer.

use std::collections::BTreeMap;
use std::path::Path;

use outgrow_postgres::login::hba::{Hba, Maps};
use outgrow_postgres::login::{Secret, UserList};
use outgrow_postgres::pgbouncer::ini::{AuthType, Settings};

use super::log::Log;

/// What the files say.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    /// The users of `auth_file`.
    pub(super) users: BTreeMap<String, Option<Secret>>,
    /// The rules, with `auth_type = hba`.
    pub(super) hba: Option<Hba>,
}

impl Files {
    /// Reads everything that the settings name.
    pub(super) fn read(settings: &Settings, log: &Log) -> Self {
        let mut files = Self::default();
        if let Some(path) = settings
            .auth_file
            .as_deref()
            .filter(|path| !path.is_empty())
        {
            files.users = users(path, log);
        }
        if settings.auth_type == AuthType::Hba {
            files.hba = Some(rules(settings, log));
        }
        files
    }
}

fn users(path: &str, log: &Log) -> BTreeMap<String, Option<Secret>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) => {
            log.error(format_args!("could not open auth_file {path}: {error}"));
            return BTreeMap::new();
        }
    };
    let list = match UserList::parse(&text, path) {
        Ok(list) => list,
        Err(problems) => {
            for problem in &problems {
                log.error(format_args!("broken auth file: {problem}"));
            }
            // What stands before the first broken line counts.
            let first = problems.iter().map(|problem| problem.line).min();
            let lines = text.split_inclusive(|&byte| byte == b'\n');
            let good = lines.take(first.unwrap_or(1).saturating_sub(1) as usize);
            UserList::parse(&good.flatten().copied().collect::<Vec<_>>(), path).unwrap_or_default()
        }
    };
    let users = list.iter();
    users
        .map(|(name, user)| (name.to_owned(), user.secret.clone()))
        .collect()
}

fn rules(settings: &Settings, log: &Log) -> Hba {
    let maps = match settings.auth_ident_file.as_deref() {
        Some(path) if !path.is_empty() => parsed(path, "ident", log, &mut |text| {
            Maps::parse(text, path).map_err(|problems| {
                let lines = problems.iter();
                lines.map(|one| (one.line, one.to_string())).collect()
            })
        }),
        _ => Maps::default(),
    };
    let path = settings.auth_hba_file.as_str();
    parsed(path, "hba", log, &mut |text| {
        let mut include = |file: &str| {
            let folder = Path::new(path).parent().unwrap_or(Path::new(""));
            std::fs::read_to_string(folder.join(file)).map_err(|error| error.to_string())
        };
        Hba::parse(text, path, &maps, &mut include).map_err(|problems| {
            let lines = problems.iter();
            lines.map(|one| (one.line, one.to_string())).collect()
        })
    })
}

/// A line and what is wrong with it.
type Wrong = (u32, String);

/// Reads a file, without its broken lines.
fn parsed<T: Default>(
    path: &str,
    kind: &str,
    log: &Log,
    parse: &mut dyn FnMut(&str) -> Result<T, Vec<Wrong>>,
) -> T {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            log.error(format_args!(
                "could not open {kind} config file {path}: {error}"
            ));
            return T::default();
        }
    };
    let problems = match parse(&text) {
        Ok(read) => return read,
        Err(problems) => problems,
    };
    for (line, problem) in &problems {
        log.warning(format_args!(
            "could not parse {kind} config line {line}: {problem}"
        ));
    }
    let is_good = |number: usize| problems.iter().all(|(line, _)| *line as usize != number);
    let mut good = String::new();
    for (number, line) in (1..).zip(text.lines()) {
        if is_good(number) {
            good.push_str(line);
        }
        good.push('\n');
    }
    parse(&good).unwrap_or_default()
}
