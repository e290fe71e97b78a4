//! `cargo xtask bench edge`, `tls`, `h2` and `l4`: the proxies side by side.
//!
//! For each scenario all contestants are started, then the rounds go over them one after the other,
//! each round beginning with another, so that a disturbance of the machine meets all alike. Measured
//! is the CPU time of a contestant's whole process tree during the load's window. Deliberately not
//! here: saturation and scaling; absolute rates say little on a shared machine.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

use super::contestant::{Contestant, OURS, Started, Surroundings};
use super::cpu;
use super::options::{Cores, Layer, Options};
use super::process::Running;
use super::report::{self, Measure, Row};
use super::scenario::{self, Scenario};
use super::streams;
use crate::command;
use crate::profiled;
use crate::workspace::Workspace;

/// Profile that the load generator is built with.
const PROFILE: &str = "release";
/// Load before the measured window: pools are filled, CPUs are awake.
const WARM_UP_SECONDS: f64 = 0.5;
/// What a run may take beyond its window before it is ended.
const GRACE_SECONDS: f64 = 20.0;

/// What every scenario needs.
struct Bench<'a> {
    options: &'a Options,
    load: PathBuf,
    templates: PathBuf,
    directory: PathBuf,
    backends: [SocketAddr; 2],
    /// Ours first.
    contestants: Vec<Contestant>,
}

/// Rounds of one contestant in one scenario, or why there are none.
type Rounds = Result<Vec<Measure>, String>;

/// Runs the bench.
pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::load()?;
    if options.layer == Layer::Four && options.peers.iter().any(|peer| peer == "nginx") {
        stream_module()?;
    }
    if options.layer == Layer::Http2 {
        streams::install()?;
    }
    let (binary, load) = build(&workspace, &options)?;
    let contestants = std::iter::once(&options.ours)
        .chain(&options.peers)
        .map(|name| Contestant::find(name, &workspace.root, binary.as_deref(), &load))
        .collect::<anyhow::Result<Vec<_>>>()?;
    for contestant in &contestants {
        eprintln!("{} {}", contestant.name, contestant.program.version);
    }
    let directory = workspace.target.join(format!(
        "bench/{}-{}",
        options.layer.name(),
        std::process::id()
    ));
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let mut certificate = Command::new(&load);
    certificate
        .arg("certificate")
        .arg("--directory")
        .arg(&directory);
    command::must(&mut certificate)?;
    let (_backend, backends) = start_backend(&load, &directory, options.cores)?;
    let bench = Bench {
        load,
        templates: workspace.root.join("bench").join(options.layer.templates()),
        directory,
        backends,
        contestants,
        options: &options,
    };
    let mut rows = Vec::new();
    let mut missing = Vec::new();
    for &scenario in &options.scenarios {
        let results = bench.scenario(scenario);
        bench.judge(scenario, &results, &mut rows, &mut missing);
    }
    if options.is_json {
        for row in &rows {
            println!("{}", row.json(options.layer.name()));
        }
    } else {
        let ours = &bench.contestants[0];
        let ours = format!("{} {}", ours.name, ours.program.version);
        print!("{}", report::table(&rows, &ours));
        print!("{}", report::NOTES);
    }
    // Kept when something failed: the contestants' output tells why.
    if missing.is_empty() {
        fs::remove_dir_all(&bench.directory).context("cannot remove the bench's folder")?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in missing {
        eprintln!("missing: {line}");
    }
    eprintln!(
        "configurations and output are in {}",
        bench.directory.display()
    );
    Ok(ExitCode::FAILURE)
}

/// Debian has nginx's stream module apart from nginx.
fn stream_module() -> anyhow::Result<()> {
    const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
    if !Path::new(MODULE).exists() {
        crate::setup::install_debian(&["libnginx-mod-stream"])?;
    }
    Ok(())
}

