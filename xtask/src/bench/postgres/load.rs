//! pgbench as the load: started beside a contestant, measured by its log.
//!
//! The log has a line for each transaction with the time at which it ended; so the window begins and
//! ends whenever we look at the contestant's CPU time, and the logins before it do not count.
//! Deliberately not here: idle clients.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};

use super::scenario::Script;
use crate::bench::cpu::Threads;
use crate::bench::report::Measure;
use crate::command;
use crate::postgres;

/// Load before the measured window: pools are filled, CPUs are awake, what can be prepared is.
const WARM_UP: Duration = Duration::from_millis(700);
/// How long the clients may take to be let in.
const LOGIN_LIMIT: Duration = Duration::from_secs(30);
/// How many clients are let in in a second, at least: with a new process for each on both sides.
const LOGINS_A_SECOND: u64 = 50;
/// What a run may take beyond its window before it is ended.
const GRACE_SECONDS: u64 = 40;
const POLL: Duration = Duration::from_millis(10);
/// The beginning of the log's name.
const PREFIX: &str = "transactions";

/// One run of pgbench.
pub(crate) struct Load<'a> {
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    pub(crate) script: Script,
    pub(crate) protocol: &'a str,
    pub(crate) clients: usize,
    /// The load's cores, as taskset takes them.
    pub(crate) cores: &'a str,
    pub(crate) seconds: f64,
    /// A folder for its log.
    pub(crate) folder: &'a Path,
}

impl Load<'_> {
    /// Runs it and gives the CPU time per query of the processes under `process`.
    pub(crate) fn run(&self, process: u32) -> anyhow::Result<Measure> {
        remove_logs(self.folder)?;
        let mut pgbench = self.start()?;
        let window = self.window(&mut pgbench, process);
        // It ends by itself, or by the timeout around it.
        let output = pgbench.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim();
        anyhow::ensure!(output.status.success(), "pgbench failed: {said}");
        let window = window.with_context(|| format!("pgbench said: {said}"))?;
        let mut latencies = Vec::new();
        for log in logs(self.folder)? {
            let text = fs::read_to_string(&log)
                .with_context(|| format!("cannot read {}", log.display()))?;
            let lines = text.lines().filter_map(Line::read);
            let within = lines.filter(|line| window.contains(line.ended_micros));
            latencies.extend(within.map(|line| line.micros));
        }
        remove_logs(self.folder)?;
        window.measure(latencies, self.script.queries())
    }

    fn start(&self) -> anyhow::Result<Child> {
        // Its clock runs while the clients log in.
        let logins = self.clients as u64 / LOGINS_A_SECOND;
        let whole = (WARM_UP.as_secs_f64() + self.seconds).ceil() as u64 + 1 + logins;
        let mut command = Command::new("timeout");
        command.arg((whole + GRACE_SECONDS).to_string());
        command.args(["taskset", "-c", self.cores]);
        command.arg(postgres::program("pgbench")?);
        command.args([
            format!("--builtin={}", self.script.builtin()),
            format!("--protocol={}", self.protocol),
            format!("--client={}", self.clients),
            format!("--time={whole}"),
            format!("--jobs={}", self.threads()),
            "--no-vacuum".to_owned(),
            "--log".to_owned(),
            format!("--log-prefix={PREFIX}"),
            "--host=127.0.0.1".to_owned(),
            format!("--port={}", self.address.port()),
            "--username=postgres".to_owned(),
            "postgres".to_owned(),
        ]);
        command
            .current_dir(self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start pgbench")
    }

    /// pgbench's threads. Its prepared mode waits for the answer to a Parse with the whole thread: where
    /// others of the thread's clients hold all connections in open transactions, that answer never
    /// comes, behind any pool. So each client of such a run has a thread of its own.
    fn threads(&self) -> usize {
        let is_blocking = self.protocol == "prepared" && self.script == Script::Tpcb;
        if is_blocking { self.clients } else { 1 }
    }

    /// Waits for the first transactions, warms up, and looks twice at the contestant.
    fn window(&self, pgbench: &mut Child, process: u32) -> anyhow::Result<Window> {
        let until = Instant::now() + LOGIN_LIMIT;
        while !has_begun(self.folder)? {
            if let Some(status) = pgbench.try_wait()? {
                bail!("it ended early ({status})");
            }
            anyhow::ensure!(Instant::now() < until, "no transaction in {LOGIN_LIMIT:?}");
            thread::sleep(POLL);
        }
        thread::sleep(WARM_UP);
        let (began, before) = (now_micros()?, Threads::of_tree(process)?);
        thread::sleep(Duration::from_secs_f64(self.seconds));
        let (ended, after) = (now_micros()?, Threads::of_tree(process)?);
        Ok(Window {
            began,
            ended,
            cpu_micros: after.micros_since(&before),
        })
    }
}

