//! Tests of the TLS room with a real peer, mostly over Unix socket pairs.

mod bound;
mod client;
mod endpoint;
mod handshake;
mod managed;
mod misuse;
mod staple;
mod support;
