//! Joins the rooms into a data process: configuration → plan, registry, listeners, instances.
//!
//! [`control`] is the one loop in which everything but traffic happens.

mod access;
mod acme;
mod alt_svc;
mod boxes;
mod certificates;
mod command;
mod compile;
mod control;
mod discover;
mod floors;
mod handover;
mod http3;
mod instances;
mod leader;
mod listeners;
mod log;
mod measure;
mod numbers;
mod ocsp;
mod pages;
mod postgres;
mod postgres_files;
mod postgres_overlap;
mod postgres_promotions;
mod postgres_tls;
mod prepare;
mod promotion;
mod readiness;
mod register;
mod resources;
mod seals;
mod sources;
mod start;
mod streams;
mod tls_files;
mod view;
mod watch;

pub use certificates::check as check_certificates;
pub use postgres_files::check as check_postgres_files;
pub use start::data;
