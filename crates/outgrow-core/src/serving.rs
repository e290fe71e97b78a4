//! What each instance of an application is serving at the moment, and when it last wrote: what the
//! tier of requests and that of databases know of each other. Neither knows the other tier.
//!
//! The edge says which requests an instance has in flight, each with what its user is known to have
//! written (its *floors*). The database tier says when connections of an instance ended something
//! that may have written, and asks before a read how far a replica must have come
//! ([`Serving::demand`]). Nobody can tell to which of an instance's requests a statement belongs:
//! a demand is that of all of them. Which routes they are of is there for statistics
//! ([`Serving::sample`]).
//!
//! Deliberately not here: how floors travel with users (the edge's cookies), who is an instance
//! (the binary), what a position in a log means (the database tier).

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Ticks;

mod routes;
#[cfg(test)]
mod tests;

use routes::{Distinct, Routes};
pub use routes::{MOST_NAMED, MOST_SAMPLED, Route, Sample, SampleCell};

/// Most requests of an instance that are listed; those beyond are only counted, and while one of
/// them has floors the instance reads from the primary.
pub const MOST_REQUESTS: usize = 4096;
/// Most services of databases that are told apart of an instance; what it writes to others has it
/// read from the primary.
pub const MOST_STORES: usize = 16;

/// A service of database servers: a hash of its name, the same in every process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Store(pub u32);

impl Store {
    /// That of a service's name (FNV-1a).
    pub fn of(name: &str) -> Self {
        let mix = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        Self(name.as_bytes().iter().fold(0x811c_9dc5, mix))
    }
}

/// How far a primary has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Its timeline: a later one begins with each promotion.
    pub timeline: u32,
    /// Bytes of its log.
    pub lsn: u64,
}

impl Position {
    /// Takes over what is further in either.
    pub fn raise(&mut self, other: Self) {
        self.timeline = self.timeline.max(other.timeline);
        self.lsn = self.lsn.max(other.lsn);
    }
}

/// What a user is known to have written to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// Everything of it is at most here.
    At(Store, Position),
    /// Nobody knows where, until then: only the primary has it for certain.
    Unknown(Store, Ticks),
}

/// What is known of a request's user.
#[derive(Clone, Debug, Default)]
pub struct Floors {
    /// What it has written.
    pub written: Vec<Floor>,
    /// Instances that may go on to write for it (work after the response), until when that counts.
    pub after: Vec<(Arc<Serving>, Ticks)>,
}

impl Floors {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.written.is_empty() && self.after.is_empty()
    }
}

/// How far a replica must have come to be read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// As far as the primary was when it was asked at this time or later; zero: it need not be asked.
    pub wrote: Ticks,
    /// At least as far as this.
    pub position: Position,
    /// Only the primary will do.
    pub only_primary: bool,
}

/// What was written to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where.
    pub store: Store,
    /// When the last transaction ended that may have written.
    pub ended: Ticks,
    /// The latest beginning of such a transaction.
    pub began: Ticks,
    /// Where the primary was after it, once it was asked.
    pub position: Option<Position>,
}

/// Where primaries are.
pub trait Positions: fmt::Debug + Send + Sync {
    /// Where the primary of `store` is, by its word of `after` or later. None when it does not say
    /// so in time. Must end by itself.
    fn position(
        &self,
        store: Store,
        after: Ticks,
    ) -> Pin<Box<dyn Future<Output = Option<Position>> + Send + '_>>;
}

#[derive(Debug)]
struct Request {
    route: Arc<Route>,
    since: Ticks,
    floors: Option<Box<Floors>>,
}

#[derive(Debug, Default)]
struct Requests {
    listed: Vec<Option<Request>>,
    free: Vec<u32>,
    /// Those that are not listed, and how many of them have floors.
    unlisted: u32,
    unlisted_floors: u32,
    /// The routes of those that are listed.
    routes: Distinct,
}

impl Requests {
    /// The routes in flight.
    fn sample(&self) -> Sample {
        let mut sample = self.routes.sample();
        if self.unlisted > 0 {
            sample.add(u32::MAX);
        }
        sample
    }
}

