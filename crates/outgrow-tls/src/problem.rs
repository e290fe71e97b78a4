//! What can be wrong with certificates and keys, and what to do about it.

use std::fmt;

use outgrow_core::WallTime;

use crate::ocsp::{OcspResponse, OcspStatus};

/// Why certificates and keys were refused. The text names the source that the caller gave
/// (usually a file); [`TlsProblem::hint`] says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsProblem {
    /// The list of certificates is empty.
    #[error("there is no certificate to serve")]
    NothingToServe,
    /// The text is not well-formed PEM.
    #[error("{source_name}: the PEM text is malformed: {detail}")]
    BadPem {
        /// Where the text is from.
        source_name: String,
        /// What the PEM reader said.
        detail: String,
    },
    /// The text has no certificate.
    #[error("{source_name}: there is no certificate in it")]
    NoCertificate {
        /// Where the text is from.
        source_name: String,
        /// Whether it has a private key instead.
        has_key: bool,
    },
    /// The server's certificate cannot be read.
    #[error("{source_name}: the first certificate in it is not one that can be served: {detail}")]
    BadCertificate {
        /// Where the text is from.
        source_name: String,
        /// What the certificate reader said.
        detail: String,
    },
    /// The text has no private key.
    #[error("{source_name}: there is no private key in it")]
    NoKey {
        /// Where the text is from.
        source_name: String,
        /// Whether the key is there, but under a passphrase.
        encrypted: bool,
    },
    /// The private key is of a kind that is not taken.
    #[error("{source_name}: the private key cannot be used: {detail}")]
    BadKey {
        /// Where the text is from.
        source_name: String,
        /// What the key reader said.
        detail: String,
    },
    /// The private key belongs to another certificate.
    #[error("{key_name}: the key does not belong to the certificate in {certificate_name}")]
    KeyMismatch {
        /// Where the certificate is from.
        certificate_name: String,
        /// Where the key is from.
        key_name: String,
        /// The position, counted from 1, of the certificate in the same text that the key
        /// does belong to.
        belongs_to: Option<usize>,
    },
    /// The text is no list of revoked certificates, or one that cannot be read.
    #[error(
        "{source_name}: there is no list of revoked certificates in it that can be used: {detail}"
    )]
    BadRevocations {
        /// Where the text is from.
        source_name: String,
        /// What the reader said.
        detail: String,
    },
    /// No version is left that is spoken here.
    #[error("no version of TLS is left that is spoken here")]
    NoVersion,
    /// The TLS library refused the whole.
    #[error("the TLS settings cannot be used: {detail}")]
    Unusable {
        /// What the library said.
        detail: String,
    },
}

impl TlsProblem {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NothingToServe => "give at least one certificate with its key",
            Self::BadPem { .. } => {
                "the file must have the lines -----BEGIN …----- and -----END …----- with base64 between them"
            }
            Self::NoCertificate { has_key: true, .. } => {
                "it has a private key: are certificate and key the wrong way round?"
            }
            Self::NoCertificate { .. } => {
                "it must have a section -----BEGIN CERTIFICATE-----, the server's certificate first, then the intermediate ones"
            }
            Self::BadCertificate { .. } => {
                "it must be an X.509 version 3 certificate for a server; `openssl x509 -text -in FILE` shows it"
            }
            Self::NoKey {
                encrypted: true, ..
            } => {
                "the key is protected by a passphrase: write it without one with `openssl pkey -in FILE -out NEW`"
            }
            Self::NoKey { .. } => {
                "it must have a section -----BEGIN PRIVATE KEY----- (or RSA or EC PRIVATE KEY)"
            }
            Self::BadKey { .. } => {
                "RSA from 2048 bits, ECDSA P-256, P-384 or P-521 and Ed25519 keys are taken"
            }
            Self::KeyMismatch {
                belongs_to: Some(_),
                ..
            } => {
                "the key belongs to a later certificate in the file: the server's certificate must come first"
            }
            Self::KeyMismatch { .. } => {
                "give the key that the certificate was requested with, or have the certificate renewed for this key"
            }
            Self::BadRevocations { .. } => {
                "it must have a section -----BEGIN X509 CRL-----, of a list of version 2; `openssl crl -text -in FILE` shows it"
            }
            Self::NoVersion => "1.2 and 1.3 are spoken: the lowest must not be above the highest",
            Self::Unusable { .. } => "this should not happen; please report it",
        }
    }
}

