//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as Postgres speaks it: the client's side, for logins of
//! checks and of the Postgres tier, and what the tier's server side shares with it: keys and
//! the preparation of passwords. It is here, below the tiers, so that there is one of it.
//!
//! Pure: messages in, messages out. Random bytes are the caller's, and so is the moment at which
//! keys are derived, which takes milliseconds. Postgres takes the user's name from the start of
//! the session, so the name in the messages is empty. The server's side is not here.

mod client;
mod keys;
mod memory;
mod prepare;

pub use client::{Binding, Challenge, Client, Problem};
pub use keys::{KEY_BYTES, Keys, Salt, sign};
pub use memory::Memory;
pub use prepare::prepare;

/// The mechanism's name.
pub const NAME: &str = "SCRAM-SHA-256";

/// The mechanism's name with channel binding.
pub const NAME_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The one kind of channel binding that Postgres knows (RFC 5929 section 4): the hash of the
/// server's certificate.
pub const END_POINT: &str = "tls-server-end-point";

/// Random bytes of a nonce, as many as Postgres takes.
pub const NONCE_BYTES: usize = 18;
