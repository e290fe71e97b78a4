//! Asks servers what only they know, for the diagnosis: on a bounded schedule, on one connection
//! for each database that has clients, outside of its pools.
//!
//! That connection has the login of one of the database's pools. It counts for
//! `max_server_connections` as all connections to the server do, and for no limit of a pool, user
//! or database: when all of a pool's connections are stuck is when it is needed. It is made when
//! there is something to ask first.

mod activity;
mod buffers;
pub(crate) mod connection;
mod explain;
mod indexes;
mod replicas;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_upstream::Endpoint;
use tokio::task::AbortHandle;

use crate::diagnosis::server::buffers::{self as memory, Buffers};
use crate::diagnosis::server::missing::Candidate;
use crate::diagnosis::server::replicas::Limits;
use crate::diagnosis::server::transactions::Deadlocks;
use crate::diagnosis::server::{locks, transactions};
use crate::events::{Level, Topic};
use crate::login::Credential;
use crate::plan::{Hosts, PoolPlan};
use crate::pool::Pool;
use crate::seats::Seat;
use crate::seen::ServerState;
use crate::server::Server;
use crate::standing::Role;
use crate::worker::{Worker, credential};
use connection::{Patience, Unanswered};

/// Most databases that are asked about at a time.
const MOST_DATABASES: usize = 32;
/// How often it is looked whether there is something to ask.
const LOOK: Duration = Duration::from_secs(1);
/// How often a server is asked at most while something seems to be stuck.
const URGENT: Duration = Duration::from_secs(5);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// After a connection that could not be made.
const RETRY: Duration = Duration::from_secs(30);
/// What the connection calls itself.
const APPLICATION: &str = "outgrow diagnosis";

/// What servers are asked for the diagnosis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectPlan {
    /// How often.
    pub interval: Duration,
    /// How often for the plan of a statement; none: never.
    pub explain: Option<Duration>,
    /// From how long a wait for a lock on it is told.
    pub lock_wait: Duration,
    /// From how long on an open transaction is told.
    pub long_transaction: Duration,
    /// How far replicas may be behind before that is told.
    pub lag: Limits,
}

/// The databases that are asked about.
#[derive(Debug, Default)]
pub(crate) struct Inspections(Mutex<HashMap<Arc<str>, AbortHandle>>);

/// Sees to it that every database with clients is asked about.
pub(crate) fn keep(worker: &Arc<Worker>) {
    if worker.shared.plan.load().house.inspect.is_none() {
        return;
    }
    let inspections = &worker.shared.inspections.0;
    let mut running = inspections.lock().unwrap_or_else(PoisonError::into_inner);
    running.retain(|_, task| !task.is_finished());
    for pool in worker.shared.pools() {
        let is_new = !running.contains_key(&pool.database) && running.len() < MOST_DATABASES;
        if is_new && pool.load().clients > 0 {
            let task = Inspection::new(worker, &pool.database).run();
            let task = tokio::spawn(task).abort_handle();
            running.insert(Arc::clone(&pool.database), task);
        }
    }
}

/// What is asked of the servers of one database.
struct Inspection {
    worker: Arc<Worker>,
    database: Arc<str>,
    server: Option<Server>,
    /// When the last attempt to connect failed.
    failed: Option<Ticks>,
    /// When it was asked last, for whatever reason, and when everything was.
    asked: Ticks,
    asked_all: Ticks,
    /// When a plan was asked for last.
    explained: Ticks,
    plans: indexes::Looks,
    deadlocks: Deadlocks,
    replicas: replicas::Looks,
    buffers: Buffers,
    /// Whether it was said that something is hidden.
    told_hidden: bool,
    /// Whether it was said that the server refuses something.
    told_refusal: bool,
}

impl Inspection {
    fn new(worker: &Arc<Worker>, database: &Arc<str>) -> Self {
        let now = worker.now();
        Self {
            worker: Arc::clone(worker),
            database: Arc::clone(database),
            server: None,
            failed: None,
            asked: now,
            asked_all: now,
            explained: now,
            plans: indexes::Looks::new(now),
            deadlocks: Deadlocks::default(),
            replicas: replicas::Looks::default(),
            buffers: Buffers::default(),
            told_hidden: false,
            told_refusal: false,
        }
    }

