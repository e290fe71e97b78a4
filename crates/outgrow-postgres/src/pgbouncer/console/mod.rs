//! PgBouncer's admin console: what its commands mean, who may give them, and its answers.
//!
//! Pure: a message of the client comes in as bytes ([`Request`]), what it wants comes out as a
//! [`Command`], and what the tier knows is written as rows with PgBouncer's columns ([`rows`]).
//! The row structs are the contract of what the tier must be able to tell. Deliberately not here:
//! doing what a command says, waiting until it is done, logging in.

pub mod answer;
mod cell;
mod command;
mod error;
mod request;
mod role;
pub mod rows;
pub mod stats;

#[cfg(test)]
mod tests;

pub use cell::{Cell, CellWriter, Numeric, Row};
pub use command::{Command, Parameter, Show, Shutdown};
pub use error::ConsoleError;
pub use request::Request;
pub use role::Role;
