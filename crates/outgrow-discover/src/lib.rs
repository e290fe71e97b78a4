//! The discovery room: what is asked of registries and told to them. Sources say where a service's
//! endpoints are; this box says where it serves one; several boxes agree on one of them.
//!
//! - [`settings::DiscoverSettings`] is `[service.NAME.discover]`: one source and the rules common
//!   to all of them.
//! - Each source has a folder: a pure part (bytes in, endpoints out) and a driver that asks again
//!   and again and writes [`Report`]s. Drivers run on the control runtime, never on a worker.
//! - [`Discovery`] is a driver under way; [`Discovery::step`] gives the endpoints when there are
//!   others than before, by the rules of [`belief`]: a source that fails or says "none" empties
//!   nothing, and a flood of changes is a few changes a second.
//! - [`registration`] tells a registry where this box serves a service; [`lease`] holds a lease that
//!   exactly one box has at a time.
//!
//! Not here: what becomes of the endpoints (`outgrow-upstream`), what is done by the one that holds a
//! lease, and reading files and clocks: how that is done is passed in ([`Surroundings`],
//! [`lease::BootClock`]).

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
pub mod lease;
pub mod registration;
pub mod settings;

pub use discovery::{Discovery, Report, State, Surroundings};
pub use found::{Discovered, Found, LIMIT};
pub use lease::{BootTime, Leadership};
pub use registration::Registration;
