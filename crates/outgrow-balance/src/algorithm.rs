//! The algorithms, behind one [`Table`] that is compiled from the weights of the usable endpoints.
//!
//! To add one: a file beside the others with its own `Table` (`new`, `pick`), a variant in
//! [`Algorithm`] and in [`Table`], and, where it must know more of an endpoint than [`Candidates`]
//! tells, a method with a default there. What several picks of one worker share is in [`Cursor`].

mod alias;
mod bound;
pub mod first;
mod keyed;
pub mod least_connections;
pub mod least_time;
pub mod maglev;
pub mod power_of_two;
pub mod random;
pub mod ring_hash;
pub mod round_robin;
#[cfg(test)]
mod tests;
mod weights;

use outgrow_core::Random;

pub use bound::Bound;

/// How the next endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Two are drawn by weight, the one with fewer requests in flight for its weight is taken.
    #[default]
    PowerOfTwo,
    /// Each in turn, as often as its weight says and spread evenly.
    RoundRobin,
    /// The one with the fewest requests in flight for its weight.
    LeastConnections,
    /// Drawn by weight.
    Random,
    /// Of two drawn by weight the one that answers sooner, by its response times so far and its
    /// requests in flight.
    LeastTime,
    /// By the key, on a ring.
    RingHash(ring_hash::Settings),
    /// By the key, in a table.
    Maglev(maglev::Settings),
    /// The first in the given order that is not full.
    First,
}

impl Algorithm {
    /// Whether picks look at the key; it need not be computed otherwise.
    pub fn uses_key(&self) -> bool {
        matches!(self, Self::RingHash(_) | Self::Maglev(_))
    }

    /// Whether picks look at [`Candidates::latency`]; response times need not be kept otherwise.
    pub fn uses_latency(&self) -> bool {
        matches!(self, Self::LeastTime)
    }
}

/// An endpoint as a table is compiled from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its part of the load relative to the others'. 0 counts as 1: an endpoint that is to get
    /// nothing is not to be in the set.
    pub weight: u32,
    /// A stable hash of its address (see [`hash`](crate::hash::hash)), the same in every process:
    /// so all edges send a key to the same endpoint, in whatever order they know the endpoints.
    pub identity: u64,
}

/// What an algorithm may ask about the endpoints it picks from. An index is that of the member
/// that the table was compiled from.
pub trait Candidates {
    /// Requests in flight at the endpoint.
    fn active(&self, index: usize) -> u32;

    /// Whether the endpoint can take a request now: it has a permit left and is not to be avoided.
    fn available(&self, index: usize) -> bool;

    /// The part of its weight that counts now, above 0 and at most 1: see
    /// [`slow_start::share`](crate::slow_start::share).
    fn share(&self, _index: usize) -> f64 {
        1.0
    }

    /// The average response time of the endpoint in seconds, decayed to now: see
    /// [`PeakEwma::read`](crate::peak_ewma::PeakEwma::read). 0 is not measured.
    fn latency(&self, _index: usize) -> f64 {
        0.0
    }

    /// Requests in flight at all `count` endpoints. Asked at most once per pick, only under a
    /// [`Bound`] and only when the endpoint that is due is not idle. O(count) unless overridden
    /// with a counter that the service keeps.
    fn total_active(&self, count: usize) -> u64 {
        (0..count).map(|index| u64::from(self.active(index))).sum()
    }
}

/// An algorithm compiled for a set of endpoints. Picks allocate nothing, and are O(1) while
/// endpoints are available ([`first`]: O(those that are full)).
#[derive(Clone, Debug)]
pub enum Table {
    /// See [`power_of_two`].
    PowerOfTwo(power_of_two::Table),
    /// See [`round_robin`].
    RoundRobin(round_robin::Table),
    /// See [`least_connections`].
    LeastConnections(least_connections::Table),
    /// See [`random`].
    Random(random::Table),
    /// See [`least_time`].
    LeastTime(least_time::Table),
    /// See [`ring_hash`].
    RingHash(ring_hash::Table),
    /// See [`maglev`].
    Maglev(maglev::Table),
    /// See [`first`].
    First(first::Table),
}

