//! h2spec: 147 cases of HTTP/2 and HPACK, the strict one among them, over TLS.
//!
//! The binary is the `h2spec` of the PATH, else it is built of the checkout with Debian's Go and
//! Debian's copies of the three libraries that it uses, so that no module proxy is needed.
//! Deliberately not here: a Go set-up for other systems; put the project's release into the PATH.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::target::Target;
use super::{Failure, Verdict};
use crate::{command, setup};

/// Debian's Go and what h2spec uses.
const PACKAGES: [&str; 4] = [
    "golang-go",
    "golang-golang-x-net-dev",
    "golang-github-fatih-color-dev",
    "golang-github-spf13-cobra-dev",
];
const IMPORT: &str = "github.com/summerwind/h2spec";
/// Seconds that all may take; they take four.
const LIMIT: &str = "400";

/// Runs the suite.
pub(super) fn run(folder: &Path, checkout: &Path, target: &Target) -> anyhow::Result<Verdict> {
    let h2spec = binary(folder, checkout)?;
    let mut suite = Command::new("timeout");
    suite
        .arg(LIMIT)
        .arg(h2spec)
        .args(["--tls", "--insecure", "--strict"])
        .args(["--host", &target.address.ip().to_string()])
        .args(["--port", &target.address.port().to_string()]);
    // It ends with 1 when a case has failed.
    let output = suite.output().context("cannot start timeout")?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    read(&text).with_context(|| format!("h2spec wrote:\n{text}"))
}

fn binary(folder: &Path, checkout: &Path) -> anyhow::Result<PathBuf> {
    if let Some(h2spec) = command::find("h2spec") {
        return Ok(h2spec);
    }
    let sources = Path::new("/usr/share/gocode");
    if command::find("go").is_none() || !sources.join("src/github.com/spf13/cobra").exists() {
        setup::install_debian(&PACKAGES)?;
    }
    // Go finds sources below a GOPATH by their import path only.
    let path = folder.join("go");
    let place = path.join("src").join(IMPORT);
    fs::create_dir_all(place.parent().unwrap_or(&path))
        .with_context(|| format!("cannot create {}", place.display()))?;
    // Of an earlier run, maybe with another checkout.
    if place.is_symlink() {
        fs::remove_file(&place)?;
    }
    symlink(checkout, &place).with_context(|| format!("cannot link {}", place.display()))?;
    let binary = folder.join("h2spec-built");
    let mut go = Command::new("go");
    go.args(["build", "-o"])
        .arg(&binary)
        .arg(format!("{IMPORT}/cmd/h2spec"));
    go.env("GO111MODULE", "off")
        .env("GOCACHE", folder.join("go-cache"));
    go.env("GOPATH", std::env::join_paths([path.as_path(), sources])?);
    command::output(&mut go).with_context(|| {
        format!(
            "h2spec cannot be built: apt-get install {}, or put a release of it into the PATH",
            PACKAGES.join(" ")
        )
    })?;
    Ok(binary)
}

/// Reads the list of failures and `N tests, N passed, N skipped, N failed`.
fn read(text: &str) -> anyhow::Result<Verdict> {
    let numbers = text.lines().rev().find_map(|line| {
        let (tests, rest) = line.split_once(" tests, ")?;
        let (passed, rest) = rest.split_once(" passed, ")?;
        let (skipped, failed) = rest.split_once(" skipped, ")?;
        let numbers = [tests, passed, skipped, failed.strip_suffix(" failed")?];
        let numbers = numbers.map(|number| number.trim().parse::<usize>().ok());
        let [Some(tests), Some(passed), Some(skipped), Some(failed)] = numbers else {
            return None;
        };
        Some((tests, passed, skipped, failed))
    });
    let (tests, passed, skipped, failed) = numbers.context("it has not ended with its summary")?;
    let list = text.split_once("\nFailures:").map_or("", |(_, list)| list);
    let mut failures: Vec<Failure> = Vec::new();
    let mut section = "";
    for line in list.lines().map(str::trim) {
        if let Some(case) = line.strip_prefix("× ") {
            let case = format!("{section} / {case}");
            failures.push(Failure {
                case,
                reason: String::new(),
            });
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            // `3.5. HTTP/2 Connection Preface`, or the time and the summary at the end.
            section = line;
        } else if let Some(failure) = failures.last_mut() {
            // Why it must be, what was expected, what came: one below the other.
            let space = if failure.reason.is_empty() { "" } else { " " };
            let more = line.trim_start_matches("-> ");
            if !more.is_empty() && !more.starts_with("Finished in ") {
                failure.reason = format!("{}{space}{more}", failure.reason);
            }
        }
    }
    anyhow::ensure!(
        tests > 0 && failures.len() == failed && passed + skipped + failed == tests,
        "its failures and its summary do not agree"
    );
    if skipped > 0 {
        failures.extend((0..skipped).map(|_| Failure {
            case: "a case".to_owned(),
            reason: "skipped: h2spec could not judge it with what the backend answered".to_owned(),
        }));
    }
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
Generic tests for HTTP/2 server
  1. Starting HTTP/2
    × 1: Sends a client connection preface

Failures: 

Hypertext Transfer Protocol Version 2 (HTTP/2)
  3. Starting HTTP/2
    3.5. HTTP/2 Connection Preface
      × 2: Sends invalid connection preface
        -> The endpoint MUST terminate the TCP connection.
           Expected: GOAWAY Frame (Error Code: PROTOCOL_ERROR)
                     Connection closed
             Actual: Error: unexpected EOF

Finished in 0.6342 seconds
4 tests, 2 passed, 1 skipped, 1 failed
";

    #[test]
    fn failures_have_their_section_and_reason_and_skipped_ones_count() {
        let verdict = read(TEXT).unwrap();
        assert_eq!(verdict.passed, 2);
        let [failed, skipped] = &verdict.failures[..] else {
            panic!("{verdict:?}");
        };
        assert_eq!(
            failed.case,
            "3.5. HTTP/2 Connection Preface / 2: Sends invalid connection preface"
        );
        assert_eq!(
            failed.reason,
            "The endpoint MUST terminate the TCP connection. Expected: GOAWAY Frame (Error Code: \
             PROTOCOL_ERROR) Connection closed Actual: Error: unexpected EOF"
        );
        assert!(skipped.reason.starts_with("skipped"));
    }

    #[test]
    fn what_does_not_agree_is_no_verdict() {
        assert!(read("").is_err());
        assert!(read(&TEXT.replace("1 failed", "2 failed")).is_err());
        assert!(
            read("147 tests, 147 passed, 0 skipped, 0 failed\n")
                .unwrap()
                .failures
                .is_empty()
        );
    }
}
