//! h1spec: 33 HTTP/1.1 requests, most of them odd, sent by a script for deno.
//!
//! deno is the one in the PATH, else the npm registry's, brought into the target folder. Deliberately
//! not here: node; the script is TypeScript and speaks deno's own interface.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::target::Target;
use super::{Failure, Verdict};
use crate::command;

/// The npm registry's package that carries deno's binary, and its version.
const DENO: &str = "deno@2.9.6";
/// Seconds that the script may take; it takes one.
const LIMIT: &str = "60";

/// Runs the suite.
pub(super) fn run(folder: &Path, checkout: &Path, target: &Target) -> anyhow::Result<Verdict> {
    let deno = deno(folder)?;
    let mut script = Command::new("timeout");
    script
        .arg(LIMIT)
        .arg(deno)
        .args(["run", "--no-lock", "--no-prompt", "--allow-net=127.0.0.1"])
        .arg(checkout.join("http_test.ts"))
        .args([
            target.address.ip().to_string(),
            target.address.port().to_string(),
        ])
        .env("DENO_DIR", folder.join("deno"))
        .env("DENO_NO_UPDATE_CHECK", "1")
        .env("NO_COLOR", "1");
    // It ends with 1 when a case has failed.
    let output = script.output().context("cannot start timeout")?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    read(&text).with_context(|| format!("the script wrote:\n{text}"))
}

fn deno(folder: &Path) -> anyhow::Result<PathBuf> {
    let installed = folder.join("node_modules/.bin/deno");
    if let Some(deno) = command::find("deno") {
        return Ok(deno);
    }
    if !installed.exists() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--prefix"])
            .arg(folder)
            .arg(DENO);
        command::output(&mut npm).with_context(|| {
            format!("h1spec needs deno: put it into the PATH, or have npm, which gets {DENO}")
        })?;
    }
    Ok(installed)
}

/// Reads a line for each case and `N out of M tests passed.`.
fn read(text: &str) -> anyhow::Result<Verdict> {
    let marked = |mark: char| {
        text.lines()
            .filter_map(move |line| line.trim_start().strip_prefix(mark))
            .map(str::trim)
    };
    let summary = text.lines().find_map(|line| {
        let (passed, rest) = line.split_once(" out of ")?;
        let total = rest.strip_suffix(" tests passed.")?;
        Some((passed.parse::<usize>().ok()?, total.parse::<usize>().ok()?))
    });
    let (passed, total) = summary.context("it has not ended with its summary")?;
    let failed =
        marked('❌').map(|line| line.split_once(": ").unwrap_or((line, "no reason given")));
    // No connection could be made, or it broke.
    let broken = text
        .lines()
        .filter_map(|line| line.strip_prefix("Error in test \"")?.split_once("\": "));
    let failures: Vec<Failure> = failed
        .chain(broken)
        .map(|(case, reason)| Failure {
            case: case.to_owned(),
            reason: reason.to_owned(),
        })
        .collect();
    anyhow::ensure!(
        marked('✅').count() == passed && passed + failures.len() == total && total > 0,
        "its lines and its summary do not agree"
    );
    Ok(Verdict {
        passed,
        failures,
        ..Verdict::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
✅ Valid GET request: Response Status Code 200, Expected ranges: [[200,299]]
❌ Missing Host header: Response Status Code 200, Expected ranges: [[400,499]]
Error in test \"Fragmented method\": ConnectionRefused: refused
    at async Object.connect

1 out of 3 tests passed.
";

    #[test]
    fn each_failure_has_its_reason() {
        let verdict = read(TEXT).unwrap();
        assert_eq!(verdict.passed, 1);
        let expected = [
            (
                "Missing Host header",
                "Response Status Code 200, Expected ranges: [[400,499]]",
            ),
            ("Fragmented method", "ConnectionRefused: refused"),
        ];
        let expected = expected.map(|(case, reason)| Failure {
            case: case.to_owned(),
            reason: reason.to_owned(),
        });
        assert_eq!(verdict.failures, expected);
    }

    #[test]
    fn what_does_not_agree_is_no_verdict() {
        assert!(read("").is_err());
        assert!(read(&TEXT.replace("1 out of 3", "1 out of 4")).is_err());
        assert!(read(&TEXT.replace("1 out of 3", "2 out of 3")).is_err());
    }
}
