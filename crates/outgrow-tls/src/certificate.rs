//! A certificate chain with its key, read from PEM and checked for what a reader of the
//! configuration can get wrong. Whether clients trust it is not asked here.

use std::sync::Arc;
use std::time::Duration;

use outgrow_core::WallTime;
use rustls::SignatureAlgorithm;
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::ocsp::Staple;
use crate::problem::{TlsProblem, TlsWarning};

/// A certificate and its key as PEM, with the names by which messages speak of them.
#[derive(Clone, PartialEq, Eq)]
pub struct CertificateText {
    /// The server's certificate, then the intermediate ones.
    pub certificate: Vec<u8>,
    /// The private key: PKCS #8, PKCS #1 or SEC 1, without a passphrase.
    pub key: Vec<u8>,
    /// Where the certificate is from, usually a file's path.
    pub certificate_name: String,
    /// Where the key is from, usually a file's path.
    pub key_name: String,
    /// What its issuer says of it, where somebody else finds that out.
    pub staple: Option<StapleText>,
}

/// An OCSP response that is to be stapled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StapleText {
    /// The response in DER, or why it could not be read: that stops nothing but the stapling.
    pub response: Result<Vec<u8>, String>,
    /// Where it is from, usually a file's path.
    pub name: String,
}

impl std::fmt::Debug for CertificateText {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("CertificateText")
            .field("certificate_name", &self.certificate_name)
            .field("key_name", &self.key_name)
            .finish_non_exhaustive()
    }
}

/// What is known of a certificate that is served, for whoever asks about the running state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Where it is from.
    pub source_name: String,
    /// The hosts that it names, in lower case; `*.example` for a wildcard.
    pub names: Vec<String>,
    /// The first moment of its validity; none when it could not be read.
    pub not_before: Option<WallTime>,
    /// The last moment of its validity (at most 2554, where wall time ends); none when it could
    /// not be read.
    pub not_after: Option<WallTime>,
    /// Of which kind its key is: `rsa`, `ecdsa`, `ed25519` or `other`.
    pub key_kind: &'static str,
    /// What is stapled to it; none where nobody says anything of it.
    pub staple: Option<Arc<Staple>>,
}

/// A certificate that can be served.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) facts: CertificateFacts,
}

/// Reads and checks one certificate with its key; what is odd but can be served is added to
/// `warnings`.
pub(crate) fn load(
    text: &CertificateText,
    provider: &CryptoProvider,
    now: WallTime,
    warnings: &mut Vec<TlsWarning>,
) -> Result<Loaded, TlsProblem> {
    let chain = read_chain(text)?;
    let key = read_key(text)?;
    let bad_certificate = |error: webpki::Error| TlsProblem::BadCertificate {
        source_name: text.certificate_name.clone(),
        detail: error.to_string(),
    };
    let first = EndEntityCert::try_from(&chain[0]).map_err(bad_certificate)?;
    let names: Vec<String> = first
        .valid_dns_names()
        .map(str::to_ascii_lowercase)
        .collect();
    if names.is_empty() {
        warnings.push(TlsWarning::NoNames {
            source_name: text.certificate_name.clone(),
        });
    }
    let (not_before, not_after) = check_time(&first, &text.certificate_name, now, warnings);
    let certified = pair(chain, key, text, provider)?;
    Ok(Loaded {
        facts: CertificateFacts {
            source_name: text.certificate_name.clone(),
            names,
            not_before,
            not_after,
            key_kind: match certified.key.algorithm() {
                SignatureAlgorithm::RSA => "rsa",
                SignatureAlgorithm::ECDSA => "ecdsa",
                SignatureAlgorithm::ED25519 => "ed25519",
                _ => "other",
            },
            staple: None,
        },
        key: Arc::new(certified),
    })
}

