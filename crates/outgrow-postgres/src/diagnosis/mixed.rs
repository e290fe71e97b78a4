//! A hash of a few numbers of which one is secret, for tables that are looked into for each statement: three
//! multiplications where the standard library's hash takes two hundred instructions.
//!
//! Who chooses numbers without knowing the secrets, and without seeing hashes, cannot have them meet.
//! Deliberately not here: texts.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

/// The secrets.
#[derive(Clone)]
pub(super) struct Mixed {
    start: u64,
    factor: u64,
}

/// What was hashed so far.
pub(super) struct Mixing {
    sum: u64,
    factor: u64,
}

/// They stay secret.
impl fmt::Debug for Mixed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Mixed")
    }
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
        let folded = folded(self.sum ^ number, self.factor);
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

    /// Mixed once more: after one multiplication numbers that differ little can still be alike in a part of
    /// their bits, with some secrets.
    #[inline]
    fn finish(&self) -> u64 {
        folded(self.sum, self.factor.rotate_left(32))
    }
}

/// Both halves of the product.
#[inline]
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use outgrow_core::Random;

    use super::*;

    #[test]
    fn numbers_that_differ_little_differ_in_every_part_of_their_hashes() {
        for seed in 0..200 {
            let mut random = Random::from_seed(seed);
            let mixed = Mixed {
                start: random.next_u64(),
                factor: random.next_u64() | 1,
            };
            let hash = |number: u64| mixed.hash_one((7_u64, number));
            let (mut low, mut high) = (HashSet::new(), HashSet::new());
            for number in (0..2048).chain((0..64).map(|bit| 1 << bit)) {
                low.insert(hash(number) % 4096);
                high.insert(hash(number) >> 52);
            }
            // Of 2,100 numbers at random in 4,096 places about 1,640 places are taken.
            let taken = (low.len(), high.len());
            assert!(taken.0 > 1550 && taken.1 > 1550, "seed {seed}: {taken:?}");
        }
    }

    #[test]
    fn two_have_secrets_of_their_own() {
        let hash = || Mixed::new(&RandomState::new()).hash_one((7_u64, 1_u64));
        assert_ne!(hash(), hash());
    }
}
