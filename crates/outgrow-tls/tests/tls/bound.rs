//! Listeners of protocols that bind logins to certificates, or look at those of clients.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::WallTime;
use outgrow_net::Transport;
use outgrow_testkit::authority::{Authority, Issued};
use outgrow_tls::{
    CertificateText, ClientCertificates, Holder, Issuers, ServerTls, TicketKeys, TlsStream, TlsText,
};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::support::pair;

fn server(issued: &[&Issued], clients: ClientCertificates) -> Arc<ServerTls> {
    let certificates = issued.iter().map(|one| CertificateText {
        certificate: one.certificate.clone().into_bytes(),
        key: one.key.clone().into_bytes(),
        certificate_name: "a.pem".to_owned(),
        key_name: "a.key".to_owned(),
        staple: None,
    });
    let text = TlsText {
        certificates: certificates.collect(),
        alpn: vec![b"postgresql".to_vec()],
        clients,
        ..TlsText::default()
    };
    let tickets = TicketKeys::new(&[], Duration::ZERO).expect("keys");
    ServerTls::build(&text, tickets, WallTime::now())
        .expect("a server")
        .0
}

fn client(authority: &Authority, identity: Option<&Issued>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.certificate().as_bytes());
    roots.add(root.expect("a root")).expect("a root");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("it is there")
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            let chain = CertificateDer::pem_slice_iter(issued.certificate.as_bytes());
            let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("PEM");
            let chain = chain.collect::<Result<_, _>>().expect("PEM");
            builder
                .with_client_auth_cert(chain, key)
                .expect("a certificate")
        }
    };
    Arc::new(config)
}

type Client = tokio_rustls::client::TlsStream<UnixStream>;

/// Our end, and the client's if its handshake succeeded; up to `given` bytes of the client are read
/// before.
async fn connect(
    server: &ServerTls,
    config: Arc<ClientConfig>,
    name: &str,
    given: usize,
) -> (Option<TlsStream>, Option<Client>) {
    let (client, mut ours) = pair();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connector = tokio_rustls::TlsConnector::from(config);
    let accept = async {
        let mut first = vec![0; given];
        let mut read = 0;
        if given > 0 {
            read = poll_fn(|cx| ours.poll_read(cx, &mut first))
                .await
                .expect("read");
        }
        first.truncate(read);
        server.accept_bound(ours, first).await
    };
    let (client, ours) = tokio::join!(connector.connect(name, client), accept);
    (ours.ok(), client.ok())
}

#[tokio::test]
async fn the_certificate_that_was_shown_is_known() {
    let authority = Authority::new().unwrap();
    let (a, b) = (
        authority.issue(&["a.example"]).unwrap(),
        authority.issue(&["b.example"]).unwrap(),
    );
    let server = server(&[&a, &b], ClientCertificates::NotAsked);
    for name in ["a.example", "b.example"] {
        // However much of the hello is read before the handshake.
        for given in [0, 1, 6, 100, 4096] {
            let config = client(&authority, None);
            let (ours, client) = connect(&server, config, name, given).await;
            let (mut ours, mut client) = (ours.unwrap(), client.unwrap());
            let shown = client.get_ref().1.peer_certificates().unwrap()[0].to_vec();
            assert_eq!(ours.own_certificate(), Some(&shown[..]), "{name} {given}");
            assert_eq!(ours.client_certificate(), None);
            client.write_all(b"hello").await.unwrap();
            let mut bytes = [0; 5];
            let read = poll_fn(|cx| ours.poll_read(cx, &mut bytes)).await.unwrap();
            assert_eq!((read, &bytes), (5, b"hello"));
        }
    }
}

#[tokio::test]
async fn clients_are_asked_who_they_are() {
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let own = authority.issue(&["a.example"]).unwrap();
    let issuers = || Issuers {
        text: authority.certificate().as_bytes().to_vec(),
        name: "ca.pem".to_owned(),
    };
    let ann = authority.issue(&["ann"]).unwrap();
    let foreign = other.issue(&["ann"]).unwrap();
    let asked = server(&[&own], ClientCertificates::Asked(issuers()));
    let required = server(&[&own], ClientCertificates::Required(issuers()));
    for (server, identity, expected) in [
        (&asked, None, Some(None)),
        (&asked, Some(&ann), Some(Some("ann"))),
        (&asked, Some(&foreign), None),
        (&required, None, None),
        (&required, Some(&ann), Some(Some("ann"))),
        (&required, Some(&foreign), None),
    ] {
        let config = client(&authority, identity);
        let (ours, _) = connect(server, config, "a.example", 0).await;
        let name = ours.map(|ours| {
            let holder = ours.client_certificate().map(Holder::of);
            holder.and_then(|holder| holder.common_name)
        });
        let name = name.as_ref().map(|name| name.as_deref());
        assert_eq!(name, expected);
    }
}

/// A hello with nothing in it is answered with an alert at once, not waited for.
#[tokio::test]
async fn what_was_read_before_can_be_nonsense() {
    let authority = Authority::new().unwrap();
    let own = authority.issue(&["a.example"]).unwrap();
    let server = server(&[&own], ClientCertificates::NotAsked);
    let (mut client, ours) = pair();
    let first = b"\x16\x03\x01\x00\x04\x01\x00\x00\x00".to_vec();
    let handshake = server.accept_bound(ours, first);
    let handshake = tokio::time::timeout(Duration::from_secs(20), handshake).await;
    assert!(handshake.expect("it does not wait").is_err());
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.first(), Some(&0x15), "an alert");
}
