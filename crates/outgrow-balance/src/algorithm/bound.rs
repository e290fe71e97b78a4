//! Bounded load (Mirrokni, Thorup and Zadimoghaddam, arXiv 1608.01350): no endpoint that requests
//! are kept together on has more than a given multiple of its due.

/// The most that an endpoint may have, in percent of its due by weight. 100 is perfectly even and
/// keeps little together; 125 to 200 is usual (`hash-balance-factor` of HAProxy,
/// `hash_balance_factor` of Envoy).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    percent: u32,
}

impl Bound {
    /// The largest, which hardly bounds anything.
    pub const MOST_PERCENT: u32 = 100_000;

    /// The bound of this many percent; below 100 it counts as 100, because less cannot be kept.
    pub fn new(percent: u32) -> Self {
        Self {
            percent: percent.clamp(100, Self::MOST_PERCENT),
        }
    }

    /// In percent.
    pub fn percent(self) -> u32 {
        self.percent
    }

    /// Whether an endpoint with `active` requests may take one more when all have `total_active`:
    /// `active + 1 <= ceil(percent / 100 * (total_active + 1) * weight / total_weight)`, exactly.
    /// Of all endpoints together at least one always may.
    #[inline]
    pub fn admits(self, active: u64, total_active: u64, weight: u32, total_weight: u64) -> bool {
        if active == 0 {
            return true;
        }
        // active + 1 <= ceil(a / b) exactly when active * b < a, for whole numbers.
        let part = u128::from(weight) * u128::from(self.percent);
        let due = (u128::from(total_active) + 1).saturating_mul(part);
        (u128::from(active) * u128::from(total_weight)).saturating_mul(100) < due
    }
}

#[cfg(test)]
mod tests {
    use outgrow_core::Random;

    use super::*;

    #[test]
    fn the_bound_is_the_formula() {
        for seed in 0..5_000 {
            let mut random = Random::from_seed(seed);
            let percent = 100 + random.below(150) as u32;
            let active = random.below(30) as u64;
            let total = active + random.below(100) as u64;
            let weight = 1 + random.below(9) as u32;
            let total_weight = u64::from(weight) + random.below(50) as u64;
            let due = u64::from(percent) * (total + 1) * u64::from(weight);
            let most = due.div_ceil(100 * total_weight);
            assert_eq!(
                Bound::new(percent).admits(active, total, weight, total_weight),
                active < most,
                "seed {seed}"
            );
        }
    }

    #[test]
    fn hostile_numbers_do_not_overflow() {
        let bound = Bound::new(u32::MAX);
        assert_eq!(bound.percent(), Bound::MOST_PERCENT);
        assert_eq!(Bound::new(0).percent(), 100);
        assert!(bound.admits(1, u64::MAX, u32::MAX, u64::MAX));
        assert!(!Bound::new(100).admits(u64::MAX, 0, 1, u64::MAX));
    }
}
