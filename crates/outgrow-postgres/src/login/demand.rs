//! What a client must show, by the configuration.

use std::sync::Arc;

use super::hba::Map;

/// How users prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Not at all. The user must be known all the same.
    Trust,
    /// In no way.
    Reject,
    /// By MD5, or by SCRAM where that is what is stored.
    Md5,
    /// By SCRAM-SHA-256.
    ScramSha256,
    /// By the password as it is (`plain` in PgBouncer's words).
    Password,
    /// By a certificate.
    Certificate,
    /// By the system's user at the other end of a Unix socket.
    Peer,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Trust,
        Self::Reject,
        Self::Md5,
        Self::ScramSha256,
        Self::Password,
        Self::Certificate,
        Self::Peer,
    ];

    /// Its name in pg_hba.conf.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Reject => "reject",
            Self::Md5 => "md5",
            Self::ScramSha256 => "scram-sha-256",
            Self::Password => "password",
            Self::Certificate => "cert",
            Self::Peer => "peer",
        }
    }
}

/// What else the client's certificate must be, beside the method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CertificateDemand {
    /// Nothing: there need not be one.
    #[default]
    None,
    /// There must be one that is trusted (`clientcert=verify-ca`).
    Trusted,
    /// It must be the user's as well (`clientcert=verify-full`).
    OfUser,
}

/// Which of a certificate's names may be the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateNames {
    /// The common name, or one of the alternative names, as in PgBouncer.
    #[default]
    All,
    /// The common name only, as in Postgres (`clientname=CN`).
    CommonName,
}

/// What a client must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// How it proves who its user is.
    pub method: Method,
    /// Which names of certificates and systems are which users; without one they are the same.
    pub map: Option<Arc<Map>>,
    /// What its certificate must be, whatever the method.
    pub certificate: CertificateDemand,
    /// Where the user's name is looked for in it.
    pub names: CertificateNames,
}

impl From<Method> for Demand {
    /// The method and nothing else.
    fn from(method: Method) -> Self {
        Self {
            method,
            map: None,
            certificate: CertificateDemand::None,
            names: CertificateNames::All,
        }
    }
}