    /// Asks for as long as the database has clients.
    async fn run(mut self) {
        loop {
            let plan = self.worker.shared.plan.load().house.inspect;
            let Some(plan) = plan else { return };
            tokio::time::sleep(LOOK.min(plan.interval)).await;
            let pools = self.pools();
            if pools.iter().all(|pool| pool.load().clients == 0) {
                return;
            }
            // Pools come first.
            let is_owed =
                |server: &mut Server| server.seat.as_mut().is_some_and(Seat::is_owed_idle);
            if self.server.as_mut().is_some_and(is_owed) {
                self.server = None;
            }
            let now = self.worker.now();
            let is_all = now.since(self.asked_all) >= plan.interval;
            let is_urgent = now.since(self.asked) >= URGENT && self.is_stuck(&pools, plan, now);
            let candidate = self.candidate(plan, now);
            if !is_all && !is_urgent && candidate.is_none() {
                continue;
            }
            let Some(login) = pools.iter().find_map(login) else {
                continue;
            };
            if !self.connected(&login, now).await {
                continue;
            }
            let mut answered = Ok(());
            if is_all || is_urgent {
                self.asked = now;
                answered = self.ask(plan, is_all).await;
            }
            if is_all && answered.is_ok() {
                self.asked_all = now;
                answered = self.ask_replicas(plan, &login, &pools).await;
                if answered.is_ok() {
                    answered = self.ask_buffers(&pools).await;
                }
            }
            if let Some(candidate) = candidate
                && answered.is_ok()
            {
                answered = self.explain(candidate, now).await;
            }
            if answered.is_err() {
                self.server = None;
            }
        }
    }

    /// The statement whose plan is to be looked at, if it is time to; says what earlier looks found.
    fn candidate(&mut self, plan: InspectPlan, now: Ticks) -> Option<Candidate> {
        if now.since(self.explained) < plan.explain? {
            return None;
        }
        let shared = &self.worker.shared;
        for finding in self.plans.found(now) {
            let mut finding = finding.clone();
            // More is known meanwhile of where it comes from.
            shared.locate_again(&mut finding);
            shared.find(finding);
        }
        self.explained = now;
        self.plans.next(&self.worker.shared, &self.database, now)
    }

    /// Looks at the plan of a statement.
    async fn explain(&mut self, candidate: Candidate, now: Ticks) -> Result<(), Unanswered> {
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        let found = self.plans.look(server, &self.database, candidate, now);
        if let Some(finding) = found.await? {
            self.worker.shared.find(finding);
        }
        Ok(())
    }

    /// The pools of the database.
    fn pools(&self) -> Vec<Arc<Pool>> {
        let mut pools = self.worker.shared.pools();
        pools.retain(|pool| pool.database == self.database);
        pools
    }

    /// Whether clients wait, or have had a connection for long.
    fn is_stuck(&self, pools: &[Arc<Pool>], plan: InspectPlan, now: Ticks) -> bool {
        let is_long = |since: Ticks| now.since(since) >= plan.lock_wait;
        let waits = |pool: &Arc<Pool>| pool.load().waiting_since.is_some_and(is_long);
        let servers = || self.worker.shared.seen_servers().into_iter();
        pools.iter().any(waits)
            || servers().any(|server| {
                server.database == self.database
                    && server.state() == ServerState::Active
                    && is_long(server.requested())
            })
    }

    /// Sees to it that there is a connection to the server that takes writes.
    async fn connected(&mut self, (plan, credential): &Login, now: Ticks) -> bool {
        let Some(endpoint) = self.primary(plan) else {
            self.server = None;
            return false;
        };
        let is_there = |server: &Server| server.endpoint().id() == endpoint.id();
        if self.server.as_ref().is_some_and(is_there) {
            return true;
        }
        self.server = None;
        if self.failed.is_some_and(|at| now.since(at) < RETRY) {
            return false;
        }
        let name = Some(APPLICATION);
        let credential = credential.clone();
        let made = connection::connect(
            &self.worker,
            plan,
            credential,
            &endpoint,
            name,
            Patience::None,
        );
        let made = tokio::time::timeout(CONNECT, made)
            .await
            .ok()
            .and_then(Result::ok);
        self.failed = made.is_none().then_some(now);
        self.server = made;
        self.server.is_some()
    }

