//! `cargo xtask fuzz NAME --runs N`: a cargo-fuzz target (`fuzz/`), with the kept corpus.
//!
//! New inputs that the fuzzer finds worth keeping go to `target/fuzz-corpus` and are used again by
//! the next run; what should be kept for good is copied to `fuzz/corpus` by hand. Not a part of
//! `cargo xtask test`: it needs a nightly compiler, which nothing else here does, and builds
//! everything once more. `cargo xtask fuzz all --runs 20000` is the short form for a machine that has
//! both. Without AddressSanitizer, which takes four fifths of the time and looks for what code without
//! `unsafe` cannot do; panics, overflows and assertions are found all the same. Deliberately not here:
//! the targets.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};

use crate::arguments::Arguments;
use crate::command;
use crate::workspace::Workspace;

/// What stands for every target.
const ALL: &str = "all";
const DEFAULT_RUNS: u64 = 1_000_000;
/// Seconds that one input may take.
const INPUT_LIMIT: u64 = 10;
/// Longest input; heads end at 16 KiB.
const LONGEST: u64 = 32 * 1024;

/// What one target came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    executions: u64,
    /// Inputs that crashed it; libFuzzer ends at the first.
    crashes: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(mut arguments: Arguments) -> anyhow::Result<ExitCode> {
    let name = arguments.word();
    let runs = arguments.parsed("--runs")?.unwrap_or(DEFAULT_RUNS);
    arguments.finish()?;
    let workspace = Workspace::load()?;
    let targets = targets(&workspace.root)?;
    let known = || {
        format!(
            "there are {}, and {ALL} for one after the other",
            targets.join(", ")
        )
    };
    let chosen = match name.as_deref() {
        Some(ALL) => &targets[..],
        Some(name) => match targets.iter().position(|target| target == name) {
            Some(at) => &targets[at..=at],
            None => bail!("there is no fuzz target `{name}`; {}", known()),
        },
        None => bail!("which fuzz target? {}", known()),
    };
    require()?;
    let mut sum = Outcome::default();
    for target in chosen {
        let outcome = fuzz(&workspace, target, runs)?;
        println!(
            "{target}: {} executions, {} crashes",
            outcome.executions,
            outcome.crashes.len()
        );
        sum.executions += outcome.executions;
        sum.crashes.extend(outcome.crashes);
    }
    for crash in &sum.crashes {
        println!("crashed by {crash}");
    }
    println!(
        "{} executions, {} crashes",
        sum.executions,
        sum.crashes.len()
    );
    Ok(if sum.crashes.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The targets' names: their files'.
fn targets(root: &Path) -> anyhow::Result<Vec<String>> {
    let folder = root.join("fuzz/fuzz_targets");
    let entries =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(
                path.file_stem()
                    .map(|name| name.to_string_lossy().into_owned()),
            );
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The nightly cargo, whichever one runs us.
fn nightly() -> Command {
    let mut cargo = Command::new("rustup");
    cargo.args(["run", "nightly", "cargo"]);
    // Set by the cargo that runs us, and taken by the one below for their own.
    for variable in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN"] {
        cargo.env_remove(variable);
    }
    cargo
}

/// Says what is missing and how it is installed.
fn require() -> anyhow::Result<()> {
    let asks = [
        (
            vec!["--version"],
            "a nightly compiler",
            "rustup toolchain install nightly --profile minimal",
        ),
        (
            vec!["fuzz", "--version"],
            "cargo-fuzz",
            "cargo install cargo-fuzz --locked",
        ),
    ];
    for (arguments, what, install) in asks {
        if let Err(error) = command::output(nightly().args(arguments)) {
            bail!("fuzzing needs {what}; install it with `{install}` ({error:#})");
        }
    }
    Ok(())
}

fn fuzz(workspace: &Workspace, target: &str, runs: u64) -> anyhow::Result<Outcome> {
    let found = workspace.target.join("fuzz-corpus").join(target);
    fs::create_dir_all(&found).with_context(|| format!("cannot create {}", found.display()))?;
    let kept = workspace.root.join("fuzz/corpus").join(target);
    // New inputs go to the first.
    let corpora: Vec<PathBuf> = [found, kept]
        .into_iter()
        .filter(|path| path.is_dir())
        .collect();
    let mut child = nightly()
        .current_dir(&workspace.root)
        // Which assertions are in force is said in fuzz/Cargo.toml.
        .args(["fuzz", "run", target, "--release"])
        .args(["--sanitizer", "none", "--target-dir"])
        .arg(workspace.target.join("fuzz"))
        .args(&corpora)
        .arg("--")
        .args([format!("-runs={runs}"), format!("-timeout={INPUT_LIMIT}")])
        .args([
            format!("-max_len={LONGEST}"),
            "-print_final_stats=1".to_owned(),
        ])
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start rustup")?;
    let stderr = child.stderr.take().context("standard error is a pipe")?;
    let mut outcome = Outcome::default();
    for line in BufReader::new(stderr).lines() {
        // What crashed a parser may be quoted, and is not always text.
        let Ok(line) = line else { continue };
        outcome.read(&line);
        if !is_chatter(&line) {
            eprintln!("{line}");
        }
    }
    let status = child.wait()?;
    if !status.success() && outcome.crashes.is_empty() {
        bail!("fuzz target {target} could not be run ({status})");
    }
    Ok(outcome)
}

/// Each single input that was new, thousands of them, and the dictionary that libFuzzer recommends.
fn is_chatter(line: &str) -> bool {
    let is_input = line.starts_with('#') && (line.contains("\tNEW ") || line.contains("\tREDUCE "));
    is_input || line.starts_with("######") || line.starts_with('"')
}

impl Outcome {
    /// Takes what a line of libFuzzer's says.
    fn read(&mut self, line: &str) {
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            self.executions = count.trim().parse().unwrap_or(self.executions);
        }
        if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.crashes.push(path.trim().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_and_crashes_are_read() {
        let mut outcome = Outcome::default();
        for line in [
            "#2\tINITED cov: 4 ft: 5 corp: 1/1b exec/s: 0 rss: 30Mb",
            "artifact_prefix='./'; Test unit written to fuzz/artifacts/request/crash-0a",
            "stat::number_of_executed_units: 20000",
        ] {
            outcome.read(line);
        }
        assert_eq!(outcome.executions, 20_000);
        assert_eq!(outcome.crashes, ["fuzz/artifacts/request/crash-0a"]);
    }

    #[test]
    fn single_inputs_are_chatter() {
        assert!(is_chatter("#12\tNEW    cov: 40 ft: 50 corp: 2/2b"));
        assert!(is_chatter("#13\tREDUCE cov: 40 ft: 50 corp: 2/2b"));
        assert!(!is_chatter("#1024\tpulse  cov: 40 ft: 50"));
        assert!(!is_chatter("thread panicked"));
    }
}
