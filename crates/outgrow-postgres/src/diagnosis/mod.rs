//! Diagnosis: what is wrong with how the database is used, with evidence and the next step.
//!
//! All but `look.rs`, which gathers the facts of a worker about once a second, and `whose.rs`, which
//! asks instances what they serve, is pure: facts and the time are arguments. What is found, by whomever, is a
//! [`Finding`](finding::Finding); all of them are in one bounded collection
//! ([`Findings`](finding::Findings)) that the state, the command line and the metrics show.
//!
//! Deliberately not here: what is asked of servers (`crate::inspect`), and how findings are printed.

pub mod finding;
pub(crate) mod holders;
pub(crate) mod look;
mod mixed;
pub(crate) mod origin;
pub(crate) mod repeats;
pub mod routes;
pub mod server;
pub(crate) mod slow;
pub mod statements;
pub(crate) mod watch;
mod whose;

use std::time::Duration;

pub use finding::{Finding, Findings, Kind, Noted, Origin, Severity, Text};
pub use routes::{Ground, Requests};

/// From when on something is worth telling. Times of zero: never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Statements of which each worker keeps what they cost; 0: nothing is told of statements.
    pub statements: usize,
    /// A statement that takes so long on average.
    pub slow_statement: Duration,
    /// A transaction that is open for so long.
    pub long_transaction: Duration,
    /// A client that is silent in a transaction for so long.
    pub idle_transaction: Duration,
    /// Clients that wait so long for a connection on average.
    pub pool_wait: Duration,
    /// Statements for one result, of which each had a value of another row; 0: none are told.
    pub repeats: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            statements: 1000,
            slow_statement: Duration::from_secs(1),
            long_transaction: Duration::from_secs(300),
            idle_transaction: Duration::from_secs(10),
            pool_wait: Duration::from_millis(100),
            repeats: 5,
        }
    }
}
