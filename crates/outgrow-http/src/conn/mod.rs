//! The HTTP/1.1 core over a transport: buffers, both directions of a message, the server's side of a
//! connection, and the client's.

pub mod buffer;
pub mod client;
pub mod incoming;
pub mod outgoing;
pub mod server;

#[cfg(test)]
mod tests;

pub use buffer::{ReadBuffer, WriteBuffer};
pub use client::{AtHand, ClientExchange, ClientSide};
pub use incoming::{Incoming, Problem};
pub use outgoing::Outgoing;
pub use server::ServerConnection;
