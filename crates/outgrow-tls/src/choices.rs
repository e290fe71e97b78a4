//! Which versions and cipher suites are spoken, for those whose rules say so.

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{
    CommonState, ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion, version,
};

use crate::problem::TlsProblem;

outgrow_core::choice! {
    /// A version of TLS that is spoken here; there are no older ones.
    pub enum TlsVersion {
        /// TLS 1.2.
        V1_2 = "1.2",
        /// TLS 1.3.
        V1_3 = "1.3",
    }
}

outgrow_core::choice! {
    /// A cipher suite, by its registered name: all have forward secrecy and authenticated encryption.
    pub enum CipherSuite {
        /// TLS 1.3, AES with 256 bits.
        Aes256Gcm = "TLS_AES_256_GCM_SHA384",
        /// TLS 1.3, AES with 128 bits.
        Aes128Gcm = "TLS_AES_128_GCM_SHA256",
        /// TLS 1.3, ChaCha20.
        ChaCha20Poly1305 = "TLS_CHACHA20_POLY1305_SHA256",
        /// TLS 1.2, for ECDSA and Ed25519 certificates.
        EcdsaAes256Gcm = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        /// TLS 1.2, for ECDSA and Ed25519 certificates.
        EcdsaAes128Gcm = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        /// TLS 1.2, for ECDSA and Ed25519 certificates.
        EcdsaChaCha20Poly1305 = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        /// TLS 1.2, for RSA certificates.
        RsaAes256Gcm = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        /// TLS 1.2, for RSA certificates.
        RsaAes128Gcm = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        /// TLS 1.2, for RSA certificates.
        RsaChaCha20Poly1305 = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    }
}

impl CipherSuite {
    /// Whether it is one of TLS 1.3.
    pub fn is_1_3(self) -> bool {
        matches!(
            self,
            Self::Aes256Gcm | Self::Aes128Gcm | Self::ChaCha20Poly1305
        )
    }

    fn of_library(self) -> rustls::CipherSuite {
        use rustls::CipherSuite as Known;
        match self {
            Self::Aes256Gcm => Known::TLS13_AES_256_GCM_SHA384,
            Self::Aes128Gcm => Known::TLS13_AES_128_GCM_SHA256,
            Self::ChaCha20Poly1305 => Known::TLS13_CHACHA20_POLY1305_SHA256,
            Self::EcdsaAes256Gcm => Known::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            Self::EcdsaAes128Gcm => Known::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            Self::EcdsaChaCha20Poly1305 => Known::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            Self::RsaAes256Gcm => Known::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            Self::RsaAes128Gcm => Known::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            Self::RsaChaCha20Poly1305 => Known::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        }
    }
}

/// What is spoken. The default is everything that is spoken here, all of which is held for safe:
/// versions 1.2 and 1.3; of 1.2 suites with forward secrecy and authenticated encryption only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choices {
    /// The lowest version.
    pub lowest: TlsVersion,
    /// The highest version.
    pub highest: TlsVersion,
    /// The suites, the preferred one first (a server takes the client's preference); of a version
    /// that none of them is of: all.
    pub suites: Vec<CipherSuite>,
}

impl Default for Choices {
    fn default() -> Self {
        Self {
            lowest: TlsVersion::V1_2,
            highest: TlsVersion::V1_3,
            suites: Vec::new(),
        }
    }
}

impl Choices {
    /// The library's algorithms without those that are not chosen.
    pub(crate) fn provider(&self) -> CryptoProvider {
        let mut provider = aws_lc_rs::default_provider();
        let (newer, older): (Vec<_>, Vec<_>) = std::mem::take(&mut provider.cipher_suites)
            .into_iter()
            .partition(|suite| suite.tls13().is_some());
        for (all, is_1_3) in [(newer, true), (older, false)] {
            let wanted = self.suites.iter().filter(|suite| suite.is_1_3() == is_1_3);
            let of = |wanted: &CipherSuite| {
                let mut known = all.iter().copied();
                known.find(|suite| suite.suite() == wanted.of_library())
            };
            let chosen: Vec<SupportedCipherSuite> = wanted.filter_map(of).collect();
            let chosen = if chosen.is_empty() { all } else { chosen };
            provider.cipher_suites.extend(chosen);
        }
        provider
    }

    /// The versions.
    ///
    /// # Errors
    /// There are none.
    pub(crate) fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, TlsProblem> {
        let all = [
            (TlsVersion::V1_3, &version::TLS13),
            (TlsVersion::V1_2, &version::TLS12),
        ];
        let range = self.lowest..=self.highest;
        let chosen = all.into_iter().filter(|(one, _)| range.contains(one));
        let chosen: Vec<_> = chosen.map(|(_, version)| version).collect();
        match chosen.is_empty() {
            true => Err(TlsProblem::NoVersion),
            false => Ok(chosen),
        }
    }
}

/// What was agreed on, by the names that OpenSSL has for it.
pub(crate) fn told(connection: &CommonState) -> String {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    };
    let suite = connection.negotiated_cipher_suite();
    let suite = suite.and_then(|suite| suite.suite().as_str());
    format!("{version}/{}", openssl_name(suite.unwrap_or_default()))
}

/// OpenSSL's name of a cipher suite.
fn openssl_name(suite: &str) -> String {
    if let Some(rest) = suite.strip_prefix("TLS13_") {
        return format!("TLS_{rest}");
    }
    // As of the registry: TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384.
    let rest = suite.strip_prefix("TLS_").unwrap_or(suite);
    rest.replace("_WITH", "")
        .replace("AES_", "AES")
        .replace("POLY1305_SHA256", "POLY1305")
        .replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_have_the_names_of_openssl() {
        let check = |name: &str, expected: &str| assert_eq!(openssl_name(name), expected);
        check("TLS13_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384");
        check(
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            "ECDHE-RSA-AES256-GCM-SHA384",
        );
        check(
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        );
    }
}