/// Something about a certificate that is served all the same, but that somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsWarning {
    /// It has expired: clients that check will refuse it.
    Expired {
        /// Where the certificate is from.
        source_name: String,
        /// The last moment of its validity.
        not_after: WallTime,
    },
    /// Its time has not come yet.
    NotYetValid {
        /// Where the certificate is from.
        source_name: String,
        /// The first moment of its validity.
        not_before: WallTime,
    },
    /// It names no host (subject alternative names of type DNS): only the first certificate of
    /// a list is served then, to clients whose name no other one has.
    NoNames {
        /// Where the certificate is from.
        source_name: String,
    },
    /// It names an OCSP responder, and its issuer is not among the certificates after it, so no
    /// response can be checked.
    NoIssuer {
        /// Where the certificate is from.
        source_name: String,
    },
    /// Clients are to refuse it without a staple (RFC 7633), and it will have none.
    MustStaple {
        /// Where the certificate is from.
        source_name: String,
    },
    /// The OCSP response that should be stapled cannot be.
    BadStaple {
        /// Where the response is from.
        source_name: String,
        /// Why not.
        detail: String,
        /// Whether clients are to refuse the certificate for it.
        must_staple: bool,
    },
    /// Its issuer says that it is revoked: clients that look at the staple will refuse it.
    Revoked {
        /// Where the certificate is from.
        source_name: String,
        /// Since when.
        at: WallTime,
    },
}

impl TlsWarning {
    /// What is to be said of a response.
    pub fn revoked(source_name: &str, response: &OcspResponse) -> Option<Self> {
        match response.status {
            OcspStatus::Good => None,
            OcspStatus::Revoked { at } => Some(Self::Revoked {
                source_name: source_name.to_owned(),
                at,
            }),
        }
    }
}

impl fmt::Display for TlsWarning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired {
                source_name,
                not_after,
            } => write!(
                formatter,
                "{source_name}: the certificate expired at {}",
                date(*not_after)
            ),
            Self::NotYetValid {
                source_name,
                not_before,
            } => write!(
                formatter,
                "{source_name}: the certificate is valid only from {}",
                date(*not_before)
            ),
            Self::NoNames { source_name } => write!(
                formatter,
                "{source_name}: the certificate names no host, so no client can be sure of it"
            ),
            Self::NoIssuer { source_name } => write!(
                formatter,
                "{source_name}: its issuer is not in the file, so no OCSP response can be checked \
                 and stapled: put the issuer's certificate after it, or write ocsp = \"off\""
            ),
            Self::MustStaple { source_name } => write!(
                formatter,
                "{source_name}: clients refuse this certificate without an OCSP response (must-staple), \
                 and there is none to come: it has to name a responder (and ocsp be \"auto\"), \
                 or give an ocsp_file"
            ),
            Self::BadStaple {
                source_name,
                detail,
                must_staple,
            } => write!(
                formatter,
                "{source_name}: it is not stapled: {detail}{}",
                match must_staple {
                    true => ". Clients refuse the certificate without it (must-staple)",
                    false => "",
                }
            ),
            Self::Revoked { source_name, at } => write!(
                formatter,
                "{source_name}: THE CERTIFICATE IS REVOKED since {}, says its issuer: clients will \
                 refuse it. Have a new one issued, with a new key",
                date(*at)
            ),
        }
    }
}

fn date(time: WallTime) -> String {
    let mut text = Vec::new();
    time.write_rfc3339(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}
