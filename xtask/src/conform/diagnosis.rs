//! The diagnosis on real applications, for longer than the end-to-end tests: those of
//! `crates/outgrow/tests/e2e/diagnosed.rs`, whose healthy run lasts a minute here.
//!
//! Deliberately not here: the applications, their faults and what is to be told of them.

use anyhow::Context;

use super::{Failure, Verdict};
use crate::workspace::Workspace;
use crate::{binary, command};

/// The suite's name.
pub(super) const NAME: &str = "diagnosis";
/// Says how long the healthy run lasts.
const VARIABLE: &str = "OUTGROW_DIAGNOSIS_SECONDS";
const SECONDS: &str = "60";
/// The tests, each an application.
const TESTS: [&str; 2] = [
    "diagnosed::faults_of_a_django_application_are_named",
    "diagnosed::faults_of_a_sqlalchemy_application_are_named",
];

/// Runs them against this binary.
pub(super) fn run(workspace: &Workspace, outgrow: &std::path::Path) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::default();
    for test in TESTS {
        let mut cargo = command::cargo();
        cargo
            .current_dir(&workspace.root)
            .args(["test", "--quiet", "-p", "outgrow", "--test", "e2e", "--"])
            .args(["--exact", "--nocapture", test])
            .env(VARIABLE, SECONDS)
            .env(binary::VARIABLE, outgrow);
        let passed = command::succeeds(&mut cargo).context("cannot start cargo")?;
        if passed {
            verdict.passed += 1;
        } else {
            verdict.failures.push(Failure {
                case: test.to_owned(),
                reason: "see above".to_owned(),
            });
        }
    }
    Ok(verdict)
}