/// An instance: what it serves, what it wrote.
#[derive(Debug)]
pub struct Serving {
    /// What it is known by, the same in every process.
    identity: u64,
    requests: Mutex<Requests>,
    /// Requests in flight that have floors.
    with_floors: AtomicU32,
    /// The routes in flight.
    routes: SampleCell,
    /// Connections to databases that are known to be its own.
    connections: AtomicU32,
    writes: Mutex<Vec<Written>>,
    /// Whether it wrote to more stores than are told apart.
    wrote_beyond: AtomicU32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Serving {
    /// One that serves nothing and has written nothing.
    pub fn new(identity: u64) -> Arc<Self> {
        Arc::new(Self {
            identity,
            requests: Mutex::default(),
            with_floors: AtomicU32::new(0),
            routes: SampleCell::default(),
            connections: AtomicU32::new(0),
            writes: Mutex::default(),
            wrote_beyond: AtomicU32::new(0),
        })
    }

    /// What it is known by.
    pub fn identity(&self) -> u64 {
        self.identity
    }

    /// A request is in flight there until what is returned is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>, route: &Arc<Route>, since: Ticks, floors: Floors) -> InFlight {
        let has_floors = !floors.is_empty();
        let number = route.number();
        let request = Request {
            route: Arc::clone(route),
            since,
            floors: has_floors.then(|| Box::new(floors)),
        };
        let mut requests = lock(&self.requests);
        let slot = if let Some(slot) = requests.free.pop() {
            requests.listed[slot as usize] = Some(request);
            Some(slot)
        } else if requests.listed.len() < MOST_REQUESTS {
            requests.listed.push(Some(request));
            Some(requests.listed.len() as u32 - 1)
        } else {
            requests.unlisted += 1;
            requests.unlisted_floors += u32::from(has_floors);
            None
        };
        if slot.is_none() || requests.routes.begin(number) {
            self.routes.set(&requests.sample());
        }
        if has_floors {
            self.with_floors.fetch_add(1, Ordering::Release);
        }
        drop(requests);
        InFlight {
            serving: Arc::clone(self),
            slot,
            has_floors,
        }
    }

    fn end(&self, slot: Option<u32>, has_floors: bool) {
        let mut requests = lock(&self.requests);
        let ended = match slot {
            Some(slot) => {
                requests.free.push(slot);
                requests.listed[slot as usize].take()
            }
            None => {
                requests.unlisted -= 1;
                requests.unlisted_floors -= u32::from(has_floors);
                None
            }
        };
        let number = ended.as_ref().map(|ended| ended.route.number());
        if number.is_none_or(|number| requests.routes.end(number)) {
            self.routes.set(&requests.sample());
        }
        if has_floors {
            self.with_floors.fetch_sub(1, Ordering::Release);
        }
        drop(requests);
        drop(ended);
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        let requests = lock(&self.requests);
        requests.listed.len() - requests.free.len() + requests.unlisted as usize
    }

    /// The routes of the requests in flight. With one of them a statement of the instance certainly
    /// belongs to it, as long as the instance does nothing besides. Takes no lock.
    #[inline]
    pub fn sample(&self) -> Sample {
        self.routes.get()
    }

    /// The routes of the requests that were in flight already at `then`: those to which something
    /// may belong that has been going on since then.
    pub fn sample_since(&self, then: Ticks) -> Sample {
        let requests = lock(&self.requests);
        let listed = requests.listed.iter().flatten();
        let older = listed.filter(|request| request.since <= then);
        let mut sample = Sample::of(older.map(|request| request.route.number()));
        if requests.unlisted > 0 {
            sample.add(u32::MAX);
        }
        sample
    }

