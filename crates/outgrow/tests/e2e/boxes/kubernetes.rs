//! The leader lease in Kubernetes, as the fake of the test kit has it; a real API server is in
//! `api_server.rs`.

use std::thread;
use std::time::{Duration, Instant};

use outgrow_testkit::authority::Authority;
use outgrow_testkit::folder::Folder;
use outgrow_testkit::kubernetes::{FakeKubernetes, Mood};
use serde_json::Value;

use super::journal::{
    Journal, TTL, from_one_to_the_other, is_leader, kill_whole, lose_while_stopped, wait_leader,
};

struct Cluster {
    server: FakeKubernetes,
    authority: Authority,
    folder: Folder,
}

impl Cluster {
    fn new() -> Self {
        let authority = Authority::new().expect("an authority");
        let server = FakeKubernetes::start(&authority, "secret-token").expect("a fake");
        let folder = Folder::new("leases").expect("a folder");
        folder.write("token", "secret-token").expect("a token");
        Self {
            server,
            authority,
            folder,
        }
    }

    fn registry(&self) -> String {
        format!(
            "kubernetes = {{ server = \"https://{}\", namespace = \"shop\", token_file = \"{}\", \
             tls = {{ ca = \"{}\" }} }}",
            self.server.address(),
            self.folder.path().join("token").display(),
            self.authority.ca_file().expect("a file").display(),
        )
    }

    fn spec(&self) -> Value {
        let lease = self.server.lease("shop", "outgrow-leader");
        lease.expect("a Lease")["spec"].clone()
    }
}

#[test]
fn in_kubernetes_it_is_held_by_one_and_lost_in_time() {
    let cluster = Cluster::new();
    let journal = Journal::new();
    let b = from_one_to_the_other(&journal, &cluster.registry());
    let told = b
        .admin_get("/leader")
        .expect("an answer")
        .json()
        .expect("JSON");
    assert_eq!(told["lease"], "kubernetes shop/outgrow-leader");
    assert_eq!(told["identity"], cluster.spec()["holderIdentity"]);
    // One that does not answer, and one that says that it cannot.
    for mood in [Mood::Dead, Mood::Failing] {
        cluster.server.set_mood(mood);
        let begin = Instant::now();
        journal.wait(&b, &["gained b", "lost b"]);
        assert!(begin.elapsed() < TTL, "{:?}", begin.elapsed());
        cluster.server.set_mood(Mood::Good);
        wait_leader(&b);
        journal.wait(&b, &["lost b", "gained b"]);
    }
    let told = b
        .wait_told("status 500: etcdserver: request timed out")
        .expect("told");
    assert!(!told.contains("secret-token"), "a token is told: {told}");
    journal.check();
    b.stop().expect("stopped");
    assert_eq!(cluster.spec()["holderIdentity"], "", "given back");
}

#[test]
fn a_killed_box_costs_its_time_and_one_that_was_stopped_knows_at_once() {
    let cluster = Cluster::new();
    let journal = Journal::new();
    let registry = cluster.registry();
    let a = journal.start("a", &registry);
    wait_leader(&a);
    let b = journal.start("b", &registry);
    journal.wait(&b, &["gained a", "lost b"]);
    lose_while_stopped(&journal, &a, &b);
    // All of it at once: nobody is left to lose anything, nor to give anything back.
    kill_whole(&b);
    let begin = Instant::now();
    while !is_leader(&a) {
        let took = begin.elapsed();
        assert!(took < TTL + Duration::from_secs(1), "{took:?}");
        thread::sleep(Duration::from_millis(5));
    }
    let took = begin.elapsed();
    assert!(
        took > TTL / 2,
        "another one's was taken too early: {took:?}"
    );
    a.stop().expect("stopped");
}
