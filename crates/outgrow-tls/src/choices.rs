//! Which versions and cipher suites are spoken, for those whose rules say so.

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{
    CipherSuite, CommonState, ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion,
    version,
};

use crate::problem::TlsProblem;

/// A version of TLS that is spoken here; there are no older ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// A cipher suite of TLS 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite13 {
    /// `TLS_AES_256_GCM_SHA384`
    Aes256Gcm,
    /// `TLS_AES_128_GCM_SHA256`
    Aes128Gcm,
    /// `TLS_CHACHA20_POLY1305_SHA256`
    ChaCha20Poly1305,
}

/// A cipher suite of TLS 1.2: all have forward secrecy and authenticated encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite12 {
    /// `TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384`
    EcdsaAes256Gcm,
    /// `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256`
    EcdsaAes128Gcm,
    /// `TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256`
    EcdsaChaCha20Poly1305,
    /// `TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384`
    RsaAes256Gcm,
    /// `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`
    RsaAes128Gcm,
    /// `TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256`
    RsaChaCha20Poly1305,
}

impl Suite13 {
    fn of_library(self) -> CipherSuite {
        match self {
            Self::Aes256Gcm => CipherSuite::TLS13_AES_256_GCM_SHA384,
            Self::Aes128Gcm => CipherSuite::TLS13_AES_128_GCM_SHA256,
            Self::ChaCha20Poly1305 => CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        }
    }
}

impl Suite12 {
    fn of_library(self) -> CipherSuite {
        match self {
            Self::EcdsaAes256Gcm => CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            Self::EcdsaAes128Gcm => CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            Self::EcdsaChaCha20Poly1305 => {
                CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            }
            Self::RsaAes256Gcm => CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            Self::RsaAes128Gcm => CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            Self::RsaChaCha20Poly1305 => CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
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
    /// The suites of TLS 1.3, the preferred one first (a server takes the client's preference);
    /// empty: all.
    pub suites: Vec<Suite13>,
    /// The same for TLS 1.2.
    pub suites_1_2: Vec<Suite12>,
}

impl Default for Choices {
    fn default() -> Self {
        Self {
            lowest: TlsVersion::V1_2,
            highest: TlsVersion::V1_3,
            suites: Vec::new(),
            suites_1_2: Vec::new(),
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
        let newer_wanted = self.suites.iter().map(|suite| suite.of_library());
        let older_wanted = self.suites_1_2.iter().map(|suite| suite.of_library());
        provider.cipher_suites = chosen(newer, newer_wanted);
        provider.cipher_suites.extend(chosen(older, older_wanted));
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

/// Those of `all` that are wanted, in the order in which they are; all when none is.
fn chosen(
    all: Vec<SupportedCipherSuite>,
    wanted: impl ExactSizeIterator<Item = CipherSuite>,
) -> Vec<SupportedCipherSuite> {
    if wanted.len() == 0 {
        return all;
    }
    let of = |wanted| all.iter().find(|suite| suite.suite() == wanted).copied();
    wanted.filter_map(of).collect()
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
