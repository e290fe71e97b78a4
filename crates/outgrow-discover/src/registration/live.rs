//! The drivers against a real etcd, and against the test kit's fake of Consul, which is no Consul.

use std::time::Duration;

use outgrow_core::Clock;
use outgrow_core::settings::Address;
use outgrow_testkit::authority::Authority;
use outgrow_testkit::consul::{FakeConsul, Mood};
use outgrow_testkit::etcd::Etcd;

use super::settings::{RegisterConsul, RegisterEtcd, RegisterSettings};
use super::{Entries, Entry, Registration};
use crate::discovery::Surroundings;
use crate::http::RegistryTls;

/// Longer than any of it may take.
const LIMIT: Duration = Duration::from_secs(40);

fn settings(etcd: &Etcd) -> RegisterSettings {
    let server = format!("http://{}", etcd.address());
    RegisterSettings {
        etcd: Some(RegisterEtcd {
            servers: vec![server.parse().expect("a server")],
            prefix: "/app/".to_owned(),
            ..RegisterEtcd::default()
        }),
        ttl: Duration::from_secs(3),
        ..RegisterSettings::default()
    }
}

fn start(settings: &RegisterSettings, owner: &str) -> Registration {
    Registration::start(settings, owner, Surroundings::without_files(Clock::start()))
        .expect("a registry")
}

fn some(list: &[(&str, u16, u32)]) -> Entries {
    let entry = |&(name, port, weight): &(&str, u16, u32)| {
        let address = Address::tcp("10.0.0.1", port);
        let zone = String::new();
        (
            name.to_owned(),
            Entry {
                address,
                weight,
                zone,
            },
        )
    };
    list.iter().map(entry).collect()
}

async fn wait(what: &str, mut look: impl FnMut() -> bool) {
    let wait = async {
        while !look() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect(what);
}

fn keys(etcd: &Etcd) -> Vec<String> {
    let list = etcd.list("/app/").expect("keys");
    list.into_iter()
        .map(|(key, value)| format!("{key} {value}"))
        .collect()
}

async fn wait_keys(etcd: &Etcd, expected: &[&str]) {
    wait(&format!("{expected:?}"), || keys(etcd) == expected).await;
}

const ONE: &str = r#"/app/box-1/a {"address":"10.0.0.1:80","weight":1}"#;
const TWO: &str = r#"/app/box-1/a {"address":"10.0.0.1:80","weight":2}"#;
const OTHER: &str = r#"/app/box-1/b {"address":"10.0.0.1:81","weight":1}"#;

#[tokio::test]
async fn entries_are_kept_alive_changed_and_withdrawn() {
    let etcd = Etcd::start().expect("etcd");
    let registration = start(&settings(&etcd), "box-1");
    assert!(registration.want(some(&[("a", 80, 1)])));
    assert!(!registration.want(some(&[("a", 80, 1)])));
    wait_keys(&etcd, &[ONE]).await;
    registration.want(some(&[("a", 80, 2), ("b", 81, 1)]));
    wait_keys(&etcd, &[TWO, OTHER]).await;
    // Longer than they would stay by themselves.
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(keys(&etcd), [TWO, OTHER]);
    }
    // Somebody removes one: it is back when the next third of the time is over.
    etcd.delete("/app/box-1/a").expect("deleted");
    wait_keys(&etcd, &[TWO, OTHER]).await;
    registration.want(some(&[("b", 81, 1)]));
    wait_keys(&etcd, &[OTHER]).await;
    registration.want(Entries::new());
    wait("withdrawn", || registration.is_done()).await;
    assert!(keys(&etcd).is_empty());
    assert_eq!(registration.state(Clock::start().now()).failures, 0);
}

#[tokio::test]
async fn an_outage_and_a_registry_that_forgets_are_made_good() {
    let mut etcd = Etcd::start().expect("etcd");
    let registration = start(&settings(&etcd), "box-1");
    registration.want(some(&[("a", 80, 1)]));
    wait_keys(&etcd, &[ONE]).await;
    let clock = Clock::start();
    etcd.kill();
    wait("a problem", || {
        registration.state(clock.now()).problem.is_some()
    })
    .await;
    // What is wanted changes meanwhile.
    registration.want(some(&[("a", 80, 2)]));
    assert!(!registration.is_done());
    etcd.start_again().expect("etcd again");
    wait_keys(&etcd, &[TWO]).await;
    wait("no problem", || {
        registration.state(clock.now()).problem.is_none()
    })
    .await;
    // It comes back without leases and keys.
    etcd.kill();
    etcd.forget().expect("forgotten");
    etcd.start_again().expect("etcd again");
    wait_keys(&etcd, &[TWO]).await;
}

#[tokio::test]
async fn the_end_of_the_old_takes_nothing_of_the_new_away() {
    let etcd = Etcd::start().expect("etcd");
    let settings = settings(&etcd);
    let old = start(&settings, "box-1");
    old.want(some(&[("a", 80, 1), ("b", 81, 1)]));
    wait_keys(&etcd, &[ONE, OTHER]).await;
    let new = start(&settings, "box-1");
    new.want(some(&[("a", 80, 1)]));
    wait("registered", || new.is_done()).await;
    // Only what the new one has not put goes with the old one's lease.
    old.want(Entries::new());
    wait("withdrawn", || old.is_done()).await;
    assert_eq!(keys(&etcd), [ONE]);
    // One that takes back a single key takes none of the other's.
    let old = start(&settings, "box-1");
    old.want(some(&[("a", 80, 2), ("b", 81, 1)]));
    wait_keys(&etcd, &[TWO, OTHER]).await;
    let newer = start(&settings, "box-1");
    newer.want(some(&[("a", 80, 1)]));
    wait_keys(&etcd, &[ONE, OTHER]).await;
    old.want(some(&[("b", 81, 1)]));
    wait("taken back", || old.is_done()).await;
    assert_eq!(keys(&etcd), [ONE, OTHER]);
    // One that is dropped leaves its keys to their time.
    drop((old, new));
    assert_eq!(keys(&etcd), [ONE, OTHER]);
    wait_keys(&etcd, &[ONE]).await;
    drop(newer);
    wait_keys(&etcd, &[]).await;
}