    /// A connection to a database is known to be its own, or is so no more.
    pub fn count_connection(&self, is_there: bool) {
        if is_there {
            self.connections.fetch_add(1, Ordering::Relaxed);
        } else {
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Connections to databases that are known to be its own.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// One of its connections has ended something that may have written. It `began` at the earliest
    /// then.
    pub fn note_write(&self, store: Store, began: Ticks, ended: Ticks) {
        let mut writes = lock(&self.writes);
        if let Some(known) = writes.iter_mut().find(|known| known.store == store) {
            known.ended = known.ended.max(ended);
            known.began = known.began.max(began);
            known.position = None;
        } else if writes.len() < MOST_STORES {
            writes.push(Written {
                store,
                ended,
                began,
                position: None,
            });
        } else {
            self.wrote_beyond.store(1, Ordering::Release);
        }
    }

    /// Takes note of where a primary was when it was `asked`.
    pub fn settle(&self, store: Store, asked: Ticks, position: Position) {
        let mut writes = lock(&self.writes);
        let known = writes.iter_mut().find(|known| known.store == store);
        if let Some(known) = known
            && known.position.is_none()
            && known.ended <= asked
        {
            known.position = Some(position);
        }
    }

    /// What was written to the stores by transactions that may have begun at `since` or later.
    pub fn written_since(&self, since: Ticks) -> Vec<Written> {
        let writes = lock(&self.writes);
        let is_since = |known: &&Written| known.began >= since;
        writes.iter().filter(is_since).copied().collect()
    }

    fn add_written(&self, store: Store, demand: &mut Demand) {
        let writes = lock(&self.writes);
        let known = writes.iter().find(|known| known.store == store);
        match known {
            Some(Written {
                position: Some(position),
                ..
            }) => demand.position.raise(*position),
            Some(known) => demand.wrote = demand.wrote.max(known.ended),
            None => demand.only_primary |= self.wrote_beyond.load(Ordering::Acquire) != 0,
        }
    }

    /// Adds what a read of one of its connections at `now` demands of a replica: everything that the
    /// instance wrote, and the floors of the requests that it is serving.
    pub fn demand(&self, store: Store, now: Ticks, demand: &mut Demand) {
        self.add_written(store, demand);
        if self.with_floors.load(Ordering::Acquire) == 0 {
            return;
        }
        let requests = lock(&self.requests);
        demand.only_primary |= requests.unlisted_floors > 0;
        let listed = requests.listed.iter().flatten();
        for floors in listed.filter_map(|request| request.floors.as_deref()) {
            for floor in &floors.written {
                match *floor {
                    Floor::At(of, position) if of == store => demand.position.raise(position),
                    Floor::Unknown(of, until) if of == store && now < until => {
                        demand.only_primary = true;
                    }
                    _ => {}
                }
            }
            for (other, until) in &floors.after {
                if now < *until {
                    other.add_written(store, demand);
                }
            }
        }
    }

    /// The instances whose writes a demand may have been about, besides its own.
    pub fn settle_all(&self, store: Store, asked: Ticks, position: Position) {
        self.settle(store, asked, position);
        if self.with_floors.load(Ordering::Acquire) == 0 {
            return;
        }
        let requests = lock(&self.requests);
        let listed = requests.listed.iter().flatten();
        for floors in listed.filter_map(|request| request.floors.as_deref()) {
            for (other, _) in &floors.after {
                other.settle(store, asked, position);
            }
        }
    }
}

/// A request in flight at an instance, for as long as it is held.
#[derive(Debug)]
pub struct InFlight {
    serving: Arc<Serving>,
    slot: Option<u32>,
    has_floors: bool,
}

impl InFlight {
    /// The instance.
    pub fn serving(&self) -> &Arc<Serving> {
        &self.serving
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.serving.end(self.slot, self.has_floors);
    }
}

/// All instances, by what they are known by.
#[derive(Debug)]
pub struct Servings {
    all: Mutex<HashMap<u64, Arc<Serving>>>,
    unplaced: Arc<Serving>,
    routes: Routes,
}

impl Default for Servings {
    fn default() -> Self {
        Self {
            all: Mutex::default(),
            unplaced: Serving::new(0),
            routes: Routes::default(),
        }
    }
}

impl Servings {
    /// The instance of that identity; made when it is new.
    pub fn of(&self, identity: u64) -> Arc<Serving> {
        let mut all = lock(&self.all);
        let known = all.entry(identity);
        Arc::clone(known.or_insert_with(|| Serving::new(identity)))
    }

    /// The instance of that identity, if it is known.
    pub fn find(&self, identity: u64) -> Option<Arc<Serving>> {
        lock(&self.all).get(&identity).cloned()
    }

    /// What connections write that are of no instance that is known: it may be for any request.
    pub fn unplaced(&self) -> &Arc<Serving> {
        &self.unplaced
    }

    /// The route of that name, for as long as somebody has it. Of more than [`MOST_NAMED`] those
    /// beyond are one without a name.
    pub fn route(&self, name: &str) -> Arc<Route> {
        self.routes.of(name)
    }

    /// The route of requests of which nobody wants to know it.
    pub fn nameless(&self) -> &Arc<Route> {
        self.routes.nameless()
    }

    /// What routes are called, those that are still known.
    pub fn names(&self, numbers: &[u32]) -> Vec<Option<Arc<str>>> {
        self.routes.names(numbers)
    }

    /// The routes in flight at any instance.
    pub fn sample(&self) -> Sample {
        let mut sample = Sample::default();
        for serving in lock(&self.all).values() {
            sample.extend(&serving.sample());
        }
        sample
    }

    /// Those of the requests that were in flight already at `then`.
    pub fn sample_since(&self, then: Ticks) -> Sample {
        let mut sample = Sample::default();
        for serving in lock(&self.all).values() {
            sample.extend(&serving.sample_since(then));
        }
        sample
    }

    /// Forgets instances that are none of `known` and that nobody uses.
    pub fn retain(&self, known: impl Fn(u64) -> bool) {
        let is_kept = |identity: &u64, serving: &mut Arc<Serving>| {
            Arc::strong_count(serving) > 1 || known(*identity)
        };
        lock(&self.all).retain(is_kept);
    }
}
