//! Who clients are and how we prove to servers who we are. Pure: message bodies in, message bodies
//! and verdicts out; time and random bytes are arguments; no file and no socket.
//!
//! - [`hba::Hba`] (or one method for all) says what a connection must show: a [`Demand`].
//! - [`UserList`], or a server that is asked ([`auth_query`]), says what is stored of its user: a
//!   [`Secret`].
//! - [`ServerExchange`] plays the server towards the client, until it has a [`Proof`], with a
//!   [`Credential`] to pass on, or a [`Refusal`] in Postgres' words.
//! - [`ClientExchange`] logs in to a server with such a credential.
//! - [`throttle`] and [`limits`] say who must wait and who is one too many.
//!
//! Beyond Postgres and PgBouncer: SCRAM keys are passed on whichever worker or process the client
//! comes to, channel binding is offered to clients and used towards servers, and the salt that an
//! unknown user is shown is the one that a known one with a plain password is shown. What tells
//! more than it should is as in Postgres: with the method `password` a user with a SCRAM verifier
//! is checked for milliseconds, an unknown one is not.

pub mod auth_query;
mod client;
mod credential;
mod demand;
mod derivation;
mod facts;
pub mod hba;
mod identity;
pub mod limits;
pub mod md5;
mod problem;
mod refusal;
pub mod scram;
mod secret;
mod server;
pub mod throttle;
pub mod user_list;

pub use client::{Channel, ChannelBinding, Cleartext, ClientExchange, ClientStep, Least, Policy};
pub use credential::{Credential, PassedKeys};
pub use demand::{CertificateDemand, CertificateNames, Demand, Method};
pub use derivation::{Derivation, Derived};
pub use facts::{ClientCertificate, Facts, Replication, Source, Tls};
pub(crate) use identity::check as check_identity;
pub use identity::system_user;
pub use problem::Problem;
pub use refusal::{Cause, Refusal};
pub use secret::{LONGEST_PASSWORD, Password, Secret, SecretProblem};
pub use server::{
    Known, Proof, Proven, ServerExchange, ServerSettings, ServerStep, UnknownUser, Wanted,
};
pub use user_list::UserList;

/// The body of AuthenticationOk, which is sent once everything else is in order.
pub const AUTHENTICATION_OK: [u8; 4] = [0; 4];

/// Random bytes that an exchange takes at its start.
pub const RANDOM_BYTES: usize = outgrow_upstream::scram::NONCE_BYTES + md5::SALT_BYTES;
