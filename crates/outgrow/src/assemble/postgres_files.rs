//! What the Postgres tier is told in files of its own: users with their secrets, rules of login.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use outgrow_core::settings::Secret as Written;
use outgrow_postgres::login::hba::{Hba, Maps};
use outgrow_postgres::login::{Credential, Secret, UserList};
use outgrow_postgres::settings::PostgresSettings;

use super::postgres_promotions;
use crate::config::Config;

/// The largest file that is read, in bytes.
const FILE_LIMIT: u64 = 16 << 20;

/// Everything that is read, and can be wrong.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// The users with their secrets, those of the configuration among them.
    pub(super) users: HashMap<String, Option<Secret>>,
    /// How the users of databases log in that have one of their own.
    pub(super) databases: HashMap<String, Credential>,
    /// The rules of login, if there are some.
    pub(super) hba: Option<Hba>,
    /// The text of `/etc/passwd`.
    pub(super) system_users: String,
}

impl Files {
    /// Reads everything that the settings name, and judges every secret. All that is wrong is told
    /// at once, a line each.
    pub(super) fn read(settings: Option<&PostgresSettings>) -> Result<Self, String> {
        let mut files = Self::default();
        let Some(settings) = settings else {
            return Ok(files);
        };
        let mut problems = Vec::new();
        let mut note = |result: Result<(), String>| problems.extend(result.err());
        if let Some(path) = &settings.auth_file {
            note(files.read_users(path));
        }
        for (name, user) in &settings.user {
            let place = format!("postgres.user.{}.password", name.as_str());
            let secret = secret(user.password.as_ref(), &place);
            note(secret.map(|secret| {
                let known = files.users.entry(name.as_str().to_owned()).or_default();
                // A user without a password here may have one in the file of users.
                if secret.is_some() {
                    *known = secret;
                }
            }));
        }
        for (name, database) in &settings.database {
            let place = format!("postgres.database.{}.password", name.as_str());
            let secret = secret(database.password.as_ref(), &place);
            note(secret.map(|secret| {
                if secret.is_some() {
                    let credential = Credential::of(secret.as_ref());
                    files.databases.insert(name.as_str().to_owned(), credential);
                }
            }));
        }
        if let Some(path) = &settings.auth_hba {
            note(rules(path).map(|hba| files.hba = Some(hba)));
        }
        // Without it nobody at a Unix socket has a name.
        files.system_users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        if problems.is_empty() {
            Ok(files)
        } else {
            Err(problems.join("\n"))
        }
    }

    fn read_users(&mut self, path: &Path) -> Result<(), String> {
        let list = UserList::parse(&read(path)?, &path.display().to_string());
        for (name, user) in list.map_err(|problems| lines(&problems))?.iter() {
            self.users.insert(name.to_owned(), user.secret.clone());
        }
        Ok(())
    }
}

/// Whether a start could read everything that `[postgres]` names: users, secrets, rules.
///
/// # Errors
/// All that is wrong, a line each.
pub fn check(config: &Config) -> Result<(), String> {
    let files = Files::read(config.postgres.as_ref()).map(|_| ());
    files.and(postgres_promotions::check(config))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let problem = |error: io::Error| format!("{} cannot be read: {error}", path.display());
    let file = File::open(path).map_err(problem)?;
    let mut text = Vec::new();
    file.take(FILE_LIMIT)
        .read_to_end(&mut text)
        .map_err(problem)?;
    Ok(text)
}

fn rules(path: &Path) -> Result<Hba, String> {
    let name = path.display().to_string();
    let utf8 =
        |text, name: &str| String::from_utf8(text).map_err(|_| format!("{name} is not UTF-8"));
    let text = utf8(read(path)?, &name)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut include = |file: &str| utf8(read(&folder.join(file))?, file);
    Hba::parse(&text, &name, &Maps::default(), &mut include).map_err(|problems| lines(&problems))
}

fn lines<P: ToString>(problems: &[P]) -> String {
    let lines: Vec<String> = problems.iter().map(P::to_string).collect();
    lines.join("\n")
}

pub(super) fn secret(written: Option<&Written>, place: &str) -> Result<Option<Secret>, String> {
    let Some(written) = written else {
        return Ok(None);
    };
    Secret::read(written.expose().as_bytes()).map_err(|problem| format!("{place}: {problem}"))
}
