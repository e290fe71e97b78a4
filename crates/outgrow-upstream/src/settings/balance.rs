//! How an endpoint is picked: the words of `balance`, and what its hashing ways need.

use std::time::Duration;

use outgrow_balance::algorithm::{Bound, maglev, ring_hash};
use outgrow_balance::slow_start::Curve;
use outgrow_balance::{Algorithm, reported_load};
use outgrow_core::settings::TableReader;

use super::{HOUR, ServiceSettings};

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

outgrow_core::settings! {
    /// How the share grows during a slow start: max(least_share, (time / slow_start) ^ (100 /
    /// aggression)), as Envoy's.
    pub struct SlowStartCurve {
        /// 100 is a straight line; above, more comes early; below, more comes late. In percent.
        pub aggression: u32 = 100, in 10..=1_000;
        /// The share at the start, in percent: with less than one request in a while nothing is
        /// warmed up.
        pub least_share: u32 = 10, in 1..=100;
    }
}

outgrow_core::choice! {
    /// Where the weights of the endpoints come from.
    pub enum Weights {
        /// From the configuration: `weight` of the endpoint.
        Configured = "configured",
        /// From what the endpoints report with their answers, in the header
        /// `endpoint-load-metrics` (ORCA, its form `TEXT`): who does its requests with less
        /// utilisation gets more. The header does not go on to the client. `weight` is not looked
        /// at.
        Reported = "reported",
    }
}

outgrow_core::settings! {
    /// How the load that endpoints report becomes their weight: requests per second / (utilisation
    /// + share of errors x `error_penalty`), each second. An endpoint that reports nothing has the
    /// median of the others.
    pub struct LoadReportSettings {
        /// Reports are not used for this long after the first one: what just started is busy with
        /// itself.
        pub blackout: Duration = Duration::from_secs(10), in Duration::ZERO..=HOUR;
        /// A report is forgotten after this long.
        pub expiration: Duration = Duration::from_secs(180), in Duration::from_secs(1)..=HOUR;
        /// How much a share of errors counts as utilisation, in percent.
        pub error_penalty: u32 = 100, in 0..=10_000;
    }
}

impl SlowStartCurve {
    /// The curve over this time.
    pub(crate) fn over(&self, window: Duration) -> Curve {
        Curve {
            window,
            aggression: f64::from(self.aggression) / 100.0,
            least_share: f64::from(self.least_share) / 100.0,
        }
    }
}

impl LoadReportSettings {
    /// For the balancing room.
    pub(crate) fn rules(&self) -> reported_load::Settings {
        reported_load::Settings {
            blackout: self.blackout,
            expiration: self.expiration,
            error_penalty: f64::from(self.error_penalty) / 100.0,
        }
    }
}

/// Whether the weights and the slow start of a service go together with the rest of it.
pub(super) fn check_weights(service: &ServiceSettings, table: &mut TableReader<'_, '_>) {
    let moves_keys = matches!(
        service.balance,
        Balance::IpHash | Balance::RingHash | Balance::Maglev
    );
    if service.weights == Weights::Reported && (moves_keys || service.balance == Balance::First) {
        let balance = service.balance.as_str();
        let message = format!("reported weights do not go with balance = {balance:?}");
        let hint = if moves_keys {
            "each change of a weight would move keys: set balance = \"p2c\" or remove `weights`"
        } else {
            "it looks at no weights: set balance = \"p2c\" or remove `weights`"
        };
        table.problem("weights", message, hint);
    }
    let usual = ServiceSettings::default();
    if service.load_report != usual.load_report && service.weights == Weights::Configured {
        let message = "`load_report` means nothing while the weights are those of the file";
        table.problem(
            "load_report",
            message,
            "set weights = \"reported\" or remove it",
        );
    }
    if service.slow_start_curve != usual.slow_start_curve && service.slow_start.is_zero() {
        let message = "`slow_start_curve` means nothing without a time for it";
        table.problem(
            "slow_start_curve",
            message,
            "set slow_start = \"30s\" or remove it",
        );
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
