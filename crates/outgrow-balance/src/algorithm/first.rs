//! First: the endpoints in their given order; one is filled to its limit before the next gets
//! anything. So the last ones run idle and can be stopped: bin packing for scale-in.
//!
//! Needs a limit of requests or connections per endpoint: without one all load stays on the first.
//! Weights do not count. Slow start does: a share of one's requests goes past it.

use outgrow_core::Random;

use super::Candidates;
use super::weights::takes_turn;

/// The number of endpoints.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    count: usize,
}

impl Table {
    /// The table for `count` endpoints.
    pub fn new(count: usize) -> Self {
        Self { count }
    }

    /// The first endpoint that is available; `None` when none is. O(endpoints that are full).
    #[inline]
    pub fn pick(&self, random: &mut Random, candidates: &impl Candidates) -> Option<usize> {
        let mut passed_over = None;
        for index in 0..self.count {
            if candidates.available(index) {
                if takes_turn(index, random, candidates) {
                    return Some(index);
                }
                passed_over = passed_over.or(Some(index));
            }
        }
        passed_over
    }
}
