//! Postgres' tests of libpq's pipeline mode: each passes through outgrow, and the messages that libpq
//! traces are those that Postgres itself sends.
//!
//! The program is built of Debian's source of Postgres with the headers of libpq-dev. Deliberately not
//! here: Postgres' other modules.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::{Pair, debian, first_difference};
use crate::conform::{Failure, Verdict};
use crate::{command, postgres, setup};

/// The program's source.
const SOURCE: &str = "src/test/modules/libpq_pipeline/libpq_pipeline.c";
/// Tests that send while they receive: in which order is a matter of time, and Postgres does not compare
/// their messages either.
const IN_NO_ORDER: [&str; 2] = ["pipelined_insert", "uniqviol"];
/// What it needs of Postgres' own library, besides.
const PARTS: [&str; 4] = [
    "src/common/fe_memutils.c",
    "src/common/psprintf.c",
    "src/port/snprintf.c",
    "src/port/strerror.c",
];
const HEADERS: &str = "/usr/include/postgresql";

/// Runs its tests.
pub(super) fn run(folder: &Path, given: Option<PathBuf>, pair: &Pair) -> anyhow::Result<Verdict> {
    let (major, version) = version()?;
    let package = format!("postgresql-{major}");
    let source = debian::source(folder, given, &package, &version, SOURCE)?;
    let program = build(folder, &source)?;
    let tests = command::output(Command::new(&program).arg("tests"))?;
    let mut verdict = Verdict::default();
    for test in tests.split_whitespace() {
        let play = |address: SocketAddr, how: &str| {
            let trace = folder.join(format!("{test}.{how}"));
            play(&program, test, address, &trace)
        };
        pair.fresh_database("direct")?;
        let direct = play(pair.direct(), "direct");
        let direct = direct.with_context(|| format!("{test}, against Postgres itself"))?;
        pair.fresh_database("direct")?;
        let outcome = play(pair.pooled, "pooled").map_err(|error| format!("{error:#}"));
        let reason = match outcome {
            Ok(_) if IN_NO_ORDER.contains(&test) => None,
            Ok(pooled) => first_difference(&direct, &pooled),
            Err(reason) => Some(reason),
        };
        match reason {
            None => verdict.passed += 1,
            Some(reason) => verdict.failures.push(Failure {
                case: test.to_owned(),
                reason,
            }),
        }
    }
    anyhow::ensure!(
        verdict.passed + verdict.failures.len() > 0,
        "it has no tests"
    );
    Ok(verdict)
}

/// Runs a test, and gives the messages that were sent and received.
fn play(program: &Path, test: &str, address: SocketAddr, trace: &Path) -> anyhow::Result<String> {
    let mut command = Command::new("timeout");
    command
        .arg("60")
        .arg(program)
        .arg("-t")
        .arg(trace)
        .arg(test);
    command.arg(format!(
        "host={} port={} user=postgres dbname=direct",
        address.ip(),
        address.port()
    ));
    command::output(&mut command)?;
    fs::read_to_string(trace).with_context(|| format!("cannot read {}", trace.display()))
}

/// The installed Postgres: `15` and `15.18`.
pub(super) fn version() -> anyhow::Result<(String, String)> {
    let postgres = postgres::program("postgres")?;
    let said = command::output(Command::new(postgres).arg("--version"))?;
    let mut words = said.split_whitespace();
    let version = words.find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
    let version = version.context("no version in what Postgres said")?;
    let major = version.split('.').next().unwrap_or(version);
    Ok((major.to_owned(), version.to_owned()))
}

fn build(folder: &Path, source: &Path) -> anyhow::Result<PathBuf> {
    if !Path::new(HEADERS).join("libpq-fe.h").exists() {
        setup::install_debian(&["libpq-dev"])?;
    }
    let program = folder.join("libpq_pipeline");
    let mut compiler = Command::new("gcc");
    // Postgres' own code warns with other compilers than its own.
    compiler.args(["-O1", "-w", "-D_GNU_SOURCE", "-DFRONTEND", "-o"]);
    compiler.arg(&program).arg(source.join(SOURCE));
    compiler.args(PARTS.map(|part| source.join(part)));
    compiler.arg(format!("-I{HEADERS}/internal"));
    compiler.arg(format!("-I{HEADERS}"));
    for part in ["src/include", "src/backend"] {
        compiler.arg(format!("-I{}", source.join(part).display()));
    }
    compiler.args(["-lpq", "-lm"]);
    command::output(&mut compiler)
        .context("it needs gcc and the headers of libpq: apt-get install gcc libpq-dev")?;
    Ok(program)
}
