//! A worker: what the clients and pools of one thread share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use outgrow_core::{Random, Ticks};
use outgrow_message::Blocks;
use outgrow_net::workers::thread_time;
use outgrow_net::{Mailboxes, Wheel};
use outgrow_upstream::EndpointId;
use tokio::task::AbortHandle;

use crate::budget::{Of, Share};
use crate::client::{Identity, Moved};
use crate::diagnosis::look::Looks;
use crate::diagnosis::repeats::suspects::Suspects;
use crate::diagnosis::routes::Shares;
use crate::diagnosis::statements::Table;
use crate::events::{Level, Topic};
use crate::inspect;
use crate::lanes::PoolKey;
use crate::login::Credential;
use crate::making;
use crate::moment::Moment;
use crate::plan::{Hosts, PoolPlan};
use crate::pool::Pool;
use crate::prepared::Statements;
use crate::reads::{self, Reads};
use crate::result_cache::Domain;
use crate::shared::Shared;
use crate::sql::Lexing;
use crate::sql::cache::{Cache as Texts, Known};
use crate::sql::catalogue::Catalogue;
use crate::sql::fingerprint::Secret as TextSecret;
use crate::standing::monitor;

/// Turns of the wheel between two looks at the pools: about a third of a second.
const LOOK_TURNS: u32 = 10;
/// Turns between two looks at what lanes pools need: about a second.
const BALANCE_TURNS: u32 = 30;
/// Bytes that a worker keeps of what it knows of texts.
const TEXTS_BYTES: usize = 1 << 20;

/// Below the worker's number in those of its statements.
const WORKER_BITS: u32 = 48;

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
    /// What statements cost.
    pub(crate) records: Mutex<Table>,
    /// Queries that may be executed for each row of another one's result.
    pub(crate) suspects: Mutex<Suspects>,
    /// What was seen at the last look at what pools are used for.
    pub(crate) looks: Mutex<Looks>,
    /// How often routes are in flight at the statements of this worker.
    pub(crate) shares: Mutex<Arc<Shares>>,
    /// What is known of databases whose reads go to replicas.
    reads: Mutex<HashMap<Arc<str>, Arc<Reads>>>,
    pub(crate) mailboxes: OnceLock<Mailboxes<Moved>>,
    pools: Mutex<HashMap<PoolKey, Arc<Pool>>>,
    /// The plan's epoch that the pools follow.
    epoch: AtomicU64,
    no_catalogue: Catalogue,
    /// The share of its time that its thread runs, in thousandths: an average of the last seconds.
    pub(crate) busy: AtomicU32,
    ran: Mutex<(Ticks, Duration)>,
    pub(crate) random: Mutex<Random>,
    pub(crate) moment: Moment,
}

