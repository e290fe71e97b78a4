//! The Postgres tier: accept → login → parse → route → checkout → relay → record.
//!
//! Clients speak to it as they speak to a server; it speaks to servers as a client. Connections to
//! servers are pooled by database and user and lent for a session, a transaction or a statement.

mod answers;
mod apart;
mod ask;
mod budget;
mod cancel;
mod client;
pub mod console;
pub mod control;
pub mod diagnosis;
pub mod encryption;
pub mod events;
mod flow;
pub mod handover;
mod inspect;
mod lanes;
mod lease;
mod listening;
pub mod login;
mod making;
mod moment;
mod newcomers;
pub mod numbers;
pub mod origin;
pub mod pgbouncer;
pub mod plan;
mod pool;
mod prepared;
mod problem;
pub mod promotion;
mod reads;
pub mod result_cache;
pub mod retry;
pub mod run;
pub mod seats;
pub mod seen;
mod sequences;
mod server;
pub mod settings;
pub mod shared;
mod socket;
pub mod sql;
pub mod standing;
pub mod state;
pub mod variables;
pub mod wire;
pub mod worker;

pub use client::{ListenerPlan, Slot};
pub use run::Postgres;
pub use shared::{Drain, Shared};
