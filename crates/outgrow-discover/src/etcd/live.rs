//! The driver against a real etcd.

use std::time::Duration;

use outgrow_core::Clock;
use outgrow_core::settings::Secret;
use outgrow_testkit::authority::Authority;
use outgrow_testkit::etcd::Etcd;

use super::cluster::Cluster;
use super::{EtcdSettings, messages};
use crate::discovery::{Discovery, Surroundings};
use crate::http::RegistryTls;
use crate::settings::DiscoverSettings;

/// Longer than any of it may take.
const LIMIT: Duration = Duration::from_secs(40);

struct Test {
    clock: Clock,
    discovery: Discovery,
}

impl Test {
    fn new(etcd: &Etcd, password: &str) -> Self {
        let server = format!("http://{}", etcd.address());
        let user = if password.is_empty() { "" } else { "root" };
        let etcd = EtcdSettings {
            servers: vec![server.parse().expect("a server")],
            prefix: "/app/".to_owned(),
            user: user.to_owned(),
            password: Secret::new(password),
            tls: None,
        };
        Self::with(etcd)
    }

    /// With TLS, and with what of it is different from what is right.
    fn over_tls(etcd: &Etcd, authority: &Authority, edit: impl FnOnce(&mut RegistryTls)) -> Self {
        let ours = authority.issue(&["outgrow"]).expect("a certificate");
        let (certificate, key) = authority.files("outgrow", &ours).expect("files");
        let mut tls = RegistryTls {
            ca: Some(authority.ca_file().expect("a file")),
            certificate: Some(certificate),
            key: Some(key),
            server_name: String::new(),
        };
        edit(&mut tls);
        let server = format!("https://{}", etcd.encrypted().expect("TLS"));
        Self::with(EtcdSettings {
            servers: vec![server.parse().expect("a server")],
            prefix: "/app/".to_owned(),
            tls: Some(tls),
            ..EtcdSettings::default()
        })
    }

    fn with(etcd: EtcdSettings) -> Self {
        let settings = DiscoverSettings {
            etcd: Some(etcd),
            ..DiscoverSettings::default()
        };
        let clock = Clock::start();
        let surroundings = Surroundings::with_files(clock);
        let discovery = Discovery::start(&settings, surroundings).expect("a source");
        Self { clock, discovery }
    }

