//! PgBouncer's configuration files and console, for those who come from it.
//!
//! What is here knows PgBouncer's words and nothing of pools, sockets or files: `ini` makes typed
//! settings of a `pgbouncer.ini`, `console` understands the commands of its admin console and
//! writes their results in its columns. As of PgBouncer 1.25 and what comes after it (July 2026).

pub mod console;
pub mod ini;
