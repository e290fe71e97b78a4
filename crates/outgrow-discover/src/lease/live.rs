//! The drivers against a real etcd and a real Redis: whoever holds it is counted all the time. Those
//! against the fake of Kubernetes are in `kubernetes/live.rs`.

use std::time::{Duration, Instant};

use outgrow_core::settings::{Address, Secret};
use outgrow_testkit::authority::Authority;
use outgrow_testkit::databases;
use outgrow_testkit::etcd::Etcd;

use super::settings::{LeaderEtcd, LeaderRedis, LeaseSettings};
use super::{BootTime, Leadership};
use crate::discovery::Surroundings;
use crate::http::RegistryTls;

/// Longer than any of it may take.
pub(super) const LIMIT: Duration = Duration::from_secs(40);
pub(super) const TTL: Duration = Duration::from_secs(3);

/// Tests sleep with the machine as well: any monotonic clock is good enough.
pub(super) fn clock() -> BootTime {
    static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    BootTime(BEGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64)
}

fn in_etcd(etcd: &Etcd) -> LeaseSettings {
    let server = format!("http://{}", etcd.address());
    LeaseSettings {
        etcd: Some(LeaderEtcd {
            servers: vec![server.parse().expect("a server")],
            ..LeaderEtcd::default()
        }),
        ttl: TTL,
        ..LeaseSettings::default()
    }
}

fn in_redis(server: std::net::SocketAddr) -> LeaseSettings {
    LeaseSettings {
        redis: Some(LeaderRedis {
            server: Address::tcp(server.ip().to_string(), server.port()),
            ..LeaderRedis::default()
        }),
        ttl: TTL,
        ..LeaseSettings::default()
    }
}

pub(super) fn start(settings: &LeaseSettings, identity: &str) -> Leadership {
    let surroundings = Surroundings::with_files(outgrow_core::Clock::start());
    Leadership::start(settings, identity, None, clock, surroundings).expect("a registry")
}

