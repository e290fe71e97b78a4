//! What all workers of the tier share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use outgrow_balance::hash::hash;
use outgrow_core::serving::Servings;
use outgrow_core::{Clock, Snapshot, Ticks};
use outgrow_message::Ledger;
use outgrow_upstream::{EndpointId, Service};
use tokio::task::AbortHandle;

use crate::budget::Budgets;
use crate::cancel::Cancels;
use crate::console::Console;
use crate::diagnosis::{Finding, Findings, Noted, Severity};
use crate::events::{Level, Outlet, Topic};
use crate::handover::Handover;
use crate::inspect::Inspections;
use crate::lanes::{Balancing, Registry};
use crate::login::Credential;
use crate::login::auth_query::{Answer, Cache, CacheSettings};
use crate::login::throttle::{Throttle, ThrottleSettings};
use crate::newcomers::Newcomers;
use crate::numbers::LoginNumbers;
use crate::origin::{Instances, Origin, Sources};
use crate::plan::{Plan, PoolPlan};
use crate::result_cache::ResultCache;
use crate::seats::Seats;
use crate::seen::Seen;
use crate::standing::Standings;
use crate::worker::{Worker, credential};

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// The process's clock.
    pub clock: Clock,
    /// What is configured.
    pub plan: Snapshot<Plan>,
    /// The bound on buffered bytes.
    pub ledger: Arc<Ledger>,
    /// Clients of each worker.
    pub(crate) loads: Box<[AtomicUsize]>,
    pub(crate) cancels: Arc<Cancels>,
    /// Clients that come from other processes and go to them.
    pub(crate) handover: Handover,
    pub(crate) budgets: Budgets,
    pub(crate) seats: Seats,
    /// The lanes of all pools.
    pub(crate) lanes: Registry,
    /// Which of them are hot.
    pub(crate) balancing: Mutex<Balancing>,
    /// Clients that have not logged in yet.
    pub(crate) newcomers: Arc<Newcomers>,
    /// Who has failed to log in.
    pub(crate) throttle: Mutex<Throttle>,
    pub(crate) login_numbers: LoginNumbers,
    pub(crate) standings: Standings,
    /// Answers that are kept.
    pub results: ResultCache,
    /// What servers said of users.
    pub(crate) answers: Mutex<Cache>,
    /// Databases that are asked about for the diagnosis.
    pub(crate) inspections: Inspections,
    /// Servers that are asked.
    pub(crate) monitored: Mutex<HashMap<EndpointId, AbortHandle>>,
    pub(crate) workers: OnceLock<Vec<Arc<Worker>>>,
    pub(crate) drain: AtomicU8,
    pub(crate) numbers: AtomicU64,
    pub(crate) seen: Seen,
    pub(crate) outlet: OnceLock<Arc<dyn Outlet>>,
    pub(crate) console: OnceLock<Arc<dyn Console>>,
    /// Databases that are paused.
    pub(crate) paused_databases: Mutex<BTreeSet<String>>,
    /// Databases that were made of [`Plan::any`], with the time of their last use.
    pub(crate) made: Mutex<BTreeMap<String, Ticks>>,
    pub(crate) refuses_logins: AtomicBool,
    /// Users whom a server knew.
    pub(crate) asked: Mutex<BTreeSet<String>>,
    /// Whether everything is paused.
    pub(crate) paused: AtomicBool,
    /// The instances that clients may be.
    pub(crate) instances: Instances,
    /// What is wrong with how the database is used.
    pub(crate) findings: Mutex<Findings>,
    /// Services to whose servers nothing is lent while the primary changes.
    pub(crate) held: Mutex<BTreeSet<String>>,
}

/// What becomes of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Nothing: business as usual.
    No,
    /// Each client leaves as soon as it is in no transaction.
    Gently,
    /// Each client leaves as soon as it wants a connection.
    NoMore,
}

impl Shared {
    /// For so many workers.
    pub fn new(clock: Clock, ledger: Arc<Ledger>, workers: usize) -> Arc<Self> {
        Arc::new(Self {
            clock,
            plan: Snapshot::new(Plan::default()),
            ledger,
            loads: (0..workers.max(1)).map(|_| AtomicUsize::new(0)).collect(),
            cancels: Arc::default(),
            handover: Handover::default(),
            budgets: Budgets::default(),
            seats: Seats::default(),
            lanes: Registry::default(),
            balancing: Mutex::default(),
            newcomers: Arc::default(),
            throttle: Mutex::new(Throttle::new(ThrottleSettings::default())),
            login_numbers: LoginNumbers::default(),
            standings: Standings::default(),
            results: ResultCache::default(),
            answers: Mutex::new(Cache::new(CacheSettings::default())),
            inspections: Inspections::default(),
            monitored: Mutex::default(),
            workers: OnceLock::new(),
            drain: AtomicU8::new(0),
            numbers: AtomicU64::new(0),
            seen: Seen::default(),
            outlet: OnceLock::new(),
            console: OnceLock::new(),
            paused_databases: Mutex::default(),
            made: Mutex::default(),
            refuses_logins: AtomicBool::new(false),
            asked: Mutex::default(),
            paused: AtomicBool::new(false),
            instances: Instances::default(),
            findings: Mutex::default(),
            held: Mutex::default(),
        })
    }

