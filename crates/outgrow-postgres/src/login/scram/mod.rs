//! The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), towards clients, as Postgres speaks
//! it: the same messages, limits, errors and freedoms. The client's side, keys and Base64 are in
//! [`outgrow_upstream::scram`].

mod end_point;
mod message;
mod server;
#[cfg(test)]
mod tests;
mod verifier;

pub use end_point::end_point_hash;
pub use server::{Outcome, Problem, Server};
pub use verifier::{Verifier, mock_salt};
