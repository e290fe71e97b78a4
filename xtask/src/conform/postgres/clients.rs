//! Drivers and ORMs, used for real: each does a small piece of work, and prints the same through outgrow
//! as with Postgres itself, with fifty sessions on a few connections.
//!
//! The programs are beside this file (`clients/`), their libraries come from the registries of their
//! languages. Three of them are end-to-end tests as well (`e2e/postgres/clients.rs`). Deliberately not here: what messages they send.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::{POOL, Pair, first_difference};
use crate::conform::{Failure, Verdict};
use crate::{command, setup};

/// How long a program may take, in seconds.
const LIMIT: &str = "180";

/// A client: its program, and how it is made to run.
struct Client {
    name: &'static str,
    program: &'static str,
    kind: Kind,
}

/// How a program runs.
#[derive(Clone, Copy)]
enum Kind {
    /// Python, with packages of PyPI in an environment of their own.
    Python,
    /// Node, with packages of npm.
    Node,
    /// Java, with the driver of Debian.
    Java,
    /// Rust, with crates of crates.io.
    Rust,
}

/// What Python's programs need.
const PYTHON: [&str; 4] = [
    "psycopg[binary]==3.3.9",
    "asyncpg==0.32.0",
    "SQLAlchemy==2.1.9",
    "Django==5.2.19",
];
/// What Node's programs need.
const NODE: [&str; 2] = ["pg@8.23.1", "sequelize@6.37.8"];
/// The driver for Java.
const JDBC: &str = "/usr/share/java/postgresql.jar";
/// The crate around the programs in Rust, of which each is a binary (`src/bin/`).
const CRATE: &str = "\
[package]
name = \"client\"
version = \"0.0.0\"
edition = \"2024\"

[dependencies]
bytes = \"1\"
futures-util = { version = \"0.3\", features = [\"sink\"] }
tokio = { version = \"1\", features = [\"macros\", \"rt-multi-thread\", \"time\"] }
tokio-postgres = \"0.7\"

[dependencies.sqlx]
version = \"0.8\"
default-features = false
features = [\"runtime-tokio\", \"postgres\"]

[workspace]
";

const CLIENTS: [Client; 9] = [
    Client {
        name: "psycopg",
        program: include_str!("clients/psycopg_3.py"),
        kind: Kind::Python,
    },
    Client {
        name: "asyncpg",
        program: include_str!("clients/asyncpg_.py"),
        kind: Kind::Python,
    },
    Client {
        name: "sqlalchemy",
        program: include_str!("clients/sqlalchemy_orm.py"),
        kind: Kind::Python,
    },
    Client {
        name: "django",
        program: include_str!("clients/django_orm.py"),
        kind: Kind::Python,
    },
    Client {
        name: "node-postgres",
        program: include_str!("clients/node_postgres.js"),
        kind: Kind::Node,
    },
    Client {
        name: "sequelize",
        program: include_str!("clients/sequelize_orm.js"),
        kind: Kind::Node,
    },
    Client {
        name: "jdbc",
        program: include_str!("clients/Jdbc.java"),
        kind: Kind::Java,
    },
    Client {
        name: "tokio-postgres",
        program: include_str!("clients/tokio_postgres.rs"),
        kind: Kind::Rust,
    },
    Client {
        name: "sqlx",
        program: include_str!("clients/sqlx_.rs"),
        kind: Kind::Rust,
    },
];

/// Runs all of them.
pub(super) fn run(folder: &Path, _: Option<PathBuf>, pair: &Pair) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::default();
    for client in &CLIENTS {
        eprintln!("{}", client.name);
        let reason = match client.compare(folder, pair) {
            Ok(reason) => reason,
            Err(error) => Some(format!("{error:#}")),
        };
        match reason {
            None => verdict.passed += 1,
            Some(reason) => verdict.failures.push(Failure {
                case: client.name.to_owned(),
                reason,
            }),
        }
    }
    Ok(verdict)
}

impl Client {
    /// Runs it in both ways; what is different, if anything is.
    fn compare(&self, folder: &Path, pair: &Pair) -> anyhow::Result<Option<String>> {
        let start = self.install(folder)?;
        let play = |address: SocketAddr, database: &str| {
            pair.fresh_database(database)?;
            let mut timeout = Command::new("timeout");
            timeout.arg(LIMIT).args(&start);
            timeout.args([&address.ip().to_string(), &address.port().to_string()]);
            timeout.arg(database).current_dir(folder);
            timeout.env("PYTHONDONTWRITEBYTECODE", "1");
            command::output(&mut timeout)
        };
        let direct = play(pair.direct(), "client").context("with Postgres itself")?;
        anyhow::ensure!(direct.lines().count() > 5, "it does nothing: {direct}");
        let pooled = play(pair.pooled, "client").context("through outgrow")?;
        let connections = pair.connections("client")?;
        if connections > POOL {
            return Ok(Some(format!(
                "{connections} connections to the server, not {POOL}"
            )));
        }
        Ok(first_difference(&direct, &pooled))
    }

    /// Installs what it needs; how it is started.
    fn install(&self, folder: &Path) -> anyhow::Result<Vec<String>> {
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, text)
        };
        let cannot = || format!("cannot write the program of {}", self.name);
        let file = match self.kind {
            // Not the name of what it imports.
            Kind::Python => format!("{}-client.py", self.name),
            Kind::Node => format!("{}.js", self.name),
            Kind::Java => "Jdbc.java".to_owned(),
            Kind::Rust => format!("crate/src/bin/{}.rs", self.name),
        };
        write(&file, self.program).with_context(cannot)?;
        match self.kind {
            Kind::Python => Ok(vec![python(folder)?, path(&file)]),
            Kind::Node => {
                node(folder)?;
                let quiet = "--no-deprecation".to_owned();
                Ok(vec!["node".to_owned(), quiet, path(&file)])
            }
            Kind::Java => {
                java()?;
                let path = path(&file);
                Ok(vec![
                    "java".to_owned(),
                    "-cp".to_owned(),
                    JDBC.to_owned(),
                    path,
                ])
            }
            Kind::Rust => {
                write("crate/Cargo.toml", CRATE).with_context(cannot)?;
                let mut cargo = command::cargo();
                cargo.args(["build", "--quiet", "--bin", self.name, "--manifest-path"]);
                cargo.arg(folder.join("crate/Cargo.toml"));
                cargo.arg("--target-dir").arg(folder.join("crate/target"));
                command::output(&mut cargo)?;
                Ok(vec![path(&format!("crate/target/debug/{}", self.name))])
            }
        }
    }
}

