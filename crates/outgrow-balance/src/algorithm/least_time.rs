//! Least response time: two endpoints are drawn by weight, the one that will answer sooner is
//! taken. How soon is its [peak EWMA](crate::peak_ewma) times the requests it has and gets.
//!
//! As linkerd and Finagle have it: cost = latency x (active + 1). With weights it is
//! latency x (active / capacity + 1), capacity being the weight in units of the mean weight, times
//! the slow start share: dividing the new request by the weight too, an idle service would send all
//! to the heaviest endpoint, for the draws know the weights already.
//!
//! Why two and not all: a measurement is old by the time it is used, and the fastest of all would
//! get everybody's next request. Why one that was slow comes back: its average decays while it is
//! not used, until it is tried again.

use outgrow_core::Random;

use super::weights::{Weights, takes_turn};
use super::{Candidates, least_of_all};
use crate::peak_ewma::DEFAULT_LATENCY;

/// The draws of a set of endpoints.
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

    /// The endpoint for the next request; `None` when none is available. Falls back to looking at
    /// all of them when neither of the two drawn is available.
    #[inline]
    pub fn pick(&self, random: &mut Random, candidates: &impl Candidates) -> Option<usize> {
        let count = self.weights.count();
        if count < 2 {
            return (count == 1 && candidates.available(0)).then_some(0);
        }
        let (first, second) = self.weights.draw_two(random);
        match (candidates.available(first), candidates.available(second)) {
            (true, true) => {}
            (true, false) => return Some(first),
            (false, true) => return Some(second),
            (false, false) => {
                return least_of_all(count, first, candidates, |index| {
                    self.cost(index, candidates)
                });
            }
        }
        // One that starts slowly is looked at as often as its share says.
        match (
            takes_turn(first, random, candidates),
            takes_turn(second, random, candidates),
        ) {
            (true, false) => return Some(first),
            (false, true) => return Some(second),
            _ => {}
        }
        if self.cost(second, candidates) < self.cost(first, candidates) {
            Some(second)
        } else {
            Some(first)
        }
    }

    #[inline]
    fn cost(&self, index: usize, candidates: &impl Candidates) -> f64 {
        let measured = candidates.latency(index);
        let latency = if measured > 0.0 {
            measured
        } else {
            DEFAULT_LATENCY.as_secs_f64()
        };
        let queue = f64::from(candidates.active(index)) / self.weights.capacity(index, candidates);
        latency * (queue + 1.0)
    }
}
