//! The wire protocol (versions 3.0 and 3.2), without input and output: bytes in, facts out.
//!
//! Names of messages are those of the Postgres manual, chapter "Message Formats". Lengths are
//! checked before anything is kept; nothing here trusts a byte of the peer.

pub mod frame;
pub mod message;
pub mod read;
pub mod startup;
pub mod write;

pub use frame::{Frame, Header, HeaderError};
pub use message::{backend, frontend};
pub use startup::{Opening, Parameters, Startup};
