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
        "the certificate is not for {name}, but for {presented}: set tls.server_name if that is right"
    )]
    Name {
        /// Who was to be spoken to.
        name: String,
        /// Whom the certificate names.
        presented: String,
    },
    /// Its issuer is not among those that are trusted.
    #[error(
        "the certificate has an unknown issuer (trusted are those of {roots_name}): set tls.ca"
    )]
    Issuer {
        /// Where the trusted ones are from.
        roots_name: String,
    },
    /// The server's certificate is of no use for another reason.
    #[error("the server's certificate cannot be accepted: {0}")]
    Certificate(String),
    /// The server wants to know who we are.
    #[error("the server wants a client certificate: set tls.certificate and tls.key")]
    WantsCertificate,
    /// The server does not accept us.
    #[error("the server does not accept our certificate: {0}")]
    Identity(String),
    /// What answers speaks something else.
    #[error("what answers does not speak TLS: http:// instead of https://?")]
    NotTls,
    /// No common way of speaking.
    #[error("TLS failed: {0}")]
    Protocol(String),
}

/// What the failure of a handshake with `name` means.
pub(crate) fn of(error: io::Error, name: &str, roots_name: &str, has_identity: bool) -> Refusal {
    let Some(reason) = reason(&error) else {
        return Refusal::Io(error);
    };
    match reason {
        Error::InvalidCertificate(certificate) => of_certificate(certificate, name, roots_name),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => Refusal::NotTls,
        reason => {
            of_alert(reason, has_identity).unwrap_or_else(|| Refusal::Protocol(reason.to_string()))
        }
    }
}

/// The same for what is read after the handshake.
pub(crate) fn of_read(error: io::Error, has_identity: bool) -> io::Error {
    match reason(&error).and_then(|reason| of_alert(reason, has_identity)) {
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

fn of_alert(reason: &Error, has_identity: bool) -> Option<Refusal> {
    let Error::AlertReceived(alert) = reason else {
        return None;
    };
    Some(match alert {
        AlertDescription::CertificateRequired => Refusal::WantsCertificate,
        // What some servers say to a client that shows none.
        AlertDescription::BadCertificate if !has_identity => Refusal::WantsCertificate,
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
            Refusal::Protocol("the server does not speak HTTP/1.1".to_owned())
        }
        alert => Refusal::Protocol(format!("the server says {alert:?}")),
    })
}

fn of_certificate(error: &CertificateError, name: &str, roots_name: &str) -> Refusal {
    match error {
        CertificateError::NotValidForNameContext { presented, .. } => Refusal::Name {
            name: name.to_owned(),
            presented: names(presented),
        },
        CertificateError::NotValidForName => Refusal::Name {
            name: name.to_owned(),
            presented: names(&[]),
        },
        CertificateError::UnknownIssuer => Refusal::Issuer {
            roots_name: roots_name.to_owned(),
        },
        // What a root with the right name and another key looks like.
        CertificateError::BadSignature => Refusal::Issuer {
            roots_name: roots_name.to_owned(),
        },
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
