//! Several boxes: each is an outgrow of its own on this machine. What they tell a registry, what
//! others make of that, and which one of them holds the leader lease.
//!
//! Not here: boxes in namespaces of their own, with networks that fail between them.

pub(crate) mod journal;
mod kubernetes;
mod leader;
mod register;
mod upgrades;
