//! The driver against the fake of the test kit, over TLS; a real API server is asked by
//! `cargo xtask conform kubernetes`.

use std::time::{Duration, Instant};

use outgrow_testkit::authority::Authority;
use outgrow_testkit::folder::Folder;
use outgrow_testkit::kubernetes::{FakeKubernetes, Mood};
use serde_json::{Value, json};

use crate::http::RegistryTls;
use crate::lease::live::{LIMIT, TTL, clock, one_after_the_other, start, stays, wait_holder};
use crate::lease::settings::{LeaderKubernetes, LeaseSettings};
use crate::lease::{Leadership, WhenUnreachable};

struct Cluster {
    authority: Authority,
    server: FakeKubernetes,
    folder: Folder,
}

impl Cluster {
    fn new() -> Self {
        let authority = Authority::new().expect("an authority");
        let server = FakeKubernetes::start(&authority, "first").expect("a fake");
        let folder = Folder::new("kubernetes-lease").expect("a folder");
        folder.write("token", "first\n").expect("a token");
        Self {
            authority,
            server,
            folder,
        }
    }

    fn settings(&self) -> LeaseSettings {
        let url = format!("https://{}", self.server.address());
        LeaseSettings {
            kubernetes: Some(LeaderKubernetes {
                namespace: "shop".to_owned(),
                server: Some(url.parse().expect("a server")),
                token_file: Some(self.folder.path().join("token")),
                tls: Some(RegistryTls {
                    ca: Some(self.authority.ca_file().expect("a file")),
                    ..RegistryTls::default()
                }),
            }),
            ttl: TTL,
            ..LeaseSettings::default()
        }
    }

    fn start(&self, identity: &str) -> Leadership {
        start(&self.settings(), identity)
    }

    /// What is written in the Lease now.
    fn spec(&self) -> Value {
        let lease = self.server.lease("shop", "outgrow-leader");
        lease.expect("a Lease")["spec"].clone()
    }

    fn put(&self, holder: &str, renewed: &str, seconds: u64) {
        let spec = json!({
            "holderIdentity": holder,
            "leaseDurationSeconds": seconds,
            "acquireTime": "2001-01-01T00:00:00.000000Z",
            "renewTime": renewed,
            "leaseTransitions": 4,
        });
        self.server.put_lease("shop", "outgrow-leader", spec);
    }

    fn asked(&self, method: &str) -> usize {
        let asked = self.server.asked();
        asked.iter().filter(|one| one.method == method).count()
    }
}

