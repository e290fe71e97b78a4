//! PgBouncer's admin console.