#[tokio::test]
async fn two_boxes_do_not_disturb_each_other_and_a_password_is_used() {
    let etcd = Etcd::start().expect("etcd");
    etcd.demand_password("good").expect("a password");
    let mut settings = settings(&etcd);
    let clock = Clock::start();
    let stranger = start(&settings, "box-0");
    stranger.want(some(&[("a", 80, 1)]));
    wait("a problem", || {
        stranger.state(clock.now()).problem.is_some()
    })
    .await;
    if let Some(own) = &mut settings.etcd {
        own.user = "root".to_owned();
        own.password = outgrow_core::settings::Secret::new("good");
    }
    let (one, two) = (start(&settings, "box-1"), start(&settings, "box-2"));
    one.want(some(&[("a", 80, 1)]));
    two.want(some(&[("a", 81, 1)]));
    wait("both", || one.is_done() && two.is_done()).await;
    one.want(Entries::new());
    wait("withdrawn", || one.is_done()).await;
    assert_eq!(two.state(clock.now()).entries, 1);
    assert_eq!(two.state(clock.now()).problem, None);
}

#[tokio::test]
async fn a_fake_consul_is_told_all_is_well_in_time() {
    let consul = FakeConsul::start("secret").expect("a fake");
    let settings = RegisterSettings {
        consul: Some(RegisterConsul {
            server: format!("http://{}", consul.address())
                .parse()
                .expect("a server"),
            service: "my app".to_owned(),
            tags: vec!["v1".to_owned()],
            token: outgrow_core::settings::Secret::new("secret"),
            ..RegisterConsul::default()
        }),
        ttl: Duration::from_secs(2),
        ..RegisterSettings::default()
    };
    let clock = Clock::start();
    let registration = start(&settings, "box-1");
    registration.want(some(&[("app", 80, 3)]));
    wait("registered", || registration.is_done()).await;
    let told = consul.registered();
    assert_eq!(told[0]["ID"], "box-1:app");
    assert_eq!(told[0]["Name"], "my app");
    assert_eq!(told[0]["Weights"]["Passing"], 3);
    assert_eq!(told[0]["Check"]["DeregisterCriticalServiceAfter"], "60s");
    let passes = || {
        let passes = |target: &String| target == "/v1/agent/check/pass/service%3Abox-1%3Aapp";
        consul
            .targets()
            .iter()
            .filter(|target| passes(target))
            .count()
    };
    wait("it passes", || passes() >= 3).await;
    consul.forget_registered();
    wait("registered again", || consul.registered().len() == 1).await;
    consul.set_mood(Mood::Failing);
    wait("a problem", || {
        registration.state(clock.now()).problem.is_some()
    })
    .await;
    consul.set_mood(Mood::Good);
    wait("no problem", || {
        registration.state(clock.now()).problem.is_none()
    })
    .await;
    registration.want(Entries::new());
    wait("withdrawn", || registration.is_done()).await;
    assert!(consul.registered().is_empty());
}

#[tokio::test]
async fn etcd_is_told_over_tls() {
    let authority = Authority::new().expect("an authority");
    let etcd = Etcd::start_with_tls(&authority).expect("etcd");
    let ours = authority.issue(&["outgrow"]).expect("a certificate");
    let (certificate, key) = authority.files("outgrow", &ours).expect("files");
    let server = format!("https://{}", etcd.encrypted().expect("TLS"));
    let mut settings = settings(&etcd);
    let own = settings.etcd.as_mut().expect("etcd");
    own.servers = vec![server.parse().expect("a server")];
    own.tls = Some(RegistryTls {
        ca: Some(authority.ca_file().expect("a file")),
        certificate: Some(certificate),
        key: Some(key),
        server_name: String::new(),
    });
    let surroundings = Surroundings::with_files(Clock::start());
    let one = Registration::start(&settings, "box-1", surroundings).expect("a registry");
    one.want(some(&[("a", 80, 1)]));
    wait_keys(&etcd, &[ONE]).await;
    // Renewed for longer than it lasts by itself.
    tokio::time::sleep(settings.ttl * 2).await;
    assert_eq!(keys(&etcd), [ONE]);
    one.want(Entries::new());
    wait_keys(&etcd, &[]).await;
    // Whose issuer is not known is told nothing.
    let own = settings.etcd.as_mut().and_then(|own| own.tls.as_mut());
    let other = Authority::new().expect("another authority");
    own.expect("tls").ca = Some(other.ca_file().expect("a file"));
    let two = Registration::start(&settings, "box-1", surroundings).expect("a registry");
    two.want(some(&[("a", 80, 1)]));
    let problem = || two.state(surroundings.clock.now()).problem;
    wait("a problem", || problem().is_some()).await;
    let problem = problem().expect("a problem");
    assert!(problem.contains("issue"), "{problem}");
    assert!(keys(&etcd).is_empty());
}
