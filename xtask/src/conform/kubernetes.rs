//! A real kube-apiserver, from which outgrow discovers and in which it holds a lease: the ignored
//! end-to-end tests of `crates/outgrow/tests/e2e/api_server.rs`.
//!
//! `--suite` is the binary of an API server, since no registry that the tests install from has one.
//! The API takes no endpoints at addresses of loopback, so the tests run in a network namespace of
//! their own that has others. Deliberately not here: the tests themselves.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::{Failure, Verdict};
use crate::workspace::Workspace;
use crate::{binary, command};

pub(super) const NAME: &str = "kubernetes";
/// Where the tests find the API server.
const VARIABLE: &str = "OUTGROW_KUBE_APISERVER";
/// The addresses of the endpoints, all on the loopback device of the namespace.
const PREPARE: &str = "ip link set lo up && ip address add 10.9.0.1/24 dev lo && exec \"$@\"";

/// Runs the tests.
pub(super) fn run(
    workspace: &Workspace,
    server: Option<PathBuf>,
    outgrow: &Path,
) -> anyhow::Result<Verdict> {
    let server = server.context("--suite names the binary of a kube-apiserver")?;
    let server = server
        .canonicalize()
        .with_context(|| format!("--suite: there is no {}", server.display()))?;
    let tests = [
        "nextest",
        "run",
        "-p",
        "outgrow",
        "--test",
        "e2e",
        "--config-file",
        "xtask/nextest.toml",
    ];
    // Nothing is to be built, or fetched, in the namespace.
    let mut build = command::cargo();
    build
        .current_dir(&workspace.root)
        .args(tests)
        .arg("--no-run");
    command::must(&mut build)?;
    let mut run = Command::new("unshare");
    run.current_dir(&workspace.root)
        .args(["--map-root-user", "--net", "sh", "-c", PREPARE, "sh"])
        .arg(command::cargo().get_program())
        .args(tests)
        .args([
            "--no-fail-fast",
            "--run-ignored",
            "only",
            "--status-level",
            "fail",
            "api_server",
        ])
        .args([
            "--failure-output",
            "immediate",
            "--final-status-level",
            "all",
        ])
        .env(binary::VARIABLE, outgrow)
        .env(VARIABLE, server);
    let output = run.output().context("cannot start unshare")?;
    let text = String::from_utf8_lossy(&output.stderr);
    read(&text).with_context(|| format!("the tests said:\n{text}"))
}

/// Reads what nextest says of each test at its end.
fn read(text: &str) -> Option<Verdict> {
    let (_, end) = text.split_once("Summary")?;
    let mut verdict = Verdict::default();
    for line in end.lines() {
        let Some((result, test)) = line.trim().split_once(" [") else {
            continue;
        };
        let name = test.rsplit(' ').next().unwrap_or(test);
        match result {
            "PASS" => verdict.passed += 1,
            "FAIL" | "TIMEOUT" | "SIGABRT" => verdict.failures.push(Failure {
                case: name.to_owned(),
                reason: format!("run it with {VARIABLE} to see more: {result}"),
            }),
            _ => {}
        }
    }
    (verdict.passed + verdict.failures.len() > 0).then_some(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tests_say_is_read() {
        let text = "    Starting 2 tests\n\
                    ────\n     Summary [  75.1s] 2 tests run: 1 passed, 1 failed, 60 skipped\n        \
                    PASS [  30.1s] (1/2) outgrow::e2e api_server::one\n        \
                    FAIL [  45.0s] (2/2) outgrow::e2e api_server::other\nerror: test run failed\n";
        let verdict = read(text).expect("a verdict");
        assert_eq!(verdict.passed, 1);
        assert_eq!(verdict.failures.len(), 1);
        assert_eq!(verdict.failures[0].case, "api_server::other");
        assert_eq!(read("error: no tests to run\n"), None);
    }
}
