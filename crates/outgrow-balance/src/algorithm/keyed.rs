//! What the two hash algorithms have in common: which endpoint is next for a key when its own
//! cannot take the request.
//!
//! The key jumps to another place of the table, by a hash of its place (random jump, Chen, Coleman
//! and Shrivastava, arXiv 1908.08762): the keys of an endpoint that is out or full are spread over
//! all others, where the neighbour in the ring would get all of them. The jumps are the same each
//! time, so a key has the same second and third endpoint everywhere.

use outgrow_core::Random;

use super::{Bound, Candidates, Member};
use crate::hash::{combine, mix};

/// Jumps before all endpoints are looked at in the order of the key. With half of the endpoints out
/// one key in 2^32 comes to that.
const JUMPS: usize = 32;

const JUMP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The endpoints of a table as keys see them.
#[derive(Clone, Debug)]
pub(super) struct Keyed {
    /// By index: the weights, none of them 0.
    weights: Box<[u32]>,
    /// By index: identities, of which no two are equal.
    identities: Box<[u64]>,
    /// The indexes in the order of their identities.
    order: Box<[u32]>,
    total_weight: u64,
    bound: Option<Bound>,
}

impl Keyed {
    pub(super) fn new(members: &[Member], bound: Option<Bound>) -> Self {
        let weights: Box<[u32]> = members.iter().map(|member| member.weight.max(1)).collect();
        let mut order: Box<[u32]> = (0..members.len() as u32).collect();
        order.sort_unstable_by_key(|&index| {
            let place = index as usize;
            (members[place].identity, weights[place], index)
        });
        let mut identities: Box<[u64]> = members.iter().map(|member| member.identity).collect();
        // The second of the same identity is another one: it gets its part, whoever made the error.
        let mut earlier = 0;
        for pair in 1..order.len() {
            let (one, other) = (order[pair - 1] as usize, order[pair] as usize);
            let same = members[one].identity == members[other].identity;
            earlier = if same { earlier + 1 } else { 0 };
            if same {
                identities[other] = combine(members[other].identity, earlier);
            }
        }
        Self {
            total_weight: weights.iter().map(|&weight| u64::from(weight)).sum(),
            weights,
            identities,
            order,
            bound,
        }
    }

    pub(super) fn weights(&self) -> &[u32] {
        &self.weights
    }

    pub(super) fn identities(&self) -> &[u64] {
        &self.identities
    }

    pub(super) fn total_weight(&self) -> u64 {
        self.total_weight
    }

    /// The endpoint for a key: the owner of its place in the table, or of the first place it jumps
    /// to whose owner takes it. Without a key the place is random, so the pick is by weight.
    #[inline]
    pub(super) fn pick(
        &self,
        random: &mut Random,
        key: Option<u64>,
        candidates: &impl Candidates,
        owner: impl Fn(u64) -> usize,
    ) -> Option<usize> {
        if self.order.is_empty() {
            return None;
        }
        let key = key.unwrap_or_else(|| random.next_u64());
        let mut total_active = None;
        // Mixed, in case that the caller's hash is a poor one.
        let mut place = mix(key ^ JUMP);
        for _ in 0..JUMPS {
            let index = owner(place);
            if candidates.available(index)
                && self.belongs(key, index, candidates)
                && self.is_within_bound(index, candidates, &mut total_active)
            {
                return Some(index);
            }
            place = mix(place.wrapping_add(JUMP));
        }
        self.look_for_one(place, candidates, &mut total_active)
    }

    /// Whether an endpoint that starts slowly has this key already: it gets one after the other,
    /// each for good.
    #[inline]
    fn belongs(&self, key: u64, index: usize, candidates: &impl Candidates) -> bool {
        let share = candidates.share(index);
        share >= 1.0 || {
            let turn = combine(key, self.identities[index]) >> 11;
            (turn as f64) < share * (1_u64 << 53) as f64
        }
    }

    #[inline]
    fn is_within_bound(
        &self,
        index: usize,
        candidates: &impl Candidates,
        total_active: &mut Option<u64>,
    ) -> bool {
        let Some(bound) = self.bound else {
            return true;
        };
        let active = u64::from(candidates.active(index));
        if active == 0 {
            return true;
        }
        let total = *total_active.get_or_insert_with(|| candidates.total_active(self.order.len()));
        bound.admits(active, total, self.weights[index], self.total_weight)
    }

    /// The next available one within the bound, in the order of identities; else the least loaded:
    /// an answer is worth more than the bound.
    #[cold]
    fn look_for_one(
        &self,
        place: u64,
        candidates: &impl Candidates,
        total_active: &mut Option<u64>,
    ) -> Option<usize> {
        let count = self.order.len();
        let start = scale(place, count);
        let mut least: Option<(usize, f64)> = None;
        for offset in 0..count {
            let index = self.order[(start + offset) % count] as usize;
            if !candidates.available(index) {
                continue;
            }
            if self.is_within_bound(index, candidates, total_active) {
                return Some(index);
            }
            let load = f64::from(candidates.active(index)) / f64::from(self.weights[index]);
            if least.is_none_or(|(_, least)| load < least) {
                least = Some((index, load));
            }
        }
        least.map(|(index, _)| index)
    }
}

/// A number below `bound` in proportion to where the hash is in its range.
#[inline]
pub(super) fn scale(hash: u64, bound: usize) -> usize {
    ((u128::from(hash) * bound as u128) >> 64) as usize
}
