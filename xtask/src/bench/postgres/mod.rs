//! `cargo xtask bench postgres`: poolers side by side, in front of one Postgres.
//!
//! For each scenario all contestants are started, then the rounds go over them one after the other,
//! each round beginning with another. Deliberately not here: what Postgres itself does; its CPU time is
//! nobody's.

mod contestant;
mod idle;
mod load;
mod options;
mod report;
mod scenario;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use super::report::Measure;
use crate::arguments::Arguments;
use crate::postgres::{Folder, Server};
use crate::profiled;
use crate::workspace::Workspace;
use contestant::{Contestant, Started, Surroundings};
use load::Load;
use options::Options;
use report::Row;
use scenario::{Scenario, What};

/// Name of this bench in its JSON.
const BENCH: &str = "postgres";
/// The server's settings: nothing but the queries costs anything, and there is room for who makes a
/// connection for each client.
const SERVER: [&str; 9] = [
    "max_connections=1100",
    "shared_buffers=512MB",
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_wal_size=8GB",
    "checkpoint_timeout=1h",
    "bgwriter_lru_maxpages=0",
    "jit=off",
    "logging_collector=off",
];

/// What every scenario needs.
struct Bench<'a> {
    options: &'a Options,
    templates: PathBuf,
    folder: &'a Folder,
    server: &'a Server,
    /// Ours first.
    contestants: Vec<Contestant>,
}

/// Rounds of one contestant in one scenario, or why there are none.
type Rounds = Result<Vec<Measure>, String>;

/// Runs the bench.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let options = Options::read(arguments)?;
    let workspace = Workspace::load()?;
    let mut contestants = vec![Contestant::ours(&binary(&workspace, &options)?)?];
    for peer in &options.peers {
        let given = options.pgbouncer.as_deref().filter(|_| peer == "pgbouncer");
        contestants.push(Contestant::peer(peer, given)?);
    }
    for contestant in &contestants {
        eprintln!("{} {}", contestant.name, contestant.program.version);
    }
    let folder = Folder::create("bench")?;
    let (_, load_cores) = options.cores.lists_of(1);
    let settings = SERVER.map(str::to_owned);
    let server = Server::start(&settings, Some(load_cores))?;
    eprintln!("filling the tables of pgbench, scale {}", options.scale);
    load::fill(server.address, options.scale)?;
    let bench = Bench {
        templates: workspace.root.join("bench/postgres"),
        folder: &folder,
        server: &server,
        contestants,
        options: &options,
    };
    let mut rows = Vec::new();
    let mut missing = Vec::new();
    for scenario in &options.scenarios {
        let results = bench.scenario(scenario);
        bench.judge(scenario, &results, &mut rows, &mut missing);
    }
    let notes = bench.notes();
    if options.is_json {
        for row in &rows {
            println!("{}", row.json(BENCH));
        }
        eprint!("{notes}");
    } else {
        let ours = &bench.contestants[0];
        let ours = format!("{} {}", ours.name, ours.program.version);
        print!("{}{notes}", report::table(&rows, &ours));
    }
    for line in &missing {
        eprintln!("missing: {line}");
    }
    Ok(if missing.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn binary(workspace: &Workspace, options: &Options) -> anyhow::Result<PathBuf> {
    if let Some(path) = &options.binary {
        return path
            .canonicalize()
            .with_context(|| format!("--binary: there is no {}", path.display()));
    }
    if options.is_plain {
        return profiled::plain(workspace);
    }
    profiled::build_or_plain(workspace)
}

impl Bench<'_> {
    /// All rounds of all contestants that suit it, in the order of the contestants.
    fn scenario(&self, scenario: &Scenario) -> Vec<Rounds> {
        let (cores, load_cores) = self.options.cores.lists_of(1);
        let surroundings = Surroundings {
            templates: &self.templates,
            directory: &self.folder.path,
            server: self.server.address,
            cores,
        };
        if scenario.what == What::Idle {
            return self.idle(scenario, &surroundings);
        }
        let start = |one: &Contestant| one.start(scenario, &surroundings);
        let started: Vec<Result<Started, String>> = self
            .contestants
            .iter()
            .map(|one| start(one).map_err(|error| format!("{error:#}")))
            .collect();
        let mut results: Vec<Rounds> = started
            .iter()
            .map(|one| one.as_ref().map(|_| Vec::new()).map_err(String::clone))
            .collect();
        for round in 0..self.options.rounds {
            let count = self.contestants.len();
            for index in (0..count).map(|offset| (round + offset) % count) {
                let (Ok(contestant), Ok(measures)) = (&started[index], &mut results[index]) else {
                    continue;
                };
                match self.measure(scenario, contestant, load_cores) {
                    Ok(measure) => {
                        self.tell(scenario, round, index, &measure);
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

    fn tell(&self, scenario: &Scenario, round: usize, index: usize, measure: &Measure) {
        eprintln!(
            "{} round {} of {}: {} {:.1} us, {:.0} queries/s, p50 {:.0} us, p99 {:.0} us",
            scenario.name,
            round + 1,
            self.options.rounds,
            self.contestants[index].name,
            measure.cpu_micros,
            measure.rate,
            measure.p50_micros,
            measure.p99_micros
        );
    }

    /// One round of one contestant.
    fn measure(
        &self,
        scenario: &Scenario,
        contestant: &Started,
        cores: &str,
    ) -> anyhow::Result<Measure> {
        let (script, protocol, clients) = scenario.load().context("nothing to do in it")?;
        let load = Load {
            address: contestant.address,
            script,
            protocol,
            clients,
            cores,
            seconds: self.options.seconds,
            folder: &self.folder.path,
        };
        load.run(contestant.running.id())
    }

    /// Memory does not vary between rounds: each contestant is started once, alone.
    fn idle(&self, scenario: &Scenario, surroundings: &Surroundings<'_>) -> Vec<Rounds> {
        let measure = |one: &Contestant| {
            let started = one.start(scenario, surroundings)?;
            let bytes = idle::measure(started.address, started.running.id())?;
            eprintln!("{}: {} {bytes:.0} bytes", scenario.name, one.name);
            Ok(vec![report::bytes(bytes)])
        };
        let of = |one: &Contestant| {
            if !scenario.suits(&one.name) {
                return Err(String::new());
            }
            measure(one).map_err(|error: anyhow::Error| format!("{error:#}"))
        };
        self.contestants.iter().map(of).collect()
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
            if !scenario.suits(&contestant.name) {
                continue;
            }
            let made = match (ours, theirs) {
                (Ok(ours), Ok(theirs)) => Row::all(
                    scenario,
                    &contestant.name,
                    &contestant.program.version,
                    ours,
                    theirs,
                ),
                _ => Vec::new(),
            };
            if made.is_empty() {
                let reason = theirs
                    .as_ref()
                    .err()
                    .map_or("ours did not run", String::as_str);
                missing.push(format!("{} {}: {reason}", scenario.name, contestant.name));
            }
            rows.extend(made);
        }
    }

    fn notes(&self) -> String {
        let old = self.contestants.iter().find(|one| !one.shares_prepared());
        let about_old = old.map_or_else(String::new, |old| {
            format!(
                "- {} {} has no prepared statements in transaction mode (1.21 has): in those rows it runs in\n  \
                 session mode with a connection for each client and rewrites nothing. --pgbouncer EXE takes\n  \
                 another one.\n",
                old.name, old.program.version
            )
        });
        format!("{}{about_old}", report::NOTES)
    }
}