async fn wait_problem(one: &Leadership, expected: &str) {
    let begin = Instant::now();
    loop {
        let problem = one.standing().problem;
        if problem.is_some_and(|problem| problem.contains(expected)) {
            return;
        }
        assert!(begin.elapsed() < LIMIT, "{expected}: {:?}", one.standing());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn exactly_one_holds_it_in_kubernetes() {
    let cluster = Cluster::new();
    one_after_the_other(&cluster.settings(), Duration::from_secs(1)).await;
    // Each time that it went to another: made, taken when it was given back, taken when it was over.
    let spec = cluster.spec();
    assert_eq!(spec["holderIdentity"], "three");
    assert_eq!(spec["leaseDurationSeconds"], 3);
    assert_eq!(spec["leaseTransitions"], 2);
}

#[tokio::test]
async fn of_those_who_make_it_at_once_one_has_it_and_gives_it_back() {
    let cluster = Cluster::new();
    let all: Vec<Leadership> = ["a", "b", "c", "d"]
        .into_iter()
        .map(|name| cluster.start(name))
        .collect();
    let all: Vec<&Leadership> = all.iter().collect();
    let begin = Instant::now();
    let first = loop {
        if let Some(first) = all.iter().position(|one| one.is_held(clock())) {
            break first;
        }
        assert!(begin.elapsed() < LIMIT, "{all:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    stays(&all, first, TTL).await;
    assert!(
        all.iter().all(|one| one.standing().failures == 0),
        "{all:?}"
    );
    all[first].give_back();
    while !all[first].standing().is_given_back {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for one in all.iter().filter(|one| !one.standing().is_given_back) {
        one.give_back();
    }
    while cluster.spec()["holderIdentity"] != "" {
        assert!(begin.elapsed() < LIMIT, "{}", cluster.spec());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn without_the_api_it_is_lost_before_its_time_is_over_unless_it_is_kept() {
    let cluster = Cluster::new();
    for keeps in [false, true] {
        for mood in [Mood::Dead, Mood::Failing] {
            let mut settings = cluster.settings();
            settings.name = format!("{keeps}/{mood:?}").to_ascii_lowercase();
            if keeps {
                settings.when_unreachable = WhenUnreachable::Keep;
            }
            let one = start(&settings, "one");
            wait_holder(&[&one], Some(0)).await;
            let two = start(&settings, "two");
            wait_holder(&[&one, &two], Some(0)).await;
            cluster.server.set_mood(mood);
            if keeps {
                stays(&[&one, &two], 0, TTL * 2).await;
            } else {
                let took = wait_holder(&[&one, &two], None).await;
                assert!(took < TTL * 2 / 3 + Duration::from_millis(200), "{took:?}");
            }
            assert!(one.standing().problem.is_some());
            cluster.server.set_mood(Mood::Good);
            let begin = Instant::now();
            while one.standing().problem.is_some() || !one.is_held(clock()) {
                // Whoever asks first when it is back, if it was not over long ago.
                if two.is_held(clock()) {
                    assert!(!keeps && !one.is_held(clock()));
                    break;
                }
                assert!(begin.elapsed() < LIMIT, "{one:?}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

#[tokio::test]
async fn what_a_dead_one_left_is_waited_for_whatever_its_clock_said() {
    let times = [
        ("2001-01-01T00:00:00.000000Z", 3),
        ("2101-01-01T00:00:00.000000Z", 3),
        // A lease that is longer than ours is the holder's by right.
        ("2001-01-01T00:00:00.000000Z", 5),
    ];
    for (renewed, seconds) in times {
        let cluster = Cluster::new();
        cluster.put("dead", renewed, seconds);
        let one = cluster.start("one");
        let took = wait_holder(&[&one], Some(0)).await;
        let own = Duration::from_secs(seconds);
        assert!(
            took >= own && took < own + Duration::from_secs(1),
            "{took:?}"
        );
        let spec = cluster.spec();
        assert_eq!(spec["leaseTransitions"], 5);
        assert_eq!(spec["leaseDurationSeconds"], 3);
        assert!(
            spec["renewTime"].as_str() > Some("2026") && spec["renewTime"].as_str() < Some("21")
        );
    }
}

#[tokio::test]
async fn who_renews_has_it_however_wrong_its_clock_is() {
    let cluster = Cluster::new();
    cluster.put("other", "2001-01-01T00:00:00.000000Z", 3);
    let (one, two) = (cluster.start("one"), cluster.start("two"));
    for second in 0..8 {
        // Its clock goes back all the time.
        let renewed = format!("2001-01-01T00:00:{:02}.000000Z", 30 - second);
        cluster.put("other", &renewed, 3);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!one.is_held(clock()) && !two.is_held(clock()), "{second}");
    }
    assert_eq!(one.standing().holder.as_deref(), Some("other"));
    assert_eq!(one.standing().failures + two.standing().failures, 0);
    let begin = Instant::now();
    while !one.is_held(clock()) && !two.is_held(clock()) {
        assert!(begin.elapsed() < LIMIT, "{one:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // A second was over when it was written last.
    let took = begin.elapsed();
    assert!(took + Duration::from_millis(1_050) >= TTL, "{took:?}");
    assert!(took < TTL + Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn what_others_write_into_it_costs_a_look_and_not_the_lease() {
    let cluster = Cluster::new();
    let one = cluster.start("one");
    wait_holder(&[&one], Some(0)).await;
    let two = cluster.start("two");
    // Renewed without a look.
    wait_holder(&[&one, &two], Some(0)).await;
    let writings = cluster.asked("PUT");
    let begin = Instant::now();
    while cluster.asked("PUT") < writings + 3 {
        assert!(begin.elapsed() < LIMIT);
        // Somebody else changes what is not ours.
        let mut spec = cluster.spec();
        spec["strategy"] = json!("Strange");
        cluster.server.put_lease("shop", "outgrow-leader", spec);
        stays(&[&one, &two], 0, Duration::from_millis(300)).await;
    }
    stays(&[&one, &two], 0, TTL).await;
    assert_eq!(cluster.spec()["strategy"], "Strange");
    assert_eq!(one.standing().failures + two.standing().failures, 0);
    // It is deleted: it is made again by the one that holds it, and nobody else takes it.
    for _ in 0..3 {
        cluster.server.delete_lease("shop", "outgrow-leader");
        stays(&[&one, &two], 0, TTL / 2).await;
        assert_eq!(cluster.spec()["holderIdentity"], "one");
    }
    // So restless that nobody can write it: lost in time, by all.
    cluster.server.set_mood(Mood::Restless);
    cluster.server.delete_lease("shop", "outgrow-leader");
    cluster.put("one", "2001-01-01T00:00:00.000000Z", 3);
    let took = wait_holder(&[&one, &two], None).await;
    assert!(took < TTL * 2 / 3 + Duration::from_millis(200), "{took:?}");
    wait_problem(&one, "the lease changes all the time").await;
}

#[tokio::test]
async fn what_is_not_written_is_not_believed() {
    let cluster = Cluster::new();
    let one = cluster.start("one");
    wait_holder(&[&one], Some(0)).await;
    cluster.server.set_mood(Mood::Forgetful);
    let took = wait_holder(&[&one], None).await;
    assert!(took < TTL * 2 / 3 + Duration::from_millis(200), "{took:?}");
    wait_problem(&one, "what it has now is not what was written").await;
    cluster.server.set_mood(Mood::Good);
    wait_holder(&[&one], Some(0)).await;
}

#[tokio::test]
async fn tokens_are_replaced_and_refusals_say_what_is_missing() {
    let cluster = Cluster::new();
    let one = cluster.start("one");
    wait_holder(&[&one], Some(0)).await;
    // In the file before the old one is refused: nobody notices.
    cluster.folder.write("token", "second").expect("a token");
    cluster.server.set_token("second");
    stays(&[&one], 0, TTL).await;
    assert_eq!(one.standing().failures, 0);
    cluster.server.set_token("third");
    wait_problem(&one, "is not accepted (401): it has expired").await;
    cluster.folder.write("token", "third").expect("a token");
    wait_holder(&[&one], Some(0)).await;
    cluster.server.set_mood(Mood::Forbidden);
    let expected = "system:serviceaccount:shop:outgrow may not get, create and update Leases \
                    (403): bind it to a Role in the namespace shop with apiGroups \
                    [\"coordination.k8s.io\"], resources [\"leases\"], verbs [\"get\", \"create\", \
                    \"update\"]";
    wait_problem(&one, expected).await;
    cluster.server.set_mood(Mood::Unknown);
    wait_problem(&one, "there is no coordination.k8s.io/v1 (404)").await;
    cluster.server.set_mood(Mood::Good);
    wait_holder(&[&one], Some(0)).await;
    // Nobody else's server is told the token, and nobody runs in a pod here.
    let mut settings = cluster.settings();
    let other = Authority::new().expect("an authority");
    let own = settings.kubernetes.as_mut().expect("a table");
    own.tls.as_mut().expect("TLS").ca = Some(other.ca_file().expect("a file"));
    let stranger = start(&settings, "stranger");
    wait_problem(&stranger, "unknown issuer").await;
    settings.kubernetes = Some(LeaderKubernetes::default());
    let homeless = start(&settings, "homeless");
    wait_problem(&homeless, "kubernetes: there is no `server`").await;
    stays(&[&one, &stranger, &homeless], 0, TTL).await;
}
