//! HTTP/3: its endpoints (a worker's, for each listener), its connections, and each stream on the same
//! way as an HTTP/1.1 request, as a task of its own.

mod handshakes;
mod holders;
mod listen;
mod plan;
mod serve;

pub(crate) use holders::Holders;
pub(crate) use listen::{Endpoints, run};
pub use plan::Http3Plan;
