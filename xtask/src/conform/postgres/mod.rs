//! Suites of Postgres clients: what they see through outgrow, in transaction mode, is compared with what
//! they see of Postgres itself.
//!
//! Deliberately not here: PgBouncer's own tests, which start everything themselves (`pgbouncer/`).

mod clients;
mod debian;
mod libpq_pipeline;
mod pgproto;
mod pinning;
mod regress;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::Verdict;
use crate::bench::process::Running;
use crate::binary;
use crate::postgres::{self, Folder, Server};
use crate::workspace::Workspace;

/// A suite.
pub(super) struct Suite {
    pub(super) name: &'static str,
    /// Connections that its clients share.
    connections: usize,
    /// Runs it: files of its own, an unpacked source that was given, and the two addresses.
    run: fn(&Path, Option<PathBuf>, &Pair) -> anyhow::Result<Verdict>,
}

/// All of them.
pub(super) const SUITES: [Suite; 5] = [
    Suite {
        name: "libpq-pipeline",
        connections: POOL,
        run: libpq_pipeline::run,
    },
    Suite {
        name: "pgproto",
        connections: POOL,
        run: pgproto::run,
    },
    Suite {
        name: "postgres-clients",
        connections: POOL,
        run: clients::run,
    },
    Suite {
        name: "postgres-pinning",
        // Of each of its databases.
        connections: pinning::POOL / pinning::LOADS.len(),
        run: pinning::run,
    },
    Suite {
        name: "postgres-regress",
        // Tests that run side by side keep their connections once they have temporary tables.
        connections: 2 * POOL + regress::AT_ONCE,
        run: regress::run,
    },
];

/// Runs a suite against a fresh outgrow with a fresh Postgres behind it.
pub(super) fn run(
    suite: &Suite,
    workspace: &Workspace,
    source: Option<PathBuf>,
    given: Option<PathBuf>,
) -> anyhow::Result<Verdict> {
    let folder = workspace.target.join("conform").join(suite.name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let binary = binary::given_or_built(workspace, given)?;
    let pair = Pair::start(&binary, suite.connections)?;
    let verdict = (suite.run)(&folder, source, &pair).with_context(|| {
        let said = pair.running.last_lines();
        format!(
            "{} did not run to its end; outgrow said: {said}",
            suite.name
        )
    })?;
    if !verdict.failures.is_empty() {
        eprintln!("outgrow said: {}", pair.running.last_lines());
    }
    Ok(verdict)
}

/// A Postgres, and an outgrow in front of it.
pub(super) struct Pair {
    running: Running,
    /// Where clients of outgrow connect.
    pub(super) pooled: SocketAddr,
    /// Where its metrics are.
    admin: SocketAddr,
    server: Server,
    _folder: Folder,
}

/// Connections that clients of most suites share.
const POOL: usize = 5;

impl Pair {
    /// Starts both and waits until a client is let in.
    fn start(binary: &Path, connections: usize) -> anyhow::Result<Self> {
        let server = Server::start(&["max_connections=200".to_owned()], None)?;
        let folder = Folder::create("conform")?;
        let [pooled, admin] = [postgres::free_address()?, postgres::free_address()?];
        let config = format!(
            r#"
[admin]
listen = "{admin}"

[postgres]
listen = ["{pooled}"]
service = "db"
auth = "trust"
pool_size = {connections}

[postgres.user.postgres]

[service.db]
endpoints = ["{}"]
"#,
            server.address
        );
        let path = folder.path.join("outgrow.toml");
        fs::write(&path, config).with_context(|| format!("cannot write {}", path.display()))?;
        let mut outgrow = Command::new(binary);
        outgrow.args(["run", "--config"]).arg(&path);
        let output = folder.path.join("outgrow.log");
        let mut running = Running::spawn("outgrow", outgrow, &output, None)?;
        running.wait_until("let a client in", || {
            postgres::wire::Client::connect(pooled, "postgres", "postgres").is_ok()
        })?;
        Ok(Self {
            running,
            pooled,
            admin,
            server,
            _folder: folder,
        })
    }

    /// Where Postgres itself is.
    pub(super) fn direct(&self) -> SocketAddr {
        self.server.address
    }

    /// How many connections for clients the server has to this database: without the one on which we
    /// listen for all of them and the one with which we look at the server.
    fn connections(&self, database: &str) -> anyhow::Result<usize> {
        let mut client = postgres::wire::Client::connect(self.direct(), "postgres", "postgres")?;
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND \
             pid <> pg_backend_pid() AND application_name NOT LIKE 'outgrow%'"
        );
        let value = client.value(&sql)?;
        value
            .parse()
            .with_context(|| format!("a number of connections: {value:?}"))
    }

    /// Makes a new database, the same one whenever it is asked for.
    pub(super) fn fresh_database(&self, name: &str) -> anyhow::Result<()> {
        let mut client = postgres::wire::Client::connect(self.direct(), "postgres", "postgres")?;
        client.run(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
        client.run(&format!("CREATE DATABASE {name} TEMPLATE template0"))?;
        Ok(())
    }
}

/// The first line in which two texts differ, for people.
fn first_difference(direct: &str, pooled: &str) -> Option<String> {
    if direct == pooled {
        return None;
    }
    let (mut one, mut other) = (direct.lines(), pooled.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (one.next(), other.next()) {
            (None, None) => return Some("they end differently".to_owned()),
            (one, other) if one == other => {}
            (one, other) => {
                let show = |line: Option<&str>| format!("{:?}", line.unwrap_or("nothing more"));
                return Some(format!(
                    "line {number}: {} instead of {}",
                    show(other),
                    show(one)
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_told() {
        let check = |direct: &str, pooled: &str, expected: Option<&str>| {
            assert_eq!(first_difference(direct, pooled).as_deref(), expected);
        };
        check("a\nb", "a\nb", None);
        check("a\nb", "a\nc", Some("line 2: \"c\" instead of \"b\""));
        check(
            "a\nb",
            "a",
            Some("line 2: \"nothing more\" instead of \"b\""),
        );
        check("a\n", "a", Some("they end differently"));
    }
}
