//! How much of the time of a thousand clients, of several frameworks at once, they keep a connection
//! outside of transactions: on twenty connections it must be less than one part in a hundred.
//!
//! Each framework has a database of its own, so that the pool's metrics tell them apart
//! (`outgrow_postgres_pinned_seconds_total`). Deliberately not here: how fast it is.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::Context;

use super::Pair;
use super::clients::{node, python};
use crate::bench::process;
use crate::conform::{Failure, Verdict};

/// Connections of the suite's pools, all together.
pub(super) const POOL: usize = 20;
/// How long they work.
const SECONDS: f64 = 30.0;
/// The part of their time that clients may keep connections at rest.
const ALLOWED: f64 = 0.01;

/// A framework, and how many connections it opens.
pub(super) struct Load {
    name: &'static str,
    clients: usize,
    is_node: bool,
}

pub(super) const LOADS: [Load; 5] = [
    Load {
        name: "django",
        clients: 250,
        is_node: false,
    },
    Load {
        name: "sqlalchemy",
        clients: 250,
        is_node: false,
    },
    Load {
        name: "asyncpg",
        clients: 150,
        is_node: false,
    },
    Load {
        name: "node-postgres",
        clients: 200,
        is_node: true,
    },
    Load {
        name: "sequelize",
        clients: 150,
        is_node: true,
    },
];

impl Load {
    fn database(&self) -> String {
        format!("pin_{}", self.name.replace('-', "_"))
    }
}

/// A framework at work.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn line(&mut self, load: &Load) -> anyhow::Result<String> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        anyhow::ensure!(!line.is_empty(), "{} ended early", load.name);
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended where all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs all of them at once.
pub(super) fn run(folder: &Path, _: Option<PathBuf>, pair: &Pair) -> anyhow::Result<Verdict> {
    let python = python(folder)?;
    node(folder)?;
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text);
    write("load.py", include_str!("pinning/load.py")).context("cannot write load.py")?;
    write("load.js", include_str!("pinning/load.js")).context("cannot write load.js")?;
    let mut all = Vec::new();
    for load in &LOADS {
        pair.fresh_database(&load.database())?;
        let mut running = start(load, folder, &python, pair)?;
        let line = running.line(load)?;
        anyhow::ensure!(line == "ready", "{}: {line}", load.name);
        all.push(running);
    }
    let before = pinned(pair)?;
    for running in &mut all {
        let mut stdin = running.child.stdin.take().context("standard input")?;
        stdin.write_all(b"go\n")?;
    }
    let mut verdict = Verdict::default();
    let (mut whole, mut time) = (0.0, 0.0);
    let mut told = Vec::new();
    for (load, running) in LOADS.iter().zip(&mut all) {
        let line = running.line(load)?;
        let done: u64 = line
            .strip_prefix("done ")
            .and_then(|count| count.parse().ok())
            .with_context(|| format!("{}: {line}", load.name))?;
        anyhow::ensure!(
            done > load.clients as u64 / 2,
            "{} did {done} turns",
            load.name
        );
        told.push((load, done));
    }
    let after = pinned(pair)?;
    for (load, done) in told {
        let reasons = since(&before, &after, &load.database());
        // The sum of nothing is -0.
        let seconds: f64 = reasons.values().sum::<f64>() + 0.0;
        let of_clients = load.clients as f64 * SECONDS;
        whole += seconds;
        time += of_clients;
        let share = seconds / of_clients;
        eprintln!(
            "{}: {} clients, {done} turns, {:.3} % of their time pinned {reasons:?}",
            load.name,
            load.clients,
            share * 100.0,
        );
        note(&mut verdict, load.name, share, &reasons);
    }
    let clients: usize = LOADS.iter().map(|load| load.clients).sum();
    let share = whole / time;
    eprintln!(
        "all: {clients} clients on {POOL} connections, {:.3} % pinned",
        share * 100.0
    );
    note(&mut verdict, "all", share, &BTreeMap::new());
    Ok(verdict)
}

fn note(verdict: &mut Verdict, name: &str, share: f64, reasons: &BTreeMap<String, f64>) {
    if share < ALLOWED {
        verdict.passed += 1;
        return;
    }
    let reason = format!(
        "{:.2} % of the time of its clients: {reasons:?}",
        share * 100.0
    );
    verdict.failures.push(Failure {
        case: name.to_owned(),
        reason,
    });
}

fn start(load: &Load, folder: &Path, python: &str, pair: &Pair) -> anyhow::Result<Running> {
    let (program, file) = match load.is_node {
        true => ("node", "load.js"),
        false => (python, "load.py"),
    };
    let mut command = Command::new(program);
    command.arg(folder.join(file)).arg(load.name);
    command.args([pair.pooled.ip().to_string(), pair.pooled.port().to_string()]);
    command.args([
        load.database(),
        load.clients.to_string(),
        SECONDS.to_string(),
    ]);
    command
        .current_dir(folder)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {}", load.name))?;
    let stdout = child.stdout.take().context("standard output")?;
    let lines = BufReader::new(stdout);
    Ok(Running { child, lines })
}

/// Seconds by database and reason.
type Pinned = BTreeMap<(String, String), f64>;

/// What the metrics say at this moment.
fn pinned(pair: &Pair) -> anyhow::Result<Pinned> {
    let text = process::get(pair.admin, "/metrics").context("no metrics")?;
    let label = |line: &str, name: &str| -> Option<String> {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let lines = text.lines();
    let lines = lines.filter(|line| line.starts_with("outgrow_postgres_pinned_seconds_total{"));
    let one = |line: &str| {
        let value = line.rsplit(' ').next()?.parse().ok()?;
        Some(((label(line, "database")?, label(line, "reason")?), value))
    };
    Ok(lines.filter_map(one).collect())
}

fn since(before: &Pinned, after: &Pinned, database: &str) -> BTreeMap<String, f64> {
    let of = after.iter().filter(|((of, _), _)| of == database);
    of.map(|(key, seconds)| {
        let earlier = before.get(key).copied().unwrap_or_default();
        (key.1.clone(), seconds - earlier)
    })
    .filter(|(_, seconds)| *seconds > 0.0)
    .collect()
}
