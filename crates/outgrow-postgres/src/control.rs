//! Orders from outside, over all workers: pause, resume, reconnect, send away; and what there is.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crate::budget::Of;
use crate::numbers::Numbers;
use crate::plan::PoolPlan;
use crate::pool::{Load, Pool};
use crate::problem::{Refusal, SHUTDOWN};
use crate::seen::{ClientSeen, ServerSeen};
use crate::shared::{Drain, Shared};

/// Most users that are remembered to have been asked about.
const MOST_ASKED: usize = 10_000;

/// A pool as it is at the moment, all its lanes together.
#[derive(Clone, Debug)]
pub struct PoolView {
    pool: Arc<Pool>,
    numbers: Counted,
    /// How it should be.
    pub plan: Arc<PoolPlan>,
    /// Clients that are logged in.
    pub clients: u32,
    /// Clients that wait for a connection.
    pub waiting: u32,
    /// For how long the first of them has waited, in microseconds.
    pub waited_micros: u64,
    /// Connections that nobody has.
    pub idle: u32,
    /// Connections that clients have, those that are being made like new included.
    pub lent: u32,
    /// Connections that are being made.
    pub coming: u32,
    /// Whether it lends nothing.
    pub is_paused: bool,
}

impl PoolView {
    /// The database, as clients call it.
    pub fn database(&self) -> &str {
        &self.pool.database
    }

    /// The user on the server.
    pub fn user(&self) -> &str {
        &self.pool.user
    }

    /// What is counted of it.
    pub fn numbers(&self) -> &Numbers {
        self.numbers.get()
    }
}

/// What is counted of a pool: as it goes on, or the sum of its lanes as it was.
#[derive(Clone, Debug)]
pub(crate) enum Counted {
    One(Arc<Pool>),
    Sum(Arc<Numbers>),
}

impl Counted {
    /// Of a pool's lanes.
    pub(crate) fn of(lanes: &[Arc<Pool>]) -> Option<Self> {
        Some(match lanes {
            [] => return None,
            [one] => Self::One(Arc::clone(one)),
            several => Self::Sum(Arc::new(Numbers::sum(
                several.iter().map(|lane| &lane.numbers),
            ))),
        })
    }

    pub(crate) fn get(&self) -> &Numbers {
        match self {
            Self::One(pool) => &pool.numbers,
            Self::Sum(numbers) => numbers,
        }
    }
}

impl Shared {
    /// All pools, each as its lanes.
    pub(crate) fn pools_with_lanes(&self) -> Vec<Vec<Arc<Pool>>> {
        let mut all: Vec<Vec<Arc<Pool>>> = Vec::new();
        let mut places = HashMap::new();
        for pool in self.pools() {
            let place = *places.entry(pool.lanes.number).or_insert(all.len());
            match all.get_mut(place) {
                Some(lanes) => lanes.push(pool),
                None => all.push(vec![pool]),
            }
        }
        all
    }

    /// All pools of all workers: their lanes.
    pub(crate) fn pools(&self) -> Vec<Arc<Pool>> {
        let workers = self.workers.get().into_iter().flatten();
        workers.flat_map(|worker| worker.pools()).collect()
    }

    fn pools_of(&self, database: Option<&str>) -> impl Iterator<Item = Arc<Pool>> {
        let pools = self.pools().into_iter();
        pools.filter(move |pool| database.is_none_or(|name| *pool.database == *name))
    }

    /// All pools, as they are at the moment.
    pub fn pool_views(&self) -> Vec<PoolView> {
        let now = self.clock.now();
        let view = |lanes: Vec<Arc<Pool>>| {
            let numbers = Counted::of(&lanes)?;
            let all = lanes.iter().map(|lane| lane.load());
            let load = all.fold(Load::default(), Load::with);
            let since = load.waiting_since;
            let pool = Arc::clone(lanes.first()?);
            Some(PoolView {
                numbers,
                plan: pool.plan(),
                clients: load.clients,
                waiting: load.waiting,
                waited_micros: since.map_or(0, |since| now.micros_since(since)),
                idle: load.idle,
                lent: load.lent,
                coming: load.coming,
                is_paused: lanes.iter().all(|lane| lane.is_paused()),
                pool,
            })
        };
        self.pools_with_lanes()
            .into_iter()
            .filter_map(view)
            .collect()
    }

    /// All clients, by number.
    pub fn seen_clients(&self) -> Vec<Arc<ClientSeen>> {
        self.seen.clients()
    }

    /// All connections to servers, by number.
    pub fn seen_servers(&self) -> Vec<Arc<ServerSeen>> {
        self.seen.servers()
    }

    /// Clients of a user that count for its limit.
    pub fn clients_of_user(&self, user: &str) -> u32 {
        self.budgets.of(Of::UserClients(user.into())).used()
    }

    /// Lends nothing of a database, or of all, until it is resumed.
    pub fn pause(&self, database: Option<&str>) {
        match database {
            None => self.paused.store(true, Ordering::Release),
            Some(name) => {
                self.paused_databases().insert(name.to_owned());
            }
        }
        for pool in self.pools_of(database) {
            pool.pause();
        }
    }

