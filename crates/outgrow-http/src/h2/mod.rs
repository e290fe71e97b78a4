//! HTTP/2, both sides: the adapter between the `h2` crate and the message model (RFC 9113).
//!
//! A client's connection is [`serve`]d, and streams come out of it; a connection to an endpoint is
//! [`open`]ed, and exchanges [begin](Session::begin) on it.
//!
//! Frames, HPACK and flow control are the crate's. What is ours: the same strictness as in
//! [`crate::h1`] for what it leaves open, bounds on what a connection may hold, and streams that
//! are a [`crate::Downstream`] like any other. WebSockets come as extended CONNECT (RFC 8441) and are
//! requests to change the protocol like those of HTTP/1.1. No server push, no other CONNECT.

mod bridge;
mod client_request;
mod client_stream;
mod connection;
mod piece;
mod request;
mod response;
mod send;
mod session;
mod stream;
mod window;

pub use client_stream::ClientStream;
pub use connection::{Connection, serve};
pub use request::RequestParts;
#[cfg(feature = "http3")]
pub(crate) use request::check_field;
pub use session::{Driver, Session, SessionSettings, open};
pub use stream::H2Stream;

/// What a client that speaks HTTP/2 sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether the first bytes of a connection are the preface; none while there are too few of them
/// to tell.
pub fn is_preface(bytes: &[u8]) -> Option<bool> {
    let count = bytes.len().min(PREFACE.len());
    if bytes[..count] != PREFACE[..count] {
        return Some(false);
    }
    (count == PREFACE.len()).then_some(true)
}

/// The bounds of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Streams that a client may have open at a time. Default 128.
    pub streams: u32,
    /// Bytes of one request's body that may wait for us to take them. Default 128 KiB.
    pub stream_window_bytes: u32,
    /// Bytes of all bodies of a connection that may wait; more by a stream's window for each stream that
    /// nobody takes from, while there is memory. Default 256 KiB.
    pub connection_window_bytes: u32,
    /// Bytes of one response that may wait for the client to take them. Default 64 KiB.
    pub send_buffer_bytes: usize,
    /// Bytes of all responses of a connection that may be held until the client takes them; beyond
    /// that each stream has one piece of 16 KiB. Default 1 MiB.
    pub held_bytes: usize,
    /// Streams of a connection that a client may reset before they were answered, if they are
    /// more than half of all: beyond that the connection is closed (CVE-2023-44487). Default 200.
    pub premature_resets: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            streams: 128,
            stream_window_bytes: 128 * 1024,
            connection_window_bytes: 256 * 1024,
            send_buffer_bytes: 64 * 1024,
            held_bytes: 1024 * 1024,
            premature_resets: 200,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preface_is_told_from_a_request() {
        assert_eq!(is_preface(b""), None);
        assert_eq!(is_preface(b"PRI * HT"), None);
        assert_eq!(is_preface(b"PRI * HTTP/1.1"), Some(false));
        assert_eq!(is_preface(b"POST /"), Some(false));
        assert_eq!(is_preface(PREFACE), Some(true));
        assert_eq!(is_preface(&[PREFACE, b"more"].concat()), Some(true));
    }
}