/// Builds ours (unless it is given) and the load generator.
fn build(workspace: &Workspace, options: &Options) -> anyhow::Result<(Option<PathBuf>, PathBuf)> {
    let folder = workspace.target.join(PROFILE);
    let build = |package: &str| {
        let mut cargo = command::cargo();
        cargo.current_dir(&workspace.root);
        // Apart from each other, so that neither gets features for the other's sake.
        command::must(cargo.args(["build", "--profile", PROFILE, "-p", package]))
    };
    let binary = match &options.binary {
        Some(path) => Some(
            path.canonicalize()
                .with_context(|| format!("--binary: there is no {}", path.display()))?,
        ),
        None if options.ours == OURS && options.is_plain => Some(profiled::plain(workspace)?),
        None if options.ours == OURS => Some(profiled::build_or_plain(workspace)?),
        None => None,
    };
    build("bench-load")?;
    Ok((binary, folder.join("bench-load")))
}

/// Starts the backend on the load's core and reads its two ports.
fn start_backend(
    load: &Path,
    directory: &Path,
    cores: Cores,
) -> anyhow::Result<(Running, [SocketAddr; 2])> {
    let (_, list) = cores.lists(&scenario::ALL[0]);
    let (said, output) = (directory.join("backend.txt"), directory.join("backend.log"));
    let command = [load.to_string_lossy().into_owned(), "backend".to_owned()];
    let mut backend = Running::start("backend", list, &command, &output, Some(&said))?;
    let mut ports = Vec::new();
    backend.wait_until("say its ports", || {
        let text = fs::read_to_string(&said).unwrap_or_default();
        ports = text
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        text.ends_with('\n')
    })?;
    let [first, second] = ports[..] else {
        bail!("the backend did not say two ports");
    };
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Ok((backend, [at(first), at(second)]))
}

impl Bench<'_> {
    /// All rounds of all contestants, in the order of the contestants.
    fn scenario(&self, scenario: &Scenario) -> Vec<Rounds> {
        let (cores, load_cores) = self.options.cores.lists(scenario);
        let surroundings = Surroundings {
            templates: &self.templates,
            directory: &self.directory,
            backends: self.backends,
            cores,
            layer: self.options.layer,
        };
        let mut started: Vec<Result<Started, String>> = self
            .contestants
            .iter()
            .map(|one| {
                one.start(scenario, &surroundings)
                    .map_err(|error| format!("{error:#}"))
            })
            .collect();
        let mut results: Vec<Rounds> = started
            .iter_mut()
            .map(|one| {
                one.as_mut()
                    .map(|_| Vec::new())
                    .map_err(|reason| reason.clone())
            })
            .collect();
        for round in 0..self.options.rounds {
            let count = self.contestants.len();
            for index in (0..count).map(|offset| (round + offset) % count) {
                let (Ok(contestant), Ok(measures)) = (&started[index], &mut results[index]) else {
                    continue;
                };
                match self.measure(scenario, contestant, load_cores) {
                    Ok(measure) => {
                        eprintln!(
                            "{} round {} of {}: {} {:.1} us, {:.0} requests/s",
                            scenario.name,
                            round + 1,
                            self.options.rounds,
                            self.contestants[index].name,
                            measure.cpu_micros,
                            measure.rate
                        );
                        measures.push(measure);
                    }
                    Err(error) => {
                        let said = contestant.running.last_lines();
                        results[index] = Err(format!("{error:#}; it said: {said}"));
                    }
                }
            }
        }
        results
    }

    /// One round of one contestant.
    fn measure(
        &self,
        scenario: &Scenario,
        contestant: &Started,
        cores: &str,
    ) -> anyhow::Result<Measure> {
        let seconds = self.options.seconds;
        if scenario.streams > 0 {
            let round = streams::Round {
                address: contestant.address,
                process: contestant.running.id(),
                cores,
                seconds,
                directory: &self.directory,
            };
            let measure = streams::measure(scenario, &round)?;
            if let Some(access) = &contestant.access {
                check_access_log(access, self.options.layer)?;
            }
            return Ok(measure);
        }
        let mut command = Command::new("timeout");
        command.arg(format!("{}", WARM_UP_SECONDS + seconds + GRACE_SECONDS));
        command.args(["taskset", "-c", cores]).arg(&self.load);
        command.args([
            "generate".to_owned(),
            format!("--address={}", contestant.address),
            format!("--exchange={}", scenario.exchange),
            format!("--connections={}", scenario.connections),
            format!("--warm-up={WARM_UP_SECONDS}"),
            format!("--seconds={seconds}"),
        ]);
        if scenario.closes {
            command.arg("--close");
        }
        if scenario.is_secure {
            command.arg("--trust").arg(self.directory.join("cert.pem"));
        }
        let mut load = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the load")?;
        let stdout = load.stdout.take().context("the load has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let began = lines.next().transpose()?;
        let before = cpu::tree_micros(contestant.running.id())?;
        let summary = lines.next().transpose()?;
        let after = cpu::tree_micros(contestant.running.id())?;
        let output = load.wait_with_output()?;
        let (Some("window"), Some(summary)) = (began.as_deref(), summary) else {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("the load ended early: {}", said.trim());
        };
        // Of connections there may be no line yet: some write them later.
        if let Some(access) = &contestant.access {
            check_access_log(access, self.options.layer)?;
        }
        read_summary(&summary, after - before)
    }

    /// Makes the rows of a scenario; what cannot be a row is missing.
    fn judge(
        &self,
        scenario: &Scenario,
        results: &[Rounds],
        rows: &mut Vec<Row>,
        missing: &mut Vec<String>,
    ) {
        let ours = &results[0];
        if let Err(reason) = ours {
            missing.push(format!("{} ours: {reason}", scenario.name));
        }
        for (contestant, theirs) in self.contestants.iter().zip(results).skip(1) {
            let peer = (
                contestant.name.as_str(),
                contestant.program.version.as_str(),
            );
            let row = match (ours, theirs) {
                (Ok(ours), Ok(theirs)) => Row::new(scenario.name, peer, ours, theirs),
                _ => None,
            };
            match (row, theirs) {
                (Some(row), _) => rows.push(row),
                (None, Err(reason)) => {
                    missing.push(format!("{} {}: {reason}", scenario.name, peer.0));
                }
                (None, Ok(_)) => {
                    missing.push(format!("{} {}: ours did not run", scenario.name, peer.0));
                }
            }
        }
    }
}

