//! Tests of the TLS room with a real client, over Unix socket pairs.

mod handshake;
mod misuse;
mod support;
