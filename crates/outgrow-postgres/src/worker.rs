//! A worker: what the clients and pools of one thread share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use outgrow_balance::hash::hash;
use outgrow_core::{Cause, Clock, Fault, Phase, Random, Sent, Snapshot, Ticks};
use outgrow_message::{Blocks, Ledger};
use outgrow_net::{Mailboxes, Wheel};
use outgrow_upstream::service::{Unavailable, Wish};
use outgrow_upstream::{Endpoint, EndpointId, Outcome, Permit, Service};
use tokio::task::AbortHandle;

use crate::budget::{Budgets, Of, Share};
use crate::cancel::Cancels;
use crate::client::{Identity, Moved};
use crate::login::Credential;
use crate::login::auth_query::{Answer, Cache, CacheSettings};
use crate::plan::{Plan, PoolPlan};
use crate::pool::Pool;
use crate::prepared::Statements;
use crate::problem::Refusal;
use crate::server::Server;
use crate::server::open::{self, Failure, Making};
use crate::sql::Lexing;
use crate::sql::cache::Cache as Texts;
use crate::sql::catalogue::Catalogue;
use crate::sql::facts::Facts;
use crate::sql::fingerprint::Secret as TextSecret;
use crate::standing::{Report, Role, Standings, monitor};
use crate::variables::Welcome;

/// Turns of the wheel between two looks at the pools: about a third of a second.
const LOOK_TURNS: u32 = 10;
/// Bytes that a worker keeps of what it knows of texts.
const TEXTS_BYTES: usize = 1 << 20;
/// How long a pool is kept without clients and connections.
const POOL_KEPT: std::time::Duration = std::time::Duration::from_secs(60);

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
    pub(crate) budgets: Budgets,
    pub(crate) standings: Standings,
    /// What servers said of users.
    answers: Mutex<Cache>,
    /// Servers that are asked.
    monitored: Mutex<HashMap<EndpointId, AbortHandle>>,
    pub(crate) workers: OnceLock<Vec<Arc<Worker>>>,
    drain: AtomicU8,
    numbers: AtomicU64,
    /// Whether everything is paused.
    pub(crate) paused: AtomicBool,
}

