//! `[postgres.diagnosis]`: what servers are asked, to say what is wrong with how they are used.

use std::time::Duration;

use super::{DAY, HOUR};

const SECOND: Duration = Duration::from_secs(1);

outgrow_core::settings! {
    /// What servers are asked, to say what is wrong with how they are used: who waits for whose
    /// lock, what keeps the server from cleaning up. Asked are the server's own views, in
    /// transactions that change nothing, with the login of a pool that has clients; to see what
    /// other users do it must be a member of `pg_monitor`.
    pub struct DiagnosisSettings {
        /// Whether they are asked at all. It takes one connection to the primary for each database
        /// that has clients, beside those of the pools; it counts for `max_server_connections`.
        pub servers: bool = true;
        /// How often. While clients wait, or a statement takes long, locks are asked for every 5
        /// seconds.
        pub interval: Duration = Duration::from_secs(30), in SECOND..=HOUR;
        /// How long a statement waits for a lock before that is told.
        pub lock_wait: Duration = Duration::from_secs(2), in SECOND..=HOUR;
        /// How long a transaction is open before that is told.
        pub long_transaction: Duration = Duration::from_secs(300), in SECOND..=DAY;
    }
}
