//! What is known of a client's connection before its user has proven anything.

use std::net::IpAddr;

/// What the start of a session and its connection say.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who the client says it is.
    pub user: &'a str,
    /// The database it wants.
    pub database: &'a str,
    /// Whether it wants to replicate.
    pub replication: Replication,
    /// Where it is.
    pub source: Source<'a>,
    /// What TLS says, if the connection has it.
    pub tls: Option<Tls<'a>>,
}

/// The startup parameter `replication`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replication {
    /// A usual session.
    #[default]
    None,
    /// The write-ahead log as it is (`replication=true`). No database is asked for.
    Physical,
    /// Changes of one database (`replication=database`).
    Logical,
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// At the other end of a Unix socket.
    Local {
        /// The name of the system's user there, by SO_PEERCRED; `None` when the user has no name
        /// here.
        peer: Option<&'a str>,
    },
    /// At this address. An IPv4 address in IPv6 (`::ffff:…`) counts as the IPv4 address.
    Address(IpAddr),
}

impl Source<'_> {
    /// As Postgres writes it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Local { .. } => "[local]".to_owned(),
            Self::Address(address) => address.to_canonical().to_string(),
        }
    }
}

/// What TLS says of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tls<'a> {
    /// The hash of our certificate in this connection, for channel binding
    /// ([`super::scram::end_point_hash`]); `None` offers none: for listeners behind something else
    /// that ends the client's TLS, whose certificate is the one that the client sees.
    pub end_point: Option<&'a [u8]>,
    /// The client's certificate, if it showed one **and its issuer is trusted**: the verification
    /// is TLS's.
    pub certificate: Option<ClientCertificate<'a>>,
}

/// Names in a client's certificate.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientCertificate<'a> {
    /// The common name of its subject; `None` when there is none, or more than one.
    pub common_name: Option<&'a str>,
    /// DNS names and e-mail addresses among its alternative names.
    pub alternative_names: &'a [String],
}
