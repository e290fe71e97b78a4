//! The SQL room against real Postgres servers, and what it costs.

mod client;
mod cost;
mod lexing;
mod oracle;
mod pins;
mod regress;
mod server;
mod soundness;
