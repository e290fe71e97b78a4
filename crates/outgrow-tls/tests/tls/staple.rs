//! What clients see of stapling: over TCP in both versions, over QUIC, and of certificates that come
//! while a listener runs.

use std::sync::{Arc, Mutex};

use outgrow_core::WallTime;
use outgrow_testkit::ocsp::{OcspAuthority, Pair, Wish};
use outgrow_tls::{CertificateText, Managed, ServerTls, StapleText, Stapling, TlsText};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::support::{connect, tickets};

/// Takes note of what is stapled.
#[derive(Debug, Default)]
struct Seen(Mutex<Option<Vec<u8>>>);

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        response: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.0.lock().expect("a lock") = Some(response.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = aws_lc_rs::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn client(version: &'static SupportedProtocolVersion) -> (Arc<Seen>, ClientConfig) {
    let seen = Arc::<Seen>::default();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&seen) as _)
        .with_no_client_auth();
    (seen, config)
}

/// A certificate with a response about it.
fn stapled() -> (CertificateText, Vec<u8>) {
    let mut authority = OcspAuthority::new().expect("an authority");
    let pair: Pair = authority
        .issue("a.example", 1, Wish::default())
        .expect("issued");
    let own = authority.own();
    let response = authority.response(&pair, &own, &["-ndays", "1"]);
    let response = response.expect("a response");
    let text = CertificateText {
        certificate: std::fs::read(&pair.chain).expect("a chain"),
        key: std::fs::read(&pair.key).expect("a key"),
        certificate_name: "a.pem".to_owned(),
        key_name: "a.key".to_owned(),
        staple: Some(StapleText {
            response: Ok(response.clone()),
            name: "a.der".to_owned(),
        }),
    };
    (text, response)
}

fn server(text: TlsText) -> Arc<ServerTls> {
    let built = ServerTls::build(&text, tickets(1), WallTime::now());
    let (server, warnings) = built.expect("a server");
    assert_eq!(warnings, []);
    server
}

#[tokio::test]
async fn clients_get_it_in_both_versions() {
    let (text, response) = stapled();
    let server = server(TlsText {
        certificates: vec![text],
        ..TlsText::default()
    });
    for version in [&TLS12, &TLS13] {
        let (seen, config) = client(version);
        let (_client, _ours) = connect(&server, &Arc::new(config), "a.example").await;
        assert!(*seen.0.lock().expect("a lock") == Some(response.clone()));
    }
}

#[tokio::test]
async fn a_certificate_that_comes_later_has_it_too() {
    let (text, response) = stapled();
    let managed = Managed::new(&Arc::default(), Stapling::default());
    let server = server(TlsText {
        managed: Some(Arc::clone(&managed)),
        ..TlsText::default()
    });
    managed.publish(&[text], WallTime::now());
    let (seen, config) = client(&TLS13);
    let (_client, _ours) = connect(&server, &Arc::new(config), "a.example").await;
    assert!(*seen.0.lock().expect("a lock") == Some(response));
}

#[cfg(feature = "http3")]
#[tokio::test]
async fn clients_of_quic_get_it() {
    use quinn::crypto::rustls::QuicClientConfig;
    use quinn::{Endpoint, ServerConfig};

    let (text, response) = stapled();
    let server = server(TlsText {
        certificates: vec![text],
        ..TlsText::default()
    });
    let crypto = server.quic(b"h3", false).expect("a server");
    let any = "127.0.0.1:0".parse().expect("an address");
    let ours = Endpoint::server(ServerConfig::with_crypto(crypto), any).expect("an endpoint");
    let (seen, mut config) = client(&TLS13);
    config.alpn_protocols = vec![b"h3".to_vec()];
    let config = QuicClientConfig::try_from(config).expect("a client");
    let mut theirs = Endpoint::client(any).expect("an endpoint");
    theirs.set_default_client_config(quinn::ClientConfig::new(Arc::new(config)));
    let address = ours.local_addr().expect("an address");
    let connecting = theirs.connect(address, "a.example").expect("a start");
    let accepting = async { ours.accept().await.expect("one comes").await };
    let (connected, accepted) = tokio::join!(connecting, accepting);
    connected.expect("a connection");
    accepted.expect("a connection");
    assert!(*seen.0.lock().expect("a lock") == Some(response));
}
