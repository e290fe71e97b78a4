//! Tests of the TLS room with a real client, over Unix socket pairs.

mod client;
mod handshake;
mod misuse;
mod support;
