//! The random seam: a small seeded generator for the pure rooms, and seeds from the system.
//!
//! Not for keys or tokens: those come from [`system_bytes`].

/// xoshiro256++ by Blackman and Vigna (public domain), seeded through splitmix64.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The same seed gives the same sequence, on every machine.
    pub fn from_seed(seed: u64) -> Self {
        let mut mix = seed;
        let state = std::array::from_fn(|_| {
            mix = mix.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut value = mix;
            value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            value ^ (value >> 31)
        });
        Self { state }
    }

    /// A generator with a seed of the operating system.
    pub fn from_system() -> Self {
        let mut seed = [0; 8];
        system_bytes(&mut seed);
        Self::from_seed(u64::from_le_bytes(seed))
    }

    /// 64 uniform bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let c = c ^ a;
        let d = d ^ b;
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// A uniform number below `bound` (Lemire's multiply and shift; bias below 2^-32 for bounds
    /// under 2^32). Zero when `bound` is zero.
    #[inline]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// A uniform number in [0, 1).
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }
}

/// Fills `bytes` from the operating system's generator, for keys and tokens. Falls back to the
/// clock's low bits only where the system has no generator at all, which Linux since 3.17 has.
pub fn system_bytes(bytes: &mut [u8]) {
    if getrandom::fill(bytes).is_err() {
        let mut random = Random::from_seed(crate::WallTime::now().0);
        for byte in bytes {
            *byte = random.next_u64() as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_sequence_and_in_range() {
        let mut one = Random::from_seed(7);
        let mut two = Random::from_seed(7);
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            let value = one.below(10);
            assert_eq!(value, two.below(10));
            seen[value] += 1;
        }
        assert!(
            seen.iter().all(|&count| (800..1200).contains(&count)),
            "{seen:?}"
        );
        assert_eq!(one.below(0), 0);
        assert!((0.0..1.0).contains(&one.unit()));
    }
}
