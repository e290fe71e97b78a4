//! HTTP/3 over real sockets: what a client says in its streams, byte by byte, and what becomes of it.

mod client;
mod hostile;
mod memory;
mod ordinary;
mod priorities;
mod server;
