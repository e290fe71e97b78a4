//! What every room speaks: ids, time and random seams, faults, snapshots, metric cells,
//! the context of a request and the settings language.
//!
//! Nothing here opens a socket, reads a file or knows a protocol.

pub mod base64;
pub mod clock;
pub mod context;
pub mod fault;
pub mod hex;
pub mod metrics;
pub mod random;
pub mod serving;
pub mod settings;
pub mod snapshot;

pub use clock::{Clock, Ticks, WallTime};
pub use fault::{Cause, Fault, Phase, Sent, Side};
pub use random::Random;
pub use snapshot::{Snapshot, View};
