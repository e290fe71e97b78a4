//! Why a connection to a server did not come about, in words for whoever wrote the configuration.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// Most names of a certificate that are repeated.
const NAMES: usize = 5;

/// Why a server is not spoken to, or does not speak to us.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The connection failed.
    #[error("{0}")]
    Io(io::Error),
    /// Nobody can have a certificate for this name.
    #[error("{0:?} is neither a host nor an address that a certificate could be for")]
    BadName(String),
    /// The certificate is somebody else's.
    #[error(
        "the certificate is not for {name}, but for {presented}: set {table}.server_name if that is right"
    )]
    Name {
        /// Who was to be spoken to.
        name: String,
        /// Whom the certificate names.
        presented: String,
        /// The table of the configuration.
        table: &'static str,
    },
    /// Its issuer is not among those that are trusted.
    #[error(
        "the certificate has an unknown issuer (trusted are those of {roots_name}): set {table}.ca"
    )]
    Issuer {
        /// Where the trusted ones are from.
        roots_name: String,
        /// The table of the configuration.
        table: &'static str,
    },
    /// The server's certificate is of no use for another reason.
    #[error("the server's certificate cannot be accepted: {0}")]
    Certificate(String),
    /// The server wants to know who we are.
    #[error("the server wants a client certificate: set {table}.certificate and {table}.key")]
    WantsCertificate {
        /// The table of the configuration.
        table: &'static str,
    },
    /// The server does not accept us.
    #[error("the server does not accept our certificate: {0}")]
    Identity(String),
    /// What answers speaks something else.
    #[error("what answers does not speak TLS{hint}")]
    NotTls {
        /// What may be wrong.
        hint: &'static str,
    },
    /// No common way of speaking.
    #[error("TLS failed: {0}")]
    Protocol(String),
}

/// What was to be spoken, in the words of whoever wrote the configuration.
#[derive(Debug)]
pub(crate) struct Expected {
    /// Where the trusted issuers are from.
    pub(crate) roots_name: String,
    /// Whether we have a certificate to show.
    pub(crate) has_identity: bool,
    /// The table of the configuration.
    pub(crate) table: &'static str,
    /// What is spoken over TLS.
    pub(crate) protocol: &'static str,
    /// What may be wrong when it is not TLS that is spoken.
    pub(crate) hint: &'static str,
}

/// What the failure of a handshake with `name` means.
pub(crate) fn of(error: io::Error, name: &str, expected: &Expected) -> Refusal {
    let Some(reason) = reason(&error) else {
        return Refusal::Io(error);
    };
    match reason {
        Error::InvalidCertificate(certificate) => of_certificate(certificate, name, expected),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => Refusal::NotTls {
            hint: expected.hint,
        },
        reason => {
            of_alert(reason, expected).unwrap_or_else(|| Refusal::Protocol(reason.to_string()))
        }
    }
}

/// The same for what is read after the handshake.
pub(crate) fn of_read(error: io::Error, expected: &Expected) -> io::Error {
    match reason(&error).and_then(|reason| of_alert(reason, expected)) {
        Some(refusal) => io::Error::new(error.kind(), refusal),
        // Without a last word (close_notify): what came may not be all.
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            io::Error::new(error.kind(), "the connection was cut off")
        }
        None => error,
    }
}

fn reason(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn of_alert(reason: &Error, expected: &Expected) -> Option<Refusal> {
    let Error::AlertReceived(alert) = reason else {
        return None;
    };
    let has_identity = expected.has_identity;
    let wants_certificate = Refusal::WantsCertificate {
        table: expected.table,
    };
    Some(match alert {
        AlertDescription::CertificateRequired => wants_certificate,
        // What some servers say to a client that shows none.
        AlertDescription::BadCertificate if !has_identity => wants_certificate,
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => Refusal::Identity(format!("{alert:?}")),
        // An issuer with the right name and another key, as after a cluster was made anew.
        AlertDescription::DecryptError if has_identity => {
            Refusal::Identity("its signature is not that of the issuer".to_owned())
        }
        AlertDescription::NoApplicationProtocol => {
            Refusal::Protocol(format!("the server does not speak {}", expected.protocol))
        }
        alert => Refusal::Protocol(format!("the server says {alert:?}")),
    })
}

fn of_certificate(error: &CertificateError, name: &str, expected: &Expected) -> Refusal {
    let table = expected.table;
    let issuer = || Refusal::Issuer {
        roots_name: expected.roots_name.clone(),
        table,
    };
    match error {
        CertificateError::NotValidForNameContext { presented, .. } => Refusal::Name {
            name: name.to_owned(),
            presented: names(presented),
            table,
        },
        CertificateError::NotValidForName => Refusal::Name {
            name: name.to_owned(),
            presented: names(&[]),
            table,
        },
        // The second is what a root with the right name and another key looks like.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => issuer(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            Refusal::Certificate("it has expired".to_owned())
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Refusal::Certificate("its time has not come yet: is the clock right?".to_owned())
        }
        other => Refusal::Certificate(other.to_string()),
    }
}

fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "nobody (it has no subject alternative names)".to_owned();
    }
    let mut text = presented
        .iter()
        .take(NAMES)
        .map(|name| readable(name))
        .collect::<Vec<_>>()
        .join(", ");
    if presented.len() > NAMES {
        text.push_str(&format!(" and {} more", presented.len() - NAMES));
    }
    text
}

/// `DnsName("a")` and `IpAddress(10.0.0.1)` as people write them.
fn readable(name: &str) -> &str {
    let inner = name
        .strip_prefix("DnsName(")
        .or(name.strip_prefix("IpAddress("));
    let inner = inner.and_then(|rest| rest.strip_suffix(')'));
    inner.map_or(name, |inner| inner.trim_matches('"'))
}