/// Waits until this one holds it; at no moment may more than one.
pub(super) async fn wait_holder(all: &[&Leadership], expected: Option<usize>) -> Duration {
    let begin = Instant::now();
    loop {
        let now = clock();
        let held = (0..all.len()).filter(|at| all[*at].is_held(now));
        let held: Vec<usize> = held.collect();
        assert!(held.len() <= 1, "{held:?} hold it");
        if held.first().copied() == expected {
            return begin.elapsed();
        }
        assert!(begin.elapsed() < LIMIT, "{expected:?}: {all:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Nobody else holds it for as long.
pub(super) async fn stays(all: &[&Leadership], expected: usize, time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        assert_eq!(wait_holder(all, Some(expected)).await.as_millis() / 100, 0);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What must go the same way in each kind of registry.
pub(super) async fn one_after_the_other(settings: &LeaseSettings, at_once: Duration) {
    let one = start(settings, "one");
    wait_holder(&[&one], Some(0)).await;
    let two = start(settings, "two");
    stays(&[&one, &two], 0, TTL * 2).await;
    assert_eq!(two.standing().holder.as_deref(), Some("one"));
    // Given back: the next one has it at once.
    one.give_back();
    let took = wait_holder(&[&one, &two], Some(1)).await;
    assert!(took < at_once, "{took:?}");
    // Given back it is not asked for any more.
    stays(&[&one, &two], 1, TTL).await;
    // Another process of the same box goes on, whatever becomes of the first one.
    let next = Leadership::start(
        settings,
        "two",
        two.standing().until,
        clock,
        Surroundings::with_files(outgrow_core::Clock::start()),
    );
    let next = next.expect("a registry");
    assert!(next.is_held(clock()));
    let three = start(settings, "three");
    drop(two);
    stays(&[&next, &three], 0, TTL * 2).await;
    // Killed: it takes as long as it is its own by right, and a second.
    drop(next);
    let took = wait_holder(&[&three], Some(0)).await;
    assert!(took < TTL + Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn exactly_one_holds_it_in_etcd() {
    let etcd = Etcd::start().expect("etcd");
    one_after_the_other(&in_etcd(&etcd), Duration::from_millis(500)).await;
}

#[tokio::test]
async fn exactly_one_holds_it_in_redis() {
    let redis = databases::redis(&[]).expect("redis");
    one_after_the_other(&in_redis(redis.address()), Duration::from_secs(1)).await;
}

#[tokio::test]
async fn without_its_registry_it_is_lost_before_its_time_is_over() {
    let mut etcd = Etcd::start().expect("etcd");
    let settings = in_etcd(&etcd);
    let (one, two) = (start(&settings, "one"), start(&settings, "two"));
    let first = loop {
        let now = clock();
        if let Some(first) = [&one, &two].iter().position(|each| each.is_held(now)) {
            break first;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    etcd.kill();
    let took = wait_holder(&[&one, &two], None).await;
    assert!(took < TTL * 2 / 3 + Duration::from_millis(200), "{took:?}");
    assert!([&one, &two][first].standing().problem.is_some());
    // It comes back with all that it knew, or with nothing.
    for forgets in [false, true] {
        if forgets {
            etcd.kill();
            etcd.forget().expect("forgotten");
        }
        etcd.start_again().expect("etcd again");
        let begin = Instant::now();
        while ![&one, &two].iter().any(|each| each.is_held(clock())) {
            assert!(begin.elapsed() < LIMIT);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let now = clock();
        assert!(!(one.is_held(now) && two.is_held(now)));
    }
}

#[tokio::test]
async fn a_silent_redis_costs_the_lease_and_one_that_forgets_does_not() {
    let mut redis = databases::redis(&["--requirepass", "good"]).expect("redis");
    let address = redis.address();
    let mut settings = in_redis(address);
    let stranger = start(&settings, "stranger");
    if let Some(own) = &mut settings.redis {
        own.password = Secret::new("good");
    }
    let one = start(&settings, "one");
    wait_holder(&[&one, &stranger], Some(0)).await;
    let problem = stranger.standing().problem.expect("a problem");
    assert!(problem.contains("NOAUTH"), "{problem}");
    redis.suspend(true).expect("suspended");
    let took = wait_holder(&[&one], None).await;
    assert!(took < TTL * 2 / 3 + Duration::from_millis(200), "{took:?}");
    redis.suspend(false).expect("going on");
    wait_holder(&[&one], Some(0)).await;
    redis.kill();
    let redis = databases::redis_at(address, &["--requirepass", "good"]).expect("redis again");
    wait_holder(&[&one], Some(0)).await;
    drop(redis);
}

#[tokio::test]
async fn etcd_is_asked_over_tls_by_those_whom_it_knows() {
    let authority = Authority::new().expect("an authority");
    let etcd = Etcd::start_with_tls(&authority).expect("etcd");
    let ours = authority.issue(&["outgrow"]).expect("a certificate");
    let (certificate, key) = authority.files("outgrow", &ours).expect("files");
    let server = format!("https://{}", etcd.encrypted().expect("TLS"));
    let mut settings = in_etcd(&etcd);
    let own = settings.etcd.as_mut().expect("etcd");
    own.servers = vec![server.parse().expect("a server")];
    own.tls = Some(RegistryTls {
        ca: Some(authority.ca_file().expect("a file")),
        certificate: Some(certificate),
        key: Some(key),
        server_name: String::new(),
    });
    let mut strangers = settings.clone();
    let tls = strangers.etcd.as_mut().and_then(|own| own.tls.as_mut());
    let tls = tls.expect("tls");
    (tls.certificate, tls.key) = (None, None);
    let stranger = start(&strangers, "stranger");
    let one = start(&settings, "one");
    let two = start(&settings, "two");
    let begin = Instant::now();
    while ![&one, &two].iter().any(|each| each.is_held(clock())) {
        assert!(begin.elapsed() < LIMIT, "{:?}", one.standing());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (first, second) = match one.is_held(clock()) {
        true => (one, two),
        false => (two, one),
    };
    stays(&[&first, &second, &stranger], 0, TTL * 2).await;
    first.give_back();
    // The watch goes over TLS as well.
    let took = wait_holder(&[&first, &second], Some(1)).await;
    assert!(took < Duration::from_millis(500), "{took:?}");
    let problem = stranger.standing().problem.expect("a problem");
    assert!(problem.contains("certificate"), "{problem}");
}

#[tokio::test]
async fn what_a_longer_lease_promised_is_not_believed_of_a_shorter_one() {
    let nobody = outgrow_testkit::ports::free(1).expect("a port");
    let settings = in_redis(nobody[0]);
    let until = clock() + Duration::from_secs(400);
    let surroundings = Surroundings::without_files(outgrow_core::Clock::start());
    let one = Leadership::start(&settings, "one", Some(until), clock, surroundings);
    let one = one.expect("a registry");
    assert!(one.is_held(clock()));
    assert!(!one.is_held(clock() + TTL));
}