/// What becomes of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Nothing: business as usual.
    No,
    /// Each client leaves as soon as it is in no transaction.
    Gently,
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
            budgets: Budgets::default(),
            standings: Standings::default(),
            answers: Mutex::new(Cache::new(CacheSettings::default())),
            monitored: Mutex::default(),
            workers: OnceLock::new(),
            drain: AtomicU8::new(0),
            numbers: AtomicU64::new(0),
            paused: AtomicBool::new(false),
        })
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
            _ => Drain::Gently,
        }
    }

    /// How some pool logs in to the servers of a service.
    pub(crate) fn any_login(&self, service: &Arc<Service>) -> Option<(Arc<PoolPlan>, Credential)> {
        let workers = self.workers.get()?.iter();
        let mut pools = workers.flat_map(|worker| worker.pools());
        pools.find_map(|pool| {
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

    /// The worker that owns the pool of a database and user.
    pub(crate) fn owner(&self, database: &str, user: &str) -> usize {
        let mixed = hash(database.as_bytes()) ^ hash(user.as_bytes()).rotate_left(1);
        (mixed % self.loads.len() as u64) as usize
    }
}

type PoolKey = (Arc<str>, Arc<str>);

/// One worker.
#[derive(Debug)]
pub(crate) struct Worker {
    this: Weak<Self>,
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) wheel: Arc<Wheel>,
    pub(crate) blocks: Arc<Blocks>,
    pub(crate) statements: Statements,
    /// What is known of texts.
    texts: Mutex<Texts>,
    pub(crate) mailboxes: OnceLock<Mailboxes<Moved>>,
    pools: Mutex<HashMap<PoolKey, Arc<Pool>>>,
    /// The plan's epoch that the pools follow.
    epoch: AtomicU64,
    no_catalogue: Catalogue,
    random: Mutex<Random>,
}

impl Worker {
    /// Worker number `index`.
    pub(crate) fn new(index: usize, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            index,
            wheel: Wheel::new(shared.clock.now()),
            blocks: Blocks::new(Arc::clone(&shared.ledger)),
            statements: Statements::default(),
            texts: Mutex::new(Texts::new(TEXTS_BYTES, text_secret())),
            mailboxes: OnceLock::new(),
            pools: Mutex::default(),
            epoch: AtomicU64::new(0),
            no_catalogue: Catalogue::default(),
            random: Mutex::new(Random::from_system()),
            shared,
        })
    }

    /// Monotonic time.
    #[inline]
    pub(crate) fn now(&self) -> Ticks {
        self.shared.clock.now()
    }

    /// What a text is.
    #[inline]
    pub(crate) fn facts(&self, text: &[u8], lexing: Lexing) -> Facts {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.know(text, lexing, &self.no_catalogue).facts
    }

    /// All pools.
    pub(crate) fn pools(&self) -> Vec<Arc<Pool>> {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.values().cloned().collect()
    }

    /// The pool of a database, as clients call it, and a user on the server; made when there is
    /// none. None when there is no such database (any more).
    pub(crate) fn pool(&self, database: &Arc<str>, user: &Arc<str>) -> Option<Arc<Pool>> {
        let key = (Arc::clone(database), Arc::clone(user));
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&key) {
            return Some(Arc::clone(pool));
        }
        let plan = self.shared.plan.load().pool(database, user)?;
        let pool = Pool::new(
            Arc::clone(database),
            Arc::clone(user),
            None,
            plan,
            self.now(),
        );
        if self.shared.paused.load(Ordering::Relaxed) {
            pool.pause();
        }
        pools.insert(key, Arc::clone(&pool));
        Some(pool)
    }

    /// Takes note of how connections of a pool can log in: with what is stored of their user, or
    /// with what a client has just proven.
    pub(crate) fn learn_credential(&self, pool: &Pool, client: Option<&Identity>) {
        let plan = self.shared.plan.load();
        let server_user = &pool.plan().server_user;
        let stored = plan
            .users
            .get(server_user)
            .and_then(|user| user.secret.as_ref());
        let shown = client
            .filter(|client| *client.user == **server_user)
            .map(|client| client.credential.clone());
        let is_good = |one: &Credential| !matches!(one, Credential::None | Credential::Locked);
        let learned = shown
            .filter(is_good)
            .or_else(|| Some(Credential::of(stored)));
        let learned = learned.filter(is_good);
        if let Some(learned) = learned
            && pool.credential().as_ref() != Some(&learned)
        {
            pool.set_credential(learned);
        }
    }

    /// What is to be done at each turn of the wheel.
    pub(crate) fn turn(&self, now: Ticks, turns: u32) {
        let epoch = self.shared.plan.epoch();
        if self.epoch.swap(epoch, Ordering::Release) != epoch {
            self.follow_plan();
        }
        if !turns.is_multiple_of(LOOK_TURNS) {
            return;
        }
        if self.index == 0 {
            self.watch_servers();
        }
        for pool in self.pools() {
            let chores = pool.tick(now);
            self.make(&pool, chores.make);
            drop(chores.close);
        }
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|_, pool| {
            Arc::strong_count(pool) > 1
                || pool
                    .unused_since()
                    .is_none_or(|since| now.since(since) < POOL_KEPT)
        });
    }

    /// Has the servers asked that are not the only one of their service.
    fn watch_servers(&self) {
        let Some(worker) = self.this.upgrade() else {
            return;
        };
        let plan = self.shared.plan.load();
        let databases = plan.databases.values().chain(&plan.any);
        let mut services: Vec<&Arc<Service>> = databases.map(|one| &one.service).collect();
        services.dedup_by(|one, other| Arc::ptr_eq(one, other));
        let mut known = Vec::new();
        let mut monitored = self
            .shared
            .monitored
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for service in services {
            let set = service.endpoints().load();
            if set.all.len() < 2 {
                continue;
            }
            for endpoint in &set.all {
                known.push(endpoint.id());
                let task = monitored.get(&endpoint.id());
                if task.is_none_or(AbortHandle::is_finished) {
                    let (service, endpoint) = (Arc::clone(service), Arc::clone(endpoint));
                    let id = endpoint.id();
                    let task = monitor::run(Arc::clone(&worker), service, endpoint);
                    monitored.insert(id, tokio::spawn(task).abort_handle());
                }
            }
        }
        monitored.retain(|id, task| {
            let stays = known.contains(id);
            if !stays {
                task.abort();
            }
            stays
        });
        drop(monitored);
        self.shared.standings.retain(&known);
    }

    /// Whether its pools follow the newest plan.
    pub(crate) fn has_newest_plan(&self) -> bool {
        self.epoch.load(Ordering::Acquire) == self.shared.plan.epoch()
    }

    fn follow_plan(&self) {
        let plan = self.shared.plan.load();
        for pool in self.pools() {
            match plan.pool(&pool.database, &pool.user) {
                Some(new) => {
                    let is_elsewhere = is_elsewhere(&pool.plan(), &new);
                    pool.set_plan(new, is_elsewhere);
                }
                None => {
                    pool.renew();
                    let refusal = Refusal::new(crate::problem::SHUTDOWN, "database removed");
                    pool.refuse_all(&refusal);
                    drop(pool.drain());
                }
            }
        }
    }

    /// Lets a pool grow as far as those who wait need it.
    #[inline]
    pub(crate) fn grow(&self, pool: &Arc<Pool>) {
        let wanted = pool.grow(self.now());
        self.make(pool, wanted);
    }

    fn make(&self, pool: &Arc<Pool>, count: u32) {
        for _ in 0..count {
            let Some(worker) = self.this.upgrade() else {
                return;
            };
            tokio::spawn(make(worker, Arc::clone(pool)));
        }
    }

    /// Makes a connection for one client alone, with these parameters at its start.
    pub(crate) async fn open_own(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        parameters: Vec<(String, String)>,
    ) -> Result<(Box<Server>, Welcome), Failure> {
        let plan = pool.plan();
        let attempt = attempt(self, pool, &plan, parameters);
        match tokio::time::timeout(plan.limits.connect, attempt).await {
            Ok(Ok(Some(made))) => Ok(made),
            Ok(Ok(None)) => Err(Failure::Broken("there is no room for a connection")),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::Connect(timed_out())),
        }
    }

    /// Takes of the budgets what one more connection needs; makes room in other pools for it.
    fn take_shares(&self, plan: &PoolPlan, pool: &Arc<Pool>) -> Option<Vec<Share>> {
        let budgets = &self.shared.budgets;
        let users = self.shared.plan.load();
        let user_limit = users
            .users
            .get(&plan.server_user)
            .map_or(0, |user| user.max_servers);
        let wanted = [
            (
                Of::DatabaseServers((&*pool.database).into()),
                plan.database.max_servers,
            ),
            (Of::UserServers((&*plan.server_user).into()), user_limit),
        ];
        let mut shares = Vec::new();
        for (what, limit) in wanted {
            if limit == 0 {
                continue;
            }
            let budget = budgets.of(what.clone());
            let share = budget.take(limit).or_else(|| {
                self.evict_for(&what, pool)?;
                budget.take(limit)
            });
            shares.push(share?);
        }
        Some(shares)
    }

    /// Closes the connection that is idle for longest in another pool that counts for the same
    /// budget.
    fn evict_for(&self, what: &Of, pool: &Arc<Pool>) -> Option<()> {
        let is_of_it = |other: &Arc<Pool>| {
            !Arc::ptr_eq(other, pool)
                && match what {
                    Of::DatabaseServers(name) => *other.database == **name,
                    Of::UserServers(name) => other.plan().server_user == **name,
                    _ => false,
                }
        };
        let others = self.pools().into_iter().filter(is_of_it);
        let with_age = others.filter_map(|other| Some((other.oldest_idle()?, other)));
        let (_, oldest) = with_age.min_by_key(|(since, _)| *since)?;
        drop(oldest.evict()?);
        Some(())
    }
}

