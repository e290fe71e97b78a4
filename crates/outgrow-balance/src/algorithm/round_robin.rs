//! Smooth weighted round robin: each endpoint as often as its weight says, its turns spread evenly
//! over the cycle (the order is that of nginx: always the one that is furthest behind its due).
//!
//! The cycle is computed when the table is compiled; each worker walks it with a place of its own.

use outgrow_core::Random;

use super::weights::takes_turn;
use super::{Candidates, Cursor, least_of_all};

/// Longest cycle, in turns. Weights with a larger sum (after division by their greatest common
/// divisor) are scaled down to it, which rounds them.
const CYCLE_LIMIT: u64 = 16_384;

/// The turns of a set of endpoints.
#[derive(Clone, Debug)]
pub struct Table {
    count: usize,
    /// The endpoint of each turn; empty when all weights are equal: then turn i is endpoint i.
    cycle: Box<[u32]>,
}

impl Table {
    /// The table for endpoints of these weights; 0 counts as 1.
    pub fn new(weights: &[u32]) -> Self {
        let weights = reduced(weights);
        let equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let cycle = if equal {
            Box::default()
        } else {
            smooth_cycle(&weights)
        };
        Self {
            count: weights.len(),
            cycle,
        }
    }

    /// The endpoint for the next request; `None` when none is available. A turn whose endpoint is
    /// not available goes to the next of the cursor's spare turns, not to the neighbour in the
    /// cycle, which would then carry the load of two.
    #[inline]
    pub fn pick(
        &self,
        cursor: &mut Cursor,
        random: &mut Random,
        candidates: &impl Candidates,
    ) -> Option<usize> {
        if self.count == 0 {
            return None;
        }
        let length = if self.cycle.is_empty() {
            self.count
        } else {
            self.cycle.len()
        };
        cursor.enter(length);
        let index = self.endpoint_at(cursor.position);
        cursor.position = next(cursor.position, length);
        if candidates.available(index) && takes_turn(index, random, candidates) {
            return Some(index);
        }
        for _ in 0..2 * self.count {
            let index = self.endpoint_at(cursor.spare);
            cursor.spare = next(cursor.spare, length);
            if candidates.available(index) && takes_turn(index, random, candidates) {
                return Some(index);
            }
        }
        least_of_all(self.count, random.below(self.count), candidates, |index| {
            1.0 / candidates.share(index)
        })
    }

    #[inline]
    fn endpoint_at(&self, turn: usize) -> usize {
        self.cycle.get(turn).map_or(turn, |&index| index as usize)
    }
}

#[inline]
fn next(turn: usize, length: usize) -> usize {
    if turn + 1 == length { 0 } else { turn + 1 }
}

/// The weights without their common divisor, scaled down where the cycle would be too long.
fn reduced(weights: &[u32]) -> Vec<u64> {
    let mut weights: Vec<u64> = weights
        .iter()
        .map(|&weight| u64::from(weight.max(1)))
        .collect();
    let divisor = weights
        .iter()
        .copied()
        .fold(0, greatest_common_divisor)
        .max(1);
    let total: u64 = weights.iter().sum::<u64>() / divisor;
    for weight in &mut weights {
        *weight /= divisor;
        if total > CYCLE_LIMIT {
            *weight = ((*weight * CYCLE_LIMIT + total / 2) / total).max(1);
        }
    }
    weights
}

fn greatest_common_divisor(mut one: u64, mut other: u64) -> u64 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

/// Endpoints of the same weight take their turns in the order of their indices, so only the first
/// of each group need be compared: O(distinct weights) per turn instead of O(endpoints).
struct Group {
    weight: i64,
    members: Vec<u32>,
    /// The member whose turn is next.
    head: usize,
    /// How far that member is behind its due, in turns times the sum of all weights.
    behind: i64,
    /// How much further ahead the members are that had their turn in this round.
    total: i64,
}

impl Group {
    fn first(&self) -> u32 {
        self.members[self.head]
    }

    fn take(&mut self) {
        self.head += 1;
        if self.head == self.members.len() {
            // All had their turn: the round's cost is charged to the group at once.
            self.head = 0;
            self.behind -= self.total;
        }
    }
}

fn smooth_cycle(weights: &[u64]) -> Box<[u32]> {
    let total: u64 = weights.iter().sum();
    let mut groups: Vec<Group> = Vec::new();
    for (index, &weight) in weights.iter().enumerate() {
        let weight = weight as i64;
        match groups.iter_mut().find(|group| group.weight == weight) {
            Some(group) => group.members.push(index as u32),
            None => groups.push(Group {
                weight,
                members: vec![index as u32],
                head: 0,
                behind: 0,
                total: total as i64,
            }),
        }
    }
    (0..total)
        .map(|_| {
            for group in &mut groups {
                group.behind += group.weight;
            }
            let furthest = groups
                .iter_mut()
                .max_by_key(|group| (group.behind, std::cmp::Reverse(group.first())));
            furthest.map_or(0, |group| {
                let index = group.first();
                group.take();
                index
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The algorithm as nginx has it, one weight per endpoint and O(n) per turn.
    fn model(weights: &[u64]) -> Vec<u32> {
        let total: i64 = weights.iter().map(|&weight| weight as i64).sum();
        let mut current = vec![0_i64; weights.len()];
        (0..total)
            .map(|_| {
                let mut best = 0;
                for index in 0..weights.len() {
                    current[index] += weights[index] as i64;
                    if current[index] > current[best] {
                        best = index;
                    }
                }
                current[best] -= total;
                best as u32
            })
            .collect()
    }

    #[test]
    fn the_cycle_is_that_of_the_model() {
        assert_eq!(
            model(&[5, 1, 1]),
            [0, 0, 1, 0, 2, 0, 0],
            "the example of nginx"
        );
        for seed in 0..2_000 {
            let mut random = Random::from_seed(seed);
            let count = 1 + random.below(12);
            let most = 1 + random.below(9);
            let weights: Vec<u64> = (0..count).map(|_| 1 + random.below(most) as u64).collect();
            let got = smooth_cycle(&weights);
            assert_eq!(got.as_ref(), model(&weights), "seed {seed}: {weights:?}");
        }
    }

    #[test]
    fn weights_are_reduced_and_bounded() {
        assert_eq!(reduced(&[100, 300]), [1, 3]);
        assert_eq!(reduced(&[0, 2]), [1, 2]);
        let large = reduced(&[1_000_000, 1, 500_000]);
        assert!(large.iter().sum::<u64>() <= CYCLE_LIMIT + 3, "{large:?}");
        assert!((large[0] as f64 / large[2] as f64 - 2.0).abs() < 0.01 && large[1] == 1);
    }
}
