//! OCSP stapling (RFC 6066 section 8, RFC 6960, RFC 5019): what a certificate's issuer says about it is
//! sent along in the handshake, so that clients need not ask the issuer themselves.
//!
//! Here is what is asked ([`subject`]), how an answer is checked ([`response`]), when it is asked again
//! ([`schedule`]) and what handshakes get ([`staple`]). Not here: the asking, and files.

pub mod inspect;
mod response;
mod schedule;
mod staple;
mod subject;
#[cfg(test)]
mod tests;
mod time;

pub use self::response::{OcspProblem, OcspResponse, OcspStatus};
pub use self::schedule::Schedule;
pub(crate) use self::staple::with_staple;
pub use self::staple::{Staple, StapleFacts, Staples};

/// Longest response that is taken, in bytes. They have one to three KiB. All of one goes out with each
/// handshake, and nobody signs the certificates in it: who is on the way to the responder must not be able
/// to make handshakes large.
pub const RESPONSE_LIMIT: usize = 16 * 1024;
