//! Certificates that are replaced while a listener runs, and the answers of `tls-alpn-01`.

use std::slice::from_ref;
use std::sync::Arc;

use outgrow_core::WallTime;
use outgrow_tls::{ACME_TLS, AlpnChallenges, Managed, ServerTls, Stapling, TlsStream, TlsText};
use rcgen::CustomExtension;
use rustls::version::TLS13;
use rustls_pki_types::ServerName;

use crate::support::{
    Client, client_config, connect, issue, issue_with, pair, shown, text, tickets,
};

fn server(files: TlsText, managed: &Arc<Managed>) -> Arc<ServerTls> {
    let text = TlsText {
        managed: Some(Arc::clone(managed)),
        ..files
    };
    let built = ServerTls::build(&text, tickets(1), WallTime::now());
    built.expect("server").0
}

/// Both ends, whether or not they agree.
async fn attempt(
    server: &ServerTls,
    alpn: &[&[u8]],
    name: &str,
) -> (Option<Client>, Option<TlsStream>) {
    let (client, ours) = pair();
    let connector = tokio_rustls::TlsConnector::from(client_config(&TLS13, alpn));
    let name = ServerName::try_from(name.to_owned()).expect("name");
    let (client, ours) = tokio::join!(connector.connect(name, client), server.accept(ours));
    (client.ok(), ours.ok())
}

#[tokio::test]
async fn they_come_and_go_without_a_reload() {
    let managed = Managed::new(&Arc::default(), Stapling::default());
    let server = server(text(&[]), &managed);
    let (_, refused) = attempt(&server, &[], "a.example").await;
    assert!(refused.is_none(), "there is none yet");
    let (old, new) = (issue(&["a.example"]), issue(&["a.example", "*.b.example"]));
    let now = WallTime::now();
    managed.publish(from_ref(&old.text), now);
    let config = client_config(&TLS13, &[b"h2"]);
    let (client, ours) = connect(&server, &config, "a.example").await;
    assert!(shown(&client) == old.der);
    assert_eq!(ours.alpn(), Some(&b"h2"[..]));
    let (_, problems) = managed.publish(from_ref(&new.text), now);
    assert_eq!(problems, []);
    for name in ["a.example", "c.b.example", "other.example"] {
        let config = client_config(&TLS13, &[]);
        let (client, _ours) = connect(&server, &config, name).await;
        assert!(shown(&client) == new.der, "{name}");
    }
    let facts = managed.certificates();
    assert_eq!(facts[0].names, ["a.example", "*.b.example"]);
    assert!(facts[0].not_before < facts[0].not_after);
}

#[tokio::test]
async fn files_are_for_their_names_and_for_all_that_have_none() {
    let (file, own) = (issue(&["file.example"]), issue(&["own.example"]));
    let managed = Managed::new(&Arc::default(), Stapling::default());
    let server = server(text(&[&file]), &managed);
    managed.publish(from_ref(&own.text), WallTime::now());
    for (name, expected) in [
        ("file.example", &file),
        ("own.example", &own),
        ("other.example", &file),
    ] {
        let config = client_config(&TLS13, &[]);
        let (client, _ours) = connect(&server, &config, name).await;
        assert!(shown(&client) == expected.der, "{name}");
    }
}

#[tokio::test]
async fn a_challenge_is_answered_to_who_offers_nothing_else() {
    let challenges: Arc<AlpnChallenges> = Arc::default();
    let managed = Managed::new(&challenges, Stapling::default());
    let server = server(text(&[]), &managed);
    let own = issue(&["a.example"]);
    let answer = issue(&["a.example"]);
    managed.publish(from_ref(&own.text), WallTime::now());
    let (_, refused) = attempt(&server, &[ACME_TLS], "a.example").await;
    assert!(refused.is_none(), "nobody is asked for it");
    // The extension that makes it one is critical, and nobody but authorities understands it: not
    // the client of this test either.
    let real = issue_with(&["a.example"], |params| {
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(&[7; 32])];
    });
    let real = [("a.example".to_owned(), real.text.clone())];
    assert_eq!(challenges.publish(&real), Ok(()));
    let answers = [("A.example".to_owned(), answer.text.clone())];
    challenges.publish(&answers).expect("published");
    let (client, ours) = attempt(&server, &[ACME_TLS], "a.example").await;
    assert!(shown(client.as_ref().expect("a connection")) == answer.der);
    assert_eq!(ours.expect("a connection").alpn(), Some(ACME_TLS));
    let (_, refused) = attempt(&server, &[ACME_TLS], "b.example").await;
    assert!(refused.is_none(), "another name");
    let (client, ours) = attempt(&server, &[ACME_TLS, b"h2"], "a.example").await;
    assert!(shown(client.as_ref().expect("a connection")) == own.der);
    assert_eq!(ours.expect("a connection").alpn(), Some(&b"h2"[..]));
    challenges.publish(&[]).expect("published");
    let (_, refused) = attempt(&server, &[ACME_TLS], "a.example").await;
    assert!(refused.is_none());
}
