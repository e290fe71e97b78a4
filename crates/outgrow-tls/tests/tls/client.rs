//! Handshakes as a client with a real server: whom it believes, and what it says when it does not.

use std::sync::Arc;

use outgrow_testkit::authority::{Authority, Issued};
use outgrow_tls::{CertificateText, ClientText, ClientTls};
use rcgen::date_time_ymd;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn text(authority: &Authority, identity: Option<&Issued>) -> ClientText {
    ClientText {
        roots: authority.certificate().as_bytes().to_vec(),
        roots_name: "ca.pem".to_owned(),
        identity: identity.map(|issued| CertificateText {
            certificate: issued.certificate.clone().into_bytes(),
            key: issued.key.clone().into_bytes(),
            certificate_name: "client.pem".to_owned(),
            key_name: "client.key".to_owned(),
            staple: None,
        }),
    }
}

/// A server with this certificate, which wants one of `clients` when there is such an authority.
fn config(issued: &Issued, clients: Option<&Authority>, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let root = CertificateDer::from_pem_slice(authority.certificate().as_bytes());
            roots.add(root.expect("PEM")).expect("a root");
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let chain = CertificateDer::pem_slice_iter(issued.certificate.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("PEM");
    let mut config = builder.with_single_cert(chain, key).expect("a certificate");
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// A line each way with the server that must be `name`, or why not.
async fn exchange(tls: &ClientTls, name: &str, config: Arc<ServerConfig>) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let serve = async {
        let (stream, _) = listener.accept().await.expect("a connection");
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        // A client that does not believe us goes away.
        if let Ok(mut stream) = acceptor.accept(stream).await {
            let mut bytes = [0; 4];
            if stream.read_exact(&mut bytes).await.is_ok() {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            }
        }
    };
    let ask = async {
        let stream = TcpStream::connect(at).await.expect("connected");
        let mut stream = tls
            .connect(stream, name)
            .await
            .map_err(|why| why.to_string())?;
        let _ = stream.write_all(b"ping").await;
        let _ = stream.flush().await;
        let mut bytes = [0; 4];
        let read = stream.read_exact(&mut bytes).await;
        read.map_err(|error| error.to_string())?;
        assert_eq!(&bytes, b"ping");
        Ok(())
    };
    tokio::join!(ask, serve).0
}

#[tokio::test]
async fn a_server_is_believed_for_its_names_and_addresses_only() {
    let authority = Authority::new().expect("an authority");
    let issued = authority.issue(&["etcd.internal", "*.pod.internal", "127.0.0.1", "fd00::1"]);
    let config = config(&issued.expect("a certificate"), None, &[]);
    let tls = ClientTls::build(&text(&authority, None)).expect("TLS");
    let check = async |name: &str, expected: Result<(), &str>| {
        let said = exchange(&tls, name, Arc::clone(&config)).await;
        assert_eq!(said, expected.map_err(str::to_owned), "{name}");
    };
    for name in [
        "etcd.internal",
        "ETCD.internal",
        "a.pod.internal",
        "127.0.0.1",
        "fd00::1",
    ] {
        check(name, Ok(())).await;
    }
    let names =
        "etcd.internal, *.pod.internal, 127.0.0.1, fd00::1: set tls.server_name if that is right";
    for name in ["etcd", "a.b.pod.internal", "127.0.0.2", "fd00::2"] {
        let expected = format!("the certificate is not for {name}, but for {names}");
        check(name, Err(&expected)).await;
    }
    let expected = "\"a b\" is neither a host nor an address that a certificate could be for";
    check("a b", Err(expected)).await;
}

#[tokio::test]
async fn what_is_not_believed_is_told() {
    let authority = Authority::new().expect("an authority");
    let other = Authority::new().expect("an authority");
    let tls = ClientTls::build(&text(&authority, None)).expect("TLS");
    let check = async |issued: &Issued, alpn: &[&[u8]], expected: &str| {
        let said = exchange(&tls, "a.example", config(issued, None, alpn)).await;
        assert_eq!(said, Err(expected.to_owned()));
    };
    let foreign = other.issue(&["a.example"]).expect("a certificate");
    let unknown = "the certificate has an unknown issuer (trusted are those of ca.pem): set tls.ca";
    check(&foreign, &[], unknown).await;
    let old = authority.issue_with(&["a.example"], |params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    let expected = "the server's certificate cannot be accepted: it has expired";
    check(&old.expect("a certificate"), &[], expected).await;
    let young = authority.issue_with(&["a.example"], |params| {
        params.not_before = date_time_ymd(2901, 1, 1);
        params.not_after = date_time_ymd(2902, 1, 1);
    });
    let expected = "the server's certificate cannot be accepted: its time has not come yet: is the \
                    clock right?";
    check(&young.expect("a certificate"), &[], expected).await;
    let nameless = authority.issue(&[]).expect("a certificate");
    let expected = "the certificate is not for a.example, but for nobody (it has no subject \
                    alternative names): set tls.server_name if that is right";
    check(&nameless, &[], expected).await;
    let good = authority.issue(&["a.example"]).expect("a certificate");
    let expected = "TLS failed: the server does not speak HTTP/1.1";
    check(&good, &[b"h2"], expected).await;
}

#[tokio::test]
async fn a_client_shows_who_it_is() {
    let authority = Authority::new().expect("an authority");
    let other = Authority::new().expect("an authority");
    let server = authority.issue(&["a.example"]).expect("a certificate");
    let config = config(&server, Some(&authority), &[b"h2", b"http/1.1"]);
    let ours = authority.issue(&["outgrow"]).expect("a certificate");
    let foreign = other.issue(&["outgrow"]).expect("a certificate");
    let check = async |identity: Option<&Issued>, expected: Result<(), &str>| {
        let tls = ClientTls::build(&text(&authority, identity)).expect("TLS");
        let said = exchange(&tls, "a.example", Arc::clone(&config)).await;
        assert_eq!(said, expected.map_err(str::to_owned));
    };
    check(Some(&ours), Ok(())).await;
    let expected = "the server wants a client certificate: set tls.certificate and tls.key";
    check(None, Err(expected)).await;
    // Both authorities have the same name, as those of a cluster that was made anew.
    let expected = "the server does not accept our certificate: its signature is not that of the \
                    issuer";
    check(Some(&foreign), Err(expected)).await;
}

#[tokio::test]
async fn what_does_not_speak_tls_is_told() {
    let authority = Authority::new().expect("an authority");
    let tls = ClientTls::build(&text(&authority, None)).expect("TLS");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let serve = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let answer = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request\r\n";
        stream.write_all(answer).await.expect("written");
        stream
    };
    let ask = async {
        let stream = TcpStream::connect(at).await.expect("connected");
        tls.connect(stream, "a.example").await.map(drop)
    };
    let (said, _stream) = tokio::join!(ask, serve);
    let expected = "what answers does not speak TLS: http:// instead of https://?";
    assert_eq!(said.expect_err("refused").to_string(), expected);
}

#[test]
fn files_that_are_of_no_use_are_told() {
    let authority = Authority::new().expect("an authority");
    let (one, other) = (authority.issue(&["a"]), authority.issue(&["b"]));
    let (one, other) = (one.expect("issued"), other.expect("issued"));
    let good = text(&authority, Some(&one));
    let check = |edit: &dyn Fn(&mut ClientText), expected: &str| {
        let mut text = good.clone();
        edit(&mut text);
        let problem = ClientTls::build(&text).expect_err(expected);
        assert!(problem.to_string().starts_with(expected), "{problem}");
    };
    check(
        &|text| text.roots.clear(),
        "ca.pem: there is no certificate in it",
    );
    check(
        &|text| text.roots = one.key.clone().into_bytes(),
        "ca.pem: there is no certificate in it",
    );
    check(
        &|text| text.roots.truncate(80),
        "ca.pem: the PEM text is malformed",
    );
    check(
        &|text| {
            text.roots = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
        },
        "ca.pem: the first certificate in it is not one that can be served",
    );
    check(
        &|text| {
            let identity = text.identity.as_mut().expect("an identity");
            identity.key = other.key.clone().into_bytes();
        },
        "client.key: the key does not belong to the certificate in client.pem",
    );
    check(
        &|text| {
            let identity = text.identity.as_mut().expect("an identity");
            identity.key.clear();
        },
        "client.key: there is no private key in it",
    );
}
