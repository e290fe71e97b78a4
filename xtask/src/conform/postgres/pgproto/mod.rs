//! Scripts for pgproto, Pgpool-II's player of messages: the answers through outgrow are those of
//! Postgres itself.
//!
//! Played are the scripts in Debian's source of Pgpool-II, and ours beside this file, which go further
//! where pools differ. Deliberately not here: Pgpool-II.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::{Pair, debian, first_difference};
use crate::conform::{Failure, Verdict};
use crate::{command, postgres, setup};

/// Where the source has tests, with scripts among them.
const TESTS: &str = "src/test/regression/tests";

/// Our scripts.
const OURS: [(&str, &str); 6] = [
    ("ours/errors", include_str!("errors.data")),
    ("ours/pipeline", include_str!("pipeline.data")),
    ("ours/portals", include_str!("portals.data")),
    ("ours/prepared", include_str!("prepared.data")),
    ("ours/copy", include_str!("copy.data")),
    ("ours/transactions", include_str!("transactions.data")),
];

/// Plays all scripts.
pub(super) fn run(folder: &Path, given: Option<PathBuf>, pair: &Pair) -> anyhow::Result<Verdict> {
    let program = program()?;
    let source = debian::source(folder, given, "pgpool2", "", TESTS)?;
    let mut scripts: Vec<(String, String)> = OURS
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .to_vec();
    collect(&source.join(TESTS), &source.join(TESTS), &mut scripts)?;
    scripts.sort();
    anyhow::ensure!(scripts.len() > OURS.len(), "the source has no scripts");
    let mut verdict = Verdict::default();
    for (name, text) in scripts {
        let script = folder.join("script.data");
        fs::write(&script, text).context("cannot write a script")?;
        let play = |address: SocketAddr| {
            prepare(pair)?;
            play(&program, &script, address)
        };
        let direct =
            play(pair.direct()).with_context(|| format!("{name}, against Postgres itself"))?;
        let reason = match play(pair.pooled) {
            Ok(pooled) => first_difference(&direct, &pooled),
            Err(error) => Some(format!("{error:#}")),
        };
        match reason {
            None => verdict.passed += 1,
            Some(reason) => verdict.failures.push(Failure { case: name, reason }),
        }
    }
    Ok(verdict)
}

/// The database of Pgpool-II's tests, with as much in it as they ask for.
fn prepare(pair: &Pair) -> anyhow::Result<()> {
    pair.fresh_database("proto")?;
    let mut client = postgres::wire::Client::connect(pair.direct(), "postgres", "proto")?;
    client.run(
        "CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84)); \
         INSERT INTO pgbench_accounts SELECT g, 1, 0, '' FROM generate_series(1, 1000) g",
    )?;
    Ok(())
}

fn play(program: &Path, script: &Path, address: SocketAddr) -> anyhow::Result<String> {
    let mut command = Command::new("timeout");
    command.arg("30").arg(program);
    command.args(["-h", &address.ip().to_string()]);
    command.args(["-p", &address.port().to_string()]);
    command
        .args(["-u", "postgres", "-d", "proto", "-f"])
        .arg(script);
    let said = command::output(&mut command)?;
    anyhow::ensure!(said.contains("BE"), "nothing came back: {said}");
    Ok(said)
}

fn program() -> anyhow::Result<PathBuf> {
    if command::find("pgproto").is_none() {
        setup::install_debian(&["pgpool2"])?;
    }
    command::find("pgproto").context("pgproto is missing: apt-get install pgpool2")
}

/// The scripts below a folder, named by their path from `top`.
fn collect(top: &Path, folder: &Path, scripts: &mut Vec<(String, String)>) -> anyhow::Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(top, &path, scripts)?;
        } else if path.extension().is_some_and(|ending| ending == "data") {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.strip_prefix(top).unwrap_or(&path);
            scripts.push((name.display().to_string(), text));
        }
    }
    Ok(())
}
