//! The configuration: one TOML file, or the command line of `outgrow run -- COMMAND`.
//!
//! What can be written is declared by the rooms (`settings.rs` of each); here the file is turned
//! into a tree, the environment is put in, the rooms read their tables, and the rules between
//! tables are checked. Everything that is wrong is told at once.
//!
//! Pure: reading the file, the environment and the certificates is passed in as functions
//! ([`Surroundings`]).

mod acme;
mod check;
mod command_line;
mod explain;
mod interpolate;
mod joined;
mod leader;
mod print;
mod promote;
mod reference;
mod schema;
mod service;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use outgrow_admin::settings::{AdminListen, AdminSettings};
use outgrow_core::settings::{
    MapKey, Name, Node, Problem, Reader, Severity, Span, Value, read_table,
};
use outgrow_edge::settings::{AccessSettings, ListenerSettings, RouteSettings};
use outgrow_fleet::machine::Size;
use outgrow_postgres::settings::PostgresSettings;
use outgrow_stream::settings::{TcpSettings, UdpSettings};

pub use acme::Acme;
pub use command_line::CommandLine;
pub use explain::{Connection, Question, explain, explain_connection};
pub use leader::Leader;
pub use print::{Look, Source, print};
pub use promote::Promote;
pub use reference::reference;
pub use schema::schema;
pub use service::Service;

use crate::settings::ProcessSettings;

/// Largest file that is read, in bytes.
pub const FILE_LIMIT: usize = 16 << 20;

outgrow_core::settings! {
    /// The whole file. Durations are texts with a unit (`"250ms"`, `"10s"`, `"5m"`, `"1h"`), sizes
    /// are texts (`"16KiB"`, `"1MiB"`) or numbers of bytes. Inside of texts `${NAME}` and
    /// `${NAME:-default}` are replaced from the environment, and then numbers and booleans may be
    /// written as such a text too; `$${` is a literal `${`. Unknown keys are errors.
    pub struct Config {
        /// How the process itself runs.
        pub process: ProcessSettings = ProcessSettings::default();
        /// The lease that one of several boxes holds.
        pub leader: Option<Leader> = None;
        /// The admin listener.
        pub admin: AdminSettings = AdminSettings::default();
        /// The records of requests.
        pub access: AccessSettings = AccessSettings::default();
        /// The authority that certificates of listeners are got from.
        pub acme: Option<Acme> = None;
        /// The listeners of HTTP by name; at least one, unless there is `[tcp]`, `[udp]` or `[postgres]`.
        pub listener: BTreeMap<Name, ListenerSettings> = BTreeMap::new();
        /// The services by name.
        pub service: BTreeMap<Name, Service> = BTreeMap::new();
        /// The routes by name; at least one where there are listeners.
        pub route: BTreeMap<Name, RouteSettings> = BTreeMap::new();
        /// The listeners that pass on TCP connections as they are, by name.
        pub tcp: BTreeMap<Name, TcpSettings> = BTreeMap::new();
        /// The listeners that pass on UDP datagrams as they are, by name.
        pub udp: BTreeMap<Name, UdpSettings> = BTreeMap::new();
        /// The pool of connections to Postgres.
        pub postgres: Option<PostgresSettings> = None;
    }
}

impl Config {
    /// The files of pages for errors and of fixed answers, each with the keys that lead to it.
    pub fn page_files(&self) -> Vec<(Vec<&str>, &Path)> {
        let listeners = self.listener.iter().flat_map(|(name, listener)| {
            let pages = listener.error_pages.iter();
            pages.map(move |(status, page)| ("listener", name, status, page))
        });
        let routes = self.route.iter().flat_map(|(name, route)| {
            let pages = route.error_pages.iter();
            pages.map(move |(status, page)| ("route", name, status, page))
        });
        let pages = listeners
            .chain(routes)
            .filter_map(|(kind, name, status, page)| {
                let path = vec![kind, name.as_str(), "error_pages", status.as_key(), "file"];
                Some((path, page.file.as_deref()?))
            });
        let answers = self.route.iter().filter_map(|(name, route)| {
            let file = route.respond.as_ref()?.file.as_deref()?;
            Some((vec!["route", name.as_str(), "respond", "file"], file))
        });
        pages.chain(answers).collect()
    }

    /// The files of certificates, keys and issuers, each with the keys that lead to it.
    pub fn certificate_files(&self) -> Vec<(Vec<&str>, &Path)> {
        let mut files = Vec::new();
        for (name, listener) in &self.listener {
            for (keys, file) in listener.tls.iter().flat_map(|tls| tls.files()) {
                let path = [&["listener", name.as_str(), "tls"], keys].concat();
                files.push((path, file));
            }
        }
        for (name, service) in &self.service {
            for (key, file) in service.tls.iter().flat_map(|tls| tls.files()) {
                files.push((vec!["service", name.as_str(), "tls", key], file));
            }
        }
        let postgres = self.postgres.iter();
        files.extend(postgres.flat_map(PostgresSettings::certificate_files));
        files
    }
}

