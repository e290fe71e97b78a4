//! Power of two choices (Mitzenmacher): two different endpoints are drawn, the less loaded one is
//! taken. Nearly as even as looking at all of them, and it does not send a herd to the newest.
//!
//! With weights the draws are in proportion to them and the load is requests in flight for the
//! weight. A tie goes to the first draw: so an idle service is used in proportion to the weights
//! too, where (active + 1) / weight would send everything to the heaviest endpoint.

use outgrow_core::Random;

use super::weights::Weights;
use super::{Candidates, least_of_all};

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
        if self.weights.count() < 2 {
            return (self.weights.count() == 1 && candidates.available(0)).then_some(0);
        }
        let (first, second) = self.weights.draw_two(random);
        match (candidates.available(first), candidates.available(second)) {
            (true, true) => Some(self.better(first, second, random, candidates)),
            (true, false) => Some(first),
            (false, true) => Some(second),
            (false, false) => least_of_all(self.weights.count(), first, candidates, |index| {
                f64::from(candidates.active(index)) / self.weights.capacity(index, candidates)
            }),
        }
    }

    #[inline]
    fn better(
        &self,
        mut first: usize,
        mut second: usize,
        random: &mut Random,
        candidates: &impl Candidates,
    ) -> usize {
        let mut share_of_first = candidates.share(first);
        let mut share_of_second = candidates.share(second);
        // A tie goes to the first: one that starts slowly is first as seldom as its share says.
        if share_of_first < share_of_second && random.unit() * share_of_second >= share_of_first {
            (first, second) = (second, first);
            (share_of_first, share_of_second) = (share_of_second, share_of_first);
        }
        let load_of_first =
            f64::from(candidates.active(first)) * (self.weights.of(second) * share_of_second);
        let load_of_second =
            f64::from(candidates.active(second)) * (self.weights.of(first) * share_of_first);
        if load_of_second < load_of_first {
            second
        } else {
            first
        }
    }
}
