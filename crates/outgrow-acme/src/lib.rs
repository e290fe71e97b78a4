//! The ACME room (RFC 8555): certificates that Outgrow gets itself.
//!
//! - [`settings`] is the room's part of `[acme]`, and what a listener says of each certificate.
//! - [`schedule`] is pure: when to order, when to renew, how long to wait after a failure. What it
//!   knows of a certificate is a [`Record`], which is written down before anything is asked.
//! - [`Session`] and [`Pending`] are one order's steps with the authority, in the order in which they
//!   are to be done; between them the caller keeps what must outlive it.
//! - [`Answer`] is what proves to the authority that a name leads here; [`HttpAnswers`] is where the
//!   edge looks them up.
//!
//! Not here: files, clocks, commands, and who of several processes orders (the binary).

pub mod answers;
mod ca;
mod failure;
mod key;
mod order;
mod record;
pub mod schedule;
pub mod settings;
mod url;

pub use answers::{Answer, HttpAnswers};
pub use failure::{Blame, Failure};
pub use key::{NewKey, challenge_certificate};
pub use order::{Pending, Session};
pub use record::{Record, Renewal};
pub use url::Url;
