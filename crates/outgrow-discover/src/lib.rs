//! The discovery room: sources that say where a service's endpoints are.
//!
//! - [`settings::DiscoverSettings`] is `[service.NAME.discover]`: one source and the rules common
//!   to all of them.
//! - Each source has a folder: a pure part (bytes in, endpoints out) and a driver that asks again
//!   and again and writes [`Report`]s. Drivers run on the control runtime, never on a worker.
//! - [`Discovery`] is a driver under way; [`Discovery::step`] gives the endpoints when there are
//!   others than before, by the rules of [`belief`]: a source that fails or says "none" empties
//!   nothing, and a flood of changes is a few changes a second.
//!
//! Not here: what becomes of the endpoints (`outgrow-upstream`), and reading files: how that is
//! done is passed in ([`Surroundings`]).

pub mod backoff;
pub mod belief;
pub mod consul;
pub mod discovery;
pub mod dns;
pub mod etcd;
pub mod file;
pub mod found;
pub mod http;
pub mod kubernetes;
pub mod settings;

pub use discovery::{Discovery, Report, State, Surroundings};
pub use found::{Discovered, Found, LIMIT};
