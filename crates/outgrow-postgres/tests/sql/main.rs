//! The SQL room against real Postgres servers, and what it costs.

mod cost;