    /// The server that takes writes: the only one, or that of that role.
    fn primary(&self, plan: &PoolPlan) -> Option<Arc<Endpoint>> {
        let set = plan.database.service.endpoints().load();
        if let [only] = &set.all[..] {
            return Some(Arc::clone(only));
        }
        let standings = &self.worker.shared.standings;
        let is_primary = |one: &&Arc<Endpoint>| standings.of(one).role() == Some(Role::Primary);
        let by_role = plan.database.hosts == Hosts::ByRole;
        set.all.iter().filter(|_| by_role).find(is_primary).cloned()
    }

    /// Asks what is due; `is_all`: also what is not worth asking while something is stuck.
    async fn ask(&mut self, plan: InspectPlan, is_all: bool) -> Result<(), Unanswered> {
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        let long = plan.long_transaction;
        let label: Arc<str> = server.endpoint().label().into();
        let answer = activity::activity(server, &self.worker.shared, long).await;
        let holders = if is_all && answer.is_ok() {
            Some(activity::holders(server).await)
        } else {
            None
        };
        let (database, server) = (Arc::clone(&self.database), Some(&label));
        let mut found = Vec::new();
        if let Some(activity) = self.settled(answer)? {
            let seen = locks::Seen {
                database: &database,
                server,
                sessions: &activity.sessions,
                locks: &activity.locks,
            };
            found.extend(locks::find(seen, plan.lock_wait));
            let sessions = &activity.sessions;
            found.extend(transactions::find_sessions(
                &database, server, sessions, long,
            ));
            let now = self.worker.now();
            self.deadlocks.note(activity.deadlocks, now);
            found.extend(self.deadlocks.find(&database, server, now));
            if activity.hides() {
                self.tell_hidden();
            }
        }
        if let Some(holders) = holders
            && let Some(holders) = self.settled(holders)?
        {
            found.extend(transactions::find_holders(
                &database, server, &holders, long,
            ));
        }
        for finding in found {
            self.worker.shared.find(finding);
        }
        Ok(())
    }

    /// Asks about replicas that are further behind than they may be.
    async fn ask_replicas(
        &mut self,
        plan: InspectPlan,
        login: &Login,
        pools: &[Arc<Pool>],
    ) -> Result<(), Unanswered> {
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        let look = self
            .replicas
            .look(&self.worker, login, pools, server, plan.lag);
        let found = look.await?;
        for finding in found {
            self.worker.shared.find(finding);
        }
        Ok(())
    }

    /// Asks whether the server's memory is cold.
    async fn ask_buffers(&mut self, pools: &[Arc<Pool>]) -> Result<(), Unanswered> {
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        let label: Arc<str> = server.endpoint().label().into();
        let reading = buffers::reading(server, pools).await;
        let now = self.worker.now();
        let Some(reading) = self.settled(reading)?.flatten() else {
            return Ok(());
        };
        let Some(cold) = self.buffers.note(&label, reading, now) else {
            return Ok(());
        };
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        let hottest = buffers::hottest(server).await;
        let hottest = self.settled(hottest)?.unwrap_or_default();
        let finding = memory::finding(&self.database, &label, &cold, &hottest);
        self.worker.shared.find(finding);
        Ok(())
    }

    /// An answer; none where the server refused, which is said once.
    fn settled<T>(&mut self, answer: Result<T, Unanswered>) -> Result<Option<T>, Unanswered> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(Unanswered::Refused(code, text)) => {
                if !self.told_refusal {
                    self.told_refusal = true;
                    self.say(|| format!("the diagnosis was refused an answer: {code} {text}"));
                }
                Ok(None)
            }
            Err(Unanswered::Broken) => Err(Unanswered::Broken),
        }
    }

    /// Says once that the user who asks does not see everything.
    fn tell_hidden(&mut self) {
        let Some(server) = self.server.as_ref().filter(|_| !self.told_hidden) else {
            return;
        };
        let user = &server.entry.seen.user;
        self.say(|| {
            format!(
                "the diagnosis asks as user {user}, who may not see what sessions of others do: \
                 GRANT pg_monitor TO {user}"
            )
        });
        self.told_hidden = true;
    }

    fn say(&self, text: impl FnOnce() -> String) {
        let shared = &self.worker.shared;
        shared.say(Level::Warning, Topic::Other, &self.database, text);
    }
}

/// How a pool logs in.
type Login = (Arc<PoolPlan>, Credential);

/// The login of a pool that has clients.
fn login(pool: &Arc<Pool>) -> Option<Login> {
    let plan = pool.plan();
    let credential = credential(&plan, pool);
    let has_clients = pool.load().clients > 0;
    has_clients.then_some((plan, credential))
}
