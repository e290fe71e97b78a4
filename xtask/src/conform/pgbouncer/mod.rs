//! PgBouncer's own tests: 279 of them, with pytest, against `outgrow pgbouncer` or against another
//! binary (`--peer`).
//!
//! They start and stop their own Postgres and the binary, refuse to run as root, change the firewall
//! and look names up that do not exist: so they run as another user in namespaces of their own
//! (`room.rs`). Most of the twelve minutes they sleep; with `--workers 4` they take four.

mod outcome;
mod room;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;

use super::{Verdict, checkout, python};
use crate::arguments::Arguments;
use crate::workspace::Workspace;
use crate::{binary, command, setup};
use room::Room;

pub(super) const NAME: &str = "pgbouncer";

const SOURCE: checkout::Source = checkout::Source {
    repository: "https://github.com/pgbouncer/pgbouncer",
    revision: "13a344f2625381296fc02e29b986a11be9c6b983",
    has: "test/test_admin.py",
};

/// Tests that fail and are to fail, and why. Where it says so, PgBouncer 1.25.2 itself fails too.
const EXPLAINED: [(&str, &str); 4] = [
    (
        "test/test_prepared.py::test_deallocate_all",
        "psycopg 3.3 forgets its statements with DEALLOCATE ALL and prepares anew, so there is no \
         error to wait for; PgBouncer fails too",
    ),
    (
        "test/test_prepared.py::test_discard_all",
        "psycopg 3.3 forgets its statements with DISCARD ALL and prepares anew, so there is no \
         error to wait for; PgBouncer fails too",
    ),
    (
        "test/test_prepared.py::test_describe_non_existent_prepared_statement",
        "a statement that nobody prepared is Postgres' own error 26000, and the client goes on; \
         PgBouncer disconnects it",
    ),
    (
        "test/test_timeouts.py::test_tcp_user_timeout",
        "the client is told what happened (server conn crashed), where the test wants the end of \
         the connection without a word; PgBouncer fails too",
    ),
];

/// What the tests are written with. The versions are those that our scores are for: two tests depend on
/// psycopg's, which takes the system's libpq.
const PACKAGES: [&str; 6] = [
    "pytest==9.2.0",
    "pytest-asyncio==1.5.0",
    "pytest-timeout==2.4.0",
    "pytest-xdist==3.8.0",
    "psycopg==3.3.9",
    "filelock==4.3.1",
];

/// What is needed, by program and the Debian package that has it.
const PROGRAMS: [(&str, &str); 8] = [
    ("/usr/lib/postgresql", "postgresql"),
    ("socat", "socat"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("unshare", "util-linux"),
    ("openssl", "openssl"),
    ("/usr/bin/python3", "python3-venv"),
];

/// The command's options beside the suite.
pub(super) struct Options {
    /// Another binary to test, one that is started as PgBouncer is.
    peer: Option<PathBuf>,
    /// How many tests at the same time.
    workers: usize,
    /// Which tests, as `pytest -k` takes it; none is all.
    filter: Option<String>,
}

impl Options {
    /// Takes them.
    pub(super) fn take(arguments: &mut Arguments) -> anyhow::Result<Self> {
        Ok(Self {
            peer: arguments.parsed("--peer")?,
            workers: arguments.parsed("--workers")?.unwrap_or(1),
            filter: arguments.value("--filter")?,
        })
    }
}

/// Runs the tests.
pub(super) fn run(
    workspace: &Workspace,
    suite: Option<PathBuf>,
    given: Option<PathBuf>,
    options: &Options,
) -> anyhow::Result<Verdict> {
    let folder = workspace.target.join("conform");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    install()?;
    let checkout = SOURCE.bring(&folder.join(NAME), suite)?;
    let room = match &options.peer {
        Some(peer) => Room::create(&checkout, peer, None)?,
        None => Room::create(
            &checkout,
            &binary::given_or_built(workspace, given)?,
            Some("pgbouncer"),
        )?,
    };
    let python = python::environment(&folder, "pgbouncer", &PACKAGES)?.join("python");
    let log = folder.join("pgbouncer.log");
    eprintln!("what the tests say is in {}", log.display());
    pytest(&room, &python, &log, options)?;
    let text = std::fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let mut verdict = outcome::read(&String::from_utf8_lossy(&text))
        .with_context(|| format!("the tests did not run to their end; see {}", log.display()))?;
    verdict.explained = &EXPLAINED;
    Ok(verdict)
}

fn install() -> anyhow::Result<()> {
    let is_missing = |program: &str| {
        if program.starts_with('/') {
            !Path::new(program).exists()
        } else {
            command::find(program).is_none()
        }
    };
    let missing: Vec<_> = PROGRAMS
        .into_iter()
        .filter(|(program, _)| is_missing(program))
        .map(|(_, package)| package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    setup::install_debian(&missing)?;
    let still = PROGRAMS.iter().find(|(program, _)| is_missing(program));
    match still {
        None => Ok(()),
        Some((program, package)) => {
            anyhow::bail!("there is no {program}: apt-get install {package}")
        }
    }
}

fn pytest(room: &Room, python: &Path, log: &Path, options: &Options) -> anyhow::Result<()> {
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut pytest = room.command(python)?;
    // Without a folder: the tests change theirs, and workers would not find it again.
    pytest.args(["-m", "pytest"]);
    // Nothing is kept in the copy; fixtures' event loops are as the suite's authors have them; a line
    // at the end for each test that passed, failed, was skipped or broke in its fixtures.
    pytest.args(["-p", "no:cacheprovider"]);
    pytest.args(["-o", "asyncio_default_fixture_loop_scope=function"]);
    pytest.args(["-r", "pfEs"]);
    if options.workers > 1 {
        pytest.args(["-n", &options.workers.to_string()]);
    }
    if let Some(filter) = &options.filter {
        pytest.args(["-k", filter]);
    }
    pytest
        .stdin(Stdio::null())
        .stdout(output.try_clone().context("no second descriptor")?)
        .stderr(output);
    // It ends with 1 when a test has failed; what became of it is in the log.
    pytest.status().context("cannot start unshare")?;
    Ok(())
}
