//! A `pgbouncer.ini` as typed settings, with all that is wrong with it at once.
//!
//! Pure: the text of the file is given, and so is what reads the files that it includes. The files
//! that settings name (users, rules, certificates) are neither read nor looked at. What differs
//! from PgBouncer: it stops at the first error and keeps what came before; numbers behind databases
//! and users must be numbers here, where it takes `10x` for 10, and all must fit, where it cuts them
//! off; `*` is read at once, not when it is first used; names are not empty; what follows a quoted
//! value without a blank is refused rather than dropped; names may stand in double quotes, as its
//! manual says.

mod connection_string;
mod entry;
mod lines;
mod problem;
mod settings;
mod tls;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use entry::{Database, Peer, User};
pub use problem::{Place, Problem, ProblemKind};
pub use settings::{ConfigRow, SetError, Setting, Settings, TABLE, words};
pub use tls::{Tls13Suite, TlsVersions};
pub use value::{AuthDatabase, AuthType, LoadBalanceHosts, PoolMode, TlsMode, Value, ValueError};

use lines::Line;

/// The database that is the console. The file cannot have one of this name.
pub const CONSOLE: &str = "pgbouncer";

/// How deep files may include each other, as in PgBouncer.
const INCLUDE_DEPTH: usize = 10;
/// How many files may be included altogether: two that include each other twice would take for ever.
const INCLUDE_COUNT: usize = 1000;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ini {
    /// Section `[pgbouncer]`.
    pub settings: Settings,
    /// Section `[databases]`, without `*`.
    pub databases: BTreeMap<String, Database>,
    /// `*` of section `[databases]`: what is true of databases that are not there.
    pub fallback: Option<Database>,
    /// Section `[users]`.
    pub users: BTreeMap<String, User>,
    /// Section `[peers]`, by id.
    pub peers: BTreeMap<u16, Peer>,
}

/// How the text of an included file is got; the error is why it cannot be.
pub type Include<'i> = &'i mut dyn FnMut(&str) -> Result<String, String>;

impl Ini {
    /// Reads the file of that name, for a start.
    ///
    /// # Errors
    /// All problems, in the order of the lines.
    pub fn read(file: &str, text: &str, include: Include<'_>) -> Result<Self, Vec<Problem>> {
        Reader::new(None, include).read(file, text)
    }

    /// Reads the file of that name, for a reload while `running` are the settings: those that cannot
    /// be changed stay, and so do those that have no default and that the file does not name.
    ///
    /// # Errors
    /// All problems, in the order of the lines.
    pub fn reread(
        file: &str,
        text: &str,
        running: &Settings,
        include: Include<'_>,
    ) -> Result<Self, Vec<Problem>> {
        Reader::new(Some(running), include).read(file, text)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Main,
    Databases,
    Users,
    Peers,
    /// One that does not exist; what is in it is not looked at.
    Unknown,
}

struct Reader<'i> {
    ini: Ini,
    is_reload: bool,
    section: Option<Section>,
    has_main_section: bool,
    included: usize,
    include: Include<'i>,
    problems: Vec<Problem>,
}

impl<'i> Reader<'i> {
    fn new(running: Option<&Settings>, include: Include<'i>) -> Self {
        let mut ini = Ini::default();
        if let Some(running) = running {
            ini.settings = running.clone();
        }
        Self {
            ini,
            is_reload: running.is_some(),
            section: None,
            has_main_section: false,
            included: 0,
            include,
            problems: Vec::new(),
        }
    }

    fn read(mut self, file: &str, text: &str) -> Result<Ini, Vec<Problem>> {
        self.file(file, text, 0);
        if !self.has_main_section {
            let place = Place {
                file: file.to_owned(),
                line: text.lines().count().max(1),
            };
            self.problem(&place, ProblemKind::NoMainSection);
        }
        if self.problems.is_empty() {
            Ok(self.ini)
        } else {
            Err(self.problems)
        }
    }

    fn problem(&mut self, place: &Place, kind: ProblemKind) {
        let place = place.clone();
        self.problems.push(Problem { place, kind });
    }

    fn file(&mut self, file: &str, text: &str, depth: usize) {
        for (number, line) in lines::read(text) {
            let place = Place {
                file: file.to_owned(),
                line: number,
            };
            match line {
                Line::Include(name) => self.include(&place, name, depth),
                Line::Section(name) => self.section(&place, name),
                Line::Value { key, value } => self.value(&place, &key, value),
                Line::Broken => self.problem(&place, ProblemKind::Syntax),
            }
        }
    }

    fn include(&mut self, place: &Place, name: &str, depth: usize) {
        self.included += 1;
        if depth >= INCLUDE_DEPTH {
            self.problem(place, ProblemKind::IncludeDepth);
        } else if self.included > INCLUDE_COUNT {
            // Told once.
            if self.included == INCLUDE_COUNT + 1 {
                self.problem(place, ProblemKind::IncludeCount);
            }
        } else {
            match (self.include)(name) {
                Ok(text) => self.file(name, &text, depth + 1),
                Err(reason) => {
                    self.problem(place, ProblemKind::Include(name.to_owned(), reason));
                }
            }
        }
    }

    fn section(&mut self, place: &Place, name: &str) {
        let section = match name {
            "pgbouncer" => Section::Main,
            "databases" => Section::Databases,
            "users" => Section::Users,
            "peers" => Section::Peers,
            _ => {
                self.problem(place, ProblemKind::Section(name.to_owned()));
                Section::Unknown
            }
        };
        self.section = Some(section);
        if section == Section::Main {
            self.has_main_section = true;
            let is_reload = self.is_reload;
            // A second section of the name starts anew as well.
            let settings = &mut self.ini.settings;
            settings.fill(|setting| setting.changeable || !is_reload);
        }
    }

    fn value(&mut self, place: &Place, key: &str, value: &str) {
        let outcome = match self.section {
            None => Err(ProblemKind::NoSection(key.to_owned())),
            Some(Section::Main) => self.setting(key, value),
            Some(Section::Databases) => Database::read(key, value).map(|database| {
                if key == "*" {
                    self.ini.fallback = Some(database);
                } else {
                    self.ini.databases.insert(key.to_owned(), database);
                }
            }),
            Some(Section::Users) => User::read(key, value).map(|user| {
                self.ini.users.insert(key.to_owned(), user);
            }),
            Some(Section::Peers) => Peer::read(key, value).map(|(id, peer)| {
                self.ini.peers.insert(id, peer);
            }),
            Some(Section::Unknown) => Ok(()),
        };
        if let Err(kind) = outcome {
            self.problem(place, kind);
        }
    }

    fn setting(&mut self, name: &str, value: &str) -> Result<(), ProblemKind> {
        let setting = Settings::find(name).ok_or_else(|| {
            let names = TABLE.iter().map(|setting| setting.name);
            ProblemKind::UnknownSetting {
                name: name.to_owned(),
                nearest: problem::nearest_of(name, names),
            }
        })?;
        if self.is_reload && !setting.changeable {
            return Ok(());
        }
        let outcome = setting.read(&mut self.ini.settings, value);
        outcome.map_err(|reason| ProblemKind::Value {
            name: name.to_owned(),
            value: value.to_owned(),
            reason,
        })
    }
}