    /// Goes on lending.
    pub fn resume(&self, database: Option<&str>) {
        match database {
            None => {
                self.paused.store(false, Ordering::Release);
                self.paused_databases().clear();
            }
            Some(name) => {
                self.paused_databases().remove(name);
            }
        }
        for pool in self.pools_of(database) {
            if !self.is_paused(&pool.database) && !self.is_held(&pool.plan()) {
                pool.resume();
            }
        }
    }

    /// Whether nothing of a database is lent.
    pub fn is_paused(&self, database: &str) -> bool {
        self.paused.load(Ordering::Acquire) || self.paused_databases().contains(database)
    }

    /// Whether everything was paused at once.
    pub fn is_all_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// The databases that were paused by name.
    pub fn paused_databases(
        &self,
    ) -> std::sync::MutexGuard<'_, std::collections::BTreeSet<String>> {
        self.paused_databases
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether every worker works with the newest plan.
    pub fn is_followed(&self) -> bool {
        let mut workers = self.workers.get().into_iter().flatten();
        workers.all(|worker| worker.has_newest_plan())
    }

    /// Whether no client has a connection of a database, or of any.
    pub fn is_quiet(&self, database: Option<&str>) -> bool {
        self.pools_of(database).all(|pool| pool.load().lent == 0)
    }

    /// Replaces the connections of a database, or all, as soon as nobody has them.
    pub fn reconnect(&self, database: Option<&str>) {
        for pool in self.pools_of(database) {
            pool.renew();
            self.note_old(&pool);
        }
    }

    /// Takes note that the connections that a pool has now are to be closed.
    pub(crate) fn note_old(&self, pool: &Pool) {
        let is_of_it = |server: &&Arc<ServerSeen>| {
            server.database == pool.database && server.user == pool.user
        };
        for server in self.seen.servers().iter().filter(is_of_it) {
            server.set_over();
            if let Some(client) = self.seen.client(server.link()) {
                client.nudge();
            }
        }
    }

    /// Whether there are connections of a database, or any, that are still to be replaced.
    pub fn has_old(&self, database: Option<&str>) -> bool {
        let servers = self.seen.servers();
        let mut old = servers.iter().filter(|server| server.is_over());
        old.any(|server| database.is_none_or(|name| *server.database == *name))
    }

    /// Sends the clients of a database, or of all, away and closes its connections. Gives the numbers of
    /// the clients.
    pub fn kill(&self, database: Option<&str>) -> Vec<u64> {
        let mut away = Vec::new();
        for client in self.seen.clients() {
            let is_of_it = client.who().is_some_and(|who| {
                let is_console = self
                    .console()
                    .is_some_and(|console| *who.database == *console.database());
                !is_console && database.is_none_or(|name| *who.database == *name)
            });
            if is_of_it {
                client.order_away(Refusal::new(SHUTDOWN, "database removed"));
                away.push(client.number);
            }
        }
        for pool in self.pools_of(database) {
            pool.renew();
            pool.close_idle("database removed");
            self.note_old(&pool);
        }
        away
    }

    /// Whether there is a client of this number.
    pub fn has_client(&self, number: u64) -> bool {
        self.seen.client(number).is_some()
    }

    /// Sends a client away; false when there is none of that number.
    pub fn kill_client(&self, number: u64) -> bool {
        let client = self.seen.client(number);
        let refusal = Refusal::new(SHUTDOWN, "admin forced disconnect");
        client.map(|client| client.order_away(refusal)).is_some()
    }

    /// Changes what becomes of clients, and tells those who wait.
    pub fn set_drain_now(&self, drain: Drain) {
        self.set_drain(drain);
        self.nudge_all();
    }

    /// Takes note that a server knows a user.
    pub(crate) fn note_asked(&self, user: &str) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() < MOST_ASKED {
            asked.insert(user.to_owned());
        }
    }

    /// Users whom servers knew that were asked about them; not all when there are very many.
    pub fn asked_users(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().cloned().collect()
    }

    /// Takes note that a database is used that is made of [`crate::plan::Plan::any`]; true when it
    /// is new.
    pub(crate) fn note_made(&self, name: &str) -> bool {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.insert(name.to_owned(), self.clock.now()).is_none()
    }

    /// The databases that were made of [`crate::plan::Plan::any`]. Those that nobody has used for
    /// long are forgotten.
    pub fn made_databases(&self) -> Vec<String> {
        let plan = self.plan.load();
        let kept = plan.house.any_kept;
        let now = self.clock.now();
        let used: Vec<Arc<str>> = self
            .pools()
            .iter()
            .map(|pool| Arc::clone(&pool.database))
            .collect();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if plan.any.is_none() {
            made.clear();
        }
        made.retain(|name, since| {
            if used.iter().any(|used| **used == **name) {
                *since = now;
            }
            !plan.databases.contains_key(name) && (kept.is_zero() || now.since(*since) < kept)
        });
        made.keys().cloned().collect()
    }
}
