//! Random: each request goes to an endpoint drawn by weight, whatever the load. Needs no state, so
//! any number of edges act as one; its queues are the longest of all algorithms that know nothing
//! of the load (see docs/balance.md).

use outgrow_core::Random;

use super::Candidates;
use super::weights::{Weights, takes_turn};

/// Draws before all endpoints are looked at. With half of the weight available 2^-16 of the picks
/// need that.
const DRAWS: usize = 16;

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

    /// The endpoint for the next request; `None` when none is available. Exactly by weight times
    /// share among those available, whether drawn or, at last, looked for: O(n).
    #[inline]
    pub fn pick(&self, random: &mut Random, candidates: &impl Candidates) -> Option<usize> {
        if self.weights.count() == 0 {
            return None;
        }
        for _ in 0..DRAWS {
            let index = self.weights.draw(random);
            if candidates.available(index) && takes_turn(index, random, candidates) {
                return Some(index);
            }
        }
        self.look_for_one(random, candidates)
    }

    /// A draw from a stream of unknown length (Chao's weighted reservoir of one).
    fn look_for_one(&self, random: &mut Random, candidates: &impl Candidates) -> Option<usize> {
        let mut chosen = None;
        let mut total = 0.0;
        for index in 0..self.weights.count() {
            if candidates.available(index) {
                let capacity = self.weights.capacity(index, candidates);
                total += capacity;
                if chosen.is_none() || random.unit() * total < capacity {
                    chosen = Some(index);
                }
            }
        }
        chosen
    }
}
