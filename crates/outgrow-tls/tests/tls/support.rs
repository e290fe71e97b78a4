//! What the tests share: certificates of the moment, a client that trusts anybody, and a pair of
//! connected streams.

use std::sync::Arc;
use std::time::Duration;

use outgrow_core::WallTime;
use outgrow_net::Stream;
use outgrow_tls::{CertificateText, ServerTls, TicketKeys, TicketSecret, TlsText};
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::UnixStream;

pub(crate) type Client = tokio_rustls::client::TlsStream<UnixStream>;

/// A certificate with its key, as PEM and as DER.
pub(crate) struct Issued {
    pub(crate) text: CertificateText,
    pub(crate) der: Vec<u8>,
}

pub(crate) fn issue(names: &[&str]) -> Issued {
    issue_with(names, |_| {})
}

pub(crate) fn issue_with(names: &[&str], edit: impl FnOnce(&mut CertificateParams)) -> Issued {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let label = names.first().cloned().unwrap_or_default();
    let mut params = CertificateParams::new(names).expect("names");
    edit(&mut params);
    let key = KeyPair::generate().expect("key");
    let certificate = params.self_signed(&key).expect("certificate");
    Issued {
        der: certificate.der().to_vec(),
        text: CertificateText {
            certificate: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
            certificate_name: format!("{label}.pem"),
            key_name: format!("{label}.key"),
            staple: None,
        },
    }
}

pub(crate) fn text(issued: &[&Issued]) -> TlsText {
    TlsText {
        certificates: issued.iter().map(|one| one.text.clone()).collect(),
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        ..TlsText::default()
    }
}

pub(crate) fn tickets(secret: u8) -> Arc<TicketKeys> {
    let secrets = [TicketSecret::new([secret; 32])];
    TicketKeys::new(&secrets, Duration::from_secs(3600)).expect("keys")
}

pub(crate) fn server(issued: &[&Issued], keys: &Arc<TicketKeys>) -> Arc<ServerTls> {
    let (server, warnings) =
        ServerTls::build(&text(issued), Arc::clone(keys), WallTime::now()).expect("server");
    assert_eq!(warnings, []);
    server
}

/// Takes every certificate: which one came is what the tests look at.
#[derive(Debug)]
struct TrustAnybody;

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

pub(crate) fn client_config(
    version: &'static SupportedProtocolVersion,
    alpn: &[&[u8]],
) -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAnybody))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// Connected streams: the client's end and ours.
pub(crate) fn pair() -> (UnixStream, Stream) {
    let (client, server) = UnixStream::pair().expect("pair");
    (client, Stream::Unix(server))
}

/// Both ends of a connection after the handshake, which must succeed.
pub(crate) async fn connect(
    server: &ServerTls,
    config: &Arc<ClientConfig>,
    name: &str,
) -> (Client, outgrow_tls::TlsStream) {
    let (client, ours) = pair();
    let name = ServerName::try_from(name.to_owned()).expect("name");
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
    let (client, ours) = tokio::join!(connector.connect(name, client), server.accept(ours));
    (client.expect("client"), ours.expect("server"))
}

/// The certificate that the client was shown.
pub(crate) fn shown(client: &Client) -> &[u8] {
    let certificates = client.get_ref().1.peer_certificates();
    certificates.expect("certificates")[0].as_ref()
}
