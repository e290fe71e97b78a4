//! HTTP/3 on the side of clients (RFC 9114): its framing over QUIC streams.
//!
//! QUIC is the `quinn` crate's: packets, encryption, loss, flow control, streams. What is ours is what
//! lies in the streams: frames, field sections (QPACK without a dynamic table, RFC 9204), the control
//! streams, and streams of requests that are a [`crate::Downstream`] like any other. Heads are checked
//! by the same code as those of HTTP/2. Nothing is read ahead of who takes it but one buffer, which
//! the ledger counts; frames of any length pass through it, and none is gathered but field sections,
//! within the limits of a head.
//!
//! Not here: a side for endpoints, server push, datagrams (RFC 9297).

mod account;
mod code;
mod connection;
mod control;
mod frame;
pub mod inspect;
mod pieces;
mod priority;
mod qpack;
mod receive;
mod request;
mod response;
mod send;
mod sent;
mod shared;
mod stream;
mod turn;
mod varint;

pub use account::{Account, FIRST_WINDOW, Windows};
pub use code::Code;
pub use connection::{Connection, serve};
pub use stream::{H3Stream, NoHead};

/// The application protocol that connections agree on (section 3.1).
pub const ALPN: &[u8] = b"h3";

/// The bounds of a connection's requests; those of QUIC are where its endpoint is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Streams of a connection that a client may reset before they were answered, if they are
    /// more than half of all: beyond that the connection is closed (CVE-2023-44487). Default 200.
    pub premature_resets: u64,
    /// Streams without a meaning that a client may open, one after the other. Default 64.
    pub unknown_streams: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            premature_resets: 200,
            unknown_streams: 64,
        }
    }
}
