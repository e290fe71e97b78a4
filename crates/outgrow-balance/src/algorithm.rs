//! The algorithms, behind one [`Table`] that is compiled from the weights of the usable endpoints.
//!
//! To add one: a file beside the others with its own `Table` (`new`, `pick`), a variant in
//! [`Algorithm`] and in [`Table`], and, where it must know more of an endpoint than [`Candidates`]
//! tells, a method with a default there. What several picks of one worker share is in [`Cursor`].

mod alias;
pub mod power_of_two;
pub mod round_robin;
#[cfg(test)]
mod simulation;

use outgrow_core::Random;

/// How the next endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Two are drawn by weight, the one with fewer requests in flight for its weight is taken.
    #[default]
    PowerOfTwo,
    /// Each in turn, as often as its weight says and spread evenly.
    RoundRobin,
}

/// What an algorithm may ask about the endpoints it picks from. An index is that of the weight
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
}

/// An algorithm compiled for a set of endpoints. Picks are O(1) while endpoints are available.
#[derive(Clone, Debug)]
pub enum Table {
    /// See [`power_of_two`].
    PowerOfTwo(power_of_two::Table),
    /// See [`round_robin`].
    RoundRobin(round_robin::Table),
}

impl Table {
    /// Compiles the table for endpoints with these weights. A weight of 0 counts as 1: an endpoint
    /// that is to get nothing is not to be in the set.
    pub fn new(algorithm: Algorithm, weights: &[u32]) -> Self {
        match algorithm {
            Algorithm::PowerOfTwo => Self::PowerOfTwo(power_of_two::Table::new(weights)),
            Algorithm::RoundRobin => Self::RoundRobin(round_robin::Table::new(weights)),
        }
    }

    /// The algorithm that it was compiled for.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::PowerOfTwo(_) => Algorithm::PowerOfTwo,
            Self::RoundRobin(_) => Algorithm::RoundRobin,
        }
    }

    /// The endpoint for the next request; `None` when none is available.
    #[inline]
    pub fn pick(
        &self,
        cursor: &mut Cursor,
        random: &mut Random,
        candidates: &impl Candidates,
    ) -> Option<usize> {
        match self {
            Self::PowerOfTwo(table) => table.pick(random, candidates),
            Self::RoundRobin(table) => table.pick(cursor, random, candidates),
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