/// Reads a chain and its key, and whether they belong together; that of a client, which need not
/// name a host.
pub(crate) fn load_pair(
    text: &CertificateText,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsProblem> {
    pair(read_chain(text)?, read_key(text)?, text, provider)
}

/// Reads a chain and its key without a look at what the certificate says: of one that answers
/// `tls-alpn-01` nobody here understands the extension that makes it one.
pub(crate) fn load_answer(
    text: &CertificateText,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsProblem> {
    let (chain, key) = (read_chain(text)?, read_key(text)?);
    Ok(CertifiedKey::new(chain, usable(key, text, provider)?))
}

fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    text: &CertificateText,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsProblem> {
    let certified = CertifiedKey::new(chain, usable(key, text, provider)?);
    check_match(&certified, text)?;
    Ok(certified)
}

fn usable(
    key: PrivateKeyDer<'static>,
    text: &CertificateText,
    provider: &CryptoProvider,
) -> Result<Arc<dyn SigningKey>, TlsProblem> {
    let loaded = provider.key_provider.load_private_key(key);
    loaded.map_err(|error| TlsProblem::BadKey {
        source_name: text.key_name.clone(),
        detail: error.to_string(),
    })
}

fn read_chain(text: &CertificateText) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text.certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsProblem::BadPem {
            source_name: text.certificate_name.clone(),
            detail: error.to_string(),
        })?;
    if chain.is_empty() {
        return Err(TlsProblem::NoCertificate {
            source_name: text.certificate_name.clone(),
            has_key: has_text(&text.certificate, b"PRIVATE KEY-----"),
        });
    }
    Ok(chain)
}

fn read_key(text: &CertificateText) -> Result<PrivateKeyDer<'static>, TlsProblem> {
    match PrivateKeyDer::pem_slice_iter(&text.key).next() {
        Some(Ok(key)) => Ok(key),
        Some(Err(error)) => Err(TlsProblem::BadPem {
            source_name: text.key_name.clone(),
            detail: error.to_string(),
        }),
        None => Err(TlsProblem::NoKey {
            source_name: text.key_name.clone(),
            encrypted: has_text(&text.key, b"ENCRYPTED PRIVATE KEY-----"),
        }),
    }
}

pub(crate) fn has_text(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn check_match(certified: &CertifiedKey, text: &CertificateText) -> Result<(), TlsProblem> {
    use rustls::{Error, InconsistentKeys};
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(Error::InconsistentKeys(_)) => Err(TlsProblem::KeyMismatch {
            certificate_name: text.certificate_name.clone(),
            key_name: text.key_name.clone(),
            belongs_to: (1..certified.cert.len())
                .find(|&at| {
                    let other = vec![certified.cert[at].clone()];
                    CertifiedKey::new(other, Arc::clone(&certified.key))
                        .keys_match()
                        .is_ok()
                })
                .map(|at| at + 1),
        }),
        Err(error) => Err(TlsProblem::BadCertificate {
            source_name: text.certificate_name.clone(),
            detail: error.to_string(),
        }),
    }
}

/// The beginning and the end of the certificate's validity; warns when `now` is outside of it.
fn check_time(
    certificate: &EndEntityCert<'_>,
    source_name: &str,
    now: WallTime,
    warnings: &mut Vec<TlsWarning>,
) -> (Option<WallTime>, Option<WallTime>) {
    // The checker looks at the dates before it looks for an issuer, of which it is given none,
    // so asking it about a moment tells the dates without a reader of DER of our own.
    let at = |seconds: u64| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        certificate
            .verify_for_usage(&[], &[], &[], time, KeyUsage::server_auth(), None, None)
            .err()
    };
    let source_name = || source_name.to_owned();
    match at(now.seconds()) {
        Some(webpki::Error::CertExpired { not_after, .. }) => warnings.push(TlsWarning::Expired {
            source_name: source_name(),
            not_after: wall(not_after),
        }),
        Some(webpki::Error::CertNotValidYet { not_before, .. }) => {
            warnings.push(TlsWarning::NotYetValid {
                source_name: source_name(),
                not_before: wall(not_before),
            });
        }
        _ => {}
    }
    let not_before = match at(0) {
        Some(webpki::Error::CertNotValidYet { not_before, .. }) => Some(wall(not_before)),
        _ => None,
    };
    let not_after = match at(u64::MAX) {
        Some(webpki::Error::CertExpired { not_after, .. }) => Some(wall(not_after)),
        _ => None,
    };
    (not_before, not_after)
}

fn wall(time: UnixTime) -> WallTime {
    WallTime(time.as_secs().saturating_mul(1_000_000_000))
}
