//! Tests of the HTTP/2 adapter with the `h2` crate's own client, and with frames by hand where
//! that client is too well-behaved. All over Unix socket pairs.

mod bodies;
mod endings;
mod frames;
mod heads;
mod sessions;
mod support;
mod websockets;
mod writes;