fn read_summary(summary: &str, cpu_micros: u64) -> anyhow::Result<Measure> {
    let summary: Value = serde_json::from_str(summary).context("the load's summary")?;
    let number = |key: &str| {
        summary[key]
            .as_f64()
            .with_context(|| format!("the load's summary has no number `{key}`"))
    };
    let errors = number("errors")?;
    if errors > 0.0 {
        bail!("{errors} errors, the first: {}", summary["first_error"]);
    }
    let requests = number("requests")?;
    anyhow::ensure!(requests > 0.0, "no request was completed");
    Ok(Measure {
        cpu_micros: cpu_micros as f64 / requests,
        rate: requests / number("seconds")?,
        p50_micros: number("p50_us")?,
        p99_micros: number("p99_us")?,
    })
}

/// The log must have been written; it is emptied, because a bench writes gigabytes of it.
fn check_access_log(path: &Path, layer: Layer) -> anyhow::Result<()> {
    let needs_lines = layer != Layer::Four;
    let bytes = fs::metadata(path)
        .with_context(|| format!("there is no access log at {}", path.display()))?
        .len();
    anyhow::ensure!(
        bytes > 0 || !needs_lines,
        "the access log at {} is empty",
        path.display()
    );
    fs::File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.set_len(0))
        .with_context(|| format!("cannot empty {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_error_fails_the_round() {
        let summary =
            r#"{"requests":10,"seconds":1,"errors":1,"first_error":"x","p50_us":1,"p99_us":2}"#;
        assert!(read_summary(summary, 100).is_err());
        let summary = summary.replace("\"errors\":1", "\"errors\":0");
        assert!((read_summary(&summary, 100).unwrap().cpu_micros - 10.0).abs() < 1e-9);
    }
}
