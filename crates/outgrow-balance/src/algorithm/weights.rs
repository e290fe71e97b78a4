//! Weights and draws by them: what the algorithms that draw at random have in common.

use outgrow_core::Random;

use super::Candidates;
use super::alias::Alias;

/// Tries to draw a second endpoint other than the first, before the next is taken without a draw.
const SECOND_DRAWS: usize = 4;

/// The weights of a set of endpoints. With equal weights every one is 1 and no table is kept.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    count: usize,
    unequal: Option<Unequal>,
}

#[derive(Clone, Debug)]
struct Unequal {
    /// In units of their mean.
    weights: Box<[f64]>,
    alias: Alias,
}

impl Weights {
    /// Of these weights; 0 counts as 1.
    pub(super) fn new(weights: &[u32]) -> Self {
        let weights: Vec<u32> = weights.iter().map(|&weight| weight.max(1)).collect();
        let equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let unequal = (!equal).then(|| {
            let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            let mean = total as f64 / weights.len() as f64;
            Unequal {
                weights: weights
                    .iter()
                    .map(|&weight| f64::from(weight) / mean)
                    .collect(),
                alias: Alias::new(&weights),
            }
        });
        Self {
            count: weights.len(),
            unequal,
        }
    }

    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The endpoint's weight in units of the mean weight.
    #[inline]
    pub(super) fn of(&self, index: usize) -> f64 {
        self.unequal
            .as_ref()
            .map_or(1.0, |unequal| unequal.weights[index])
    }

    /// Its weight times the share of it that counts now.
    #[inline]
    pub(super) fn capacity(&self, index: usize, candidates: &impl Candidates) -> f64 {
        self.of(index) * candidates.share(index)
    }

    /// One by weight. There must be one.
    #[inline]
    pub(super) fn draw(&self, random: &mut Random) -> usize {
        match &self.unequal {
            Some(unequal) => unequal.alias.draw(random),
            None => random.below(self.count),
        }
    }

    /// Two different ones by weight. There must be two.
    #[inline]
    pub(super) fn draw_two(&self, random: &mut Random) -> (usize, usize) {
        let Some(unequal) = &self.unequal else {
            let first = random.below(self.count);
            let second = random.below(self.count - 1);
            return (first, second + usize::from(second >= first));
        };
        let first = unequal.alias.draw(random);
        for _ in 0..SECOND_DRAWS {
            let second = unequal.alias.draw(random);
            if second != first {
                return (first, second);
            }
        }
        (
            first,
            (first + 1 + random.below(self.count - 1)) % self.count,
        )
    }
}

/// Whether an endpoint takes its turn: one that starts slowly does as often as its share says.
#[inline]
pub(super) fn takes_turn(index: usize, random: &mut Random, candidates: &impl Candidates) -> bool {
    let share = candidates.share(index);
    share >= 1.0 || random.unit() < share
}
