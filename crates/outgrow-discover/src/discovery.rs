//! A source under way: its driver, the last report of it, and what is believed of that.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::{Clock, Ticks};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::belief::Belief;
use crate::found::{Discovered, Found};
use crate::settings::{DiscoverSettings, Source};
use crate::{consul, dns, etcd, file, kubernetes};

/// Longest text of a problem, in characters: sources may say anything.
pub(crate) const PROBLEM_CHARACTERS: usize = 400;

/// Reads a file of at most so many bytes; called where it may block.
pub type ReadFile = fn(&Path, usize) -> io::Result<Vec<u8>>;

/// The value of a variable of the environment, when it is set.
pub type Variable = fn(&str) -> Option<String>;

/// The ways to the outside that are not a source's own.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings {
    /// The clock of the process.
    pub clock: Clock,
    /// How files are read.
    pub read_file: ReadFile,
    /// How the environment is read.
    pub variable: Variable,
}

impl Surroundings {
    /// For tests: no file can be read, and no variable is set.
    #[cfg(test)]
    pub(crate) fn without_files(clock: Clock) -> Self {
        Self {
            clock,
            read_file: |_, _| Err(io::ErrorKind::NotFound.into()),
            variable: |_| None,
        }
    }

    /// For tests: files are read.
    #[cfg(test)]
    pub(crate) fn with_files(clock: Clock) -> Self {
        Self {
            read_file: |path, _| std::fs::read(path),
            ..Self::without_files(clock)
        }
    }

    /// Reads a file without keeping anybody else waiting.
    pub(crate) async fn read(&self, path: PathBuf, limit: usize) -> io::Result<Vec<u8>> {
        let read_file = self.read_file;
        tokio::task::spawn_blocking(move || read_file(&path, limit))
            .await
            .map_err(io::Error::other)?
    }
}

/// What a driver tells.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The last answer.
    pub answer: Option<Arc<Discovered>>,
    /// When the source last said anything, be it the same again.
    pub answered: Option<Ticks>,
    /// How often it did not.
    pub failures: u64,
    /// Why it did not, unless it has answered since.
    pub problem: Option<String>,
}

/// Where a driver tells it.
pub(crate) struct Reporter {
    sender: watch::Sender<Report>,
    clock: Clock,
}

impl Reporter {
    /// The source answered. False when nothing in the answer can be used: that is a failure.
    pub(crate) fn answered(&self, discovered: Discovered) -> bool {
        let left_out = discovered.left_out();
        if discovered.is_empty() && left_out > 0 {
            self.failed(&format!(
                "none of the {left_out} endpoints that it told can be used"
            ));
            return false;
        }
        let now = self.clock.now();
        self.sender.send_modify(|report| {
            let is_same = |old: &Arc<Discovered>| **old == discovered;
            if !report.answer.as_ref().is_some_and(is_same) {
                report.answer = Some(Arc::new(discovered));
            }
            report.answered = Some(now);
            report.problem = None;
        });
        true
    }

    /// The source says the same as before.
    pub(crate) fn confirmed(&self) {
        let now = self.clock.now();
        self.sender.send_modify(|report| {
            report.answered = Some(now);
            report.problem = None;
        });
    }

    /// It did not.
    pub(crate) fn failed(&self, problem: &str) {
        let problem: String = problem.chars().take(PROBLEM_CHARACTERS).collect();
        self.sender.send_modify(|report| {
            report.failures += 1;
            report.problem = Some(problem);
        });
    }
}

/// A source under way; dropping it ends it.
#[derive(Debug)]
pub struct Discovery {
    settings: DiscoverSettings,
    reports: watch::Receiver<Report>,
    driver: JoinHandle<()>,
    belief: Belief,
    was_failing: bool,
}

/// What can be told of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Which one it is.
    pub source: String,
    /// How many endpoints are believed in.
    pub endpoints: usize,
    /// How many were told and are left out.
    pub left_out: usize,
    /// How long ago the source last answered; `None`: never in this process.
    pub age: Option<Duration>,
    /// Whether it failed since.
    pub problem: Option<String>,
    /// How often it failed.
    pub failures: u64,
    /// How often the endpoints became others.
    pub changes: u64,
    /// For how long it has said that there are none, which is not believed yet.
    pub doubted_for: Option<Duration>,
}

/// Something to tell people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The source fails; what is known stays.
    Fails(String),
    /// It answers again.
    Answers,
}

impl Discovery {
    /// Starts the driver on the runtime of the caller, which must be the control runtime.
    /// `None` when no source is written.
    pub fn start(settings: &DiscoverSettings, surroundings: Surroundings) -> Option<Self> {
        let source = settings.source()?;
        let (sender, reports) = watch::channel(Report::default());
        let reporter = Reporter {
            sender,
            clock: surroundings.clock,
        };
        let own = settings.clone();
        let driver = match source {
            Source::Dns(target) => {
                tokio::spawn(async move { dns::run(target, &own, surroundings, reporter).await })
            }
            Source::Consul(settings) => tokio::spawn(consul::run(settings, surroundings, reporter)),
            Source::Etcd(settings) => tokio::spawn(etcd::run(settings, surroundings, reporter)),
            Source::Kubernetes(settings) => {
                tokio::spawn(kubernetes::run(settings, surroundings, reporter))
            }
            Source::File(path) => tokio::spawn(file::run(path, surroundings, reporter)),
        };
        Some(Self {
            settings: settings.clone(),
            reports,
            driver,
            belief: Belief::default(),
            was_failing: false,
        })
    }

    /// Its settings.
    pub fn settings(&self) -> &DiscoverSettings {
        &self.settings
    }

    /// Starts with what an earlier process knew of the same source.
    pub fn recall(&mut self, endpoints: Vec<Found>) {
        self.belief.recall(endpoints);
    }

    /// The endpoints, when they are others than before. To be asked a few times a second.
    pub fn step(&mut self, now: Ticks) -> Option<Arc<Discovered>> {
        let report = self.reports.borrow();
        self.belief
            .step(report.answer.as_ref(), self.settings.empty_after, now)
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

    /// The endpoints that are believed in.
    pub fn endpoints(&self) -> &[Found] {
        self.belief.endpoints()
    }

    /// Whether nothing is known yet: neither told by the source nor recalled.
    pub fn is_awaited(&self) -> bool {
        !self.belief.is_known()
    }

    /// What can be told of it.
    pub fn state(&self, now: Ticks) -> State {
        let report = self.reports.borrow();
        let source = self.settings.source();
        State {
            source: source.map(|source| source.to_string()).unwrap_or_default(),
            endpoints: self.endpoints().len(),
            left_out: report.answer.as_ref().map_or(0, |one| one.left_out()),
            age: report.answered.map(|at| now.since(at)),
            problem: report.problem.clone(),
            failures: report.failures,
            changes: self.belief.changes(),
            doubted_for: self.belief.doubted_since().map(|since| now.since(since)),
        }
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
