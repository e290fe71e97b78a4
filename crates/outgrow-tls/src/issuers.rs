//! Issuers of certificates that are trusted, read from PEM.

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::certificate;
use crate::problem::TlsProblem;

/// Most issuers that are taken from one text: the system's have about 150.
const ROOTS: usize = 4_096;

/// Where systems keep the issuers that they trust: the first of these files that is there.
pub const SYSTEM_ISSUERS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Issuers as PEM, with the name by which messages speak of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuers {
    /// The issuers that are trusted, and no others.
    pub text: Vec<u8>,
    /// Where they are from, usually a file's path.
    pub name: String,
}

/// Reads issuers; with the certificates themselves.
pub(crate) fn read(
    text: &[u8],
    name: &str,
) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsProblem> {
    let source_name = || name.to_owned();
    let mut roots = RootCertStore::empty();
    let mut all = Vec::new();
    let mut refused = None;
    for certificate in CertificateDer::pem_slice_iter(text).take(ROOTS) {
        let certificate = certificate.map_err(|error| TlsProblem::BadPem {
            source_name: source_name(),
            detail: error.to_string(),
        })?;
        // One that this library cannot read among many that it can is the system's usual state.
        match roots.add(certificate.clone()) {
            Ok(()) => all.push(certificate),
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        _ if !roots.is_empty() => Ok((roots, all)),
        Some(error) => Err(TlsProblem::BadCertificate {
            source_name: source_name(),
            detail: error.to_string(),
        }),
        None => Err(TlsProblem::NoCertificate {
            source_name: source_name(),
            has_key: certificate::has_text(text, b"PRIVATE KEY-----"),
        }),
    }
}
