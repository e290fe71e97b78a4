//! How responses and the certificates that they are about are read, without handshakes around it: for
//! tools that look at that, such as the fuzzer. [`super::Staple`] reads by the same code.

use outgrow_core::WallTime;
use rustls_pki_types::CertificateDer;

use super::response;
use super::subject::{Subject, Wishes};
use super::{OcspProblem, OcspResponse};

/// A certificate with its issuer.
#[derive(Clone, Debug)]
pub struct Pair(Subject);

impl Pair {
    /// Of a chain in DER, the certificate first; none where its issuer is not in it.
    pub fn of(chain: &[&[u8]]) -> Option<Self> {
        let chain: Vec<_> = chain.iter().map(|&der| CertificateDer::from(der)).collect();
        Subject::of(&chain).map(Self)
    }

    /// What a responder would be asked.
    pub fn request(&self) -> Vec<u8> {
        self.0.request()
    }

    /// What a response says of the certificate.
    ///
    /// # Errors
    /// It may not be stapled.
    pub fn check(&self, response: &[u8], now: WallTime) -> Result<OcspResponse, OcspProblem> {
        response::check(response, &self.0, now)
    }
}

/// The responders that a certificate in DER names, and whether it wants a staple.
pub fn wishes(certificate: &[u8]) -> (Vec<String>, bool) {
    let wishes = Wishes::of(certificate);
    (wishes.responders, wishes.must_staple)
}
