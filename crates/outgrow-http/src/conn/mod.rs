//! The HTTP/1.1 core over a transport: buffers, both directions of a message, and the server's
//! side of a connection.

pub mod buffer;
pub mod incoming;
pub mod outgoing;
pub mod server;

#[cfg(test)]
mod tests;

pub use buffer::{ReadBuffer, WriteBuffer};
pub use incoming::{Incoming, Problem};
pub use outgoing::Outgoing;
pub use server::ServerConnection;