    async fn wait(&mut self, expected: &[&str]) {
        let wait = async {
            loop {
                let _ = self.discovery.step(self.clock.now());
                let found = self.discovery.endpoints().iter();
                let found = found.map(|one| one.address.to_string());
                if found.eq(expected.iter().copied()) && !self.discovery.is_awaited() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, wait).await;
        let state = self.discovery.state(self.clock.now());
        assert!(waited.is_ok(), "{expected:?}: {state:?}");
    }

    async fn wait_problem(&mut self, expected: bool) {
        let wait = async {
            while self.discovery.state(self.clock.now()).problem.is_some() != expected {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, wait).await.expect("in time");
    }
}

impl Test {
    async fn wait_told(&mut self, expected: &str) {
        let wait = async {
            loop {
                let problem = self.discovery.state(self.clock.now()).problem;
                if problem.is_some_and(|problem| problem.contains(expected)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, wait).await;
        let state = self.discovery.state(self.clock.now());
        assert!(waited.is_ok(), "{expected}: {state:?}");
    }
}

#[tokio::test]
async fn keys_are_followed_through_compaction_and_an_outage() {
    let mut etcd = Etcd::start().expect("etcd");
    etcd.put("/app/a", "10.0.0.1:80").expect("put");
    etcd.put("/apple", "10.6.6.6:80").expect("put");
    let mut test = Test::new(&etcd, "");
    test.wait(&["10.0.0.1:80"]).await;
    etcd.put("/app/b", r#"{"Addr": "10.0.0.2:80"}"#)
        .expect("put");
    test.wait(&["10.0.0.1:80", "10.0.0.2:80"]).await;
    etcd.delete("/app/a").expect("deleted");
    test.wait(&["10.0.0.2:80"]).await;
    let before = test.discovery.state(test.clock.now()).failures;
    assert_eq!(before, 0);
    // A flood of changes is a few.
    let changes = test.discovery.state(test.clock.now()).changes;
    let mut last = 0;
    for turn in 0..500 {
        last = etcd
            .put("/app/c", &format!("10.0.1.{}:80", turn % 200))
            .expect("put");
    }
    test.wait(&["10.0.0.2:80", "10.0.1.99:80"]).await;
    let more = test.discovery.state(test.clock.now()).changes - changes;
    assert!(more <= 30, "{more} changes");
    etcd.compact(last).expect("compacted");
    etcd.kill();
    test.wait_problem(true).await;
    assert!(test.discovery.step(test.clock.now()).is_none());
    assert_eq!(test.discovery.endpoints().len(), 2, "nothing is dropped");
    etcd.start_again().expect("etcd again");
    etcd.delete("/app/b").expect("deleted");
    test.wait(&["10.0.1.99:80"]).await;
    test.wait_problem(false).await;
}

#[tokio::test]
async fn a_password_is_used_and_a_wrong_one_told() {
    let etcd = Etcd::start().expect("etcd");
    etcd.put("/app/a", "10.0.0.1:80").expect("put");
    etcd.demand_password("good").expect("a password");
    Test::new(&etcd, "good").wait(&["10.0.0.1:80"]).await;
    for wrong in ["", "bad"] {
        let mut test = Test::new(&etcd, wrong);
        test.wait_problem(true).await;
        assert!(test.discovery.is_awaited());
    }
}

#[tokio::test]
async fn keys_are_followed_over_tls_and_certificates_may_be_replaced() {
    let authority = Authority::new().expect("an authority");
    let mut etcd = Etcd::start_with_tls(&authority).expect("etcd");
    etcd.put("/app/a", "10.0.0.1:80").expect("put");
    let mut test = Test::over_tls(&etcd, &authority, |_| {});
    test.wait(&["10.0.0.1:80"]).await;
    etcd.put("/app/b", "10.0.0.2:80").expect("put");
    test.wait(&["10.0.0.1:80", "10.0.0.2:80"]).await;
    assert_eq!(test.discovery.state(test.clock.now()).failures, 0);
    // A key that does not belong to the certificate yet, as in the middle of a replacement.
    let new = authority.issue(&["outgrow"]).expect("a certificate");
    let (certificate, _) = authority.files("outgrow", &new).expect("files");
    let old = authority.issue(&["outgrow"]).expect("a certificate");
    std::fs::write(&certificate, old.certificate).expect("written");
    etcd.kill();
    etcd.start_again().expect("etcd again");
    test.wait_told("the key does not belong to the certificate")
        .await;
    authority.files("outgrow", &new).expect("files");
    etcd.delete("/app/a").expect("deleted");
    test.wait(&["10.0.0.2:80"]).await;
}

#[tokio::test]
async fn a_server_that_is_not_believed_and_a_client_that_is_not_are_told() {
    let authority = Authority::new().expect("an authority");
    let etcd = Etcd::start_with_tls(&authority).expect("etcd");
    let other = Authority::new().expect("an authority");
    let check = async |edit: &dyn Fn(&mut RegistryTls), expected: &str| {
        let mut test = Test::over_tls(&etcd, &authority, edit);
        test.wait_told(expected).await;
        assert!(test.discovery.is_awaited());
    };
    check(
        &|tls| tls.ca = None,
        "unknown issuer (trusted are those of the system)",
    )
    .await;
    let foreign = other.ca_file().expect("a file");
    check(&|tls| tls.ca = Some(foreign.clone()), "unknown issuer").await;
    check(
        &|tls| tls.server_name = "etcd.internal".to_owned(),
        "the certificate is not for etcd.internal, but for 127.0.0.1",
    )
    .await;
    check(
        &|tls| tls.ca = Some("/nowhere/ca.pem".into()),
        "tls.ca /nowhere/ca.pem cannot be read",
    )
    .await;
    check(
        &|tls| (tls.certificate, tls.key) = (None, None),
        "client certificate",
    )
    .await;
    let stranger = other.issue(&["outgrow"]).expect("a certificate");
    let (certificate, key) = other.files("outgrow", &stranger).expect("files");
    check(
        &|tls| {
            tls.certificate = Some(certificate.clone());
            tls.key = Some(key.clone());
        },
        "our certificate",
    )
    .await;
    // Plain where TLS is expected.
    let mut plain = Test::with(EtcdSettings {
        servers: vec![
            format!("http://{}", etcd.encrypted().expect("TLS"))
                .parse()
                .expect("a server"),
        ],
        prefix: "/app/".to_owned(),
        ..EtcdSettings::default()
    });
    plain.wait_told("perhaps it speaks TLS").await;
}

#[tokio::test]
async fn a_token_that_is_not_known_any_more_costs_no_failure() {
    let etcd = Etcd::start().expect("etcd");
    etcd.demand_password("good").expect("a password");
    let server = format!("http://{}", etcd.address());
    let servers = [server.parse().expect("a server")];
    let surroundings = Surroundings::without_files(Clock::start());
    let password = Secret::new("good");
    let mut cluster = Cluster::new(&servers, None, "root", &password, surroundings);
    let range = messages::range("/app/");
    // All tokens of the user end with it, although the password stays the same.
    let change = messages::authenticate("root", "good");
    for (target, question) in [
        ("/v3/kv/range", &range),
        ("/v3/auth/user/changepw", &change),
        ("/v3/kv/range", &range),
    ] {
        let answer = cluster.ask(target, question, LIMIT).await;
        assert!(answer.is_ok(), "{target}: {answer:?}");
    }
}
