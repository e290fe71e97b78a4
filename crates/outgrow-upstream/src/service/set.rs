//! The set of endpoints that workers choose from, compiled for the balancer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use outgrow_balance::algorithm::{Candidates, Cursor, Member as Weighed, Table};
use outgrow_balance::levels::{Levels, Place};
use outgrow_balance::slow_start::Curve;
use outgrow_core::{Random, Ticks};

use crate::endpoint::{Endpoint, EndpointId};
use crate::permit::Permit;
use crate::settings::ServiceSettings;

/// A service's endpoints at one epoch.
#[derive(Debug)]
pub struct EndpointSet {
    /// The settings that it was compiled with.
    pub settings: Arc<ServiceSettings>,
    /// All endpoints, those that drain included.
    pub all: Box<[Arc<Endpoint>]>,
    /// Those that get requests, by level: those of the first one in front.
    pub usable: Box<[Arc<Endpoint>]>,
    /// Whether health is not looked at because too few are healthy.
    pub panic: bool,
    /// Whether an endpoint is about to come even if none is usable: an instance starts.
    pub expected: bool,
    levels: Levels,
    tables: Box<[LevelTable]>,
    /// How the share of one that came up grows.
    slow_start: Curve,
}

/// An endpoint that may get requests, as a set is compiled from it.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) place: Place,
    /// Whether it is used, healthy or not.
    pub(crate) is_used: bool,
}

/// The usable endpoints of one level.
#[derive(Debug)]
struct LevelTable {
    /// Where they begin among all usable ones.
    start: usize,
    count: usize,
    table: Table,
}

impl EndpointSet {
    pub(crate) fn empty(settings: Arc<ServiceSettings>) -> Self {
        Self::new(settings, Vec::new(), &[])
    }

    pub(crate) fn new(
        settings: Arc<ServiceSettings>,
        all: Vec<Arc<Endpoint>>,
        candidates: &[Candidate],
    ) -> Self {
        let algorithm = settings.balance.algorithm(&settings.hash);
        let places: Vec<Place> = candidates.iter().map(|one| one.place).collect();
        let levels = Levels::new(&places);
        let mut usable = Vec::with_capacity(candidates.len());
        let compile = |level: &outgrow_balance::levels::Level| {
            let start = usable.len();
            let members = level.members.iter().map(|&index| &candidates[index]);
            usable.extend(
                members
                    .filter(|one| one.is_used)
                    .map(|one| Arc::clone(&one.endpoint)),
            );
            let weighed = |endpoint: &Arc<Endpoint>| Weighed {
                weight: endpoint.weight(),
                identity: endpoint.identity(),
            };
            let members: Vec<Weighed> = usable[start..].iter().map(weighed).collect();
            LevelTable {
                start,
                count: members.len(),
                table: Table::new(&algorithm, &members),
            }
        };
        let tables = levels.levels().iter().map(compile).collect();
        Self {
            slow_start: settings.slow_start_curve.over(settings.slow_start),
            settings,
            all: all.into(),
            usable: usable.into(),
            panic: false,
            expected: false,
            levels,
            tables,
        }
    }

    /// How many levels there are: each worker has a cursor for each.
    pub(crate) fn level_count(&self) -> usize {
        self.tables.len()
    }

    /// The endpoint for the next request; `None` when all that are not to be avoided are full.
    /// `key` is the hash of what requests are kept together by, for the algorithms that use one.
    #[inline]
    pub(crate) fn pick(
        &self,
        cursors: &mut [Cursor],
        random: &mut Random,
        key: Option<u64>,
        now: Ticks,
        avoid: &[EndpointId],
    ) -> Option<&Arc<Endpoint>> {
        let picked = self.levels.pick(random, key);
        for level in self.levels.order(picked) {
            let (Some(level), Some(cursor)) = (self.tables.get(level), cursors.get_mut(level))
            else {
                continue;
            };
            let usable = self.usable.get(level.start..level.start + level.count)?;
            let request = Request {
                usable,
                avoid,
                now,
                slow_start: &self.slow_start,
            };
            if let Some(index) = level.table.pick(cursor, random, key, &request) {
                return usable.get(index);
            }
        }
        None
    }

    /// A permit of the endpoint with the fewest requests in flight for its weight. O(n), for those
    /// who waited.
    pub(crate) fn least_loaded(&self) -> Option<Permit> {
        loop {
            let load = |endpoint: &Arc<Endpoint>| {
                f64::from(endpoint.active()) / f64::from(endpoint.weight().max(1))
            };
            let free = self.usable.iter().filter(|endpoint| has_permit(endpoint));
            let least = free.min_by(|one, other| load(one).total_cmp(&load(other)))?;
            if let Some(permit) = Permit::acquire(least) {
                return Some(permit);
            }
            // Another took it first, or the endpoint left a newer set: then that set is looked at
            // by whoever published it.
            if !least.is_usable() {
                return None;
            }
        }
    }
}

#[inline]
fn has_permit(endpoint: &Endpoint) -> bool {
    endpoint.active.load(Ordering::Relaxed) < endpoint.limit.load(Ordering::Relaxed)
}

/// What the balancer may know for one request.
struct Request<'a> {
    usable: &'a [Arc<Endpoint>],
    avoid: &'a [EndpointId],
    now: Ticks,
    slow_start: &'a Curve,
}

impl Candidates for Request<'_> {
    #[inline]
    fn active(&self, index: usize) -> u32 {
        self.usable[index].active.load(Ordering::Relaxed)
    }

    #[inline]
    fn available(&self, index: usize) -> bool {
        let endpoint = &self.usable[index];
        has_permit(endpoint) && !self.avoid.contains(&endpoint.id())
    }

    #[inline]
    fn share(&self, index: usize) -> f64 {
        if self.slow_start.window.is_zero() {
            return 1.0;
        }
        self.usable[index].share(self.slow_start, self.now)
    }

    #[inline]
    fn latency(&self, index: usize) -> f64 {
        self.usable[index].response_time(self.now)
    }
}
