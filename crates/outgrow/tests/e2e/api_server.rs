//! Discovery from a real Kubernetes API server, and the leader lease in it, which no registry that the
//! tests install from has: whoever has the binary runs `cargo xtask conform kubernetes --suite PATH`.
//!
//! The API takes no addresses of loopback for endpoints, so these are of 10.9.0.0/24, which the
//! network namespace that the command makes has on its loopback device.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use outgrow_testkit::http;
use outgrow_testkit::kubernetes::ready;
use outgrow_testkit::kubernetes::real::ApiServer;
use outgrow_testkit::outgrow::{Launch, Outgrow};
use outgrow_testkit::{folder::Folder, ports, processes, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::boxes::journal::{Journal, TTL, Watcher, from_one_to_the_other, is_leader, wait_leader};
use crate::discover::{Load, config, everywhere, service, wait_endpoints};
use crate::shop::SOON;

/// Where its Leases are.
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/shop/leases";
/// That of the boxes.
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/shop/leases/outgrow-leader";

fn start() -> ApiServer {
    let binary = std::env::var_os("OUTGROW_KUBE_APISERVER").map(PathBuf::from);
    let binary = binary.expect("OUTGROW_KUBE_APISERVER names a kube-apiserver");
    let server = ApiServer::start(&binary).expect("an API server");
    let namespace = json!({ "metadata": { "name": "shop" } });
    server
        .create("/api/v1/namespaces", &namespace)
        .expect("a namespace");
    server
}

/// Lets the user `outgrow` do what the manual says that it must be allowed to discover.
fn allow(server: &ApiServer) {
    let verbs = ["get", "list", "watch"];
    allow_in(server, "discovery.k8s.io", "endpointslices", &verbs);
}

/// And what to hold a lease.
fn allow_leases(server: &ApiServer) {
    let verbs = ["get", "create", "update"];
    allow_in(server, "coordination.k8s.io", "leases", &verbs);
}

fn allow_in(server: &ApiServer, of: &str, resource: &str, verbs: &[&str]) {
    let group = "rbac.authorization.k8s.io";
    let collection = format!("/apis/{group}/v1/namespaces/shop");
    let role = json!({
        "metadata": { "name": "outgrow" },
        "rules": [{ "apiGroups": [of], "resources": [resource], "verbs": verbs }],
    });
    let binding = json!({
        "metadata": { "name": "outgrow" },
        "roleRef": { "apiGroup": group, "kind": "Role", "name": "outgrow" },
        "subjects": [{ "apiGroup": group, "kind": "User", "name": "outgrow" }],
    });
    let create = |kind: &str, object: &Value| {
        let created = server.create(&format!("{collection}/{kind}"), object);
        created.expect(kind);
    };
    create("roles", &role);
    create("rolebindings", &binding);
}

fn discover(server: &ApiServer, tls: &str) -> String {
    let ca = server.authority().ca_file().expect("a file");
    config(&format!(
        "[service.app.discover.kubernetes]\nservice = \"app\"\nnamespace = \"shop\"\n\
         port = \"http\"\nserver = \"https://{}\"\n{tls}ca = \"{}\"\n",
        server.address(),
        ca.display()
    ))
}

fn at(port: u16, ends: &[u8]) -> Vec<SocketAddr> {
    let address = |end: &u8| SocketAddr::from(([10, 9, 0, *end], port));
    ends.iter().map(address).collect()
}

#[test]
#[ignore = "needs a kube-apiserver: cargo xtask conform kubernetes --suite PATH"]
fn pods_come_and_go_in_a_real_cluster_and_no_request_fails() {
    let port = everywhere();
    let mut server = start();
    let put = |server: &ApiServer, name: &str, ends: &[u8]| {
        let fields = ready(&at(port, ends));
        server.put("shop", "app", name, fields).expect("a slice");
    };
    put(&server, "app-a", &[1, 2]);
    let folder = Folder::new("real").expect("a folder");
    let token = folder.write("token", "outgrow\n").expect("a token");
    let config = discover(&server, &format!("token_file = {token:?}\ntls."));
    let admin = ports::free(1).expect("a port")[0];
    let launch = Launch::config(&config).address("admin", admin);
    let start = thread::spawn(|| launch.start());
    // What is missing is said, and then given.
    let refused = wait::until("the refusal", SOON, || {
        let state = http::get(&format!("http://{admin}/state"))
            .ok()?
            .json()
            .ok()?;
        let problem = state["services"][0]["discovery"]["problem"].as_str()?;
        let expected = "outgrow may not list and watch EndpointSlices (403): bind it to a Role";
        problem.contains(expected).then_some(())
    });
    refused.expect("the refusal");
    allow(&server);
    let outgrow = start.join().expect("a thread").expect("outgrow starts");
    wait_endpoints(&outgrow, &at(port, &[1, 2]));
    let failures = |outgrow: &Outgrow| service(outgrow)["discovery"]["failures"].as_u64();
    let refused = failures(&outgrow);
    let load = Load::start(&outgrow);
    put(&server, "app-b", &[3, 4]);
    wait_endpoints(&outgrow, &at(port, &[1, 2, 3, 4]));
    let mut rollout = ready(&at(port, &[1, 2, 5]));
    for old in 0..2 {
        let leaves = json!({ "ready": false, "serving": true, "terminating": true });
        rollout["endpoints"][old]["conditions"] = leaves;
    }
    server
        .put("shop", "app", "app-a", rollout)
        .expect("a slice");
    wait_endpoints(&outgrow, &at(port, &[3, 4, 5]));
    put(&server, "app-a", &[5]);
    server.delete("shop", "app-b").expect("deleted");
    wait_endpoints(&outgrow, &at(port, &[5]));
    for turn in 0..50_u8 {
        put(&server, "app-b", &[turn % 50 + 10, turn % 7 + 70]);
    }
    wait_endpoints(&outgrow, &at(port, &[5, 59, 70]));
    assert_eq!(failures(&outgrow), refused);
    // It dies; its next life does not know the versions of the one before.
    server.kill();
    let told = outgrow.wait("the problem", SOON, |outgrow| {
        service(outgrow)["discovery"]["problem"].as_str().map(drop)
    });
    told.expect("the problem");
    outgrow.upgrade(None).expect("an upgrade");
    wait_endpoints(&outgrow, &at(port, &[5, 59, 70]));
    server.start_again().expect("an API server again");
    server.delete("shop", "app-b").expect("deleted");
    put(&server, "app-c", &[6, 7]);
    wait_endpoints(&outgrow, &at(port, &[5, 6, 7]));
    assert!(load.end() > 100);
    outgrow.stop().expect("stopped");
}

#[test]
#[ignore = "needs a kube-apiserver: cargo xtask conform kubernetes --suite PATH"]
fn a_real_cluster_knows_us_by_our_certificate() {
    let port = everywhere();
    let mut server = start();
    allow(&server);
    let slices = (0..120_u8).map(|end| (format!("app-{end:03}"), [end + 1]));
    for (name, end) in slices {
        let fields = ready(&at(port, &end));
        server.put("shop", "app", &name, fields).expect("a slice");
    }
    let ours = server
        .authority()
        .issue(&["outgrow"])
        .expect("a certificate");
    let (certificate, key) = server.authority().files("outgrow", &ours).expect("files");
    let tls = format!("tls.certificate = {certificate:?}\ntls.key = {key:?}\ntls.");
    let outgrow = Outgrow::start(&discover(&server, &tls)).expect("outgrow starts");
    let all: Vec<u8> = (1..=120).collect();
    wait_endpoints(&outgrow, &at(port, &all));
    let load = Load::start(&outgrow);
    // Over some watches: the versions go on by bookmarks.
    server.kill();
    server.start_again().expect("an API server again");
    for end in 0..119 {
        server
            .delete("shop", &format!("app-{end:03}"))
            .expect("deleted");
    }
    wait_endpoints(&outgrow, &at(port, &[120]));
    assert!(load.end() > 100);
    outgrow.stop().expect("stopped");
}

/// A table for the lease there, with the token of `outgrow`.
fn lease_in(server: &ApiServer, folder: &Folder) -> String {
    let token = folder.write("token", "outgrow\n").expect("a token");
    let ca = server.authority().ca_file().expect("a file");
    format!(
        "kubernetes = {{ server = \"https://{}\", namespace = \"shop\", token_file = \"{}\", tls \
         = {{ ca = \"{}\" }} }}",
        server.address(),
        token.display(),
        ca.display(),
    )
}

fn lease(server: &ApiServer) -> Value {
    let lease = server.get(LEASE).expect("a Lease");
    serde_json::from_str::<Value>(&lease).expect("JSON")["spec"].clone()
}

#[test]
#[ignore = "needs a kube-apiserver: cargo xtask conform kubernetes --suite PATH"]
fn in_a_real_cluster_the_lease_is_held_by_one_and_lost_in_time() {
    let mut server = start();
    let folder = Folder::new("real-lease").expect("a folder");
    let registry = lease_in(&server, &folder);
    let journal = Journal::new();
    // What is missing is said, and then given.
    let early = journal.start("early", &registry);
    early
        .wait_told(
            "outgrow may not get, create and update Leases (403): bind it to a Role in the \
             namespace shop",
        )
        .expect("told");
    allow_leases(&server);
    wait_leader(&early);
    let made = lease(&server);
    assert_eq!(made["leaseDurationSeconds"], TTL.as_secs());
    assert_eq!(made["leaseTransitions"], 0);
    early.stop().expect("stopped");
    assert_eq!(lease(&server)["holderIdentity"], "", "given back");
    journal.check();
    let journal = Journal::new();
    let b = from_one_to_the_other(&journal, &registry);
    assert_eq!(lease(&server)["leaseTransitions"], 2);
    // It dies: lost in time, and held again by the next answer of its next life.
    server.kill();
    let begin = Instant::now();
    journal.wait(&b, &["gained b", "lost b"]);
    assert!(begin.elapsed() < TTL, "{:?}", begin.elapsed());
    server.start_again().expect("an API server again");
    wait_leader(&b);
    journal.wait(&b, &["lost b", "gained b"]);
    assert_eq!(
        lease(&server)["leaseTransitions"],
        2,
        "it was never another's"
    );
    // Deleted: made again by the one that holds it.
    server.remove(LEASE).expect("deleted");
    let end = Instant::now() + TTL;
    while Instant::now() < end {
        assert!(is_leader(&b), "{}", b.stderr());
        thread::sleep(Duration::from_millis(20));
    }
    assert!(!lease(&server)["holderIdentity"].is_null());
    b.stop().expect("stopped");
    journal.check();
}

#[test]
#[ignore = "needs a kube-apiserver: cargo xtask conform kubernetes --suite PATH"]
fn in_a_real_cluster_what_a_dead_one_left_is_waited_for() {
    let server = start();
    allow_leases(&server);
    let folder = Folder::new("real-lease").expect("a folder");
    let registry = lease_in(&server, &folder);
    // By its clock it is over since long ago.
    let left = json!({
        "metadata": { "name": "outgrow-leader", "labels": { "whose": "others" } },
        "spec": {
            "holderIdentity": "dead",
            "leaseDurationSeconds": TTL.as_secs(),
            "acquireTime": "2001-01-01T00:00:00.000000Z",
            "renewTime": "2001-01-01T00:00:00.000000Z",
            "leaseTransitions": 4,
        },
    });
    server.create(LEASES, &left).expect("a Lease");
    let journal = Journal::new();
    let begin = Instant::now();
    let a = journal.start("a", &registry);
    let b = journal.start("b", &registry);
    let both = Watcher::start(&[&a, &b]);
    while !is_leader(&a) && !is_leader(&b) {
        assert!(begin.elapsed() < SOON, "{}", a.stderr());
        thread::sleep(Duration::from_millis(5));
    }
    assert!(begin.elapsed() >= TTL, "{:?}", begin.elapsed());
    let (first, second) = if is_leader(&a) { (a, b) } else { (b, a) };
    thread::sleep(TTL);
    both.end();
    let whole: Value = serde_json::from_str(&server.get(LEASE).expect("a Lease")).expect("JSON");
    assert_eq!(whole["metadata"]["labels"], json!({ "whose": "others" }));
    assert_eq!(whole["spec"]["leaseTransitions"], 5);
    // All of it is killed at once: the other one waits for its time.
    let pids = first.pids();
    processes::signal(pids.keeper, Signal::STOP).expect("stopped");
    for pid in pids.data.iter().chain([&pids.keeper]) {
        first.kill9(*pid).expect("killed");
    }
    let took = wait_leader(&second);
    assert!(took < TTL + Duration::from_secs(1), "{took:?}");
    assert!(took > TTL / 2, "taken too early: {took:?}");
    assert_eq!(lease(&server)["leaseTransitions"], 6);
    second.stop().expect("stopped");
}
