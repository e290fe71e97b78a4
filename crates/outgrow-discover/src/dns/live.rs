//! The driver against a server that changes, lies, and is silent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use outgrow_core::Clock;
use outgrow_core::settings::Address;
use outgrow_testkit::dns::{Data, DnsServer, Fault};

use crate::discovery::{Discovery, Surroundings};
use crate::found::Found;
use crate::settings::DiscoverSettings;

/// Longer than any of it may take.
const SOON: Duration = Duration::from_secs(20);

struct Test {
    server: DnsServer,
    clock: Clock,
    discovery: Discovery,
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

impl Test {
    fn new(server: DnsServer, settings: DiscoverSettings) -> Self {
        let at = server.address();
        let settings = DiscoverSettings {
            nameservers: vec![Address::tcp(at.ip().to_string(), at.port())],
            ttl_min: Duration::from_millis(100),
            timeout: Duration::from_millis(200),
            empty_after: Duration::from_millis(300),
            ..settings
        };
        let clock = Clock::start();
        let surroundings = Surroundings::without_files(clock);
        let discovery = Discovery::start(&settings, surroundings).expect("a source");
        Self {
            server,
            clock,
            discovery,
        }
    }

    fn of_host(server: DnsServer) -> Self {
        server.set_ttl(0);
        let dns = Some(Address::tcp("app.test", 3000));
        Self::new(
            server,
            DiscoverSettings {
                dns,
                ..DiscoverSettings::default()
            },
        )
    }

