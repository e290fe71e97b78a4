//! Sockets and time for the workers: streams, the transport seam, the timer wheel.
//!
//! No protocol is known here.

pub mod stream;
pub mod transport;
pub mod wheel;

pub use stream::Stream;
pub use transport::Transport;
pub use wheel::{Timer, Wheel};
