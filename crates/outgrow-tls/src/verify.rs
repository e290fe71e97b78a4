//! How servers are verified that data is exchanged with: as it is said for each, not always.
//!
//! [`AnybodyWithTheKey`] verifies nobody. It is for connections that are better encrypted than not,
//! and is made by [`Verification::Nobody`](crate::Verification::Nobody) only.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::holder::Holder;
use crate::issuers::{self, Issuers};
use crate::problem::TlsProblem;

/// The verifier of nobody. With a certificate of anybody's making, whoever can change what is on
/// the wire can be the server: only those who merely listen are shut out.
#[derive(Debug)]
pub(crate) struct AnybodyWithTheKey(pub(crate) Arc<CryptoProvider>);

impl ServerCertVerifier for AnybodyWithTheKey {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    // That it has the key of the certificate that it shows is verified all the same: else a login
    // that is bound to the certificate would be bound to nothing.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Certificates of known issuers, for any name or for the right one, as databases have them.
///
/// Two things are taken here that browsers refuse, since libpq takes them and many servers have
/// nothing else: a certificate of its own making that is itself among the issuers, and the common
/// name as the host where a certificate names no hosts.
#[derive(Debug)]
pub(crate) struct OfIssuers {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    /// The issuers' own certificates.
    known: Vec<CertificateDer<'static>>,
    /// The usual verifier.
    strict: Arc<WebPkiServerVerifier>,
    checks_name: bool,
}

impl OfIssuers {
    pub(crate) fn new(
        issuers: &Issuers,
        checks_name: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsProblem> {
        let (roots, known) = issuers::read(&issuers.text, &issuers.name)?;
        let (roots, provider) = (Arc::new(roots), Arc::clone(provider));
        let strict =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let strict = strict.build().map_err(|error| TlsProblem::Unusable {
            detail: error.to_string(),
        })?;
        Ok(Self {
            provider,
            roots,
            known,
            strict,
            checks_name,
        })
    }

    fn verify_issuer(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let verified = verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(certificate)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        );
        match verified {
            // The dates were looked at before.
            Err(error) if is_issuer(&error) && self.known.contains(certificate) => Ok(()),
            verified => verified,
        }
    }
}

impl ServerCertVerifier for OfIssuers {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify_issuer(certificate, intermediates, now)?;
        if self.checks_name {
            let parsed = ParsedCertificate::try_from(certificate)?;
            match rustls::client::verify_server_name(&parsed, name) {
                Err(_) if is_common_name(certificate, name) => {}
                verified => verified?,
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let strict = &self.strict;
        strict.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let strict = &self.strict;
        strict.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}

/// Whether all that is wrong is that an issuer is used as a server.
fn is_issuer(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(other))) = error else {
        return false;
    };
    let found = other.downcast_ref::<webpki::Error>();
    found == Some(&webpki::Error::CaUsedAsEndEntity)
}

/// Whether the common name is the host's, in a certificate that names no hosts.
fn is_common_name(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    let holder = Holder::of(certificate);
    let Some(common_name) = holder.common_name.filter(|_| !holder.names_hosts) else {
        return false;
    };
    match name {
        ServerName::DnsName(host) => is_host(&common_name, host.as_ref()),
        ServerName::IpAddress(ip) => {
            let own = common_name.parse::<std::net::IpAddr>();
            own.is_ok_and(|own| rustls_pki_types::IpAddr::from(own) == *ip)
        }
        _ => false,
    }
}

/// Whether a name in a certificate is this host; a wildcard stands for the first label whole
/// (RFC 9525 section 6.3), and never for that of a top domain.
fn is_host(presented: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    match presented.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(first, rest)| {
            !first.is_empty() && parent.contains('.') && rest.eq_ignore_ascii_case(parent)
        }),
        None => host.eq_ignore_ascii_case(presented),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_names_are_hosts() {
        let check = |presented: &str, host: &str, expected: bool| {
            assert_eq!(is_host(presented, host), expected, "{presented} {host}");
        };
        check("db.example", "db.example", true);
        check("DB.example", "db.EXAMPLE", true);
        check("db.example", "db.example.", true);
        check("db.example", "other.example", false);
        check("db.example", "a.db.example", false);
        check("*.db.example", "a.db.example", true);
        check("*.db.example", "a.b.db.example", false);
        check("*.db.example", "db.example", false);
        check("*.example", "db.example", false);
        check("*", "db", false);
        check("d*.example.com", "db.example.com", false);
    }
}