    /// Says where lines for the log go; the first one counts.
    pub fn set_outlet(&self, outlet: Arc<dyn Outlet>) {
        let _ = self.outlet.set(outlet);
    }

    /// Writes a line for the log, if such lines are wanted.
    #[inline]
    pub fn say(
        &self,
        level: Level,
        topic: Topic,
        about: &dyn std::fmt::Display,
        text: impl FnOnce() -> String,
    ) {
        if let Some(outlet) = self.outlet.get()
            && outlet.wants(level, topic)
        {
            outlet.put(level, about, &text());
        }
    }

    /// Takes note of what is wrong; a new one is worth a line in the log.
    pub fn find(&self, finding: Finding) {
        let (kind, severity) = (finding.kind, finding.severity);
        let first = finding.evidence.first().cloned().unwrap_or_default();
        let database = Arc::clone(&finding.database);
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = findings.note(finding, self.clock.now());
        drop(findings);
        if is_new && severity > Severity::Notice {
            self.say(Level::Warning, Topic::Other, &database, || {
                format!("diagnosis: {}: {first}", kind.as_str())
            });
        }
    }

    /// What was found and is not forgotten, what matters most first.
    pub fn findings(&self) -> Vec<Noted> {
        let findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        findings.all(self.clock.now())
    }

    /// Says what is known of instances, and who says which of them a client is; the first one
    /// counts.
    pub fn set_instances(&self, servings: Arc<Servings>, sources: Arc<dyn Sources>) {
        self.instances.set(servings, sources);
    }

    /// Clients of which nobody knows which instance they are, with the reason, at most so many.
    /// Where reads follow no requests it is no matter.
    pub fn unplaced(&self, most: usize) -> Vec<(Arc<Origin>, &'static str)> {
        let plan = self.plan.load();
        let reads = plan.house.reads.as_ref();
        match reads.is_some_and(|reads| reads.follows_requests) {
            true => self.instances.nowhere(most),
            false => Vec::new(),
        }
    }

    /// Says who answers clients of the console; the first one counts.
    pub fn set_console(&self, console: Arc<dyn Console>) {
        let _ = self.console.set(console);
    }

    /// Who answers clients of the console.
    pub(crate) fn console(&self) -> Option<&Arc<dyn Console>> {
        self.console.get()
    }

    /// Whether clients that come are sent away, those of the console excepted.
    pub fn refuse_logins(&self, refuse: bool) {
        self.refuses_logins.store(refuse, Ordering::Release);
    }

    pub(crate) fn refuses_logins(&self) -> bool {
        self.refuses_logins.load(Ordering::Acquire)
    }

    /// Clients that are connected, of all workers.
    pub fn clients(&self) -> usize {
        let loads = self.loads.iter();
        loads.map(|load| load.load(Ordering::Relaxed)).sum()
    }

    /// Changes what becomes of clients.
    pub fn set_drain(&self, drain: Drain) {
        self.drain.store(drain as u8, Ordering::Release);
    }

    /// What becomes of clients.
    #[inline]
    pub fn drain(&self) -> Drain {
        match self.drain.load(Ordering::Acquire) {
            0 => Drain::No,
            1 => Drain::Gently,
            _ => Drain::NoMore,
        }
    }

    /// How some pool logs in to the servers of a service.
    pub(crate) fn any_login(&self, service: &Arc<Service>) -> Option<(Arc<PoolPlan>, Credential)> {
        self.pools().into_iter().find_map(|pool| {
            let plan = pool.plan();
            if !Arc::ptr_eq(&plan.database.service, service) {
                return None;
            }
            let credential = credential(&plan, &pool);
            Some((plan, credential))
        })
    }

    /// What a server said of a user some moments ago.
    pub(crate) fn remembered(&self, database: &str, user: &str) -> Option<Answer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(database, user, self.clock.now())
    }

    /// Remembers what a server said of a user.
    pub(crate) fn remember(&self, database: &str, user: &str, answer: &Answer) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.put(database, user, answer, self.clock.now());
        drop(answers);
        if let Answer::User(_) = answer {
            self.note_asked(user);
        }
    }

    /// Forgets what was said of a user.
    pub(crate) fn forget(&self, database: &str, user: &str) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.forget(database, user);
    }

    /// A number for a client or server that no other one has.
    pub(crate) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The worker that owns the pool of a database and user: the first lane of it.
    pub(crate) fn owner(&self, database: &str, user: &str) -> usize {
        let mixed = hash(database.as_bytes()) ^ hash(user.as_bytes()).rotate_left(1);
        (mixed % self.loads.len() as u64) as usize
    }
}
