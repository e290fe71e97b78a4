//! A hash of a few numbers of which one is secret, for tables that are looked into for each statement: two
//! multiplications where the standard library's hash takes two hundred instructions.
//!
//! Who chooses numbers without knowing the secrets, and without seeing hashes, cannot have them meet.
//! Deliberately not here: texts.

use std::hash::{BuildHasher, Hasher, RandomState};

/// The secrets.
#[derive(Clone, Debug)]
pub(super) struct Mixed {
    start: u64,
    factor: u64,
}

/// What was hashed so far.
pub(super) struct Mixing {
    sum: u64,
    factor: u64,
}

impl Mixed {
    /// With secrets of `random`.
    pub(super) fn new(random: &RandomState) -> Self {
        Self {
            start: random.hash_one(1_u8),
            // With a zero in it everything would be zero.
            factor: random.hash_one(2_u8) | 1,
        }
    }
}

impl BuildHasher for Mixed {
    type Hasher = Mixing;

    #[inline]
    fn build_hasher(&self) -> Mixing {
        Mixing {
            sum: self.start,
            factor: self.factor,
        }
    }
}

impl Hasher for Mixing {
    #[inline]
    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.sum ^ number) * u128::from(self.factor);
        let folded = (product >> 64) as u64 ^ product as u64;
        // A number that is the sum, by chance, does not end the mixing.
        self.sum = folded.wrapping_add(self.factor.rotate_left(32));
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_that_differ_little_differ_in_every_part_of_their_hashes() {
        let mixed = Mixed::new(&RandomState::new());
        let hash = |number: u64| mixed.hash_one((7_u64, number));
        let numbers: Vec<u64> = (0..2048).chain((0..64).map(|bit| 1 << bit)).collect();
        let (mut low, mut high) = (HashSet::new(), HashSet::new());
        for &number in &numbers {
            low.insert(hash(number) % 4096);
            high.insert(hash(number) >> 52);
        }
        // Of 2,100 numbers at random in 4,096 places about 1,640 places are taken.
        assert!(low.len() > 1400 && high.len() > 1400, "{}", low.len());
        assert_ne!(
            hash(1),
            Mixed::new(&RandomState::new()).hash_one((7_u64, 1_u64))
        );
    }
}
