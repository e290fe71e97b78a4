//! The set of endpoints that workers choose from, compiled for the balancer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outgrow_balance::{Algorithm, Candidates, Cursor, Table};
use outgrow_core::{Random, Ticks};

use crate::endpoint::{Endpoint, EndpointId};
use crate::permit::Permit;
use crate::settings::{Balance, ServiceSettings};

/// A service's endpoints at one epoch.
#[derive(Debug)]
pub struct EndpointSet {
    /// The settings that it was compiled with.
    pub settings: Arc<ServiceSettings>,
    /// All endpoints, those that drain included.
    pub all: Box<[Arc<Endpoint>]>,
    /// Those that get requests.
    pub usable: Box<[Arc<Endpoint>]>,
    /// Whether health is not looked at because too few are healthy.
    pub panic: bool,
    /// Whether an endpoint is about to come even if none is usable: an instance starts.
    pub expected: bool,
    table: Table,
}

impl EndpointSet {
    pub(crate) fn empty(settings: Arc<ServiceSettings>) -> Self {
        Self::new(settings, Vec::new(), Vec::new())
    }

    pub(crate) fn new(
        settings: Arc<ServiceSettings>,
        all: Vec<Arc<Endpoint>>,
        usable: Vec<Arc<Endpoint>>,
    ) -> Self {
        let algorithm = match settings.balance {
            Balance::PowerOfTwo => Algorithm::PowerOfTwo,
            Balance::RoundRobin => Algorithm::RoundRobin,
        };
        let weights: Vec<u32> = usable.iter().map(|endpoint| endpoint.weight()).collect();
        Self {
            settings,
            all: all.into(),
            usable: usable.into(),
            panic: false,
            expected: false,
            table: Table::new(algorithm, &weights),
        }
    }

    /// The endpoint for the next request; `None` when all that are not to be avoided are full.
    #[inline]
    pub(crate) fn pick(
        &self,
        cursor: &mut Cursor,
        random: &mut Random,
        now: Ticks,
        avoid: &[EndpointId],
    ) -> Option<&Arc<Endpoint>> {
        let request = Request {
            usable: &self.usable,
            avoid,
            now,
            slow_start: self.settings.slow_start,
        };
        let index = self.table.pick(cursor, random, &request)?;
        self.usable.get(index)
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
    slow_start: Duration,
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
        if self.slow_start.is_zero() {
            return 1.0;
        }
        self.usable[index].share(self.slow_start, self.now)
    }
}