impl Table {
    /// Compiles the table for these endpoints.
    pub fn new(algorithm: &Algorithm, members: &[Member]) -> Self {
        let weights = || -> Vec<u32> { members.iter().map(|member| member.weight).collect() };
        match *algorithm {
            Algorithm::PowerOfTwo => Self::PowerOfTwo(power_of_two::Table::new(&weights())),
            Algorithm::RoundRobin => Self::RoundRobin(round_robin::Table::new(&weights())),
            Algorithm::LeastConnections => {
                Self::LeastConnections(least_connections::Table::new(&weights()))
            }
            Algorithm::Random => Self::Random(random::Table::new(&weights())),
            Algorithm::LeastTime => Self::LeastTime(least_time::Table::new(&weights())),
            Algorithm::RingHash(settings) => {
                Self::RingHash(ring_hash::Table::new(settings, members))
            }
            Algorithm::Maglev(settings) => Self::Maglev(maglev::Table::new(settings, members)),
            Algorithm::First => Self::First(first::Table::new(members.len())),
        }
    }

    /// The endpoint for the next request; `None` when none is available. The key is a hash of what
    /// the request is kept together by (header, cookie, query, path, address); the algorithms that
    /// [use no key](Algorithm::uses_key) ignore it, the others pick by weight without one.
    #[inline]
    pub fn pick(
        &self,
        cursor: &mut Cursor,
        random: &mut Random,
        key: Option<u64>,
        candidates: &impl Candidates,
    ) -> Option<usize> {
        match self {
            Self::PowerOfTwo(table) => table.pick(random, candidates),
            Self::RoundRobin(table) => table.pick(cursor, random, candidates),
            Self::LeastConnections(table) => table.pick(random, candidates),
            Self::Random(table) => table.pick(random, candidates),
            Self::LeastTime(table) => table.pick(random, candidates),
            Self::RingHash(table) => table.pick(random, key, candidates),
            Self::Maglev(table) => table.pick(random, key, candidates),
            Self::First(table) => table.pick(random, candidates),
        }
    }
}

/// The place of one worker in the tables of one service; it lives on when the table changes.
#[derive(Clone, Debug)]
pub struct Cursor {
    /// The next turn, below `length`.
    position: usize,
    /// The next turn to fall back to when the one at `position` is refused, below `length`.
    spare: usize,
    /// Turns of the table that the two count in.
    length: usize,
}

impl Cursor {
    /// The cursor of worker `worker` of `workers`: they start evenly spread, so that workers do
    /// not march in step and send the same requests to the same endpoint at the same time.
    pub fn new(worker: usize, workers: usize) -> Self {
        let length = workers.max(1);
        let position = worker % length;
        Self {
            position,
            spare: (position + length / 2) % length,
            length,
        }
    }

    /// Carries the place over to a table of `length` turns, in proportion.
    fn enter(&mut self, length: usize) {
        if self.length != length {
            self.position = self.position * length / self.length;
            self.spare = self.spare * length / self.length;
            self.length = length;
        }
    }
}

/// The available endpoint with the least `load`, looked for from `start` on; the last resort of
/// an algorithm whose own picks are not available. O(n).
fn least_of_all(
    count: usize,
    start: usize,
    candidates: &impl Candidates,
    load: impl Fn(usize) -> f64,
) -> Option<usize> {
    let mut best = None;
    for offset in 0..count {
        let index = (start + offset) % count;
        if !candidates.available(index) {
            continue;
        }
        let load = load(index);
        if best.is_none_or(|(_, least)| load < least) {
            best = Some((index, load));
        }
    }
    best.map(|(index, _)| index)
}