/// An environment with all of Python's packages.
pub(super) fn python(folder: &Path) -> anyhow::Result<String> {
    let environment = folder.join("python");
    let python = environment.join("bin/python");
    let note = environment.join("installed");
    let wanted = PYTHON.join(" ");
    let is_there = || fs::read_to_string(&note).is_ok_and(|text| text == wanted);
    if !is_there() {
        let make = || {
            let mut make = Command::new("python3");
            make.args(["-m", "venv"]).arg(&environment);
            command::output(&mut make)
        };
        if make().is_err() {
            setup::install_debian(&["python3-venv"])?;
            make().context("it needs Python's venv: apt-get install python3-venv")?;
        }
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet"]);
        pip.arg("--disable-pip-version-check").args(PYTHON);
        command::output(&mut pip)?;
        fs::write(&note, &wanted).with_context(|| format!("cannot write {}", note.display()))?;
    }
    Ok(python.to_string_lossy().into_owned())
}

pub(super) fn node(folder: &Path) -> anyhow::Result<()> {
    if command::find("npm").is_none() {
        setup::install_debian(&["nodejs", "npm"])?;
    }
    if folder.join("node_modules/sequelize").exists() {
        return Ok(());
    }
    let mut npm = Command::new("npm");
    npm.args([
        "install",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
        "--prefix",
    ]);
    npm.arg(folder).args(NODE);
    command::output(&mut npm).map(|_| ())
}

fn java() -> anyhow::Result<()> {
    if !Path::new(JDBC).exists() {
        setup::install_debian(&["libpostgresql-jdbc-java"])?;
    }
    if command::find("javac").is_none() {
        setup::install_debian(&["default-jdk-headless"])?;
    }
    anyhow::ensure!(
        Path::new(JDBC).exists() && command::find("javac").is_some(),
        "it needs Java and its driver: apt-get install default-jdk-headless libpostgresql-jdbc-java"
    );
    Ok(())
}
