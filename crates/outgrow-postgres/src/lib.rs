//! The Postgres tier: accept → login → parse → route → checkout → relay → record.
//!
//! Clients speak to it as they speak to a server; it speaks to servers as a client. Connections to
//! servers are pooled by database and user and lent for a session, a transaction or a statement.

pub mod login;
pub mod pgbouncer;
pub mod sql;
pub mod wire;
