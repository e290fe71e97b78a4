//! What clients are told when something ends their session or refuses it.

use std::borrow::Cow;

use crate::plan::Manner;
use crate::wire::write;

/// A problem, as a client is told. The texts are PgBouncer's where it has one, since programs look
/// for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The SQLSTATE.
    pub code: Cow<'static, str>,
    /// The text, which is safe to be shown to the client.
    pub message: Cow<'static, str>,
}

/// `protocol_violation`, which PgBouncer has for nearly everything.
pub(crate) const PROTOCOL: &str = "08P01";
/// `too_many_connections`.
pub(crate) const TOO_MANY: &str = "53300";
/// `invalid_authorization_specification`.
pub(crate) const AUTHORIZATION: &str = "28000";
/// `invalid_catalog_name`.
pub(crate) const NO_DATABASE: &str = "3D000";
/// `cannot_connect_now`.
pub(crate) const CANNOT_CONNECT: &str = "57P03";
/// `admin_shutdown`.
pub(crate) const SHUTDOWN: &str = "57P01";
/// `connection_failure`.
pub(crate) const CONNECTION: &str = "08006";
/// `transaction_resolution_unknown`.
pub(crate) const UNKNOWN_OUTCOME: &str = "08007";
/// `query_canceled`.
pub(crate) const CANCELLED: &str = "57014";
/// `idle_in_transaction_session_timeout`.
pub(crate) const IDLE_TRANSACTION: &str = "25P03";
/// `idle_session_timeout`.
pub(crate) const IDLE_SESSION: &str = "57P05";
/// `out_of_memory`.
pub(crate) const NO_MEMORY: &str = "53200";

impl Refusal {
    /// With a text of our own.
    pub(crate) fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
        }
    }

    /// Writes it as the error that ends the connection.
    pub(crate) fn write(&self, manner: Manner, out: &mut Vec<u8>) {
        // Codes of our own are borrowed; those of servers are passed on in any manner.
        let code = match (manner, &self.code) {
            (Manner::PgBouncer, Cow::Borrowed(_)) => PROTOCOL,
            _ => &self.code,
        };
        write::error(out, write::Problem::fatal(code, &self.message));
    }
}