/// What the configuration is checked against: the only ways to the outside.
#[derive(Clone, Copy)]
pub struct Surroundings<'s> {
    /// The value of an environment variable, when it is set.
    pub environment: &'s dyn Fn(&str) -> Option<String>,
    /// Whether a file can be read, or else why not.
    pub readable: &'s dyn Fn(&Path) -> Result<(), String>,
    /// How large the machine is, if that is known.
    pub machine: Option<Size>,
}

/// A configuration that can be run.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What somebody should look at, in the order of the file.
    pub warnings: Vec<Problem>,
}

/// Reads a configuration from the text of a file.
///
/// The errors are everything that is wrong, in the order of the file, with the warnings among
/// them. A text that is not TOML gives its syntax errors only: what follows one cannot be judged.
pub fn load(text: &str, surroundings: &Surroundings<'_>) -> Result<Loaded, Vec<Problem>> {
    let root = tree::parse(text)?;
    let mut reader = Reader::new();
    let root = interpolate::interpolate(root, surroundings.environment, &mut reader);
    load_tree(root, reader.into_problems(), surroundings)
}

/// The same of a tree whose texts are complete, but for those that are told in `unset`.
fn load_tree(
    root: Node,
    unset: Vec<Problem>,
    surroundings: &Surroundings<'_>,
) -> Result<Loaded, Vec<Problem>> {
    let mut reader = Reader::new();
    let config = read_table::<Config>(&root, &mut reader);
    let config = config.filter(|_| unset.is_empty());
    let wrong = with_unset(unset, reader.into_problems());
    let mut reader = Reader::new();
    check::check_names(&root, &mut reader);
    match &config {
        Some(config) => check::check(config, &root, surroundings, &mut reader),
        None => check_the_rest(root, &wrong, surroundings, &mut reader),
    }
    let problems = with_unset(wrong, reader.into_problems());
    let is_error = |problem: &Problem| problem.severity == Severity::Error;
    match config.filter(|_| !problems.iter().any(is_error)) {
        Some(config) => Ok(Loaded {
            config,
            warnings: problems,
        }),
        None => Err(problems),
    }
}

/// What is wrong between the tables that can be read, beside those that are wrong by themselves.
fn check_the_rest(
    mut root: Node,
    wrong: &[Problem],
    surroundings: &Surroundings<'_>,
    reader: &mut Reader,
) {
    let place = |problem: &'_ Problem| {
        let mut keys = problem.path.split('.').map(str::to_owned);
        (keys.next(), keys.next())
    };
    for (table, name) in wrong.iter().map(place).collect::<BTreeSet<_>>() {
        let Value::Table(entries) = &mut root.value else {
            return;
        };
        entries.retain_mut(|entry| match &mut entry.node.value {
            _ if Some(&entry.key) != table.as_ref() => true,
            Value::Table(inner) => {
                let before = inner.len();
                inner.retain(|entry| Some(&entry.key) != name.as_ref());
                inner.len() < before
            }
            _ => false,
        });
    }
    if let Some(mut config) = read_table::<Config>(&root, &mut Reader::new()) {
        forget_defaults(&mut config, wrong);
        check::between(&config, &root, surroundings, reader);
    }
}

/// Where the default of an address stands in for a wrong one, nothing is known of it.
fn forget_defaults(config: &mut Config, wrong: &[Problem]) {
    let is_wrong = |table: &str| {
        let listen = format!("{table}.listen");
        let is_its = |path: &str| path == table || path == listen;
        let is_its = |path: &str| is_its(path) || path.starts_with(&format!("{listen}."));
        wrong.iter().any(|problem| is_its(&problem.path))
    };
    if is_wrong("admin") {
        config.admin.listen = AdminListen::Off;
    }
    if let Some(postgres) = config.postgres.as_mut().filter(|_| is_wrong("postgres")) {
        postgres.listen.clear();
    }
}

/// The problems of both, in the order of the file; a text whose variable is missing is told only
/// once, not as a wrong value too. What has no place in a file (options of the command line) is known
/// by its path.
fn with_unset(unset: Vec<Problem>, mut others: Vec<Problem>) -> Vec<Problem> {
    others.retain(|problem| {
        let is_its = |unset: &Problem| {
            let has_place = unset.span != Span::default();
            unset.span == problem.span && (has_place || unset.path == problem.path)
        };
        !unset.iter().any(is_its)
    });
    others.extend(unset);
    others.sort_by_key(|problem| problem.span);
    others
}
