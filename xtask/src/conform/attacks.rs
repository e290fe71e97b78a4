//! Attacks by one host, for longer than the end-to-end tests: those of
//! `crates/outgrow/tests/e2e/attacks`, in rounds, with what others feel and what it costs.
//!
//! Deliberately not here: the attacks, and what each may cost.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use serde_json::Value;

use super::{Failure, Verdict};
use crate::arguments::Arguments;
use crate::workspace::Workspace;
use crate::{binary, command};

/// The suite's name.
pub(super) const NAME: &str = "attacks";
/// Says which attacks: parts of their names.
const VARIABLE: &str = "OUTGROW_ATTACKS";
/// The test that prints an object for each attack.
const TEST: &str = "attacks::all_of_them_at_length";

/// What else may be said.
#[derive(Debug)]
pub(super) struct Options {
    only: String,
    is_json: bool,
}

impl Options {
    pub(super) fn take(arguments: &mut Arguments) -> anyhow::Result<Self> {
        Ok(Self {
            only: arguments.value("--only")?.unwrap_or_default(),
            is_json: arguments.flag("--json"),
        })
    }
}

/// Runs them against this binary.
pub(super) fn run(
    workspace: &Workspace,
    outgrow: &Path,
    options: &Options,
) -> anyhow::Result<Verdict> {
    let mut cargo = command::cargo();
    let mut child = cargo
        .current_dir(&workspace.root)
        // As all tests are built: with the features of the whole workspace.
        .args(["test", "--quiet", "--workspace", "--test", "e2e", "--"])
        .args(["--ignored", "--exact", "--nocapture", TEST])
        .env(VARIABLE, &options.only)
        .env(binary::VARIABLE, outgrow)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let stdout = child.stdout.take().context("standard output is a pipe")?;
    if !options.is_json {
        println!("{}", heading());
    }
    let mut verdict = Verdict::default();
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        let Some(measured) = read(&line) else {
            continue;
        };
        match options.is_json {
            true => println!("{measured}"),
            false => println!("{}", row(&measured)),
        }
        let problems = problems(&measured);
        if problems.is_empty() {
            verdict.passed += 1;
        } else {
            verdict.failures.push(Failure {
                case: text(&measured, "attack").to_owned(),
                reason: problems.join("; "),
            });
        }
    }
    let is_well = child.wait()?.success();
    anyhow::ensure!(
        is_well || !verdict.failures.is_empty(),
        "the attacks did not come to their end: see above"
    );
    anyhow::ensure!(
        verdict.passed + verdict.failures.len() > 0,
        "no attack has such a name"
    );
    Ok(verdict)
}

/// What an attack came to; none for lines of the test's runner.
fn read(line: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(line.trim()).ok()?;
    value.get("attack").is_some().then_some(value)
}

fn text<'v>(measured: &'v Value, name: &str) -> &'v str {
    measured[name].as_str().unwrap_or_default()
}

fn problems(measured: &Value) -> Vec<String> {
    let problems = measured["problems"].as_array().into_iter().flatten();
    let problems = problems.filter_map(Value::as_str);
    problems.map(str::to_owned).collect()
}

fn heading() -> String {
    format!(
        "{:<20} {:>9} {:>9} {:>6} {:>13} {:>13}  {}",
        "attack",
        "p99 alone",
        "attacked",
        "ratio",
        "memory (most)",
        "CPU % (most)",
        "what, and what outgrow said"
    )
}

fn row(measured: &Value) -> String {
    let number = |name: &str| measured[name].as_f64().unwrap_or(f64::NAN);
    let (alone, attacked) = (number("p99_alone_ms"), number("p99_attacked_ms"));
    let told = measured["told"].as_object().into_iter().flatten();
    let told: Vec<String> = told
        .map(|(what, count)| format!("{} x{count}", what.escape_default()))
        .collect();
    format!(
        "{:<20} {:>6.2} ms {:>6.2} ms {:>6.2} {:>6.1} ({:>4}) {:>6.1} ({:>4})  {}: {}",
        text(measured, "attack"),
        alone,
        attacked,
        attacked / alone,
        number("memory_mib"),
        number("memory_limit_mib"),
        number("processor_percent"),
        number("processor_limit_percent"),
        text(measured, "what"),
        told.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_told_from_what_the_runner_says() {
        assert!(read("running 1 test").is_none());
        assert!(read("{\"other\": 1}").is_none());
        let line = r#"{"attack": "a", "what": "much", "p99_alone_ms": 1.0, "p99_attacked_ms": 1.5,
            "memory_mib": 2.0, "memory_limit_mib": 4, "processor_percent": 3.0,
            "processor_limit_percent": 10.0, "told": {"closed": 2}, "problems": ["slow"]}"#;
        let measured = read(line).unwrap();
        assert_eq!(problems(&measured), ["slow"]);
        let row = row(&measured);
        for part in [
            "1.00 ms",
            "1.50 ms",
            "2.0 (   4)",
            "3.0 (  10)",
            "much: closed x2",
        ] {
            assert!(row.contains(part), "{part:?} in {row}");
        }
    }
}
