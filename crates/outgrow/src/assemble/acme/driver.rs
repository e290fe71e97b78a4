//! The task that keeps the certificates: looks at the storage, serves what is there, and orders what
//! is due where this process is the one that does. One attempt at a time.

mod look;
mod show;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outgrow_acme::schedule::{self, Step};
use outgrow_acme::{Answer, Failure, Record};
use outgrow_core::{Random, WallTime};
use outgrow_discover::Surroundings;
use outgrow_edge::Shared;
use outgrow_tls::AlpnChallenges;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::attempt::{Job, blocking};
use super::shelf::{Kept, Shelf};
use super::storage::{Lock, Mark, Storage};
use super::wanted::{self, Wanted};
use super::{Plan, Views};
use crate::assemble::log;

/// How often the storage is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What the task is told.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    pub(super) plan: Arc<Plan>,
    /// Grows with each plan.
    pub(super) version: u64,
    pub(super) may_order: bool,
}

/// What an attempt came to.
enum Done {
    /// A certificate, or none.
    Ordered(Result<(), Failure>),
    /// What the authority says about the renewal.
    Asked(Result<Option<Window>, Failure>),
}

/// A window for the renewal, why, and when to ask again.
type Window = (((u64, u64), Option<String>), u64);

/// An attempt under way.
struct Attempt {
    id: String,
    task: JoinHandle<Done>,
    is_order: bool,
}

/// The task.
pub(super) struct Driver {
    orders: watch::Receiver<Orders>,
    current: Orders,
    shared: Arc<Shared>,
    challenges: Arc<AlpnChallenges>,
    views: Views,
    surroundings: Surroundings,
    random: Random,
    shelf: Shelf,
    records: BTreeMap<String, Record>,
    /// Of which plan the shelf was published.
    served: u64,
    answers: Vec<Answer>,
    marks: [Option<Mark>; 2],
    lock: Option<Lock>,
    attempt: Option<Attempt>,
    /// What is wrong with the storage, as it was last said.
    storage_problem: Option<String>,
    storage_hold: u64,
}

impl Driver {
    pub(super) fn new(
        orders: watch::Receiver<Orders>,
        shared: Arc<Shared>,
        challenges: Arc<AlpnChallenges>,
        views: Views,
        surroundings: Surroundings,
    ) -> Self {
        Self {
            orders,
            current: Orders::default(),
            shared,
            challenges,
            views,
            surroundings,
            random: Random::from_system(),
            shelf: Shelf::default(),
            records: BTreeMap::new(),
            served: 0,
            answers: Vec::new(),
            marks: [None; 2],
            lock: None,
            attempt: None,
            storage_problem: None,
            storage_hold: 0,
        }
    }

