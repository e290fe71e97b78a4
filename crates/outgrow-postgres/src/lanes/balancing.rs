//! Looks at the pools about once a second and does what [`super::balance`] says: opens lanes, and has
//! clients change theirs.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use outgrow_core::Ticks;

use super::Lanes;
use super::balance::{Heat, LaneUse, Order, PoolUse, WorkerUse};
use crate::events::{Level, Topic};
use crate::pool::Pool;
use crate::settings::LaneCount;
use crate::shared::{Drain, Shared};

/// Who has wanted a connection within this time does something at the moment.
const RECENT: Duration = Duration::from_millis(1_500);
/// Most clients that are told to move at once.
const MOST_AT_ONCE: usize = 1_000;

/// What is remembered of a lane: what it had lent.
type Lent = HashMap<usize, u64>;

/// What is remembered from look to look.
#[derive(Debug, Default)]
pub(crate) struct Balancing {
    pools: HashMap<u64, (Heat, Lent)>,
}

impl Shared {
    /// Looks. By one worker, about once a second.
    pub(crate) fn balance_lanes(&self, now: Ticks) {
        let count = self.plan.load().house.lanes;
        let all = self.lanes.all();
        let may_have_lanes = count != LaneCount::Count(1);
        let has_lanes = |lanes: &Lanes| lanes.all().len() > 1;
        if self.loads.len() == 1
            || self.drain() != Drain::No
            || !(may_have_lanes || all.iter().any(|lanes| has_lanes(lanes)))
        {
            return;
        }
        let mut balancing = self
            .balancing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = &mut balancing.pools;
        let mut workers: Vec<WorkerUse> = self.workers_use();
        let mut uses = Vec::new();
        for lanes in &all {
            let (_, lent) = known.entry(lanes.number).or_default();
            let used = lanes.uses(lent);
            for lane in &used {
                workers[lane.worker].lendings += lane.lendings;
            }
            uses.push(used);
        }
        for (lanes, used) in all.iter().zip(&uses) {
            let open = lanes.lock_open().clone();
            let pool = PoolUse {
                home: lanes.home,
                lanes: used,
                open: &open,
            };
            let (heat, _) = known.entry(lanes.number).or_default();
            let order = heat.judge(now, count, &workers, pool);
            if let Some(order) = order {
                self.follow(lanes, &order, now);
            }
        }
        let there: HashSet<u64> = all.iter().map(|lanes| lanes.number).collect();
        known.retain(|number, _| there.contains(number));
    }

    fn workers_use(&self) -> Vec<WorkerUse> {
        let workers = self.workers.get().into_iter().flatten();
        let used = |busy: u32| WorkerUse { busy, lendings: 0 };
        workers
            .map(|worker| used(worker.busy.load(Ordering::Relaxed)))
            .collect()
    }

    fn follow(&self, lanes: &Lanes, order: &Order, now: Ticks) {
        self.say(Level::Log, Topic::Other, lanes, || match order {
            Order::Open(open) => format!("new clients go to {} lanes", open.len()),
            Order::Move { from, to, .. } => {
                format!("worker {from} is busy: clients go to a lane of worker {to}")
            }
            Order::Even { from, to, count } => {
                format!("{count} clients go from the lane of worker {from} to that of worker {to}")
            }
        });
        match *order {
            Order::Open(ref open) => lanes.lock_open().clone_from(open),
            Order::Move { from, to, share } => {
                let mut open = lanes.lock_open();
                if !open.contains(&to) {
                    open.push(to);
                }
                drop(open);
                let recent = |at: Ticks| now.since(at) <= RECENT;
                let all = self.clients_of(lanes, from, recent);
                let count = (all.len() * share as usize / 1_000).max(1);
                self.move_some(&all, count.min(all.len().saturating_sub(1)), to);
            }
            Order::Even { from, to, count } => {
                let all = self.clients_of(lanes, from, |_| true);
                self.move_some(&all, count as usize, to);
            }
        }
    }

    /// The numbers of the clients of a lane whose last wish is of such a time.
    fn clients_of(&self, lanes: &Lanes, worker: usize, of: impl Fn(Ticks) -> bool) -> Vec<u64> {
        let clients = self.seen.clients().into_iter();
        let of_lane = clients.filter(|client| client.lane.now() == (lanes.number, worker));
        let wanted = of_lane.filter(|client| of(client.requested()));
        wanted.map(|client| client.number).collect()
    }

    /// Has so many of them, evenly chosen, go to a worker's lane as soon as they are at rest.
    fn move_some(&self, all: &[u64], count: usize, to: usize) {
        let count = count.min(all.len()).min(MOST_AT_ONCE);
        for place in 0..count {
            let chosen = all[place * all.len() / count];
            if let Some(client) = self.seen.client(chosen) {
                client.lane.want(Some(to));
                client.nudge();
            }
        }
    }
}

impl Lanes {
    /// What its lanes did since the last look.
    fn uses(&self, lent: &mut Lent) -> Vec<LaneUse> {
        let look = |lane: Arc<Pool>| {
            let all = lane.numbers.assignments.get();
            let before = lent.insert(lane.worker, all).unwrap_or(all);
            LaneUse {
                worker: lane.worker,
                clients: lane.load().clients,
                lendings: all.saturating_sub(before),
            }
        };
        self.all().into_iter().map(look).collect()
    }
}

impl std::fmt::Display for Lanes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.all().first() {
            Some(pool) => pool.fmt(formatter),
            None => formatter.write_str("a pool"),
        }
    }
}
