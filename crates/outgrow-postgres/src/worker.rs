//! A worker: what the clients and pools of one thread share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use outgrow_balance::hash::hash;
use outgrow_core::{Clock, Random, Snapshot, Ticks};
use outgrow_message::{Blocks, Ledger};
use outgrow_net::{Mailboxes, Wheel};
use outgrow_upstream::service::{Unavailable, Wish};

use crate::budget::{Budgets, Of, Share};
use crate::cancel::Cancels;
use crate::client::Moved;
use crate::exchange::Credential;
use crate::plan::{Plan, PoolPlan};
use crate::pool::Pool;
use crate::prepared::Statements;
use crate::problem::Refusal;
use crate::server::open::{self, Failure, Making};

/// Turns of the wheel between two looks at the pools: about a third of a second.
const LOOK_TURNS: u32 = 10;
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
    pub(crate) mailboxes: OnceLock<Mailboxes<Moved>>,
    pools: Mutex<HashMap<PoolKey, Arc<Pool>>>,
    /// The plan's epoch that the pools follow.
    epoch: AtomicU64,
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
            mailboxes: OnceLock::new(),
            pools: Mutex::default(),
            epoch: AtomicU64::new(0),
            random: Mutex::new(Random::from_system()),
            shared,
        })
    }

    /// Monotonic time.
    #[inline]
    pub(crate) fn now(&self) -> Ticks {
        self.shared.clock.now()
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
        let pool = Pool::new(Arc::clone(database), Arc::clone(user), plan, self.now());
        if self.shared.paused.load(Ordering::Relaxed) {
            pool.pause();
        }
        pools.insert(key, Arc::clone(&pool));
        Some(pool)
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

/// Makes a connection for a pool.
async fn make(worker: Arc<Worker>, pool: Arc<Pool>) {
    let plan = pool.plan();
    let now = worker.now();
    let Some(shares) = worker.take_shares(&plan, &pool) else {
        pool.postpone();
        return;
    };
    let service = &plan.database.service;
    let mut view = service.view(0);
    let chosen = {
        let mut random = worker.random.lock().unwrap_or_else(PoisonError::into_inner);
        service.choose(&mut view, now, &mut random, Wish::default())
    };
    let permit = match chosen {
        Ok(permit) => permit,
        Err(Unavailable::NoEndpoint) => {
            let fault = outgrow_core::Fault::upstream(
                outgrow_core::Phase::Admit,
                outgrow_core::Cause::NoEndpoint,
                outgrow_core::Sent::None,
            );
            pool.fail(Failure::Connect(fault), now);
            return;
        }
        Err(Unavailable::Busy | Unavailable::Full(_)) => {
            pool.postpone();
            return;
        }
    };
    let database_password = plan.database.password.as_ref();
    let credential = match database_password {
        Some(password) => Credential::from_secret(password.expose()),
        None => pool.credential().unwrap_or_default(),
    };
    let endpoint = Arc::clone(permit.endpoint());
    let making = Making {
        number: worker.shared.next_number(),
        plan: &plan,
        credential,
        permit,
        shares,
        generation: pool.generation(),
        parameters: plan.database.parameters.clone(),
        now,
    };
    let opened = tokio::time::timeout(plan.limits.connect, open::open(making)).await;
    let now = worker.now();
    match opened {
        Ok(Ok((mut server, welcome))) => {
            server.idle_since = now;
            endpoint.report(outgrow_upstream::Outcome::Success, now);
            pool.arrive(Box::new(server), welcome);
        }
        Ok(Err(failure)) => {
            if let Failure::Connect(fault) = failure {
                endpoint.report(outgrow_upstream::Outcome::Fault(fault), now);
            }
            pool.fail(failure, now);
        }
        Err(_) => {
            let fault = outgrow_core::Fault::upstream(
                outgrow_core::Phase::Connect,
                outgrow_core::Cause::ConnectTimeout,
                outgrow_core::Sent::None,
            );
            endpoint.report(outgrow_upstream::Outcome::Fault(fault), now);
            pool.fail(Failure::Connect(fault), now);
        }
    }
}
