//! The login room against real servers and real clients: Postgres, psql (libpq) and psycopg.
//!
//! [`pooler`] is as little of a pooler as logins need. Not here: the tier's own sockets.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod database;
mod encrypted;
mod from_clients;
mod passed_on;
mod pooler;
mod to_servers;
mod wire;
mod words;

use std::env;

/// Whether a program is there; it must be, unless the machine says otherwise.
fn is_there(there: bool, package: &str) -> bool {
    let allowed = env::var_os("OUTGROW_ALLOW_MISSING").is_some();
    assert!(there || allowed, "apt-get install {package}");
    if !there {
        eprintln!("skipped: {package} is not there");
    }
    there
}