/// Whether connections of the one plan are of no use for the other one.
fn is_elsewhere(old: &PoolPlan, new: &PoolPlan) -> bool {
    !Arc::ptr_eq(&old.database.service, &new.database.service)
        || old.server_database != new.server_database
        || old.server_user != new.server_user
        || old.database.connect_query != new.database.connect_query
        || old.database.parameters != new.database.parameters
        || old.house.followed != new.house.followed
}

/// What texts are told apart under; known to nobody.
fn text_secret() -> TextSecret {
    TextSecret::new(|| {
        let mut bytes = [0; 8];
        outgrow_core::random::system_bytes(&mut bytes);
        u64::from_ne_bytes(bytes)
    })
}

/// How connections of a pool log in.
fn credential(plan: &PoolPlan, pool: &Pool) -> Credential {
    let own = plan.database.credential.clone();
    own.or_else(|| pool.credential()).unwrap_or_default()
}

/// Makes a connection for a pool.
async fn make(worker: Arc<Worker>, pool: Arc<Pool>) {
    let plan = pool.plan();
    let limit = plan.limits.connect;
    let attempt = attempt(&worker, &pool, &plan, Vec::new());
    let attempt = tokio::time::timeout(limit, attempt).await;
    let now = worker.now();
    match attempt {
        Ok(Ok(Some((mut server, welcome)))) => {
            server.idle_since = now;
            pool.arrive(server, welcome);
        }
        Ok(Ok(None)) => pool.postpone(),
        Ok(Err(failure)) => pool.fail(failure, now),
        Err(_) => pool.fail(Failure::Connect(timed_out()), now),
    }
}

fn timed_out() -> Fault {
    Fault::upstream(Phase::Connect, Cause::ConnectTimeout, Sent::None)
}

