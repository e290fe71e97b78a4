//! `cargo xtask soak NAME --for T`: faults and load together.
//!
//! `edge`: the long end-to-end test `survive::nothing_is_lost_under_load_for_long` (reloads, upgrades,
//! killed instances and data processes under shoppers that count), again and again until T is over;
//! at least one pass is made, and one that has begun is finished. `discover`: all registries are away
//! for T (`outage::all_registries_are_away_for_long`), once. Deliberately not here: what happens in
//! them and what is allowed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::arguments::Arguments;
use crate::workspace::Workspace;
use crate::{binary, command};

/// One of the soaks.
#[derive(Clone, Copy)]
struct Soak {
    name: &'static str,
    /// The long test of `crates/outgrow/tests/e2e`.
    test: &'static str,
    /// The time when none is said.
    time: Duration,
    /// Whether one pass takes the whole time.
    is_one: bool,
}

const SOAKS: [Soak; 2] = [
    Soak {
        name: "edge",
        test: "survive::nothing_is_lost_under_load_for_long",
        time: Duration::from_secs(60),
        is_one: false,
    },
    Soak {
        name: "discover",
        test: "outage::all_registries_are_away_for_long",
        time: Duration::from_secs(300),
        is_one: true,
    },
];
/// For how long registries are away, in seconds.
const OUTAGE_VARIABLE: &str = "OUTGROW_OUTAGE_SECONDS";

/// What all passes came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sum {
    requests: u64,
    /// Failed or truncated though nothing had to be.
    failed: u64,
    /// In flight at what was killed: a data process, an instance.
    lost: u64,
}

/// Runs the command.
pub(crate) fn run(mut arguments: Arguments) -> anyhow::Result<ExitCode> {
    let names: Vec<String> = SOAKS.map(|soak| format!("`{}`", soak.name)).to_vec();
    let names = names.join(" and ");
    let soak = match arguments.word() {
        Some(name) => SOAKS.into_iter().find(|soak| soak.name == name),
        None => bail!("which soak? there are {names}"),
    };
    let soak = soak.with_context(|| format!("there is no such soak; there are {names}"))?;
    let time = match arguments.value("--for")? {
        Some(text) => duration(&text)?,
        None => soak.time,
    };
    let given = arguments.parsed("--binary")?;
    arguments.finish()?;
    let workspace = Workspace::load()?;
    let outgrow = binary::given_or_built(&workspace, given)?;
    // Before the clock runs, and with an error of its own.
    let mut build = command::cargo();
    build.current_dir(&workspace.root);
    command::must(build.args([
        "test", "--no-run", "--quiet", "-p", "outgrow", "--test", "e2e",
    ]))?;
    let began = Instant::now();
    let mut sum = Sum::default();
    let mut passes = 0;
    let mut wrong = 0;
    while passes == 0 || (!soak.is_one && began.elapsed() < time) {
        passes += 1;
        let (pass, passed) = pass(soak, time, &workspace, &outgrow)?;
        sum.requests += pass.requests;
        sum.failed += pass.failed;
        sum.lost += pass.lost;
        wrong += usize::from(!passed);
        println!(
            "pass {passes}: {}{}",
            text(pass),
            if passed { "" } else { ", NOT AS PROMISED" }
        );
    }
    println!(
        "passes: {passes} in {:.0} s, {wrong} not as promised",
        began.elapsed().as_secs_f64()
    );
    println!("{}", text(sum));
    Ok(if wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn text(sum: Sum) -> String {
    let Sum {
        requests,
        failed,
        lost,
    } = sum;
    format!("{requests} requests, {failed} failed, {lost} lost")
}

/// Runs the test once; its counts, and whether it passed.
fn pass(
    soak: Soak,
    time: Duration,
    workspace: &Workspace,
    outgrow: &Path,
) -> anyhow::Result<(Sum, bool)> {
    let mut cargo = command::cargo();
    let mut child = cargo
        .current_dir(&workspace.root)
        .args(["test", "--quiet", "-p", "outgrow", "--test", "e2e", "--"])
        .args(["--ignored", "--exact", "--nocapture", soak.test])
        .env(OUTAGE_VARIABLE, time.as_secs().to_string())
        .env(binary::VARIABLE, outgrow)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let stdout = child.stdout.take().context("standard output is a pipe")?;
    let mut counts = None;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        counts = read(&line).or(counts);
        eprintln!("{line}");
    }
    let passed = child.wait()?.success();
    let counts =
        counts.with_context(|| format!("the test {} did not say its counts", soak.test))?;
    Ok((counts, passed))
}

/// Reads `N requests, M failed, K lost`.
fn read(line: &str) -> Option<Sum> {
    let (requests, rest) = line.trim().split_once(" requests, ")?;
    let (failed, rest) = rest.split_once(" failed, ")?;
    let lost = rest.strip_suffix(" lost")?;
    // The test's runner may have written before it on the same line.
    let requests = requests.rsplit(' ').next()?;
    Some(Sum {
        requests: requests.parse().ok()?,
        failed: failed.parse().ok()?,
        lost: lost.parse().ok()?,
    })
}

/// Reads `90s`, `10m`, `1h`.
pub(crate) fn duration(text: &str) -> anyhow::Result<Duration> {
    let units = [("s", 1), ("m", 60), ("h", 3600)];
    let read = units.iter().find_map(|(unit, seconds)| {
        let number = text.strip_suffix(unit)?.parse::<u64>().ok()?;
        number.checked_mul(*seconds).map(Duration::from_secs)
    });
    read.with_context(|| format!("--for is a time like 90s, 10m or 1h, not `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_behind_what_the_runner_writes() {
        let sum = Sum {
            requests: 1_200,
            failed: 0,
            lost: 3,
        };
        assert_eq!(read("1200 requests, 0 failed, 3 lost"), Some(sum));
        assert_eq!(
            read("test survive::x ... 1200 requests, 0 failed, 3 lost"),
            Some(sum)
        );
        assert_eq!(read("20 times, 31 requests: failed 0"), None);
        assert_eq!(text(sum), "1200 requests, 0 failed, 3 lost");
    }

    #[test]
    fn times_need_a_unit() {
        assert_eq!(duration("90s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("1h").unwrap(), Duration::from_secs(3600));
        for wrong in ["90", "", "h", "-1s", "99999999999999999999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
