//! The TLS scenario's certificate and the two TLS configurations.
//!
//! TLS 1.3 with AES-256-GCM and a P-256 key for everybody: the generator offers nothing else, so that
//! no proxy is measured with a cheaper cipher. Deliberately not here: anything for use outside the bench.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::transport::SERVER_NAME;

/// Writes `cert.pem`, `key.pem` and, for HAProxy, `both.pem`.
pub(crate) fn write(directory: &Path) -> anyhow::Result<()> {
    let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()])?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let put = |name: &str, content: &str| {
        let path = directory.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    };
    put("cert.pem", &certificate)?;
    put("key.pem", &key)?;
    put("both.pem", &format!("{certificate}{key}"))
}

/// The generator's side.
pub(crate) fn client(trusted: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let certificate = CertificateDer::from_pem_file(trusted)
        .with_context(|| format!("cannot read {}", trusted.display()))?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Every handshake is a whole one.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The floor program's side.
pub(crate) fn server(certificate: &Path, key: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = vec![
        CertificateDer::from_pem_file(certificate)
            .with_context(|| format!("cannot read {}", certificate.display()))?,
    ];
    let key = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("cannot read {}", key.display()))?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384],
        ..aws_lc_rs::default_provider()
    })
}
