//! Sockets and time for the workers: streams, listeners, the timer wheel, drain.
//!
//! No protocol is known here.

pub mod stream;

pub use stream::Stream;
