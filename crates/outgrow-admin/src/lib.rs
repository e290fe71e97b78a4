//! The admin listener: probes, metrics, state as JSON, and actions, over our own HTTP/1.1 engine;
//! and the small blocking client that the command line talks to it with.
//!
//! No tier is known here. What is shown and done comes through [`Source`], which the binary
//! implements. HTTP/2 and TLS are deliberately absent: the listener is for this machine.

mod answer;
pub mod client;
mod connection;
mod endpoints;
mod exposition;
#[cfg(test)]
mod fake;
pub mod families;
mod guard;
pub mod listener;
pub mod peer;
mod plan;
pub mod settings;
mod slots;
pub mod source;

pub use client::{ClientProblem, Verb, request};
pub use families::{MetricFamily, Number, Sample, Samples};
pub use listener::{AdminSocket, SocketProblem, serve};
pub use plan::AdminPlan;
pub use source::{Action, ActionProblem, ActionReport, PromoteRequest, Readiness, Source};
