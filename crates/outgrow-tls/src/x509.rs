//! What of a certificate is asked after beside names, dates and keys: who issued it, under which number,
//! and what its extensions say (RFC 5280 section 4.1).
//!
//! Nothing panics, whatever the bytes. Not here: whether any of it is true.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::der::{self, OBJECT_IDENTIFIER, SEQUENCE};

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
/// `[0]` and `[3]`, constructed: the version and the extensions of a certificate.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// `id-ce-authorityKeyIdentifier`
const AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 0x23];

/// A certificate's parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'c> {
    /// The content of the serial number.
    pub(crate) serial: &'c [u8],
    /// The issuer's name, with its tag and length.
    pub(crate) issuer: &'c [u8],
    /// The subject's name, with its tag and length.
    pub(crate) subject: &'c [u8],
    /// The public key with its algorithm (`SubjectPublicKeyInfo`), with its tag and length.
    pub(crate) key: &'c [u8],
    extensions: &'c [u8],
}

/// Reads a certificate in DER.
pub(crate) fn parts(certificate: &[u8]) -> Option<Parts<'_>> {
    let (certificate, _) = der::expect(certificate, SEQUENCE)?;
    let (mut rest, _) = der::expect(certificate, SEQUENCE)?;
    if let Some((_, after)) = der::expect(rest, VERSION) {
        rest = after;
    }
    let (serial, rest) = der::expect(rest, INTEGER)?;
    let (_algorithm, rest) = der::expect(rest, SEQUENCE)?;
    let (issuer, rest) = der::whole(rest, SEQUENCE)?;
    let (_validity, rest) = der::expect(rest, SEQUENCE)?;
    let (subject, rest) = der::whole(rest, SEQUENCE)?;
    let (key, mut rest) = der::whole(rest, SEQUENCE)?;
    let mut extensions = &[][..];
    while let Some((tag, content, after)) = der::element(rest) {
        if tag == EXTENSIONS {
            extensions = der::expect(content, SEQUENCE)?.0;
        }
        rest = after;
    }
    Some(Parts {
        serial,
        issuer,
        subject,
        key,
        extensions,
    })
}

impl<'c> Parts<'c> {
    /// The bits of the public key, without its algorithm: what identifiers of keys are hashes of.
    pub(crate) fn key_bits(&self) -> Option<&'c [u8]> {
        let (key, _) = der::expect(self.key, SEQUENCE)?;
        let (_algorithm, rest) = der::expect(key, SEQUENCE)?;
        der::bits(rest)
    }

    /// What an extension holds.
    pub(crate) fn extension(&self, wanted: &[u8]) -> Option<&'c [u8]> {
        let mut rest = self.extensions;
        while let Some((one, after)) = der::expect(rest, SEQUENCE) {
            rest = after;
            let (name, mut value) = der::expect(one, OBJECT_IDENTIFIER)?;
            if name != wanted {
                continue;
            }
            // Whether it is critical may come before.
            while let Some((tag, content, after)) = der::element(value) {
                if tag == OCTET_STRING {
                    return Some(content);
                }
                value = after;
            }
        }
        None
    }
}

/// What authorities call the first certificate of a PEM text (RFC 9773 section 4.1): the identifier of
/// its issuer's key, and the content of its serial number.
pub fn renewal_identity(pem: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let certificate = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
    let parts = parts(&certificate)?;
    let (key, _) = der::expect(parts.extension(AUTHORITY_KEY)?, SEQUENCE)?;
    // `[0]`, primitive.
    let (key, _) = der::expect(key, 0x80)?;
    Some((key.to_vec(), parts.serial.to_vec()))
}
