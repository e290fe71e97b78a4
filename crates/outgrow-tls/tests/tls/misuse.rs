//! Certificates and keys as people get them wrong.

use crate::support::{Issued, issue, issue_with, text, tickets};
use outgrow_core::WallTime;
use outgrow_tls::{CertificateText, ServerTls, TlsProblem, TlsText, TlsWarning};

fn problems(certificates: Vec<CertificateText>) -> Vec<TlsProblem> {
    let text = TlsText {
        certificates,
        ..TlsText::default()
    };
    ServerTls::build(&text, tickets(1), WallTime::now()).expect_err("refused")
}

fn check(edit: impl FnOnce(&mut CertificateText, &Issued), message: &str, hint: &str) {
    let other = issue(&["b.example"]);
    let mut text = issue(&["a.example"]).text;
    edit(&mut text, &other);
    let problems = problems(vec![text]);
    assert_eq!(problems.len(), 1);
    let (told, advice) = (problems[0].to_string(), problems[0].hint());
    assert!(told.starts_with(message), "{told:?} is not {message:?}");
    assert!(advice.contains(hint), "{advice:?} has no {hint:?}");
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    check(
        |text, other| text.key = other.text.key.clone(),
        "a.example.key: the key does not belong to the certificate in a.example.pem",
        "renewed for this key",
    );
    check(
        |text, other| {
            let own = std::mem::replace(&mut text.certificate, other.text.certificate.clone());
            text.certificate.extend(own);
        },
        "a.example.key: the key does not belong",
        "must come first",
    );
    check(
        |text, _| text.certificate.clear(),
        "a.example.pem: there is no certificate in it",
        "BEGIN CERTIFICATE",
    );
    check(
        |text, _| std::mem::swap(&mut text.certificate, &mut text.key),
        "a.example.pem: there is no certificate in it",
        "the wrong way round",
    );
    check(
        |text, _| text.key = b"nothing".to_vec(),
        "a.example.key: there is no private key in it",
        "BEGIN PRIVATE KEY",
    );
    check(
        |text, _| {
            text.key = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n".to_vec();
        },
        "a.example.key: there is no private key in it",
        "passphrase",
    );
    check(
        |text, _| {
            text.key = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_vec();
        },
        "a.example.key: the private key cannot be used",
        "RSA from 2048",
    );
    check(
        |text, _| {
            text.certificate =
                b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
        },
        "a.example.pem: the first certificate in it is not one that can be served",
        "X.509",
    );
    check(
        |text, _| text.certificate = b"-----BEGIN CERTIFICATE-----\n!\n".to_vec(),
        "a.example.pem: the PEM text is malformed",
        "base64",
    );
}

#[test]
fn everything_is_told_at_once() {
    let mut one = issue(&["a.example"]).text;
    one.key.clear();
    let mut two = issue(&["b.example"]).text;
    two.certificate.clear();
    assert_eq!(problems(vec![one, two]).len(), 2);
    assert_eq!(problems(Vec::new()), [TlsProblem::NothingToServe]);
}

#[test]
fn what_is_odd_is_served_with_a_warning() {
    let expired = issue_with(&["a.example"], |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 2, 3);
    });
    let future = issue_with(&["b.example"], |params| {
        params.not_before = rcgen::date_time_ymd(2501, 1, 1);
        params.not_after = rcgen::date_time_ymd(2502, 1, 1);
    });
    let nameless = issue(&[]);
    let now = WallTime::now();
    let (server, warnings) =
        ServerTls::build(&text(&[&expired, &future, &nameless]), tickets(1), now).expect("server");
    let told: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told[0],
        "a.example.pem: the certificate expired at 2002-02-03T00:00:00.000Z"
    );
    assert_eq!(
        told[1],
        "b.example.pem: the certificate is valid only from 2501-01-01T00:00:00.000Z"
    );
    assert!(matches!(warnings[2], TlsWarning::NoNames { .. }));
    let facts = server.certificates();
    assert_eq!(
        facts[0].not_after.map(WallTime::seconds),
        Some(1_012_694_400)
    );
    assert_eq!(facts[1].names, ["b.example"]);
}

#[test]
fn a_key_is_never_shown() {
    let shown = format!("{:?}", text(&[&issue(&["a.example"])]));
    assert!(shown.contains("a.example.key") && !shown.contains("PRIVATE"));
}
