//! PgBouncer's configuration files and console, for those who come from it.
