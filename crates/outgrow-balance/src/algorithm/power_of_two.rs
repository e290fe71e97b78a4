//! Power of two choices (Mitzenmacher): two different endpoints are drawn, the less loaded one is
//! taken. Nearly as even as looking at all of them, and it does not send a herd to the newest.
//!
//! With weights the draws are in proportion to them and the load is requests in flight for the
//! weight. A tie goes to the first draw: so an idle service is used in proportion to the weights
//! too, where (active + 1) / weight would send everything to the heaviest endpoint.

use outgrow_core::Random;

use super::alias::Alias;
use super::{Candidates, least_of_all};

/// Tries to draw a second endpoint other than the first, before the next is taken without a draw.
const SECOND_DRAWS: usize = 4;

/// The draws of a set of endpoints.
#[derive(Clone, Debug)]
pub struct Table {
    count: usize,
    /// `None` when all weights are equal.
    weighted: Option<Weighted>,
}

#[derive(Clone, Debug)]
struct Weighted {
    weights: Box<[f64]>,
    alias: Alias,
}

impl Table {
    /// The table for endpoints of these weights; 0 counts as 1.
    pub fn new(weights: &[u32]) -> Self {
        let weights: Vec<u32> = weights.iter().map(|&weight| weight.max(1)).collect();
        let equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let weighted = (!equal).then(|| Weighted {
            weights: weights.iter().map(|&weight| f64::from(weight)).collect(),
            alias: Alias::new(&weights),
        });
        Self {
            count: weights.len(),
            weighted,
        }
    }

    /// The endpoint for the next request; `None` when none is available. Falls back to looking at
    /// all of them when neither of the two drawn is available.
    #[inline]
    pub fn pick(&self, random: &mut Random, candidates: &impl Candidates) -> Option<usize> {
        if self.count < 2 {
            return (self.count == 1 && candidates.available(0)).then_some(0);
        }
        let (first, second) = self.draw_two(random);
        match (candidates.available(first), candidates.available(second)) {
            (true, true) => Some(self.better(first, second, random, candidates)),
            (true, false) => Some(first),
            (false, true) => Some(second),
            (false, false) => least_of_all(self.count, first, candidates, |index| {
                f64::from(candidates.active(index)) / self.capacity(index, candidates.share(index))
            }),
        }
    }

    #[inline]
    fn draw_two(&self, random: &mut Random) -> (usize, usize) {
        let Some(weighted) = &self.weighted else {
            let first = random.below(self.count);
            let second = random.below(self.count - 1);
            return (first, second + usize::from(second >= first));
        };
        let first = weighted.alias.draw(random);
        for _ in 0..SECOND_DRAWS {
            let second = weighted.alias.draw(random);
            if second != first {
                return (first, second);
            }
        }
        (
            first,
            (first + 1 + random.below(self.count - 1)) % self.count,
        )
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
            f64::from(candidates.active(first)) * self.capacity(second, share_of_second);
        let load_of_second =
            f64::from(candidates.active(second)) * self.capacity(first, share_of_first);
        if load_of_second < load_of_first {
            second
        } else {
            first
        }
    }

    #[inline]
    fn capacity(&self, index: usize, share: f64) -> f64 {
        self.weighted
            .as_ref()
            .map_or(share, |weighted| weighted.weights[index] * share)
    }
}
