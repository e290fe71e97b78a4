//! `[service.NAME.promote]`, the tier's part of it: when a replica takes the primary's place, and as
//! whom servers are asked for that. The commands are the binary's part.

use std::time::Duration;

use outgrow_core::settings::{ByteSize, Secret};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

outgrow_core::settings! {
    /// How a replica takes the place of this service's primary: when that is gone, or when it is
    /// asked for (`outgrow postgres promote`). The service is one of `[postgres]`, its endpoints are a
    /// primary and streaming replicas, and nothing else promotes them. With several outgrows only the
    /// one acts that holds the lease of `[leader]`.
    pub struct PromotionSettings {
        /// Whether it is done without being asked.
        pub mode: PromotionMode = PromotionMode::Manual;
        /// The user as whom servers are asked how they are. It should be a member of `pg_monitor`:
        /// without it nobody knows when a replica heard the primary last. To promote without a
        /// `command` it needs `GRANT EXECUTE ON FUNCTION pg_promote`, for a checkpoint before a
        /// switchover `pg_checkpoint` (15 and newer).
        pub user: String = "outgrow".to_owned(), required = true;
        /// Its password.
        pub password: Option<Secret> = None;
        /// The database that it connects to.
        pub database: String = "postgres".to_owned();
        /// How long the primary must not have answered us, nor any replica have heard it. While a
        /// replica is connected to a primary that is silent, half of that replica's
        /// `wal_receiver_timeout` (60 s unless set) has to be over besides.
        pub after: Duration = SECOND * 10, in SECOND..=HOUR;
        /// How many replicas must answer, and not hear the primary, before it is replaced without
        /// being asked.
        pub min_replicas: Option<u32> = None, in Some(1)..=Some(1_000), shown = "more than half of them";
        /// How much of the log that the primary was known to have a replica may lack. When commits
        /// wait for standbys, as many replicas must answer that one of them has all that was
        /// acknowledged, whatever this says.
        pub max_lag: ByteSize = ByteSize::mib(1);
        /// How long the new primary may take to take writes. After it, it is told that it does not.
        pub promote_timeout: Duration = SECOND * 60, in SECOND..=HOUR;
        /// In a switchover: how long queries are held at most until no transaction is open and the
        /// replica has everything. After it nothing has changed, and they go on.
        pub hold: Duration = SECOND * 10, in SECOND..=HOUR;
        /// From one promotion without being asked to the next.
        pub min_interval: Duration = SECOND * 300, in Duration::ZERO..=HOUR * 24;
    }
}

outgrow_core::choice! {
    /// Whether a primary that is gone is replaced without being asked.
    pub enum PromotionMode {
        /// Only `outgrow postgres promote` does it; that the primary is gone is told.
        Manual = "manual",
        /// It is, once it is fenced. `fence` must be written.
        Automatic = "automatic",
    }
}