    /// Waits until exactly these are believed in; nothing else may be meanwhile, but for `before`.
    async fn wait(&mut self, expected: &[&str], before: &[&str]) {
        let wait = async {
            loop {
                let _ = self.discovery.step(self.clock.now());
                let found = self.discovery.endpoints();
                let is = |list: &[&str]| {
                    found
                        .iter()
                        .map(|one| one.address.to_string())
                        .eq(list.iter().copied())
                };
                if is(expected) {
                    return;
                }
                assert!(is(before), "{found:?}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(SOON, wait).await.expect("in time");
    }

    async fn wait_failures(&mut self, more: u64) {
        let state = || self.discovery.state(self.clock.now());
        let until = state().failures + more;
        let wait = async {
            while state().failures < until {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(SOON, wait).await.expect("in time");
    }
}

fn server() -> DnsServer {
    DnsServer::start().expect("a server")
}

#[tokio::test]
async fn a_name_that_changes_is_followed_by_its_ttl() {
    let server = server();
    server.set_addresses("app.test", &[ip("10.0.0.1"), ip("fd00::1")]);
    let mut test = Test::of_host(server);
    let both = ["10.0.0.1:3000", "[fd00::1]:3000"];
    test.wait(&both, &[]).await;
    test.server.set_addresses("app.test", &[ip("10.0.0.2")]);
    test.wait(&["10.0.0.2:3000"], &both).await;
    // A name that is gone is doubted for a while.
    test.server.set("app.test", &[]);
    let asked = tokio::time::Instant::now();
    test.wait(&[], &["10.0.0.2:3000"]).await;
    assert!(asked.elapsed() >= Duration::from_millis(300));
    assert_eq!(test.discovery.state(test.clock.now()).changes, 3);
}

#[tokio::test]
async fn an_outage_and_lies_change_nothing() {
    let server = server();
    let records = [Data::Alias("b.test".to_owned())];
    server.set("app.test", &records);
    server.set_addresses("b.test", &[ip("10.0.0.1")]);
    let mut test = Test::of_host(server);
    test.wait(&["10.0.0.1:3000"], &[]).await;
    for fault in [
        Fault::Silent,
        Fault::WrongId,
        Fault::Failure,
        Fault::Garbage,
    ] {
        test.server.set_fault(fault);
        test.wait_failures(1).await;
        assert!(test.discovery.step(test.clock.now()).is_none(), "{fault:?}");
        assert!(test.discovery.news().is_some(), "{fault:?}");
        assert_eq!(test.discovery.endpoints().len(), 1);
        test.server.set_fault(Fault::None);
        let until = tokio::time::Instant::now() + SOON;
        while test.discovery.state(test.clock.now()).problem.is_some() {
            assert!(tokio::time::Instant::now() < until, "{fault:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(test.discovery.news().is_some());
    }
}

#[tokio::test]
async fn forgeries_before_the_truth_are_passed_over() {
    for fault in [Fault::ForgedId, Fault::ForgedSource, Fault::ForgedName] {
        let server = server();
        server.set_fault(fault);
        server.set_addresses("app.test", &[ip("10.0.0.1")]);
        let mut test = Test::of_host(server);
        test.wait(&["10.0.0.1:3000"], &[]).await;
        assert_eq!(
            test.discovery.state(test.clock.now()).failures,
            0,
            "{fault:?}"
        );
        assert_eq!(test.server.over_tcp(), 0);
    }
}

#[tokio::test]
async fn what_has_no_room_is_asked_for_over_tcp() {
    let server = server();
    server.set_fault(Fault::Truncated);
    let many: Vec<IpAddr> = (1..=200).map(|one| IpAddr::from([10, 0, 0, one])).collect();
    server.set_addresses("app.test", &many);
    let mut test = Test::of_host(server);
    let expected: std::collections::BTreeSet<Address> = many
        .iter()
        .map(|ip| Address::tcp(ip.to_string(), 3000))
        .collect();
    let texts: Vec<String> = expected.iter().map(ToString::to_string).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    test.wait(&texts, &[]).await;
    assert!(test.server.over_tcp() > 0);
}

#[tokio::test]
async fn a_second_server_answers_for_one_that_is_silent() {
    let (silent, server) = (server(), server());
    silent.set_fault(Fault::Silent);
    server.set_addresses("app.test", &[ip("10.0.0.1")]);
    let address = |server: &DnsServer| {
        let at = server.address();
        Address::tcp(at.ip().to_string(), at.port())
    };
    let settings = DiscoverSettings {
        dns: Some(Address::tcp("app.test", 80)),
        nameservers: vec![address(&silent), address(&server)],
        timeout: Duration::from_millis(100),
        ttl_min: Duration::from_millis(100),
        ..DiscoverSettings::default()
    };
    let clock = Clock::start();
    let surroundings = Surroundings::without_files(clock);
    server.set_ttl(0);
    let discovery = Discovery::start(&settings, surroundings).expect("a source");
    let mut test = Test {
        server,
        clock,
        discovery,
    };
    test.wait(&["10.0.0.1:80"], &[]).await;
    let asked = silent.questions();
    let until = test.server.questions() + 6;
    while test.server.questions() < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(silent.questions(), asked, "who answered is asked first");
}

#[tokio::test]
async fn services_have_the_addresses_of_their_targets() {
    let server = server();
    let srv = |priority, port, target: &str| Data::Srv(priority, 5, port, target.to_owned());
    let name = "_http._tcp.app.test";
    server.set(
        name,
        &[
            srv(10, 80, "a.test"),
            srv(20, 81, "b.test"),
            srv(10, 82, "gone.test"),
        ],
    );
    server.set_addresses("a.test", &[ip("10.0.0.1"), ip("10.0.0.2")]);
    server.set_addresses("b.test", &[ip("10.0.0.3")]);
    server.set_ttl(0);
    let srv = Some(name.to_owned());
    let mut test = Test::new(
        server,
        DiscoverSettings {
            srv,
            ..DiscoverSettings::default()
        },
    );
    test.wait(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:81"], &[])
        .await;
    let found = test.discovery.endpoints();
    let by_port: BTreeMap<u32, u32> = found.iter().map(|one| (one.priority, one.weight)).collect();
    assert_eq!(by_port, BTreeMap::from([(0, 5), (1, 5)]));
    let is_at =
        |found: &Found, port| matches!(found.address, Address::Tcp { port: at, .. } if at == port);
    assert!(
        found
            .iter()
            .all(|one| (one.priority == 1) == is_at(one, 81))
    );
}

#[tokio::test]
async fn an_outage_is_asked_about_less_and_less() {
    let server = server();
    server.set_fault(Fault::Failure);
    let mut test = Test::of_host(server);
    test.wait_failures(3).await;
    // Two kinds, two rounds each; and so much in the first two seconds at most.
    assert!(
        test.server.questions() <= 4 * 5,
        "{}",
        test.server.questions()
    );
    assert!(test.discovery.is_awaited());
}
