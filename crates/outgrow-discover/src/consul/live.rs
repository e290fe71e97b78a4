//! The driver against the fake of the test kit. It is no Consul.

use std::net::SocketAddr;
use std::time::Duration;

use outgrow_core::Clock;
use outgrow_core::settings::Secret;
use outgrow_testkit::consul::{FakeConsul, Mood};

use super::ConsulSettings;
use crate::discovery::{Discovery, Surroundings};
use crate::settings::DiscoverSettings;

/// Longer than any of it may take.
const LIMIT: Duration = Duration::from_secs(20);

struct Test {
    consul: FakeConsul,
    clock: Clock,
    discovery: Discovery,
}

fn at(ports: &[u16]) -> Vec<SocketAddr> {
    ports
        .iter()
        .map(|port| ([10, 0, 0, 1], *port).into())
        .collect()
}

impl Test {
    fn new(consul: FakeConsul, token: &str) -> Self {
        let server = format!("http://{}", consul.address());
        let settings = DiscoverSettings {
            consul: Some(ConsulSettings {
                server: server.parse().expect("a server"),
                service: "my app".to_owned(),
                tag: "v1".to_owned(),
                token: Secret::new(token),
                ..ConsulSettings::default()
            }),
            ..DiscoverSettings::default()
        };
        let clock = Clock::start();
        let surroundings = Surroundings::without_files(clock);
        let discovery = Discovery::start(&settings, surroundings).expect("a source");
        Self {
            consul,
            clock,
            discovery,
        }
    }

    async fn wait(&mut self, ports: &[u16]) {
        let expected: Vec<String> = at(ports).iter().map(ToString::to_string).collect();
        let wait = async {
            loop {
                let _ = self.discovery.step(self.clock.now());
                let found = self.discovery.endpoints().iter();
                if found
                    .map(|one| one.address.to_string())
                    .eq(expected.iter().cloned())
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, wait).await;
        let state = self.discovery.state(self.clock.now());
        assert!(waited.is_ok(), "{expected:?}: {state:?}");
    }

    async fn wait_problem(&mut self, expected: &str) {
        let wait = async {
            loop {
                let problem = self.discovery.state(self.clock.now()).problem;
                if problem.is_some_and(|problem| problem.contains(expected)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, wait).await.expect(expected);
    }
}

#[tokio::test]
async fn health_is_followed_by_blocking_queries() {
    let consul = FakeConsul::start("secret").expect("a fake");
    consul.set(&at(&[80, 81]));
    let mut test = Test::new(consul, "secret");
    test.wait(&[80, 81]).await;
    assert!(test.discovery.endpoints().iter().all(|one| one.weight == 2));
    test.consul.set(&at(&[81]));
    test.wait(&[81]).await;
    // The server starts anew: its index goes back, and it is asked without one.
    test.consul.forget_index();
    test.consul.set(&at(&[81, 82]));
    test.wait(&[81, 82]).await;
    test.consul.set(&at(&[83]));
    test.wait(&[83]).await;
    let targets = test.consul.targets();
    assert_eq!(targets[0], "/v1/health/service/my%20app?passing=1&tag=v1");
    let second = "/v1/health/service/my%20app?passing=1&tag=v1&index=11&wait=20s";
    assert_eq!(targets[1], second);
    assert_eq!(
        targets.iter().filter(|one| **one == targets[0]).count(),
        2,
        "{targets:?}"
    );
    assert!(targets.len() <= 8, "{targets:?}");
    assert_eq!(test.discovery.state(test.clock.now()).failures, 0);
}

#[tokio::test]
async fn an_outage_and_a_wrong_token_change_nothing() {
    let consul = FakeConsul::start("").expect("a fake");
    consul.set(&at(&[80]));
    let mut test = Test::new(consul, "");
    test.wait(&[80]).await;
    test.consul.set_mood(Mood::Failing);
    test.wait_problem("status 500: No cluster leader").await;
    test.consul.set_mood(Mood::NoIndex);
    test.wait_problem("no X-Consul-Index").await;
    assert!(test.discovery.step(test.clock.now()).is_none());
    test.consul.set_mood(Mood::Good);
    test.consul.set(&at(&[81]));
    test.wait(&[81]).await;
    let mut stranger = Test::new(FakeConsul::start("secret").expect("a fake"), "wrong");
    stranger.wait_problem("status 403: Permission denied").await;
}

#[tokio::test]
async fn an_index_that_never_rests_is_not_asked_without_a_pause() {
    let consul = FakeConsul::start("").expect("a fake");
    consul.set(&at(&[80]));
    consul.set_mood(Mood::Restless);
    let mut test = Test::new(consul, "");
    test.wait(&[80]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = test.consul.targets().len();
    assert!((2..=8).contains(&asked), "{asked} in a second");
}
