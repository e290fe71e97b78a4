//! Diagnosis: what is wrong with how the database is used, with evidence and the next step.
//!
//! Everything here is pure: facts and the time are arguments. What is found, by whomever, is a
//! [`Finding`](finding::Finding); all of them are in one bounded collection
//! ([`Findings`](finding::Findings)) that the state, the command line and the metrics show.
//!
//! Deliberately not here: what is asked of servers (`crate::inspect`), and how findings are printed.

pub mod finding;
pub mod server;

pub use finding::{Finding, Findings, Kind, Noted, Origin, Severity, Text};
