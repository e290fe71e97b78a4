//! Which certificate is asked about, and of whom: what is in the certificate and in that of its issuer.

use aws_lc_rs::digest::{self, Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use rustls_pki_types::CertificateDer;

use crate::der::{self, OBJECT_IDENTIFIER, SEQUENCE};
use crate::x509::{self, Parts};

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
/// `[6]`: a URI among general names.
const URI: u8 = 0x86;
/// `id-pe-authorityInfoAccess` (RFC 5280 section 4.2.2.1)
const AUTHORITY_ACCESS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 1];
/// `id-ad-ocsp`
const ACCESS_OCSP: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1];
/// `id-pe-tlsfeature` (RFC 7633)
const TLS_FEATURE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 24];
/// `status_request`, as a TLS feature.
const STATUS_REQUEST: &[u8] = &[5];
/// `id-sha1` and `id-sha256`, as algorithms.
const SHA1_IDENTIFIER: &[u8] = &[0x2b, 14, 3, 2, 26];
const SHA256_IDENTIFIER: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
/// Most responders of a certificate that are asked.
const RESPONDERS: usize = 4;
/// Longest URL of a responder.
const URL_LIMIT: usize = 1_024;

/// What a certificate says about how its status is learnt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Its responders' URLs, those with `http://` (RFC 5019 section 5: responses are signed).
    pub(crate) responders: Vec<String>,
    /// Whether clients are to refuse it without a staple (RFC 7633, "must staple").
    pub(crate) must_staple: bool,
    /// Whether it is its own issuer.
    pub(crate) is_self_issued: bool,
}

impl Wishes {
    /// Of a certificate in DER.
    pub(crate) fn of(certificate: &[u8]) -> Self {
        let Some(parts) = x509::parts(certificate) else {
            return Self::default();
        };
        Self {
            responders: responders(&parts),
            must_staple: must_staple(&parts).unwrap_or_default(),
            is_self_issued: parts.issuer == parts.subject,
        }
    }
}

fn responders(parts: &Parts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let list = parts.extension(AUTHORITY_ACCESS);
    let Some((mut rest, _)) = list.and_then(|list| der::expect(list, SEQUENCE)) else {
        return found;
    };
    while let Some((access, after)) = der::expect(rest, SEQUENCE) {
        rest = after;
        let Some((ACCESS_OCSP, place)) = der::expect(access, OBJECT_IDENTIFIER) else {
            continue;
        };
        let Some((url, _)) = der::expect(place, URI) else {
            continue;
        };
        let is_url = url.len() <= URL_LIMIT && url.iter().all(u8::is_ascii_graphic);
        let is_plain = url
            .get(..7)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"http://"));
        if is_url && is_plain && found.len() < RESPONDERS {
            found.push(String::from_utf8_lossy(url).into_owned());
        }
    }
    found
}

/// `Features ::= SEQUENCE OF INTEGER`
fn must_staple(parts: &Parts<'_>) -> Option<bool> {
    let (mut features, _) = der::expect(parts.extension(TLS_FEATURE)?, SEQUENCE)?;
    while let Some((feature, rest)) = der::expect(features, INTEGER) {
        if feature == STATUS_REQUEST {
            return Some(true);
        }
        features = rest;
    }
    Some(false)
}

/// A certificate with its issuer: what responses are checked against.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(super) issuer: CertificateDer<'static>,
    /// The content of the serial number.
    pub(crate) serial: Vec<u8>,
    issuer_name: Vec<u8>,
    issuer_key: Vec<u8>,
}

impl Subject {
    /// Of the first certificate of a chain, if its issuer is in it.
    pub(crate) fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let (first, others) = chain.split_first()?;
        let parts = x509::parts(first)?;
        let found = others.iter().find_map(|other| {
            let issuer = x509::parts(other)?;
            (issuer.subject == parts.issuer).then_some((other, issuer))
        });
        let (issuer, issuer_parts) = found?;
        Some(Self {
            issuer_key: issuer_parts.key_bits()?.to_vec(),
            issuer_name: parts.issuer.to_vec(),
            serial: parts.serial.to_vec(),
            issuer: issuer.clone().into_owned(),
        })
    }

    /// `OCSPRequest` (RFC 6960 section 4.1.1) for this one certificate, without a nonce, by SHA-1 as
    /// RFC 5019 section 2.1.1 wants it: it is a name here, nothing depends on collisions.
    pub(crate) fn request(&self) -> Vec<u8> {
        let algorithm = [
            der::write(OBJECT_IDENTIFIER, SHA1_IDENTIFIER),
            der::write(0x05, &[]),
        ];
        let hash = |bytes: &[u8]| {
            let hash = digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
            der::write(OCTET_STRING, hash.as_ref())
        };
        let certificate = [
            der::write(SEQUENCE, &algorithm.concat()),
            hash(&self.issuer_name),
            hash(&self.issuer_key),
            der::write(INTEGER, &self.serial),
        ];
        let mut request = der::write(SEQUENCE, &certificate.concat());
        // Request, the list of them, TBSRequest, OCSPRequest.
        for _ in 0..4 {
            request = der::write(SEQUENCE, &request);
        }
        request
    }

    /// Whether the content of a `CertID` is of this certificate.
    pub(super) fn is_named_by(&self, id: &[u8]) -> Option<bool> {
        let (algorithm, rest) = der::expect(id, SEQUENCE)?;
        let (algorithm, _) = der::expect(algorithm, OBJECT_IDENTIFIER)?;
        let (name, rest) = der::expect(rest, OCTET_STRING)?;
        let (key, rest) = der::expect(rest, OCTET_STRING)?;
        let (serial, _) = der::expect(rest, INTEGER)?;
        let algorithm: &'static Algorithm = match algorithm {
            SHA1_IDENTIFIER => &SHA1_FOR_LEGACY_USE_ONLY,
            SHA256_IDENTIFIER => &SHA256,
            _ => return Some(false),
        };
        let is = |hash: &[u8], of: &[u8]| digest::digest(algorithm, of).as_ref() == hash;
        Some(serial == self.serial && is(name, &self.issuer_name) && is(key, &self.issuer_key))
    }
}
