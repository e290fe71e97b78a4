//! Responses (RFC 6960 section 4.2) and whether they may be stapled: whether they are about the
//! certificate, whether now is their time, and whether its issuer stands behind them.
//!
//! Nothing panics, whatever the bytes.

use std::time::Duration;

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY};
use outgrow_core::WallTime;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, RawPublicKeyEntity};

use super::subject::Subject;
use super::{RESPONSE_LIMIT, time};
use crate::der::{self, OBJECT_IDENTIFIER, SEQUENCE};
use crate::x509;

const ENUMERATED: u8 = 0x0a;
const OCTET_STRING: u8 = 0x04;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]`, constructed: the bytes of a response, its version, its certificates, when the next one comes.
const CONTEXT_0: u8 = 0xa0;
/// `[1]` and `[2]`, constructed: who responds, by name or by key; and `[1]`: revoked.
const CONTEXT_1: u8 = 0xa1;
const CONTEXT_2: u8 = 0xa2;
/// `[0]` and `[2]`, primitive: good, and unknown.
const GOOD: u8 = 0x80;
const UNKNOWN: u8 = 0x82;
/// `id-pkix-ocsp-basic`
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 1];
/// `id-kp-OCSPSigning`
const OCSP_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 9];
/// By how much a responder's clock may be before ours.
const SKEW: Duration = Duration::from_secs(300);
/// Most certificates in a response that are looked at.
const CERTIFICATES: usize = 8;

/// What a certificate's issuer says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OcspStatus {
    /// It is not revoked.
    Good,
    /// It is revoked.
    Revoked {
        /// Since when.
        at: WallTime,
    },
}

/// A response that may be stapled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OcspResponse {
    /// What it says.
    pub status: OcspStatus,
    /// From when on it is known to be so.
    pub this_update: WallTime,
    /// Until when it may be used.
    pub next_update: WallTime,
}

/// Why a response is not stapled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OcspProblem {
    /// It cannot be read.
    #[error("the response is malformed: {0}")]
    Malformed(&'static str),
    /// It is an error message of the responder.
    #[error("the responder says {0}")]
    Refused(&'static str),
    /// It is about another certificate.
    #[error("the response is not about this certificate")]
    Other,
    /// The issuer does not know the certificate.
    #[error("the responder does not know the certificate")]
    Unknown,
    /// It says no end, so that nobody could tell how old it may be.
    #[error("the response has no end (nextUpdate), so it cannot be stapled")]
    Endless,
    /// Its time has not come.
    #[error("the response is of the future: is this machine's clock right?")]
    Early,
    /// Its time is over.
    #[error("the response is too old (its nextUpdate has passed)")]
    Late,
    /// Nobody who may sign it did.
    #[error("the response is not signed by the certificate's issuer or one that it told to: {0}")]
    Signer(&'static str),
}

use OcspProblem::Malformed;

/// Reads a response in DER and checks all of it.
pub(super) fn check(
    response: &[u8],
    subject: &Subject,
    now: WallTime,
) -> Result<OcspResponse, OcspProblem> {
    if response.len() > RESPONSE_LIMIT {
        return Err(Malformed("it is longer than 16 KiB"));
    }
    let basic = basic(response)?;
    let parts = Parts::read(basic).ok_or(Malformed("what is signed"))?;
    parts.check_signer(subject, now)?;
    let mut rest = parts.responses;
    while let Some((single, after)) = der::expect(rest, SEQUENCE) {
        rest = after;
        let (id, single) = der::expect(single, SEQUENCE).ok_or(Malformed("a certificate's"))?;
        if subject.is_named_by(id).unwrap_or_default() {
            return about(single, now);
        }
    }
    Err(OcspProblem::Other)
}

/// `OCSPResponse`: the content of the basic response in it.
fn basic(response: &[u8]) -> Result<&[u8], OcspProblem> {
    let (content, rest) = der::expect(response, SEQUENCE).ok_or(Malformed("it is no response"))?;
    if !rest.is_empty() {
        return Err(Malformed("something follows it"));
    }
    let (status, rest) = der::expect(content, ENUMERATED).ok_or(Malformed("its status"))?;
    match status {
        [0] => {}
        [1] => return Err(OcspProblem::Refused("that it cannot read the request")),
        [2] => return Err(OcspProblem::Refused("that something went wrong there")),
        [3] => return Err(OcspProblem::Refused("that it should be tried later")),
        [5] => return Err(OcspProblem::Refused("that requests must be signed")),
        [6] => return Err(OcspProblem::Refused("that it does not answer us")),
        _ => return Err(Malformed("its status")),
    }
    let read = || {
        let (bytes, _) = der::expect(rest, CONTEXT_0)?;
        let (bytes, _) = der::expect(bytes, SEQUENCE)?;
        let (BASIC, bytes) = der::expect(bytes, OBJECT_IDENTIFIER)? else {
            return None;
        };
        let (basic, _) = der::expect(bytes, OCTET_STRING)?;
        Some(der::expect(basic, SEQUENCE)?.0)
    };
    read().ok_or(Malformed("it is of an unknown type"))
}

/// What is said of the one certificate, after its `CertID`.
fn about(single: &[u8], now: WallTime) -> Result<OcspResponse, OcspProblem> {
    let (tag, content, rest) = der::element(single).ok_or(Malformed("the certificate's status"))?;
    let status = match tag {
        GOOD => OcspStatus::Good,
        CONTEXT_1 => OcspStatus::Revoked {
            at: moment(content).ok_or(Malformed("when it was revoked"))?.0,
        },
        UNKNOWN => return Err(OcspProblem::Unknown),
        _ => return Err(Malformed("the certificate's status")),
    };
    let (this_update, rest) = moment(rest).ok_or(Malformed("its time (thisUpdate)"))?;
    let (next_update, _) = der::expect(rest, CONTEXT_0).ok_or(OcspProblem::Endless)?;
    let (next_update, _) = moment(next_update).ok_or(Malformed("its end (nextUpdate)"))?;
    if this_update.0 > now.0.saturating_add(SKEW.as_nanos() as u64) {
        return Err(OcspProblem::Early);
    }
    if next_update <= now || next_update <= this_update {
        return Err(OcspProblem::Late);
    }
    Ok(OcspResponse {
        status,
        this_update,
        next_update,
    })
}

fn moment(bytes: &[u8]) -> Option<(WallTime, &[u8])> {
    let (text, rest) = der::expect(bytes, GENERALIZED_TIME)?;
    Some((time::read(text)?, rest))
}

/// Who says that they respond.
#[derive(Clone, Copy, Debug)]
enum Responder<'r> {
    /// A name, with its tag and length.
    Name(&'r [u8]),
    /// SHA-1 of a key's bits.
    Key(&'r [u8]),
}

/// A basic response's parts.
struct Parts<'r> {
    /// What is signed, with its tag and length.
    signed: &'r [u8],
    responder: Responder<'r>,
    responses: &'r [u8],
    /// The content of the signature's algorithm.
    algorithm: &'r [u8],
    signature: &'r [u8],
    certificates: &'r [u8],
}

impl<'r> Parts<'r> {
    fn read(basic: &'r [u8]) -> Option<Self> {
        let (signed, rest) = der::whole(basic, SEQUENCE)?;
        let (algorithm, rest) = der::expect(rest, SEQUENCE)?;
        let signature = der::bits(rest)?;
        let (_, _, rest) = der::element(rest)?;
        let certificates = match der::expect(rest, CONTEXT_0) {
            Some((list, _)) => der::expect(list, SEQUENCE)?.0,
            None => &[],
        };
        let (mut data, _) = der::expect(signed, SEQUENCE)?;
        if let Some((_version, rest)) = der::expect(data, CONTEXT_0) {
            data = rest;
        }
        let (tag, content, rest) = der::element(data)?;
        let responder = match tag {
            CONTEXT_1 => Responder::Name(content),
            CONTEXT_2 => Responder::Key(der::expect(content, OCTET_STRING)?.0),
            _ => return None,
        };
        let (_produced, rest) = der::expect(rest, GENERALIZED_TIME)?;
        let (responses, _) = der::expect(rest, SEQUENCE)?;
        Some(Self {
            signed,
            responder,
            responses,
            algorithm,
            signature,
            certificates,
        })
    }

    /// RFC 6960 section 4.2.2.2: the issuer itself, or who has a certificate by it for this purpose.
    fn check_signer(&self, subject: &Subject, now: WallTime) -> Result<(), OcspProblem> {
        if self.is_by(&subject.issuer) {
            return match self.is_signed_with(&subject.issuer) {
                true => Ok(()),
                false => Err(OcspProblem::Signer("the issuer's signature is wrong")),
            };
        }
        let mut problem = "its signer's certificate is not in it";
        let mut rest = self.certificates;
        for _ in 0..CERTIFICATES {
            let Some((certificate, after)) = der::whole(rest, SEQUENCE) else {
                break;
            };
            rest = after;
            let certificate = CertificateDer::from(certificate);
            if !self.is_by(&certificate) {
                continue;
            }
            problem = if !self.is_signed_with(&certificate) {
                "its signature is wrong"
            } else if let Err(problem) = is_delegated(&certificate, &subject.issuer, now) {
                problem
            } else {
                return Ok(());
            };
        }
        Err(OcspProblem::Signer(problem))
    }

    fn is_by(&self, certificate: &[u8]) -> bool {
        let Some(parts) = x509::parts(certificate) else {
            return false;
        };
        match self.responder {
            Responder::Name(name) => parts.subject == name,
            Responder::Key(hash) => parts.key_bits().is_some_and(|bits| {
                digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, bits).as_ref() == hash
            }),
        }
    }

    fn is_signed_with(&self, certificate: &[u8]) -> bool {
        let Some(parts) = x509::parts(certificate) else {
            return false;
        };
        let key = SubjectPublicKeyInfoDer::from(parts.key);
        let Ok(key) = RawPublicKeyEntity::try_from(&key) else {
            return false;
        };
        let algorithms = default_provider().signature_verification_algorithms;
        algorithms
            .all
            .iter()
            .filter(|algorithm| algorithm.signature_alg_id().as_ref() == self.algorithm)
            .any(|&algorithm| {
                let verified = key.verify_signature(algorithm, self.signed, self.signature);
                verified.is_ok()
            })
    }
}

/// Whether a certificate is of the issuer itself, for signing responses, and valid now. Whether it was
/// revoked meanwhile is not asked: such certificates are short-lived.
fn is_delegated(
    certificate: &CertificateDer<'_>,
    issuer: &CertificateDer<'_>,
    now: WallTime,
) -> Result<(), &'static str> {
    let anchor = webpki::anchor_from_trusted_cert(issuer);
    let anchor = anchor.map_err(|_| "the issuer's certificate cannot be read")?;
    let certificate = EndEntityCert::try_from(certificate);
    let certificate = certificate.map_err(|_| "its signer's certificate cannot be read")?;
    let algorithms = default_provider().signature_verification_algorithms;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now.seconds()));
    let usage = KeyUsage::required(OCSP_SIGNING);
    let anchors = [anchor];
    let verified =
        certificate.verify_for_usage(algorithms.all, &anchors, &[], time, usage, None, None);
    verified.map(|_| ()).map_err(|error| match error {
        webpki::Error::CertExpired { .. } => "its signer's certificate has expired",
        webpki::Error::RequiredEkuNotFoundContext(_) => {
            "its signer's certificate is not for signing responses (OCSPSigning)"
        }
        _ => "its signer's certificate is not by the issuer",
    })
}
