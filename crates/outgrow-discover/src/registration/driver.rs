//! Brings a registry to what is wanted, again and again, and keeps it alive there.

use std::time::Duration;

use outgrow_core::Random;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::plan::{Entries, Entry, Step, steps};
use super::settings::RegisterSettings;
use super::{Reporter, Wanted, consul, etcd};
use crate::backoff::Backoff;
use crate::discovery::Surroundings;
use crate::http::Problem;

/// The longest pause after a failure: a registry that comes back should know soon.
const LONGEST: Duration = Duration::from_secs(5);
/// The shortest pause after one, also when something else is wanted meanwhile.
const SHORTEST: Duration = Duration::from_millis(100);

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The registry does not know (any more) what was put: all must be put again.
    Forgotten,
    /// It did not answer, or refused.
    Problem(String),
}

impl Failure {
    pub(super) fn at(server: &str, problem: &Problem) -> Self {
        Self::Problem(format!("{server}: {problem}"))
    }
}

/// Where it is registered.
pub(super) enum Registry {
    Etcd(etcd::Writer),
    Consul(consul::Writer),
}

impl Registry {
    pub(super) fn new(
        settings: &RegisterSettings,
        owner: &str,
        surroundings: Surroundings,
    ) -> Option<Self> {
        if let Some(own) = &settings.etcd {
            let writer = etcd::Writer::new(own, owner, settings.ttl, surroundings);
            return Some(Self::Etcd(writer));
        }
        let own = settings.consul.as_ref()?;
        Some(Self::Consul(consul::Writer::new(
            own,
            owner,
            settings.ttl,
            surroundings,
        )))
    }

    async fn put(&mut self, name: &str, entry: &Entry) -> Result<(), Failure> {
        match self {
            Self::Etcd(writer) => writer.put(name, entry).await,
            Self::Consul(writer) => writer.put(name, entry).await,
        }
    }

    async fn delete(&mut self, name: &str) -> Result<(), Failure> {
        match self {
            Self::Etcd(writer) => writer.delete(name).await,
            Self::Consul(writer) => writer.delete(name).await,
        }
    }

    /// Makes the time of all entries begin anew.
    async fn keep(&mut self, known: &Entries) -> Result<(), Failure> {
        match self {
            Self::Etcd(writer) => writer.keep(known).await,
            Self::Consul(writer) => writer.keep(known).await,
        }
    }

    /// Takes all entries away.
    async fn withdraw(&mut self, known: &Entries) -> Result<(), Failure> {
        match self {
            Self::Etcd(writer) => writer.withdraw().await,
            Self::Consul(writer) => {
                for name in known.keys() {
                    writer.delete(name).await?;
                }
                Ok(())
            }
        }
    }

    /// Starts from nothing.
    fn forget(&mut self) {
        match self {
            Self::Etcd(writer) => writer.forget(),
            Self::Consul(_) => {}
        }
    }
}

/// Reconciles until nobody wants anything of it any more.
pub(super) async fn run(
    registry: Registry,
    mut wants: watch::Receiver<Wanted>,
    reporter: Reporter,
    ttl: Duration,
) {
    let mut random = Random::from_system();
    let mut backoff = Backoff::default();
    let mut driver = Driver {
        registry,
        known: Entries::new(),
        every: ttl / 3,
        keep_at: Instant::now(),
        forgotten_in_a_row: 0,
    };
    loop {
        let wanted = wants.borrow_and_update().clone();
        let pause = match driver.reconcile(&wanted.entries).await {
            Ok(()) => {
                backoff.succeeded();
                reporter.confirmed(wanted.number, driver.known.len());
                driver.keep_at.saturating_duration_since(Instant::now())
            }
            Err(problem) => {
                reporter.failed(&problem, driver.known.len());
                sleep(SHORTEST).await;
                backoff.failed(&mut random).min(LONGEST)
            }
        };
        tokio::select! {
            changed = wants.changed() => if changed.is_err() { return },
            () = sleep(pause) => {}
        }
    }
}

struct Driver {
    registry: Registry,
    /// What the registry has, by what it said.
    known: Entries,
    every: Duration,
    /// When the entries' time is to begin anew.
    keep_at: Instant,
    forgotten_in_a_row: u32,
}

impl Driver {
    async fn reconcile(&mut self, wanted: &Entries) -> Result<(), String> {
        loop {
            match self.attempt(wanted).await {
                Ok(()) => {
                    self.forgotten_in_a_row = 0;
                    return Ok(());
                }
                // At once, and with a pause when that does not help.
                Err(Failure::Forgotten) => {
                    self.known.clear();
                    self.registry.forget();
                    self.forgotten_in_a_row += 1;
                    if self.forgotten_in_a_row > 1 {
                        return Err("the registry forgets what is registered".to_owned());
                    }
                }
                Err(Failure::Problem(problem)) => return Err(problem),
            }
        }
    }

    async fn attempt(&mut self, wanted: &Entries) -> Result<(), Failure> {
        if wanted.is_empty() {
            self.registry.withdraw(&self.known).await?;
            self.known.clear();
            self.keep_at = Instant::now() + self.every;
            return Ok(());
        }
        // First: what is put under something that is gone would be put twice.
        if Instant::now() >= self.keep_at && !self.known.is_empty() {
            let began = Instant::now();
            self.registry.keep(&self.known).await?;
            self.keep_at = began + self.every;
        }
        if self.known.is_empty() {
            self.keep_at = Instant::now() + self.every;
        }
        for step in steps(&self.known, wanted) {
            match step {
                Step::Put(name, entry) => {
                    // Without an answer it may be there: then it is put again, or taken away.
                    let doubtful = Entry {
                        weight: 0,
                        ..entry.clone()
                    };
                    self.known.insert(name.clone(), doubtful);
                    self.registry.put(&name, &entry).await?;
                    self.known.insert(name, entry);
                }
                Step::Delete(name) => {
                    self.registry.delete(&name).await?;
                    self.known.remove(&name);
                }
            }
        }
        Ok(())
    }
}
