//! The load of scenarios with many streams on a connection: `h2load`, of Debian's nghttp2-client.
//!
//! A first run, which is not measured, warms everything up and tells how many requests a round takes.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use super::cpu;
use super::report::Measure;
use super::scenario::Scenario;
use crate::command;

/// Requests of the first run.
const WARM_UP_REQUESTS: u64 = 5_000;

/// What a round works with.
pub(super) struct Round<'a> {
    pub(super) address: SocketAddr,
    /// The contestant's process.
    pub(super) process: u32,
    /// The load's cores.
    pub(super) cores: &'a str,
    pub(super) seconds: f64,
    /// For the times of all requests.
    pub(super) directory: &'a Path,
}

/// Installs the load where it may.
pub(super) fn install() -> anyhow::Result<()> {
    if command::find("h2load").is_none() {
        crate::setup::install_debian(&["nghttp2-client"])?;
    }
    Ok(())
}

/// One round.
pub(super) fn measure(scenario: &Scenario, round: &Round<'_>) -> anyhow::Result<Measure> {
    let (_, rate) = run(scenario, round, WARM_UP_REQUESTS, None)?;
    let requests = ((rate * round.seconds) as u64).max(WARM_UP_REQUESTS);
    let times = round.directory.join("times.tsv");
    // It goes on where there is one.
    let _gone = fs::remove_file(&times);
    let before = cpu::tree_micros(round.process)?;
    let (done, rate) = run(scenario, round, requests, Some(&times))?;
    let after = cpu::tree_micros(round.process)?;
    let text = fs::read_to_string(&times).context("h2load wrote no times")?;
    let mut times: Vec<f64> = text
        .lines()
        .filter_map(|line| line.split('\t').nth(2)?.parse().ok())
        .collect();
    anyhow::ensure!(!times.is_empty(), "h2load wrote no times");
    times.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Ok(Measure {
        cpu_micros: (after - before) as f64 / done as f64,
        rate,
        p50_micros: at(0.5),
        p99_micros: at(0.99),
    })
}

/// Runs the load; how many requests were answered as they should be, and how many in a second.
fn run(
    scenario: &Scenario,
    round: &Round<'_>,
    requests: u64,
    times: Option<&Path>,
) -> anyhow::Result<(u64, f64)> {
    let mut load = Command::new("timeout");
    load.args(["120", "taskset", "-c", round.cores, "h2load"])
        .arg(format!("--requests={requests}"))
        .arg(format!("--clients={}", scenario.connections))
        .arg(format!("--max-concurrent-streams={}", scenario.streams));
    if let Some(times) = times {
        load.arg(format!("--log-file={}", times.display()));
    }
    load.arg(format!("https://{}/get-1k", round.address));
    let said = command::output(&mut load)?;
    read(&said, requests)
}

/// Reads h2load's summary; anything but success is an error.
fn read(said: &str, requests: u64) -> anyhow::Result<(u64, f64)> {
    let line = |start: &str| {
        let mut lines = said.lines().filter_map(|line| line.strip_prefix(start));
        lines
            .next()
            .with_context(|| format!("h2load did not say {start:?}: {said}"))
    };
    anyhow::ensure!(
        said.contains("Application protocol: h2\n"),
        "it was not HTTP/2: {said}"
    );
    let rate = line("finished in ")?
        .split(", ")
        .nth(1)
        .and_then(|text| text.strip_suffix(" req/s")?.parse().ok())
        .context("h2load said no rate")?;
    let statuses = line("status codes: ")?;
    let good = statuses.split_once(" 2xx").map(|(count, _)| count);
    let good: u64 = good.context("no status")?.trim().parse()?;
    if good != requests {
        bail!("{good} of {requests} requests were answered: {said}");
    }
    Ok((good, rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
TLS Protocol: TLSv1.3
Application protocol: h2

finished in 321.59ms, 15547.55 req/s, 16.91MB/s
requests: 5000 total, 5000 started, 5000 done, 5000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 5000 2xx, 0 3xx, 0 4xx, 0 5xx
";

    #[test]
    fn the_summary_is_read_strictly() {
        assert_eq!(read(SAID, 5_000).expect("read"), (5_000, 15_547.55));
        for wrong in [
            SAID.replace("5000 2xx", "4999 2xx"),
            SAID.replace(": h2", ": http/1.1"),
            String::new(),
        ] {
            assert!(read(&wrong, 5_000).is_err(), "{wrong}");
        }
    }
}
