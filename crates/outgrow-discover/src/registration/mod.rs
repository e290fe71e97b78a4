//! Registration: tells a registry where this box serves a service, so that others discover it.
//!
//! [`Registration`] is one driver under way. What is wanted is passed in
//! ([`Registration::want`]) and the driver reconciles; what it has to do for that is worked out by
//! [`plan`], which is pure. What is put vanishes by itself when it is not renewed for a `ttl`:
//! dropping a registration takes nothing away at once, which is what a data process does whose
//! successor puts the same names; wanting nothing withdraws.
//!
//! Not here: which endpoints are usable, and when a process drains (the binary's `assemble`).

mod consul;
mod driver;
mod etcd;
#[cfg(test)]
mod live;
pub mod plan;
pub mod settings;

use std::time::Duration;

use outgrow_core::{Clock, Ticks};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::plan::{Entries, Entry};
pub use self::settings::{RegisterAddress, RegisterSettings};
use crate::discovery::{PROBLEM_CHARACTERS, Surroundings};

/// What is to be registered, with a number that grows with every change.
#[derive(Clone, Debug, Default)]
struct Wanted {
    number: u64,
    entries: Entries,
}

/// What a driver tells.
#[derive(Clone, Debug, Default)]
struct Report {
    /// The number of what was wanted when all of it was done.
    done: u64,
    /// How many entries there are by what the registry said.
    entries: usize,
    /// When the registry last confirmed all of it.
    confirmed: Option<Ticks>,
    failures: u64,
    /// What is wrong, unless it was confirmed since.
    problem: Option<String>,
}

/// Where a driver tells it.
struct Reporter {
    sender: watch::Sender<Report>,
    clock: Clock,
}

impl Reporter {
    /// All that was wanted under this number is as it should be.
    fn confirmed(&self, number: u64, entries: usize) {
        let now = self.clock.now();
        self.sender.send_modify(|report| {
            report.done = number;
            report.entries = entries;
            report.confirmed = Some(now);
            report.problem = None;
        });
    }

    fn failed(&self, problem: &str, entries: usize) {
        let problem: String = problem.chars().take(PROBLEM_CHARACTERS).collect();
        self.sender.send_modify(|report| {
            report.failures += 1;
            report.entries = entries;
            report.problem = Some(problem);
        });
    }
}

/// One registration under way; dropping it ends it and leaves what is registered to its `ttl`.
#[derive(Debug)]
pub struct Registration {
    settings: RegisterSettings,
    wanted: watch::Sender<Wanted>,
    reports: watch::Receiver<Report>,
    driver: JoinHandle<()>,
    was_failing: bool,
}

/// What can be told of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Where.
    pub registry: String,
    /// How many entries there are to be.
    pub wanted: usize,
    /// How many there are.
    pub entries: usize,
    /// How long ago the registry last confirmed them; `None`: never in this process.
    pub age: Option<Duration>,
    /// What is wrong.
    pub problem: Option<String>,
    /// How often something was.
    pub failures: u64,
}

/// Something to tell people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The registry fails.
    Fails(String),
    /// It answers again.
    Answers,
}

impl Registration {
    /// Starts the driver on the runtime of the caller, which must be the control runtime. `owner`
    /// names this box and this run of it: nobody else has the same. `None` when no registry is
    /// written.
    pub fn start(
        settings: &RegisterSettings,
        owner: &str,
        surroundings: Surroundings,
    ) -> Option<Self> {
        let registry = driver::Registry::new(settings, owner, surroundings)?;
        let clock = surroundings.clock;
        let (wanted, wants) = watch::channel(Wanted::default());
        let (sender, reports) = watch::channel(Report::default());
        let reporter = Reporter { sender, clock };
        let driver = tokio::spawn(driver::run(registry, wants, reporter, settings.ttl));
        Some(Self {
            settings: settings.clone(),
            wanted,
            reports,
            driver,
            was_failing: false,
        })
    }

    /// Its settings.
    pub fn settings(&self) -> &RegisterSettings {
        &self.settings
    }

    /// Has exactly these entries registered; none withdraws what is there. Whether that is
    /// anything else than before.
    pub fn want(&self, mut entries: Entries) -> bool {
        while entries.len() > plan::LIMIT {
            entries.pop_last();
        }
        self.wanted.send_if_modified(|wanted| {
            let is_new = wanted.entries != entries;
            if is_new {
                wanted.number += 1;
                wanted.entries = entries;
            }
            is_new
        })
    }

    /// Whether the registry has exactly what is wanted, by what it said last.
    pub fn is_done(&self) -> bool {
        self.reports.borrow().done == self.wanted.borrow().number
    }

    /// What people should be told since the last time.
    pub fn news(&mut self) -> Option<News> {
        let problem = self.reports.borrow().problem.clone();
        let fails = problem.is_some();
        if std::mem::replace(&mut self.was_failing, fails) == fails {
            return None;
        }
        Some(problem.map_or(News::Answers, News::Fails))
    }

    /// What can be told of it.
    pub fn state(&self, now: Ticks) -> State {
        let report = self.reports.borrow();
        State {
            registry: self.settings.registry(),
            wanted: self.wanted.borrow().entries.len(),
            entries: report.entries,
            age: report.confirmed.map(|at| now.since(at)),
            problem: report.problem.clone(),
            failures: report.failures,
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
