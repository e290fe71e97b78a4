//! Least connections: the endpoint with the fewest requests in flight for its weight.
//!
//! Up to [`SCAN_LIMIT`] endpoints all are looked at. Above, as many are drawn by weight: a full
//! scan of 1000 endpoints touches 1000 cache lines that all workers write to, and sends the
//! requests of all workers to the one newest endpoint at once. 16 draws miss an idle endpoint, when
//! a fifth is idle, in 0.8^16 = 3 % of the picks (8 draws: 17 %), and cost no more than the scan of
//! 16 that came before.
//!
//! Among equals one is drawn by weight: so an idle service is used in proportion to the weights,
//! and what follows a busy endpoint in the list does not inherit its load.

use std::cmp::Ordering;

use outgrow_core::Random;

use super::Candidates;
use super::weights::{Weights, takes_turn};

/// Endpoints that are looked at per pick.
pub const SCAN_LIMIT: usize = 16;

/// The weights of a set of endpoints.
#[derive(Clone, Debug)]
pub struct Table {
    weights: Weights,
}

impl Table {
    /// The table for endpoints of these weights; 0 counts as 1.
    pub fn new(weights: &[u32]) -> Self {
        Self {
            weights: Weights::new(weights),
        }
    }

    /// The endpoint for the next request; `None` when none is available. Looks at all of them when
    /// none of those drawn is available.
    #[inline]
    pub fn pick(&self, random: &mut Random, candidates: &impl Candidates) -> Option<usize> {
        if self.weights.count() > SCAN_LIMIT
            && let Some(index) = self.least_of_sample(random, candidates)
        {
            return Some(index);
        }
        self.least_of_all(random, candidates)
    }

    /// A tie stays with the one drawn first, so ties are by weight.
    fn least_of_sample(&self, random: &mut Random, candidates: &impl Candidates) -> Option<usize> {
        let mut best: Option<(usize, f64)> = None;
        for _ in 0..SCAN_LIMIT {
            let index = self.weights.draw(random);
            if !candidates.available(index) || !takes_turn(index, random, candidates) {
                continue;
            }
            let load = self.load(index, candidates);
            if best.is_none_or(|(_, least)| load < least) {
                best = Some((index, load));
            }
        }
        best.map(|(index, _)| index)
    }

    fn least_of_all(&self, random: &mut Random, candidates: &impl Candidates) -> Option<usize> {
        let mut best: Option<(usize, f64)> = None;
        // The capacity of those that are equal so far.
        let mut equals = 0.0;
        for index in 0..self.weights.count() {
            if !candidates.available(index) {
                continue;
            }
            let capacity = self.weights.capacity(index, candidates);
            let load = f64::from(candidates.active(index)) / capacity;
            let order = best.map_or(Ordering::Less, |(_, least)| load.total_cmp(&least));
            match order {
                Ordering::Less => {
                    best = Some((index, load));
                    equals = capacity;
                }
                Ordering::Equal => {
                    equals += capacity;
                    if random.unit() * equals < capacity {
                        best = Some((index, load));
                    }
                }
                Ordering::Greater => {}
            }
        }
        best.map(|(index, _)| index)
    }

    #[inline]
    fn load(&self, index: usize, candidates: &impl Candidates) -> f64 {
        f64::from(candidates.active(index)) / self.weights.capacity(index, candidates)
    }
}
