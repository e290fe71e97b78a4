//! The driver against a real etcd.

use std::time::Duration;

use outgrow_core::Clock;
use outgrow_core::settings::Secret;
use outgrow_testkit::etcd::Etcd;

use super::EtcdSettings;
use crate::discovery::{Discovery, Surroundings};
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
        };
        let settings = DiscoverSettings {
            etcd: Some(etcd),
            ..DiscoverSettings::default()
        };
        let clock = Clock::start();
        let surroundings = Surroundings {
            clock,
            read_file: |_, _| Err(std::io::ErrorKind::NotFound.into()),
        };
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