    /// Runs until nobody tells it anything any more.
    pub(super) async fn run(mut self) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                changed = self.orders.changed() => if changed.is_err() {
                    self.give_up().await;
                    return;
                },
                done = ended(&mut self.attempt) => self.take(done).await,
            }
            self.turn().await;
        }
    }

    async fn turn(&mut self) {
        let orders = self.orders.borrow_and_update().clone();
        let is_new = orders.version != self.current.version;
        self.current = orders;
        if is_new {
            self.marks = [None; 2];
        }
        let is_wanted = |attempt: &Attempt| {
            let wanted = self.current.plan.wanted.iter();
            self.current.may_order && wanted.clone().any(|one| one.id == attempt.id)
        };
        if !self.attempt.as_ref().is_none_or(is_wanted) {
            self.give_up().await;
        }
        let Some(storage) = self.current.plan.storage.clone() else {
            self.lock = None;
            self.show(0);
            return;
        };
        self.look(&storage).await;
        self.take_lock(&storage).await;
        let now = WallTime::now().seconds();
        if is_new {
            self.look_at_failures(now).await;
        }
        if self.lock.is_some() && self.attempt.is_none() && now >= self.storage_hold {
            self.begin(&storage, now).await;
        }
        self.show(now);
    }

    /// Begins what is due, the certificate that is missing or ends first before others.
    async fn begin(&mut self, storage: &Storage, now: u64) {
        let plan = Arc::clone(&self.current.plan);
        let Some(acme) = plan.acme.clone() else {
            return;
        };
        let mut due: Vec<(u64, Step, &Wanted)> = Vec::new();
        for wanted in &plan.wanted {
            let life = self.shelf.kept.get(&wanted.id).and_then(Kept::life);
            let record = self.record_of(wanted, &acme.settings);
            let step = schedule::step(&record, life, true, now, wanted.chance());
            if !matches!(step, Step::Wait(_)) {
                due.push((life.map_or(0, |life| life.until), step, wanted));
            }
        }
        due.sort_by_key(|(until, step, _)| (*step == Step::AskRenewal, *until));
        let Some((_, step, wanted)) = due.first() else {
            return;
        };
        let mut record = self.record_of(wanted, &acme.settings);
        let kept = self.shelf.kept.get(&wanted.id);
        let job = Job {
            acme,
            storage: storage.clone(),
            wanted: (*wanted).clone(),
            record: Record::default(),
            replaces: kept.and_then(|kept| kept.identity.clone()),
            surroundings: self.surroundings,
        };
        if *step == Step::AskRenewal {
            self.ask(job, record);
            return;
        }
        schedule::begin(&mut record, now);
        if self.put(&wanted.id, record.clone()).await {
            log::info(&format!(
                "acme: a certificate for {} is ordered ({})",
                wanted.names.join(", "),
                wanted.challenge
            ));
            let job = Job { record, ..job };
            self.attempt = Some(Attempt {
                id: wanted.id.clone(),
                task: tokio::spawn(async move { Done::Ordered(job.run().await) }),
                is_order: true,
            });
        }
    }

    fn ask(&mut self, job: Job, record: Record) {
        let id = job.wanted.id.clone();
        // What was told is of the certificate that was there then.
        self.records.insert(id.clone(), record);
        let task = tokio::spawn(async move {
            let Some(identity) = job.replaces.clone() else {
                return Done::Asked(Ok(None));
            };
            let asked = async { job.open().await?.renewal(&identity).await };
            Done::Asked(asked.await)
        });
        self.attempt = Some(Attempt {
            id,
            task,
            is_order: false,
        });
    }

    /// What is known of a certificate; of another one of the same name, nothing.
    fn record_of(
        &self,
        wanted: &Wanted,
        settings: &outgrow_acme::settings::AcmeSettings,
    ) -> Record {
        let record = self.records.get(&wanted.id).cloned().unwrap_or_default();
        let authority = wanted::account(settings);
        if record.wanted == wanted.fingerprint && record.authority == authority {
            return record;
        }
        Record {
            wanted: wanted.fingerprint.clone(),
            authority,
            all_failures: record.all_failures,
            succeeded: record.succeeded,
            ..Record::default()
        }
    }

    /// An attempt has ended.
    async fn take(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        let (plan, now) = (Arc::clone(&self.current.plan), WallTime::now().seconds());
        let (Some(storage), Some(acme)) = (&plan.storage, &plan.acme) else {
            return;
        };
        let Some(wanted) = plan.wanted.iter().find(|one| one.id == attempt.id) else {
            return;
        };
        // The attempt has written more of it down.
        self.marks = [None; 2];
        self.look(storage).await;
        let mut record = self.record_of(wanted, &acme.settings);
        match done {
            Ok(Done::Ordered(Ok(()))) => {
                schedule::succeed(&mut record, now);
                log::info(&format!(
                    "acme: {} has a certificate",
                    wanted.names.join(", ")
                ));
            }
            Ok(Done::Ordered(Err(failure))) => self.fail(wanted, &mut record, &failure, now),
            Ok(Done::Asked(asked)) => self.take_window(wanted, &mut record, asked, now),
            Err(error) => {
                let failure = Failure::own(format!("the attempt broke off: {error}"));
                self.fail(wanted, &mut record, &failure, now);
            }
        }
        self.put(&wanted.id, record).await;
    }

    fn fail(&mut self, wanted: &Wanted, record: &mut Record, failure: &Failure, now: u64) {
        schedule::fail(record, failure, now, &mut self.random);
        let again = record.hold.map_or(0, |hold| hold.saturating_sub(now));
        log::warn(&format!(
            "acme: no certificate for {} ({} in a row; again in {}): {failure}",
            wanted.names.join(", "),
            record.failures,
            super::view::time(again),
        ));
    }

    fn take_window(
        &mut self,
        wanted: &Wanted,
        record: &mut Record,
        asked: Result<Option<Window>, Failure>,
        now: u64,
    ) {
        let Some(name) = self.shelf.kept.get(&wanted.id).map(Kept::name) else {
            return;
        };
        match asked {
            Ok(Some((told, again))) => {
                schedule::take_window(record, &name, told, again, now, &mut self.random);
            }
            // Two thirds of its life it is then.
            Ok(None) | Err(_) => schedule::no_window(record, &name, now),
        }
    }

    /// Writes down what is known; whether that could be done.
    async fn put(&mut self, id: &str, record: Record) -> bool {
        let Some(storage) = self.current.plan.storage.clone() else {
            return false;
        };
        let (name, written) = (id.to_owned(), record.clone());
        let put = blocking(move || storage.put_record(&name, &written)).await;
        self.records.insert(id.to_owned(), record);
        self.tell_storage(put.as_ref().err());
        put.is_ok()
    }

    /// Somebody has read the configuration again: what failed for long enough is tried at once.
    async fn look_at_failures(&mut self, now: u64) {
        self.storage_hold = 0;
        if self.lock.is_none() {
            return;
        }
        for (id, record) in self.records.clone() {
            let mut nudged = record.clone();
            schedule::nudge(&mut nudged, now);
            if nudged != record {
                self.put(&id, nudged).await;
            }
        }
    }

    /// Ends the attempt that is under way; the next one that may order goes on with it.
    async fn give_up(&mut self) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        attempt.task.abort();
        // Whatever it was about to write is written before the lock is free.
        let _ = attempt.task.await;
        let Some(storage) = self
            .current
            .plan
            .storage
            .clone()
            .filter(|_| attempt.is_order)
        else {
            return;
        };
        let left = blocking(move || {
            let mut record = storage.record(&attempt.id)?;
            schedule::leave(&mut record);
            storage.put_record(&attempt.id, &record)
        });
        // The next one counts it as cut off then.
        let _ = left.await;
        self.marks = [None; 2];
    }
}

/// Waits for the end of the attempt that is under way; for ever while there is none.
async fn ended(attempt: &mut Option<Attempt>) -> Result<Done, tokio::task::JoinError> {
    match attempt {
        Some(attempt) => (&mut attempt.task).await,
        None => std::future::pending().await,
    }
}
