//! Lanes: the parts of a pool that several workers have, so that a hot pool is not bound to one core.
//!
//! A lane is a [`Pool`]: a line, idle connections, one worker, and nothing that another one locks in
//! the normal case. What the lanes of a pool have in common is here: how many connections they have
//! together ([`ledger`]), who waits in them, and what their clients and servers are to know of each
//! other. A connection that one lane does not need goes to the one where somebody has waited for
//! longest (`settle`). Which pools are split, and which clients move, is decided by [`balance`].
//!
//! Most pools have one lane; it asks for nothing here.

mod balance;
mod balancing;
mod ledger;
mod settle;
#[cfg(test)]
mod simulation;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use outgrow_core::metrics::Counter;
use outgrow_core::{Clock, Ticks};
use outgrow_upstream::EndpointId;

pub(crate) use balancing::Balancing;
pub(crate) use ledger::{Ledger, Wish};
pub(crate) use settle::Shown;

use crate::listening::Hub;
use crate::pool::Pool;
use crate::sequences::Seen;
use crate::settings::LaneCount;
use crate::shared::Shared;

/// A database, a user on the server, and the replica that a pool is for.
pub(crate) type PoolKey = (Arc<str>, Arc<str>, Option<EndpointId>);

/// What the lanes of one pool have in common.
#[derive(Debug)]
pub(crate) struct Lanes {
    /// Never used twice by a process.
    pub(crate) number: u64,
    /// The worker of the first lane.
    pub(crate) home: usize,
    /// The worker whose lane does what is to be done once for all: keeps the pool's minimum, looks how
    /// it is used.
    keeper: AtomicUsize,
    /// The connection that listens for the clients.
    pub(crate) hub: Arc<Hub>,
    /// What clients do with sequences.
    pub(crate) sequences: Arc<Seen>,
    /// Grows when prepared statements of before may give other columns than their clients know.
    pub(crate) plans: Arc<AtomicU64>,
    clock: Clock,
    /// The newest generation of connections. Lanes have their own word for which one is lent.
    generation: AtomicU64,
    members: Mutex<Arc<[Weak<Pool>]>>,
    ledger: Mutex<Ledger>,
    /// Since when the first waits in each worker's lane; [`Ticks::NEVER`]: nobody does.
    firsts: Box<[AtomicU64]>,
    /// Lanes with somebody in line.
    waiting: AtomicU32,
    /// Lanes with idle connections.
    spare: AtomicU32,
    /// The workers whose lanes new clients go to.
    open: Mutex<Vec<usize>>,
    /// Clients of all lanes.
    pub(crate) clients: AtomicU32,
    /// Connections that went from one lane to another.
    pub(crate) moved_connections: Counter,
    /// Clients that did.
    pub(crate) moved_clients: Counter,
}

impl Lanes {
    fn new(number: u64, home: usize, workers: usize, clock: Clock) -> Arc<Self> {
        let none = || AtomicU64::new(Ticks::NEVER.0);
        Arc::new(Self {
            number,
            home,
            keeper: AtomicUsize::new(home),
            hub: Arc::default(),
            sequences: Arc::default(),
            plans: Arc::default(),
            clock,
            generation: AtomicU64::new(0),
            members: Mutex::new(Arc::from([])),
            ledger: Mutex::default(),
            firsts: (0..workers).map(|_| none()).collect(),
            waiting: AtomicU32::new(0),
            spare: AtomicU32::new(0),
            open: Mutex::new(vec![home]),
            clients: AtomicU32::new(0),
            moved_connections: Counter::default(),
            moved_clients: Counter::default(),
        })
    }

    fn lock_members(&self) -> MutexGuard<'_, Arc<[Weak<Pool>]>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lanes that there are.
    pub(crate) fn all(&self) -> Vec<Arc<Pool>> {
        let members = Arc::clone(&self.lock_members());
        members.iter().filter_map(Weak::upgrade).collect()
    }

    /// A lane more. With a second one each is told to count here from now on.
    pub(crate) fn join(&self, new: &Arc<Pool>) {
        let mut members = self.lock_members();
        let mut all: Vec<Arc<Pool>> = members.iter().filter_map(Weak::upgrade).collect();
        all.retain(|other| other.worker != new.worker);
        if let Some(known) = all.first() {
            new.learn_from(known);
        }
        new.set_generation(self.generation.load(Ordering::Acquire));
        all.push(Arc::clone(new));
        let keeper = all
            .iter()
            .min_by_key(|lane| (lane.worker != self.home, lane.worker));
        let keeper = keeper.map_or(self.home, |lane| lane.worker);
        self.keeper.store(keeper, Ordering::Release);
        if all.len() > 1 {
            for lane in &all {
                lane.count_in_lanes();
            }
        }
        *members = all.iter().map(Arc::downgrade).collect();
    }

