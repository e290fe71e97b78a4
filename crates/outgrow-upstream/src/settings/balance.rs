//! How an endpoint is picked: the words of `balance`, and what its hashing ways need.

use outgrow_balance::Algorithm;
use outgrow_balance::algorithm::{Bound, maglev, ring_hash};

outgrow_core::choice! {
    /// How an endpoint is picked. All ways know weights, slow start, limits, priorities and zones.
    pub enum Balance {
        /// Two at random, then the one with fewer requests in flight (power of two choices).
        PowerOfTwo = "p2c",
        /// One after the other, by weight.
        RoundRobin = "round_robin",
        /// The one with the fewest requests in flight. Above 16 endpoints the best of a sample.
        LeastConnections = "least_connections",
        /// Two at random, then the one that answers sooner, by its response times so far and its
        /// requests in flight (peak EWMA). One that was slow is tried again after a while.
        LeastTime = "least_time",
        /// At random.
        Random = "random",
        /// By a hash of the client's address: a client stays at an endpoint.
        IpHash = "ip_hash",
        /// Consistent hashing on a ring, by what `hash_by` says. An endpoint that comes or goes
        /// moves its own share of the keys and no other.
        RingHash = "ring_hash",
        /// Consistent hashing in a table (Maglev), by what `hash_by` says: as `"ring_hash"`, with
        /// cheaper picks and more even shares.
        Maglev = "maglev",
        /// The first in the order of the list that is not full, so that the last ones stay idle
        /// and can be taken away.
        First = "first",
    }
}

outgrow_core::settings! {
    /// How the hashing ways of `balance` keep requests together. For consistent hashing,
    /// `bounded_load` decides between evenness and togetherness.
    pub struct HashSettings {
        /// The most that an endpoint may have in flight, in percent of its due by weight: beyond
        /// it the key goes to another endpoint, always the same one. 125 to 200 is usual; 0 is no
        /// bound.
        pub bounded_load: u32 = 0, in 0..=Bound::MOST_PERCENT;
        /// Points on the ring of an endpoint of weight 1 (`"ring_hash"`). Shares deviate by
        /// 1/sqrt(points).
        pub ring_points: u32 = 512, in 1..=ring_hash::MOST_POINTS;
        /// Slots of the table (`"maglev"` and `"ip_hash"`), rounded up to a prime. At least 300 for
        /// each endpoint keep the shares within a fifth of their due.
        pub table_size: u32 = 65_537, in 1_021..=5_000_011;
    }
}

impl Balance {
    /// The algorithm that it names.
    pub fn algorithm(self, hash: &HashSettings) -> Algorithm {
        let bound = (hash.bounded_load > 0).then(|| Bound::new(hash.bounded_load));
        let maglev = maglev::Settings {
            size: hash.table_size,
            bound,
        };
        match self {
            Self::PowerOfTwo => Algorithm::PowerOfTwo,
            Self::RoundRobin => Algorithm::RoundRobin,
            Self::LeastConnections => Algorithm::LeastConnections,
            Self::LeastTime => Algorithm::LeastTime,
            Self::Random => Algorithm::Random,
            Self::IpHash | Self::Maglev => Algorithm::Maglev(maglev),
            Self::RingHash => Algorithm::RingHash(ring_hash::Settings {
                points: hash.ring_points,
                bound,
                ..ring_hash::Settings::default()
            }),
            Self::First => Algorithm::First,
        }
    }
}
