//! Connections to servers that clients' data goes to: whom each kind of verification believes, and
//! what counts as silence.

use std::sync::Arc;
use std::time::Duration;

use outgrow_net::Stream;
use outgrow_testkit::authority::{Authority, Issued};
use outgrow_tls::{
    CertificateText, Choices, CipherSuite, EndpointStream, EndpointText, EndpointTls, Issuers,
    TlsProblem, TlsVersion, Verification,
};
use rcgen::{BasicConstraints, DnType, IsCa, SanType, date_time_ymd};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

fn issuers(text: &str) -> Issuers {
    Issuers {
        text: text.as_bytes().to_vec(),
        name: "ca.pem".to_owned(),
    }
}

fn text(verification: Verification) -> EndpointText {
    EndpointText {
        verification,
        identity: None,
        alpn: vec![b"postgresql".to_vec()],
        choices: Choices::default(),
        table: "server_tls",
    }
}

fn config(issued: &Issued, clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            let root = CertificateDer::from_pem_slice(authority.certificate().as_bytes());
            roots.add(root.expect("a root")).expect("a root");
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let chain = CertificateDer::pem_slice_iter(issued.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("PEM");
    builder
        .with_single_cert(chain.collect::<Result<_, _>>().expect("PEM"), key)
        .expect("it is there")
}

/// Both ends of a connection to the server that should be `name`, or why there is none.
async fn connect(
    tls: &EndpointTls,
    name: &str,
    config: &Arc<ServerConfig>,
) -> Result<(EndpointStream, TlsStream<TcpStream>), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let stream = TcpStream::connect(listener.local_addr().expect("an address")).await;
    let (server, _) = listener.accept().await.expect("a connection");
    let acceptor = TlsAcceptor::from(Arc::clone(config));
    let (ours, theirs) = tokio::join!(
        tls.connect(Stream::Tcp(stream.expect("a connection")), name),
        acceptor.accept(server)
    );
    let ours = ours.map_err(|refusal| refusal.to_string())?;
    Ok((ours, theirs.map_err(|error| error.to_string())?))
}

