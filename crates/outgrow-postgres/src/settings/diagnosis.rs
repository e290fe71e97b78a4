//! `[postgres.diagnosis]`: what is told of how the database is used, and what servers are asked.

use std::time::Duration;

use super::{DAY, HOUR};

const SECOND: Duration = Duration::from_secs(1);

outgrow_core::settings! {
    /// What is told of how the database is used: what statements cost, and what is wrong
    /// (`outgrow postgres findings`): with statements, clients and pools, by what passes through;
    /// and who waits for whose lock, what keeps the server from cleaning up, by what servers are
    /// asked. Asked are the server's own views, in transactions that change nothing, with the login
    /// of a pool that has clients; to see what other users do it must be a member of `pg_monitor`.
    pub struct DiagnosisSettings {
        /// Whether servers are asked at all. It takes one connection to the primary for each
        /// database that has clients, beside those of the pools; it counts for
        /// `max_server_connections`.
        pub servers: bool = true;
        /// How often. While clients wait, or a statement takes long, locks are asked for every 5
        /// seconds.
        pub interval: Duration = Duration::from_secs(30), in SECOND..=HOUR;
        /// Whether the server is asked for plans of statements that take time, to find indexes that
        /// are missing: `EXPLAIN` without `ANALYZE` of the text without its values, so nothing is
        /// executed. With the extension hypopg an index is tried before it is proposed.
        pub explain: bool = true;
        /// One plan in so long at most; a statement's again after half an hour, or after a minute
        /// while something is told of it.
        pub explain_interval: Duration = Duration::from_secs(5), in SECOND..=HOUR;
        /// How long a statement waits for a lock before that is told.
        pub lock_wait: Duration = Duration::from_secs(2), in SECOND..=HOUR;
        /// How long a transaction is open before that is told.
        pub long_transaction: Duration = Duration::from_secs(300), in SECOND..=DAY;
        /// How long a client is silent in a transaction before that is told. `"0s"`: never.
        pub idle_transaction: Duration = Duration::from_secs(10), in Duration::ZERO..=DAY;
        /// How long a statement takes on average before that is told. `"0s"`: never.
        pub slow_statement: Duration = Duration::from_secs(1), in Duration::ZERO..=HOUR;
        /// How long clients wait for a connection on average, or one of them five times as long,
        /// before that is told. `"0s"`: never.
        pub pool_wait: Duration = Duration::from_millis(100), in Duration::ZERO..=HOUR;
        /// Statements after one query, each with a value of another of its rows, before that is
        /// told (N+1). Values are compared for a few queries at a time, and never kept. 0: never.
        pub repeats: u32 = 5, in 0..=1000;
        /// Whether it is told which HTTP requests statements are part of (`GET /orders/{id}`), by
        /// what the edge has in flight at the instance that a client is. Comments of statements
        /// that say a route (sqlcommenter) count more.
        pub requests: bool = true;
        /// Statements, told apart without their values, of which each worker keeps what they cost,
        /// at most 4 KiB each, and 1 MiB for the whole texts of the long ones; the least used make
        /// room. 0: nothing is known of statements.
        pub statements: u32 = 1000, in 0..=100_000;
    }
}
