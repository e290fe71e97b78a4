//! Keys, what is asked to be certified of them, and the certificates that answer `tls-alpn-01`.

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize,
};

use crate::failure::Failure;
use crate::settings::KeyKind;

/// A private key that was made for a certificate.
#[derive(Debug)]
pub struct NewKey {
    key: KeyPair,
}

impl NewKey {
    /// A new one. RSA takes a while: not to be called where others wait.
    pub fn generate(kind: KeyKind) -> Result<Self, Failure> {
        let key = match kind {
            KeyKind::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            KeyKind::EcdsaP384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
            KeyKind::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
            KeyKind::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096),
        };
        key.map(|key| Self { key }).map_err(failed)
    }

    /// One that was kept.
    pub fn from_pem(pem: &str) -> Option<Self> {
        KeyPair::from_pem(pem).ok().map(|key| Self { key })
    }

    /// It, to be kept.
    pub fn pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// What is asked to be certified (a CSR in DER).
    pub fn request(&self, names: &[String]) -> Result<Vec<u8>, Failure> {
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.key).map_err(failed)?;
        Ok(request.der().to_vec())
    }
}

/// The certificate that answers `tls-alpn-01` for a name, with its key, both as one PEM text
/// (RFC 8737 section 3).
pub fn challenge_certificate(name: &str, key_authorization: &str) -> Result<String, Failure> {
    let digest = digest(&SHA256, key_authorization.as_bytes());
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

fn failed(error: rcgen::Error) -> Failure {
    Failure::own(format!("no key or request can be made: {error}"))
}