/// A certificate of its own making, and an issuer's own where `is_issuer`.
fn own(is_issuer: bool, expired: bool) -> Issued {
    let mut params = rcgen::CertificateParams::new(vec!["db.example".to_owned()]).expect("params");
    if is_issuer {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    if expired {
        params.not_after = date_time_ymd(2020, 1, 1);
    }
    let key = rcgen::KeyPair::generate().expect("a key");
    Issued {
        certificate: params.self_signed(&key).expect("PEM").pem(),
        key: key.serialize_pem(),
    }
}

#[tokio::test]
async fn servers_are_believed_as_it_is_said() {
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let ca = authority.certificate();
    let check = async |verification: Verification, issued: &Issued, name: &str, expected: &str| {
        let tls = EndpointTls::build(&text(verification.clone())).unwrap();
        let met = connect(&tls, name, &Arc::new(config(issued, None))).await;
        let met = met.map(|_| "");
        let met = met.as_deref().unwrap_or_else(String::as_str);
        assert!(
            met.starts_with(expected) && met.is_empty() == expected.is_empty(),
            "{met}"
        );
    };
    let nobody = || Verification::Nobody;
    let issuer = || Verification::Issuer(issuers(ca));
    let full = || Verification::IssuerAndName(issuers(ca));
    let good = authority.issue(&["db.example", "10.0.0.1"]).unwrap();
    let foreign = other.issue(&["db.example"]).unwrap();
    let expired = authority.issue_with(&["db.example"], |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let expired = expired.unwrap();
    for (issued, name) in [
        (&good, "else"),
        (&foreign, "db.example"),
        (&expired, "a b"),
        (&good, ""),
    ] {
        check(nobody(), issued, name, "").await;
    }
    let unknown =
        "the certificate has an unknown issuer (trusted are those of ca.pem): set server_tls.ca";
    let is_expired = "the server's certificate cannot be accepted: it has expired";
    for (issued, name, expected) in [
        (&good, "else", ""),
        (&good, "a b", ""),
        (&foreign, "db.example", unknown),
        (&expired, "db.example", is_expired),
    ] {
        check(issuer(), issued, name, expected).await;
    }
    let not_for = |name: &str| {
        format!(
            "the certificate is not for {name}, but for db.example, 10.0.0.1: set server_tls.server_name"
        )
    };
    for (issued, name, expected) in [
        (&good, "db.example", ""),
        (&good, "DB.example", ""),
        (&good, "10.0.0.1", ""),
        (&good, "else", &*not_for("else")),
        (&good, "10.0.0.2", &*not_for("10.0.0.2")),
        (&good, "a b", "\"a b\" is neither"),
        (&foreign, "db.example", unknown),
        (&expired, "db.example", is_expired),
    ] {
        check(full(), issued, name, expected).await;
    }
    // As many servers have it: no host but the common name.
    let common = |name: &str, names: Vec<SanType>| {
        let edit = |params: &mut rcgen::CertificateParams| {
            params.distinguished_name.push(DnType::CommonName, name);
            params.subject_alt_names = names;
        };
        authority.issue_with(&[], edit).unwrap()
    };
    check(full(), &common("db.example", Vec::new()), "db.example", "").await;
    check(full(), &common("10.0.0.1", Vec::new()), "10.0.0.1", "").await;
    check(
        full(),
        &common("*.db.example", Vec::new()),
        "a.db.example",
        "",
    )
    .await;
    check(
        full(),
        &common("db.example", Vec::new()),
        "else",
        "the certificate is not for",
    )
    .await;
    let host = vec![SanType::DnsName("other.example".try_into().unwrap())];
    check(
        full(),
        &common("db.example", host),
        "db.example",
        "the certificate is not for",
    )
    .await;
    let mail = vec![SanType::Rfc822Name("a@b".try_into().unwrap())];
    check(full(), &common("db.example", mail), "db.example", "").await;
    // A certificate of its own making, when it is that very one.
    for is_issuer in [true, false] {
        let (mine, another) = (own(is_issuer, false), own(is_issuer, false));
        let trusted = || Verification::IssuerAndName(issuers(&mine.certificate));
        check(trusted(), &mine, "db.example", "").await;
        check(trusted(), &mine, "else", "the certificate is not for").await;
        check(trusted(), &another, "db.example", "the ").await;
        check(full(), &mine, "db.example", "the ").await;
    }
    let old = own(true, true);
    let trusted = Verification::IssuerAndName(issuers(&old.certificate));
    check(trusted, &old, "db.example", is_expired).await;
}

#[tokio::test]
async fn tickets_are_silence_and_all_else_is_not() {
    let authority = Authority::new().unwrap();
    let issued = authority.issue(&["db.example"]).unwrap();
    let mut with_tickets = config(&issued, None);
    with_tickets.send_tls13_tickets = 8;
    let config = Arc::new(with_tickets);
    let tls = EndpointTls::build(&text(Verification::Nobody)).unwrap();
    // Until what was sent over loopback has come.
    let settles = async |stream: &mut EndpointStream| {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if !stream.is_quiet() {
                return false;
            }
        }
        true
    };
    let (mut ours, mut theirs) = connect(&tls, "db.example", &config).await.unwrap();
    assert!(!ours.is_resumed() && settles(&mut ours).await);
    assert_eq!(ours.certificate().map(<[u8]>::len), {
        let own = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        Some(own.len())
    });
    theirs.write_all(b"x").await.unwrap();
    theirs.flush().await.unwrap();
    assert!(!settles(&mut ours).await);
    // It stays there to be read, and is no silence until then.
    assert!(!ours.is_quiet());
    let mut byte = [0; 4];
    let read =
        std::future::poll_fn(|cx| outgrow_net::Transport::poll_read(&mut ours, cx, &mut byte));
    assert_eq!(read.await.unwrap(), 1);
    assert!(settles(&mut ours).await);
    let (mut ours, mut theirs) = connect(&tls, "db.example", &config).await.unwrap();
    assert!(ours.is_resumed() && settles(&mut ours).await);
    assert!(ours.certificate().is_some());
    theirs.shutdown().await.unwrap();
    assert!(!settles(&mut ours).await);
    let (mut ours, theirs) = connect(&tls, "db.example", &config).await.unwrap();
    assert!(settles(&mut ours).await);
    // Cut off, without a last word.
    drop(theirs.into_inner().0);
    assert!(!settles(&mut ours).await);
    // What is not TLS is no silence either.
    let (mut ours, theirs) = connect(&tls, "db.example", &config).await.unwrap();
    theirs.into_inner().0.write_all(&[7; 64]).await.unwrap();
    assert!(!settles(&mut ours).await);
    // Made anew it begins anew.
    let anew = EndpointTls::build(&text(Verification::Nobody)).unwrap();
    assert!(anew == tls);
    assert!(
        !connect(&anew, "db.example", &config)
            .await
            .unwrap()
            .0
            .is_resumed()
    );
}

#[tokio::test]
async fn we_show_who_we_are_and_speak_what_is_chosen() {
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let issued = authority.issue(&["db.example"]).unwrap();
    let config = Arc::new(config(&issued, Some(&authority)));
    let with = |identity: Option<&Issued>, choices: Choices| {
        let mut text = text(Verification::Nobody);
        text.identity = identity.map(|issued| CertificateText {
            certificate: issued.certificate.clone().into_bytes(),
            key: issued.key.clone().into_bytes(),
            certificate_name: "client.pem".to_owned(),
            key_name: "client.key".to_owned(),
            staple: None,
        });
        text.choices = choices;
        EndpointTls::build(&text)
    };
    let own = authority.issue(&["ann"]).unwrap();
    for (lowest, highest, suites, expected) in [
        (TlsVersion::V1_2, TlsVersion::V1_3, vec![], "TLSv1.3/"),
        (TlsVersion::V1_2, TlsVersion::V1_2, vec![], "TLSv1.2/ECDHE-"),
        (
            TlsVersion::V1_3,
            TlsVersion::V1_3,
            vec![CipherSuite::ChaCha20Poly1305],
            "TLSv1.3/TLS_CHACHA20_POLY1305_SHA256",
        ),
        (
            TlsVersion::V1_2,
            TlsVersion::V1_3,
            vec![CipherSuite::Aes128Gcm],
            "TLSv1.3/TLS_AES_128_GCM_SHA256",
        ),
    ] {
        let choices = Choices {
            lowest,
            highest,
            suites,
        };
        let tls = with(Some(&own), choices).unwrap();
        let (ours, theirs) = connect(&tls, "db.example", &config).await.unwrap();
        assert!(ours.protocol().starts_with(expected), "{}", ours.protocol());
        let shown = theirs.get_ref().1.peer_certificates().map(<[_]>::len);
        assert_eq!(shown, Some(1));
    }
    let none = Choices {
        lowest: TlsVersion::V1_3,
        highest: TlsVersion::V1_2,
        suites: Vec::new(),
    };
    assert_eq!(with(None, none).unwrap_err(), TlsProblem::NoVersion);
    // In TLS 1.3 the server's word comes after our handshake.
    let foreign = other.issue(&["ann"]).unwrap();
    for identity in [None, Some(&foreign)] {
        let tls = with(identity, Choices::default()).unwrap();
        assert!(connect(&tls, "db.example", &config).await.is_err());
    }
}
