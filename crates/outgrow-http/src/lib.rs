//! HTTP: the strict HTTP/1.1 core ([`h1`], no I/O), its driver over a transport ([`conn`]), the
//! adapters of HTTP/2 ([`h2`]) and, with the feature `http3`, HTTP/3 (`h3`), and the tables from faults to statuses.
//!
//! Routes, endpoints and records are not known here.

pub mod conn;
pub mod downstream;
pub mod grpc;
pub mod h1;
pub mod h2;
#[cfg(feature = "http3")]
pub mod h3;
pub mod status;
pub mod upstream;
pub mod websocket;

pub use downstream::{Downstream, Tunnel};
pub use upstream::Upstream;