impl Worker {
    /// Worker number `index`.
    pub(crate) fn new(index: usize, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            index,
            wheel: Wheel::new(shared.clock.now()),
            blocks: Blocks::new(Arc::clone(&shared.ledger)),
            statements: Statements::new(random_number()).numbered_from(first_number(index)),
            texts: Mutex::new(Texts::new(TEXTS_BYTES, text_secret())),
            records: Mutex::new(Table::new(0).numbered_from(first_number(index))),
            suspects: Mutex::default(),
            looks: Mutex::default(),
            shares: Mutex::default(),
            reads: Mutex::default(),
            mailboxes: OnceLock::new(),
            pools: Mutex::default(),
            epoch: AtomicU64::new(0),
            no_catalogue: Catalogue::default(),
            busy: AtomicU32::new(0),
            ran: Mutex::new((shared.clock.now(), Duration::ZERO)),
            random: Mutex::new(Random::from_system()),
            moment: Moment::default(),
            shared,
        })
    }

    /// Monotonic time: of the poll, while a client is served.
    #[inline]
    pub(crate) fn now(&self) -> Ticks {
        self.moment.now(self.shared.clock)
    }

    /// What is known of the statements of a pool's database, where reads go to replicas.
    pub(crate) fn reads(&self, pool: &Arc<Pool>) -> Option<Arc<Reads>> {
        let plan = pool.plan();
        let has_replicas = plan.database.service.endpoints().load().all.len() > 1;
        let goes_to_replicas = plan.house.reads.is_some() && has_replicas;
        let keeps_answers = self.keeps_answers(&plan);
        if !goes_to_replicas && !keeps_answers {
            return None;
        }
        let mut all = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, reads| Arc::strong_count(reads) > 1);
        if let Some(reads) = all.get(&pool.database) {
            return Some(Arc::clone(reads));
        }
        let domain = keeps_answers.then(|| self.domain(&plan));
        let reads = Reads::new(domain);
        all.insert(Arc::clone(&pool.database), Arc::clone(&reads));
        if let Some(worker) = self.this.upgrade() {
            tokio::spawn(reads::run(worker, Arc::clone(pool), Arc::clone(&reads)));
        }
        Some(reads)
    }

    /// What is known of the statements of a database, if anything is.
    pub(crate) fn known_reads(&self, database: &str) -> Option<Arc<Reads>> {
        let all = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(database).cloned()
    }

    /// Whether there is a query cache.
    pub(crate) fn keeps_answers(&self, plan: &PoolPlan) -> bool {
        self.shared.results.is_on(plan.house.cache.is_some())
    }

    /// A pool's database, as the query cache knows it.
    pub(crate) fn domain(&self, plan: &PoolPlan) -> Arc<Domain> {
        let service = plan.database.service.name();
        self.shared.results.domain(service, &plan.server_database)
    }

    /// What is known of a text.
    #[inline]
    pub(crate) fn know(&self, text: &[u8], lexing: Lexing) -> Known {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.know(text, lexing, &self.no_catalogue)
    }

    /// All pools.
    pub(crate) fn pools(&self) -> Vec<Arc<Pool>> {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.values().cloned().collect()
    }

    /// Whether it has no pool.
    pub(crate) fn has_no_pools(&self) -> bool {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.is_empty()
    }

    /// The pool of a database, as clients call it, and a user on the server; made when there is
    /// none. None when there is no such database (any more).
    pub(crate) fn pool(&self, database: &Arc<str>, user: &Arc<str>) -> Option<Arc<Pool>> {
        self.pool_of(database, user, None)
    }

    /// The same for a replica.
    pub(crate) fn pool_at(
        &self,
        database: &Arc<str>,
        user: &Arc<str>,
        endpoint: EndpointId,
    ) -> Option<Arc<Pool>> {
        self.pool_of(database, user, Some(endpoint))
    }

    fn pool_of(
        &self,
        database: &Arc<str>,
        user: &Arc<str>,
        endpoint: Option<EndpointId>,
    ) -> Option<Arc<Pool>> {
        let key = (Arc::clone(database), Arc::clone(user), endpoint);
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&key) {
            return Some(Arc::clone(pool));
        }
        let plan = self.shared.plan.load().pool(database, user)?;
        let lanes = self.shared.lanes_of(&key);
        let pool = Pool::new(key.clone(), lanes, self.index, plan, self.now());
        pools.insert(key, Arc::clone(&pool));
        drop(pools);
        // Who pauses from now on finds it.
        if self.shared.is_held(&pool.plan()) || self.shared.is_paused(database) {
            pool.pause();
        }
        Some(pool)
    }

    /// Takes note of how connections of a pool can log in: with what is stored of their user, or
    /// with what a client has just proven.
    pub(crate) fn learn_credential(&self, pool: &Pool, client: Option<&Identity>) {
        self.learn_shown(
            pool,
            client.map(|client| (&client.user, &client.credential)),
        );
    }

    /// The same from what a user has shown.
    pub(crate) fn learn_shown(&self, pool: &Pool, client: Option<(&Arc<str>, &Credential)>) {
        let plan = self.shared.plan.load();
        let server_user = &pool.plan().server_user;
        let stored = plan
            .users
            .get(server_user)
            .and_then(|user| user.secret.as_ref());
        let shown = client
            .filter(|(user, _)| ***user == **server_user)
            .map(|(_, credential)| credential.clone());
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
            if let Some(worker) = self.this.upgrade() {
                inspect::keep(&worker);
            }
        }
        self.note_busy(now);
        if self.index == 0 && turns.is_multiple_of(BALANCE_TURNS) {
            self.shared.balance_lanes(now);
        }
        self.keep_pools();
        for pool in self.pools() {
            let chores = pool.tick(now);
            self.make(&pool, chores.make, chores.is_reserve);
            for (server, reason) in chores.close {
                server.close(reason);
            }
        }
        self.forget_pools(now);
        self.look(now, turns);
    }

    /// Takes note of how much its thread, which is the calling one, has run.
    fn note_busy(&self, now: Ticks) {
        let mut last = self.ran.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, ran) = std::mem::replace(&mut *last, (now, thread_time()));
        let passed = now.since(at).as_micros().max(1);
        let share = last.1.saturating_sub(ran).as_micros() * 1_000 / passed;
        let (old, share) = (self.busy.load(Ordering::Relaxed), share.min(1_000) as u32);
        self.busy.store((old * 3 + share) / 4, Ordering::Relaxed);
    }

    /// Sees to it that pools are there that keep connections without clients.
    fn keep_pools(&self) {
        let plan = self.shared.plan.load();
        for (name, database) in &plan.databases {
            if database.limits.minimum > 0
                && let Some(user) = &database.user
                && self.shared.owner(name, user) == self.index
                && let Some(pool) = self.pool(&name.as_str().into(), &user.as_str().into())
            {
                self.learn_credential(&pool, None);
            }
        }
    }

    /// Forgets pools that nobody has used for long.
    fn forget_pools(&self, now: Ticks) {
        let kept = self.shared.plan.load().house.pool_kept;
        if kept.is_zero() {
            return;
        }
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|_, pool| {
            let unused = pool.unused_since().map(|since| now.since(since));
            let is_over = Arc::strong_count(pool) == 1
                && !pool.keeps_connections()
                && unused.is_some_and(|unused| unused >= kept);
            if is_over {
                let (user, database) = (&pool.user, &pool.database);
                let age = unused.unwrap_or_default().as_secs();
                self.shared.say(Level::Log, Topic::Other, &"", || {
                    format!(
                        "cleaning up idle pool for user {user} on db {database} because: pool \
                         idle timeout (age= {age}s)"
                    )
                });
            }
            !is_over
        });
    }

    /// Has the servers asked that are not the only one of their service.
    fn watch_servers(&self) {
        let Some(worker) = self.this.upgrade() else {
            return;
        };
        let plan = self.shared.plan.load();
        let services = plan.services(|database| database.hosts == Hosts::ByRole);
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
        let most_records = plan
            .house
            .diagnosis
            .as_ref()
            .map_or(0, |one| one.statements);
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.set_limit(most_records);
        drop(records);
        for pool in self.pools() {
            match plan.pool(&pool.database, &pool.user) {
                Some(new) => {
                    let is_elsewhere = is_elsewhere(&pool.plan(), &new);
                    pool.set_plan(new, is_elsewhere);
                    if is_elsewhere {
                        self.shared.note_old(&pool);
                    }
                }
                None => {
                    pool.remove();
                    pool.close_idle("database removed");
                    self.shared.note_old(&pool);
                }
            }
        }
    }

    /// Lets a pool grow as far as those who wait need it.
    #[inline]
    pub(crate) fn grow(&self, pool: &Arc<Pool>) {
        let (wanted, is_reserve) = pool.grow(self.now());
        if wanted > 0 {
            self.make(pool, wanted, is_reserve);
        }
    }

    /// A connection of a pool is gone: who waits for one gets another one, in whichever lane.
    pub(crate) fn replace(&self, pool: &Arc<Pool>) {
        self.grow(pool);
        for lane in pool.others_in_need() {
            self.grow(&lane);
        }
    }

    /// Has a connection tried although nobody waits for it.
    pub(crate) fn try_again(&self, pool: &Arc<Pool>) {
        let wanted = pool.try_again(self.now());
        self.make(pool, wanted, false);
    }

    fn make(&self, pool: &Arc<Pool>, count: u32, is_reserve: bool) {
        if is_reserve && count > 0 {
            self.shared.say(Level::Warning, Topic::Other, pool, || {
                "taking connection from reserve_pool".to_owned()
            });
        }
        for _ in 0..count {
            let Some(worker) = self.this.upgrade() else {
                return;
            };
            tokio::spawn(making::make(worker, Arc::clone(pool)));
        }
    }

    /// Takes of the budgets what one more connection needs; makes room in other pools for it.
    pub(crate) fn take_shares(&self, plan: &PoolPlan, pool: &Arc<Pool>) -> Option<Vec<Share>> {
        let budgets = &self.shared.budgets;
        let users = self.shared.plan.load();
        let user_limit = users
            .users
            .get(&plan.server_user)
            .map_or(plan.house.max_user_servers, |user| user.max_servers);
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
        let others = self.shared.pools().into_iter().filter(is_of_it);
        let with_age = others.filter_map(|other| Some((other.oldest_idle()?, other)));
        let (_, oldest) = with_age.min_by_key(|(since, _)| *since)?;
        oldest.evict()?.close("evicted");
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
        || old.database.encryption != new.database.encryption
        || old.house.followed != new.house.followed
        || old.database.hosts != new.database.hosts
        || old.database.auth_database != new.database.auth_database
        || old.database.auth_query != new.database.auth_query
}

/// What texts are told apart under; known to nobody.
pub(crate) fn text_secret() -> TextSecret {
    TextSecret::new(random_number)
}

/// Where the numbers of a worker's statements begin, so that no two workers have the same ones: what
/// goes from one lane of a pool to another is known by them.
fn first_number(index: usize) -> u64 {
    (index as u64) << WORKER_BITS
}

/// Whose number it is of a statement's record.
pub(crate) fn worker_of(number: u64) -> usize {
    (number >> WORKER_BITS) as usize
}

/// A number that nobody can guess.
fn random_number() -> u64 {
    let mut bytes = [0; 8];
    outgrow_core::random::system_bytes(&mut bytes);
    u64::from_ne_bytes(bytes)
}

/// How connections of a pool log in.
pub(crate) fn credential(plan: &PoolPlan, pool: &Pool) -> Credential {
    let own = plan.database.credential.clone();
    own.or_else(|| pool.credential()).unwrap_or_default()
}