type Made = Option<(Box<Server>, Welcome)>;

/// One connection, to a server of the role that the pool is for. None when there is no room for it
/// at the moment, or no such server.
async fn attempt(
    worker: &Arc<Worker>,
    pool: &Arc<Pool>,
    plan: &PoolPlan,
    parameters: Vec<(String, String)>,
) -> Result<Made, Failure> {
    let service = &plan.database.service;
    let set = service.endpoints().load();
    let mut refused = Vec::new();
    loop {
        let Some(shares) = worker.take_shares(plan, pool) else {
            return Ok(None);
        };
        let permit = match choose(worker, pool, service, &set.all, &refused)? {
            Some(permit) => permit,
            None => return Ok(None),
        };
        let endpoint = Arc::clone(permit.endpoint());
        let making = Making {
            number: worker.shared.next_number(),
            plan,
            credential: credential(plan, pool),
            permit,
            shares,
            generation: pool.generation(),
            parameters: plan
                .database
                .parameters
                .iter()
                .chain(&parameters)
                .cloned()
                .collect(),
            now: worker.now(),
        };
        let asked = worker.now();
        match open::open(making).await {
            Ok((mut server, welcome)) => {
                endpoint.report(Outcome::Success, worker.now());
                if set.all.len() > 1 {
                    let role = learn_role(worker, &mut server, &welcome, &set.all, asked).await?;
                    if !pool.takes(role, endpoint.id()) {
                        refused.push(endpoint.id());
                        continue;
                    }
                }
                return Ok(Some((Box::new(server), welcome)));
            }
            Err(Failure::Connect(fault)) => {
                endpoint.report(Outcome::Fault(fault), worker.now());
                refused.push(endpoint.id());
                if refused.len() >= set.usable.len() {
                    return Err(Failure::Connect(fault));
                }
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// A permit of a server that may have the role that the pool is for.
fn choose(
    worker: &Worker,
    pool: &Pool,
    service: &Arc<Service>,
    all: &[Arc<Endpoint>],
    refused: &[EndpointId],
) -> Result<Option<Permit>, Failure> {
    let no_endpoint =
        || Failure::Connect(Fault::upstream(Phase::Admit, Cause::NoEndpoint, Sent::None));
    if let Some(own) = pool.endpoint {
        let endpoint = all
            .iter()
            .find(|one| one.id() == own && !refused.contains(&own));
        return Ok(endpoint.ok_or_else(no_endpoint)?.permit());
    }
    if all.len() > 1 {
        let role = |endpoint: &Arc<Endpoint>| worker.shared.standings.of(endpoint).role();
        let usable = || {
            let mut usable = all.iter().filter(|one| one.is_usable());
            usable
                .by_ref()
                .filter(|one| !refused.contains(&one.id()))
                .collect::<Vec<_>>()
        };
        let known = usable()
            .into_iter()
            .find(|one| role(one) == Some(Role::Primary));
        let unknown = || usable().into_iter().find(|one| role(one).is_none());
        // What was a replica when it was asked last may be the primary by now.
        let replica = || {
            usable()
                .into_iter()
                .find(|one| role(one) == Some(Role::Replica))
        };
        let chosen = known.or_else(unknown).or_else(replica);
        return Ok(chosen.and_then(Endpoint::permit));
    }
    let mut view = service.view(0);
    let mut random = worker.random.lock().unwrap_or_else(PoisonError::into_inner);
    match service.choose(&mut view, worker.now(), &mut random, Wish::default()) {
        Ok(permit) => Ok(Some(permit)),
        Err(Unavailable::NoEndpoint) => Err(no_endpoint()),
        Err(Unavailable::Busy | Unavailable::Full(_)) => Ok(None),
    }
}

/// What a server is that was just connected to.
async fn learn_role(
    worker: &Worker,
    server: &mut Server,
    welcome: &Welcome,
    all: &[Arc<Endpoint>],
    asked: Ticks,
) -> Result<Role, Failure> {
    let endpoint = Arc::clone(server.endpoint());
    let standing = worker.shared.standings.of(&endpoint);
    match (welcome.get("in_hot_standby"), standing.role()) {
        // Reported since version 14; a primary may still be one that was replaced.
        (Some("on"), Some(Role::Replica)) => return Ok(Role::Replica),
        (Some("off"), Some(Role::Primary)) => return Ok(Role::Primary),
        _ => {}
    }
    let report: Report = monitor::ask(server)
        .await
        .map_err(|_| Failure::Broken("the server does not say whether it is the primary"))?;
    worker.shared.standings.note(&endpoint, all, report, asked);
    Ok(standing.role().unwrap_or(Role::Fenced))
}
