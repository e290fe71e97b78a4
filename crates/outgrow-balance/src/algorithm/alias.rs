//! Draws by weight in O(1): Walker's alias method with Vose's construction.

use outgrow_core::Random;

/// One cell: the share of it that belongs to its own index, the rest is the alias's.
#[derive(Clone, Copy, Debug)]
struct Cell {
    /// Of 2^32.
    own: u64,
    alias: u32,
}

/// A distribution over indices in proportion to weights.
#[derive(Clone, Debug)]
pub(super) struct Alias {
    cells: Box<[Cell]>,
}

const WHOLE: u64 = 1 << 32;

impl Alias {
    /// The distribution of `weights`, none of which is 0.
    pub(super) fn new(weights: &[u32]) -> Self {
        let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let count = weights.len() as u128;
        // In units of 2^-32 of a cell; the sum is count * WHOLE but for rounding down.
        let mut rest: Vec<u64> = weights
            .iter()
            .map(|&weight| {
                (u128::from(weight) * count * u128::from(WHOLE) / u128::from(total.max(1))) as u64
            })
            .collect();
        let mut cells: Box<[Cell]> = (0..weights.len())
            .map(|index| Cell {
                own: WHOLE,
                alias: index as u32,
            })
            .collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..rest.len()).partition(|&index| rest[index] < WHOLE);
        while let (Some(&less), Some(&more)) = (small.last(), large.last()) {
            small.pop();
            cells[less] = Cell {
                own: rest[less],
                alias: more as u32,
            };
            rest[more] -= WHOLE - rest[less];
            if rest[more] < WHOLE {
                large.pop();
                small.push(more);
            }
        }
        // What is left is a whole cell but for rounding.
        Self { cells }
    }

    /// An index, each with the probability of its weight.
    #[inline]
    pub(super) fn draw(&self, random: &mut Random) -> usize {
        let index = random.below(self.cells.len());
        let cell = self.cells[index];
        if random.next_u64() >> 32 < cell.own {
            index
        } else {
            cell.alias as usize
        }
    }

    /// The exact probability of each index, read back from the cells.
    #[cfg(test)]
    pub(super) fn probabilities(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.cells.len()];
        for (index, cell) in self.cells.iter().enumerate() {
            let own = cell.own as f64 / WHOLE as f64;
            sums[index] += own;
            sums[cell.alias as usize] += 1.0 - own;
        }
        sums.iter()
            .map(|sum| sum / self.cells.len() as f64)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_the_weights() {
        for seed in 0..500 {
            let mut random = Random::from_seed(seed);
            let count = 1 + random.below(40);
            let most = if seed % 3 == 0 { 1_000_000 } else { 20 };
            let weights: Vec<u32> = (0..count).map(|_| 1 + random.below(most) as u32).collect();
            let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            let got = Alias::new(&weights).probabilities();
            for (index, probability) in got.iter().enumerate() {
                let wanted = f64::from(weights[index]) / total;
                assert!(
                    (probability - wanted).abs() < 1e-7,
                    "seed {seed}: {probability} for {wanted} of {weights:?}"
                );
            }
        }
    }

    #[test]
    fn draws_follow_the_weights() {
        let alias = Alias::new(&[1, 2, 7]);
        let mut random = Random::from_seed(3);
        let mut seen = [0_u32; 3];
        for _ in 0..100_000 {
            seen[alias.draw(&mut random)] += 1;
        }
        for (count, wanted) in seen.iter().zip([10_000.0, 20_000.0, 70_000.0]) {
            assert!((f64::from(*count) - wanted).abs() < 700.0, "{seen:?}");
        }
    }
}