/// The time in which a contestant was watched.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// Microseconds since 1970.
    began: u64,
    ended: u64,
    cpu_micros: u64,
}

impl Window {
    fn contains(&self, micros: u64) -> bool {
        (self.began..self.ended).contains(&micros)
    }

    fn measure(&self, mut latencies: Vec<u64>, queries: f64) -> anyhow::Result<Measure> {
        anyhow::ensure!(!latencies.is_empty(), "no transaction in the window");
        latencies.sort_unstable();
        let queries = queries * latencies.len() as f64;
        let percentile = |percent: usize| {
            let place = (latencies.len() * percent).div_ceil(100).max(1) - 1;
            latencies[place] as f64
        };
        Ok(Measure {
            cpu_micros: self.cpu_micros as f64 / queries,
            rate: queries * 1e6 / (self.ended - self.began) as f64,
            p50_micros: percentile(50),
            p99_micros: percentile(99),
        })
    }
}

/// A transaction in the log: client, number, microseconds, script, and when it ended, in seconds and
/// microseconds.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    micros: u64,
    ended_micros: u64,
}

impl Line {
    fn read(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(' ').collect();
        let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
        Some(Self {
            micros: number(2)?,
            ended_micros: number(4)? * 1_000_000 + number(5)?,
        })
    }
}

fn logs(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut logs = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            logs.push(entry.path());
        }
    }
    Ok(logs)
}

fn remove_logs(folder: &Path) -> anyhow::Result<()> {
    for log in logs(folder)? {
        fs::remove_file(&log).with_context(|| format!("cannot remove {}", log.display()))?;
    }
    Ok(())
}

/// Whether something is in the log: it is written in pieces, so a moment after the first transaction.
fn has_begun(folder: &Path) -> anyhow::Result<bool> {
    let mut logs = logs(folder)?.into_iter();
    Ok(logs.any(|log| log.metadata().is_ok_and(|data| data.len() > 0)))
}

fn now_micros() -> anyhow::Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(since.context("the clock is before 1970")?.as_micros() as u64)
}

/// Fills the tables.
pub(crate) fn fill(server: SocketAddr, scale: usize) -> anyhow::Result<()> {
    let mut pgbench = Command::new(postgres::program("pgbench")?);
    pgbench.args([
        "--initialize".to_owned(),
        "--init-steps=dtgp".to_owned(),
        "--unlogged-tables".to_owned(),
        "--quiet".to_owned(),
        format!("--scale={scale}"),
        "--host=127.0.0.1".to_owned(),
        format!("--port={}", server.port()),
        "--username=postgres".to_owned(),
        "postgres".to_owned(),
    ]);
    command::output(&mut pgbench).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_log_are_read() {
        let line = Line::read("3 17 2200 0 1700000000 250000").unwrap();
        let expected = Line {
            micros: 2200,
            ended_micros: 1_700_000_000_250_000,
        };
        assert_eq!(line, expected);
        assert_eq!(Line::read("3 17 22"), None);
    }

    #[test]
    fn what_ends_within_the_window_counts() {
        let window = Window {
            began: 1_000,
            ended: 2_001_000,
            cpu_micros: 700,
        };
        assert!(window.contains(1_000) && !window.contains(2_001_000));
        let measure = window.measure((1..=100).collect(), 7.0).unwrap();
        assert!((measure.cpu_micros - 1.0).abs() < 1e-9);
        assert!((measure.rate - 350.0).abs() < 1e-9);
        assert!((measure.p50_micros - 50.0).abs() < 1e-9);
        assert!((measure.p99_micros - 99.0).abs() < 1e-9);
        assert!(window.measure(Vec::new(), 1.0).is_err());
    }
}
