//! Promotion: when a service's primary is gone, or is to be another one, a replica takes its place,
//! and not before the old one is fenced.
//!
//! Pure: what is known of the servers ([`Sight`]), the time and what became of the last step are
//! arguments of the [`Machine`]; what is to be done is its answer, one step at a time. Who runs
//! commands is the binary; what is asked of servers is in [`order`] and `standing::monitor`. That
//! clients go to the new primary is no part of this: roles and timelines say so, whoever promoted.

mod judge;
mod machine;
mod operation;
pub mod order;
mod preview;
mod promoting;
mod sight;
mod told;
mod wish;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use judge::{Moment, Verdict, judge};
pub use machine::{Leading, Machine, Step, Wish, Work};
pub use sight::{Known, Seen, Sight, Upstream};
pub use told::{Line, Problem, Told};

/// How the old primary is kept from taking writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fencing {
    /// Nothing is said of it: nothing is promoted.
    #[default]
    Unsaid,
    /// It is not, by somebody's own decision.
    Never,
    /// By a command.
    Command,
}

/// The conditions of a promotion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whether a primary that is gone is replaced without being asked.
    pub is_automatic: bool,
    /// How the old primary is fenced.
    pub fencing: Fencing,
    /// How long nobody must have heard of the primary.
    pub after: Duration,
    /// How many replicas must answer; none: more than half of them.
    pub min_replicas: Option<u32>,
    /// How many bytes of the log that the primary was known to have a candidate may lack.
    pub max_lag: u64,
    /// How long the new primary may take to be one.
    pub promote_timeout: Duration,
    /// How long queries are held at most until the old primary is at rest, and the candidate has
    /// everything.
    pub hold: Duration,
    /// From one promotion without being asked to the next.
    pub min_interval: Duration,
}