    /// No connection that there is now is lent again, in no lane.
    pub(crate) fn renew(&self) {
        let members = self.lock_members();
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        for lane in members.iter().filter_map(Weak::upgrade) {
            lane.set_generation(generation);
        }
    }

    /// Monotonic time.
    pub(crate) fn now(&self) -> Ticks {
        self.clock.now()
    }

    /// The counts of all lanes; nothing else may be locked within.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_open(&self) -> MutexGuard<'_, Vec<usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker whose lane a client goes to that comes: of those that are open the one with the
    /// fewest.
    fn for_newcomer(&self) -> usize {
        let open = self.lock_open().clone();
        let [only] = open[..] else {
            let all = self.all();
            let clients = |worker: usize| {
                let lane = all.iter().find(|lane| lane.worker == worker);
                lane.map_or(0, |lane| lane.load().clients)
            };
            let fewest = open.iter().copied().min_by_key(|worker| clients(*worker));
            return fewest.unwrap_or(self.home);
        };
        only
    }

    /// Has new clients go to the lanes of so many workers, from the first one on; `"auto"` begins with
    /// that.
    fn open_first(&self, count: LaneCount) {
        let count = match count {
            LaneCount::Auto => 1,
            LaneCount::Count(count) => usize::from(count),
        };
        let workers = self.firsts.len();
        let all = (0..count.clamp(1, workers)).map(|place| (self.home + place) % workers);
        *self.lock_open() = all.collect();
    }

    /// The worker whose lane does what is to be done once for all.
    pub(crate) fn keeper(&self) -> usize {
        self.keeper.load(Ordering::Acquire)
    }

    /// Since when all lanes have had neither clients nor connections.
    pub(crate) fn unused_since(&self) -> Option<Ticks> {
        let all = self.all();
        let mut newest = Ticks(0);
        for lane in &all {
            newest = newest.max(lane.own_unused_since()?);
        }
        Some(newest)
    }
}

/// The lanes of all pools.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    all: Mutex<HashMap<PoolKey, Weak<Lanes>>>,
    last: AtomicU64,
}

/// How many pools are known before those that are gone are forgotten.
const SWEEP_ABOVE: usize = 1_024;

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<PoolKey, Weak<Lanes>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of all pools to the primary.
    fn all(&self) -> Vec<Arc<Lanes>> {
        let all = self.lock();
        let primary = all
            .iter()
            .filter(|((_, _, endpoint), _)| endpoint.is_none());
        primary.filter_map(|(_, lanes)| lanes.upgrade()).collect()
    }
}

impl Shared {
    /// What the lanes of a pool have in common.
    pub(crate) fn lanes_of(&self, key: &PoolKey) -> Arc<Lanes> {
        let mut all = self.lanes.lock();
        if let Some(lanes) = all.get(key).and_then(Weak::upgrade) {
            return lanes;
        }
        if all.len() > SWEEP_ABOVE {
            all.retain(|_, lanes| lanes.strong_count() > 0);
        }
        let number = self.lanes.last.fetch_add(1, Ordering::Relaxed) + 1;
        let home = self.owner(&key.0, &key.1);
        let lanes = Lanes::new(number, home, self.loads.len(), self.clock);
        if key.2.is_none() {
            lanes.open_first(self.plan.load().house.lanes);
        }
        all.insert(key.clone(), Arc::downgrade(&lanes));
        lanes
    }

    /// The worker whose lane of the pool of a database and a user on the server a client goes to.
    pub(crate) fn lane_for(&self, database: &str, user: &str) -> usize {
        let home = self.owner(database, user);
        let count = self.plan.load().house.lanes;
        if self.loads.len() == 1 || count == LaneCount::Count(1) {
            return home;
        }
        let key = (database.into(), user.into(), None);
        let known = self.lanes.lock().get(&key).and_then(Weak::upgrade);
        match (known, count) {
            (Some(lanes), _) => lanes.for_newcomer(),
            // Nobody is there yet.
            (None, _) => home,
        }
    }
}
