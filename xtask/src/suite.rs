//! `cargo xtask test`: every check there is, in the order that tells the most the soonest.
//!
//! Two profiles are built and no more: `dev` (lints share its build scripts and macros with the
//! tests) and `e2e` (the optimised binary that the end-to-end tests start, by OUTGROW_BIN). nextest
//! comes last, so that its summary is the last thing printed. Deliberately not here: the tests.

use std::process::{Command, ExitCode};
use std::time::Instant;

use crate::arguments::Arguments;
use crate::workspace::Workspace;
use crate::{binary, command, package, setup, tidy};

/// Set when `--allow-missing` was given: a test may then skip what the machine lacks.
const ALLOW_MISSING_VARIABLE: &str = "OUTGROW_ALLOW_MISSING";

/// Which tests can run where control groups cannot be written.
const WITHOUT_LIMITS: &str = "not (test(supervise::resources::) | test(cgroup::tests::real::))";

/// Steps that have run, and which of them failed.
struct Steps {
    began: Instant,
    failed: Vec<&'static str>,
}

impl Steps {
    fn run(
        &mut self,
        name: &'static str,
        step: impl FnOnce() -> anyhow::Result<bool>,
    ) -> anyhow::Result<bool> {
        eprintln!("── {name}");
        let began = Instant::now();
        let passed = step()?;
        eprintln!(
            "── {name}: {}, {:.1} s",
            if passed { "passed" } else { "FAILED" },
            began.elapsed().as_secs_f64()
        );
        if !passed {
            self.failed.push(name);
        }
        Ok(passed)
    }
}

/// Runs the command.
pub(crate) fn run(mut arguments: Arguments) -> anyhow::Result<ExitCode> {
    let allow_missing = arguments.flag("--allow-missing");
    let filters = arguments.words()?;
    let workspace = Workspace::load()?;
    let cargo = || {
        let mut cargo = command::cargo();
        cargo.current_dir(&workspace.root);
        cargo
    };
    let mut steps = Steps {
        began: Instant::now(),
        failed: Vec::new(),
    };
    if !steps.run("set-up", || Ok(setup::run()? || allow_missing))? {
        eprintln!("install what is missing, or pass --allow-missing to run the rest");
        return Ok(ExitCode::FAILURE);
    }
    if filters.is_empty() {
        steps.run("format", || {
            command::succeeds(cargo().args(["fmt", "--all", "--check"]))
        })?;
        steps.run("tidy", || tidy::check(&workspace))?;
        steps.run("lints", || {
            let arguments = ["clippy", "--workspace", "--all-targets"];
            command::succeeds(cargo().args(arguments).args(["--", "-D", "warnings"]))
        })?;
        steps.run("without optional features", || {
            let arguments = ["check", "--package", "outgrow", "--no-default-features"];
            command::succeeds(cargo().args(arguments).arg("--all-targets"))
        })?;
        steps.run("documentation examples", || {
            command::succeeds(cargo().args(["test", "--quiet", "--doc", "--workspace"]))
        })?;
    }
    let built = steps.run("end-to-end binary", || binary::build(&workspace))?;
    if !built {
        return Ok(ExitCode::FAILURE);
    }
    if filters.is_empty() && !allow_missing {
        let binary = binary::path(&workspace);
        steps.run("package", || package::check(&workspace, &binary))?;
    }
    let mut nextest = cargo();
    tests(&mut nextest, &workspace, &filters, allow_missing);
    if !steps.failed.is_empty() {
        eprintln!("── failed so far: {}", steps.failed.join(", "));
    }
    eprintln!(
        "── tests, after {:.1} s",
        steps.began.elapsed().as_secs_f64()
    );
    let passed = command::succeeds(&mut nextest)?;
    Ok(if passed && steps.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn tests(nextest: &mut Command, workspace: &Workspace, filters: &[String], allow_missing: bool) {
    nextest
        .args(["nextest", "run", "--workspace", "--no-fail-fast"])
        .args(["--config-file", "xtask/nextest.toml"])
        .args(filters)
        .env(binary::VARIABLE, binary::path(workspace));
    if std::env::var_os("CI").is_some_and(|value| !value.is_empty()) {
        nextest.args(["--profile", "ci"]);
    }
    if allow_missing {
        nextest.env(ALLOW_MISSING_VARIABLE, "1");
        if !setup::missing_controllers().is_empty() {
            eprintln!("skipped: the tests of limits, for want of control groups");
            nextest.args(["-E", WITHOUT_LIMITS]);
        }
    }
}
