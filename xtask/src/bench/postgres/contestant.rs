//! Who runs in the Postgres bench, and how each is started.
//!
//! Configurations are the files of `bench/postgres/NAME/`, where `@word@` is replaced. Deliberately not
//! here: measuring.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::scenario::{POOL, Scenario};
use crate::bench::contestant::{OURS, fill};
use crate::bench::peers::Program;
use crate::bench::process::Running;
use crate::postgres::{self, wire};
use crate::{command, setup};

/// Whom ours can be compared with.
pub(crate) const PEERS: [&str; 2] = ["pgbouncer", "pgpool"];

/// One who runs.
#[derive(Clone, Debug)]
pub(crate) struct Contestant {
    /// Its name; its folder under `bench/postgres/`.
    pub(crate) name: String,
    /// Its program.
    pub(crate) program: Program,
}

/// What all of them are given.
pub(crate) struct Surroundings<'a> {
    /// The folder `bench/postgres`.
    pub(crate) templates: &'a Path,
    /// A folder of this run alone.
    pub(crate) directory: &'a Path,
    /// The server.
    pub(crate) server: SocketAddr,
    /// The contestants' cores, as taskset takes them.
    pub(crate) cores: &'a str,
}

/// A contestant that runs.
pub(crate) struct Started {
    /// Its process.
    pub(crate) running: Running,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
}

impl Contestant {
    /// Ours.
    pub(crate) fn ours(binary: &Path) -> anyhow::Result<Self> {
        let said = command::output(Command::new(binary).arg("--version"))?;
        let version = said.split_whitespace().nth(1).unwrap_or("unknown");
        Ok(Self {
            name: OURS.to_owned(),
            program: Program {
                path: binary.to_owned(),
                version: version.to_owned(),
            },
        })
    }

    /// A peer: the one that is given, else Debian's, which is installed when it is missing.
    pub(crate) fn peer(name: &str, given: Option<&Path>) -> anyhow::Result<Self> {
        let package = if name == "pgpool" { "pgpool2" } else { name };
        let path = match given {
            Some(path) => path
                .canonicalize()
                .with_context(|| format!("there is no {}", path.display()))?,
            None => find(name, package)?,
        };
        let said = command::output(Command::new(&path).arg("--version"))?;
        let version = version(&said).context("no version in what it said")?;
        Ok(Self {
            name: name.to_owned(),
            program: Program { path, version },
        })
    }

    /// Whether prepared statements work with connections that are shared by transaction: not in
    /// PgBouncer before 1.21. Pgpool-II does not share any.
    pub(crate) fn shares_prepared(&self) -> bool {
        if self.name != "pgbouncer" {
            return true;
        }
        let mut parts = self.program.version.split('.').map(str::parse);
        let (major, minor): (u32, u32) = match (parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
            _ => (0, 0),
        };
        (major, minor) >= (1, 21)
    }

    /// Starts it for `scenario` and waits until it answers a query.
    pub(crate) fn start(
        &self,
        scenario: &Scenario,
        surroundings: &Surroundings<'_>,
    ) -> anyhow::Result<Started> {
        let directory = surroundings.directory.join(&scenario.name).join(&self.name);
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let public = postgres::free_address()?;
        let admin = postgres::free_address()?;
        let words = self.words(scenario, surroundings, &directory, [public, admin]);
        self.write_configuration(surroundings.templates, &directory, &words)?;
        postgres::give_to_postgres(&directory)?;
        let command = self.command(scenario, &directory)?;
        let output = directory.join("output.log");
        let mut running = Running::start(&self.name, surroundings.cores, &command, &output, None)?;
        running.wait_until("answer a query", || {
            wire::Client::connect(public, "postgres", "postgres")
                .and_then(|mut client| client.run("SELECT 1"))
                .is_ok()
        })?;
        Ok(Started {
            running,
            address: public,
        })
    }

    /// Its command line, allowed as many connections as any scenario needs.
    fn command(&self, scenario: &Scenario, directory: &Path) -> anyhow::Result<Vec<String>> {
        let file = |name: &str| directory.join(name).to_string_lossy().into_owned();
        let program = &self.program.path;
        let (command, arguments) = match self.name.as_str() {
            "pgbouncer" => (
                postgres::as_postgres(program)?,
                vec!["-q".to_owned(), file("pgbouncer.ini")],
            ),
            "pgpool" => (
                postgres::as_postgres(program)?,
                vec![
                    "-n".to_owned(),
                    "-f".to_owned(),
                    file("pgpool.conf"),
                    "-F".to_owned(),
                    file("pcp.conf"),
                ],
            ),
            _ => (
                Command::new(program),
                vec![
                    "run".to_owned(),
                    "--config".to_owned(),
                    file("outgrow.toml"),
                ],
            ),
        };
        let descriptors = scenario.clients() + 4_096;
        let mut words = vec![
            "prlimit".to_owned(),
            format!("--nofile={descriptors}:{descriptors}"),
            "--".to_owned(),
        ];
        let parts = std::iter::once(command.get_program()).chain(command.get_args());
        words.extend(parts.map(|part| part.to_string_lossy().into_owned()));
        words.extend(arguments);
        Ok(words)
    }

    /// The words of its configuration and what they become.
    fn words(
        &self,
        scenario: &Scenario,
        surroundings: &Surroundings<'_>,
        directory: &Path,
        [public, admin]: [SocketAddr; 2],
    ) -> Vec<(String, String)> {
        let is_prepared = scenario.load().is_some_and(|(_, how, _)| how == "prepared");
        let clients = scenario.clients();
        let (mode, pool, prepared) = match self.shares_prepared() {
            true => ("transaction", POOL, "max_prepared_statements = 200"),
            false if is_prepared => ("session", clients.max(POOL), ""),
            false => ("transaction", POOL, ""),
        };
        let mut words = vec![
            ("directory".to_owned(), directory.display().to_string()),
            ("mode".to_owned(), mode.to_owned()),
            ("pool".to_owned(), pool.to_string()),
            ("prepared".to_owned(), prepared.to_owned()),
            // One is for who looks whether it is there.
            ("children".to_owned(), (clients.max(POOL) + 2).to_string()),
        ];
        let addresses = [
            ("public", public),
            ("admin", admin),
            ("server", surroundings.server),
        ];
        for (name, address) in addresses {
            words.push((name.to_owned(), address.to_string()));
            words.push((format!("{name}_host"), address.ip().to_string()));
            words.push((format!("{name}_port"), address.port().to_string()));
        }
        words
    }

    fn write_configuration(
        &self,
        templates: &Path,
        directory: &Path,
        words: &[(String, String)],
    ) -> anyhow::Result<()> {
        let folder = templates.join(&self.name);
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let template = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let content =
                fill(&template, words).with_context(|| format!("in {}", path.display()))?;
            let name = path.file_name().context("a template has no name")?;
            fs::write(directory.join(name), content)?;
        }
        Ok(())
    }
}

fn find(name: &str, package: &str) -> anyhow::Result<PathBuf> {
    if command::find(name).is_none() {
        setup::install_debian(&[package])?;
    }
    command::find(name)
        .with_context(|| format!("{name} is missing; install it with `apt-get install {package}`"))
}

/// The first word that is a number with points.
fn version(said: &str) -> Option<String> {
    let mut words = said.split_whitespace();
    let is_version =
        |word: &&str| word.contains('.') && word.split('.').all(|part| part.parse::<u32>().is_ok());
    words.find(is_version).map(str::to_owned)
}
