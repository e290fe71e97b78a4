//! Endpoints that are discovered: changes, outages and lies of their source under continuous
//! load. Each request is counted; none may fail.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use outgrow_testkit::authority::Authority;
use outgrow_testkit::backend::{Recorder, Script, response};
use outgrow_testkit::dns::{Data, DnsServer, Fault};
use outgrow_testkit::etcd::Etcd;
use outgrow_testkit::folder::Folder;
use outgrow_testkit::http;
use outgrow_testkit::kubernetes::{FakeKubernetes, Mood, ready};
use outgrow_testkit::outgrow::{Launch, Outgrow};
use outgrow_testkit::{ports, wait};
use serde_json::{Value, json};

use crate::shop::SOON;

/// Users that ask at a time.
const USERS: usize = 3;

pub(crate) fn backends(count: usize) -> Vec<Recorder> {
    let start = |number: usize| {
        let answer = response(number.to_string());
        Recorder::start(Script::answer(answer)).expect("a backend")
    };
    (0..count).map(start).collect()
}

pub(crate) fn config(discover: &str) -> String {
    format!(
        r#"
[listener.public]
address = "%public%"
[service.app]
[service.app.discover]
{discover}
[route.app]
service = "app"
"#
    )
}

/// Requests without a pause.
pub(crate) struct Load {
    ended: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    users: Vec<thread::JoinHandle<Vec<String>>>,
}

impl Load {
    pub(crate) fn start(outgrow: &Outgrow) -> Self {
        let (ended, good) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let url = outgrow.url("public", "/");
        let user = |_| {
            let (ended, good, url) = (Arc::clone(&ended), Arc::clone(&good), url.clone());
            thread::spawn(move || {
                let mut failed = Vec::new();
                while !ended.load(Ordering::Relaxed) {
                    match http::get(&url) {
                        Ok(answer) if answer.status == 200 => {
                            good.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(answer) => failed.push(format!("{}: {}", answer.status, answer.text())),
                        Err(error) => failed.push(error.to_string()),
                    }
                }
                failed
            })
        };
        let users = (0..USERS).map(user).collect();
        Self { ended, good, users }
    }

    /// How many were answered; none may have failed.
    pub(crate) fn end(self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        for user in self.users {
            let failed = user.join().expect("a user");
            assert!(failed.is_empty(), "{failed:?}");
        }
        self.good.load(Ordering::Relaxed)
    }
}

pub(crate) fn service(outgrow: &Outgrow) -> Value {
    let state = outgrow.admin_get("/state").expect("the state");
    let state = state.json().expect("JSON");
    state["services"][0].clone()
}

/// Waits until the service has exactly these endpoints that are not draining.
pub(crate) fn wait_endpoints(outgrow: &Outgrow, expected: &[SocketAddr]) {
    let mut expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    expected.sort();
    let waited = outgrow.wait("the endpoints", SOON, |outgrow| {
        let service = service(outgrow);
        let mut present: Vec<String> = service["endpoints"]
            .as_array()?
            .iter()
            .filter(|endpoint| endpoint["health"] != "draining")
            .filter_map(|endpoint| Some(endpoint["address"].as_str()?.to_owned()))
            .collect();
        present.sort();
        (present == expected).then_some(())
    });
    waited.expect("the endpoints");
}

fn requests(outgrow: &Outgrow, at: SocketAddr) -> u64 {
    let service = service(outgrow);
    let endpoints = service["endpoints"].as_array().expect("endpoints");
    let found = endpoints
        .iter()
        .find(|one| one["address"] == at.to_string());
    found.expect("the endpoint")["requests"]
        .as_u64()
        .expect("a number")
}

fn metric(outgrow: &Outgrow, name: &str) -> f64 {
    let text = outgrow.admin_get("/metrics").expect("metrics").text();
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{name}{{")));
    let line = line.expect(name);
    let value = line.rsplit(' ').next().expect("a value");
    value.parse().expect("a number")
}

const NAME: &str = "_http._tcp.app.test";

fn set_services(server: &DnsServer, backends: &[SocketAddr]) {
    let srv = |at: &SocketAddr| Data::Srv(0, 1, at.port(), "box.test".to_owned());
    let records: Vec<Data> = backends.iter().map(srv).collect();
    server.set(NAME, &records);
    server.set_addresses("box.test", &[[127, 0, 0, 1].into()]);
}

fn dns(server: &DnsServer) -> String {
    config(&format!(
        "srv = \"{NAME}\"\nnameservers = [\"{}\"]\nttl_min = \"100ms\"\ntimeout = \"200ms\"\n\
         empty_after = \"500ms\"",
        server.address()
    ))
}

#[test]
fn names_change_and_their_server_fails_and_no_request_does() {
    let backends = backends(3);
    let at: Vec<SocketAddr> = backends.iter().map(Recorder::address).collect();
    let server = DnsServer::start().expect("a server");
    server.set_ttl(0);
    set_services(&server, &at[..2]);
    let outgrow = Outgrow::start(&dns(&server)).expect("outgrow starts");
    wait_endpoints(&outgrow, &at[..2]);
    let load = Load::start(&outgrow);
    // It stays through a change of the others, with all that is known of it.
    set_services(&server, &at[1..]);
    wait_endpoints(&outgrow, &at[1..]);
    let counted = requests(&outgrow, at[1]);
    set_services(&server, &at);
    wait_endpoints(&outgrow, &at);
    assert!(requests(&outgrow, at[1]) >= counted && counted > 0);
    // Clients that choose themselves can ask too.
    let told = outgrow
        .admin_get("/services/app/endpoints")
        .expect("endpoints");
    let told = told.json().expect("JSON");
    let usable = told["endpoints"].as_array().expect("a list").iter();
    assert_eq!(
        usable.filter(|one| one["usable"] == true).count(),
        3,
        "{told}"
    );
    for unknown in [
        "/services/none/endpoints",
        "/services//endpoints",
        "/services/app",
    ] {
        assert_eq!(
            outgrow.admin_get(unknown).expect("an answer").status,
            404,
            "{unknown}"
        );
    }
    // The server is silent: what it told last stays, and one can see how old that is.
    server.set_fault(Fault::Silent);
    let aged = outgrow.wait("an age", SOON, |outgrow| {
        let discovery = &service(outgrow)["discovery"];
        let is_told = discovery["problem"].is_string();
        (is_told && discovery["age_ms"].as_u64()? > 1_000).then_some(())
    });
    aged.expect("an age");
    assert!(metric(&outgrow, "outgrow_discovery_age_seconds") > 1.0);
    assert!(metric(&outgrow, "outgrow_discovery_failing") > 0.0);
    wait_endpoints(&outgrow, &at);
    // Another data process knows them too, though it cannot ask anybody.
    outgrow.upgrade(None).expect("an upgrade");
    wait_endpoints(&outgrow, &at);
    assert!(service(&outgrow)["discovery"]["age_ms"].is_null());
    server.set_fault(Fault::None);
    set_services(&server, &at[..1]);
    wait_endpoints(&outgrow, &at[..1]);
    assert!(load.end() > 100);
    // That there is none is believed in the end.
    server.set(NAME, &[]);
    wait_endpoints(&outgrow, &[]);
    assert_eq!(
        http::get(&outgrow.url("public", "/"))
            .expect("an answer")
            .status,
        503
    );
    outgrow.stop().expect("stopped");
}

#[test]
fn requests_wait_for_the_first_answer() {
    let backends = backends(1);
    let server = DnsServer::start().expect("a server");
    server.set_ttl(0);
    set_services(&server, &[backends[0].address()]);
    server.set_fault(Fault::Failure);
    let public = ports::free(1).expect("a port")[0];
    let launch = Launch::config(&dns(&server)).address("public", public);
    // It is ready when the first answer came, not before.
    let start = thread::spawn(|| launch.start());
    let url = format!("http://{public}/");
    let user = thread::spawn(move || {
        let connected = wait::until("the listener", SOON, || TcpStream::connect(public).ok());
        connected.expect("a listener");
        http::get(&url)
    });
    thread::sleep(Duration::from_secs(1));
    assert!(!start.is_finished());
    server.set_fault(Fault::None);
    let outgrow = start.join().expect("a thread").expect("outgrow starts");
    let answer = user.join().expect("a user").expect("an answer");
    assert_eq!(answer.status, 200);
    outgrow.stop().expect("stopped");
}

#[test]
fn a_registry_dies_and_comes_back_and_no_request_fails() {
    let backends = backends(3);
    let at: Vec<SocketAddr> = backends.iter().map(Recorder::address).collect();
    let mut etcd = Etcd::start().expect("etcd");
    let put = |etcd: &Etcd, number: usize| {
        let key = format!("/services/app/{number}");
        etcd.put(&key, &at[number].to_string()).expect("put");
    };
    put(&etcd, 0);
    let discover = format!(
        "etcd = {{ servers = [\"http://{}\"], prefix = \"/services/app/\" }}",
        etcd.address()
    );
    let outgrow = Outgrow::start(&config(&discover)).expect("outgrow starts");
    wait_endpoints(&outgrow, &at[..1]);
    let load = Load::start(&outgrow);
    put(&etcd, 1);
    wait_endpoints(&outgrow, &at[..2]);
    etcd.kill();
    let told = outgrow.wait("the problem", SOON, |outgrow| {
        service(outgrow)["discovery"]["problem"].as_str().map(drop)
    });
    told.expect("the problem");
    wait_endpoints(&outgrow, &at[..2]);
    outgrow.upgrade(None).expect("an upgrade");
    wait_endpoints(&outgrow, &at[..2]);
    etcd.start_again().expect("etcd again");
    put(&etcd, 2);
    etcd.delete("/services/app/0").expect("deleted");
    wait_endpoints(&outgrow, &at[1..]);
    assert!(load.end() > 100);
    outgrow.stop().expect("stopped");
}

#[test]
fn a_registry_over_tls_is_replaced_with_its_certificates_and_no_request_fails() {
    let backends = backends(2);
    let at: Vec<SocketAddr> = backends.iter().map(Recorder::address).collect();
    let authority = Authority::new().expect("an authority");
    let mut etcd = Etcd::start_with_tls(&authority).expect("etcd");
    etcd.put("/services/app/0", &at[0].to_string())
        .expect("put");
    let ca = authority.ca_file().expect("a file");
    let issue = || {
        let ours = authority.issue(&["outgrow"]).expect("a certificate");
        authority.files("outgrow", &ours).expect("files")
    };
    let (certificate, key) = issue();
    let discover = format!(
        "[service.app.discover.etcd]\nservers = [\"https://{}\"]\nprefix = \"/services/app/\"\n\
         tls = {{ ca = {ca:?}, certificate = {certificate:?}, key = {key:?} }}\n",
        etcd.encrypted().expect("TLS")
    );
    let outgrow = Outgrow::start(&config(&discover)).expect("outgrow starts");
    wait_endpoints(&outgrow, &at[..1]);
    let load = Load::start(&outgrow);
    etcd.kill();
    issue();
    etcd.start_again().expect("etcd again");
    etcd.put("/services/app/1", &at[1].to_string())
        .expect("put");
    wait_endpoints(&outgrow, &at);
    etcd.delete("/services/app/0").expect("deleted");
    wait_endpoints(&outgrow, &at[1..]);
    assert!(load.end() > 100);
    outgrow.stop().expect("stopped");
}

/// Pods on one port, each at an address of its own, with everything that can be said of them.
fn pods(port: u16, ends: &[u8]) -> Value {
    let at: Vec<SocketAddr> = ends
        .iter()
        .map(|end| ([127, 0, 3, *end], port).into())
        .collect();
    ready(&at)
}

#[test]
fn pods_come_and_go_and_the_api_server_fails_and_no_request_does() {
    let port = everywhere();
    let at = |ends: &[u8]| -> Vec<SocketAddr> {
        let address = |end: &u8| SocketAddr::from(([127, 0, 3, *end], port));
        ends.iter().map(address).collect()
    };
    let authority = Authority::new().expect("an authority");
    let server = FakeKubernetes::start(&authority, "first").expect("a fake");
    let folder = Folder::new("pods").expect("a folder");
    let token = folder.write("token", "first").expect("a token");
    server.put("shop", "app", "app-a", pods(port, &[1, 2]));
    let discover = format!(
        "[service.app.discover.kubernetes]\nservice = \"app\"\nnamespace = \"shop\"\n\
         port = \"http\"\nserver = \"https://{}\"\ntoken_file = {token:?}\ntls = {{ ca = {:?} }}\n",
        server.address(),
        authority.ca_file().expect("a file"),
    );
    let outgrow = Outgrow::start(&config(&discover)).expect("outgrow starts");
    wait_endpoints(&outgrow, &at(&[1, 2]));
    let load = Load::start(&outgrow);
    // More of them, in a second slice; then a rollout: new ones ready, old ones terminating.
    server.put("shop", "app", "app-b", pods(port, &[3, 4]));
    wait_endpoints(&outgrow, &at(&[1, 2, 3, 4]));
    let mut rollout = pods(port, &[1, 2, 5]);
    for old in 0..2 {
        let leaves = json!({ "ready": false, "serving": true, "terminating": true });
        rollout["endpoints"][old]["conditions"] = leaves;
    }
    server.put("shop", "app", "app-a", rollout);
    wait_endpoints(&outgrow, &at(&[3, 4, 5]));
    server.put("shop", "app", "app-a", pods(port, &[5]));
    server.delete("shop", "app-b");
    wait_endpoints(&outgrow, &at(&[5]));
    // A flood of changes, in which the token is replaced and the watch is cut.
    for turn in 0..200_u8 {
        server.put(
            "shop",
            "app",
            "app-b",
            pods(port, &[turn % 50 + 10, turn % 7 + 70]),
        );
        if turn == 50 {
            std::fs::write(&token, "second").expect("written");
            server.set_token("second");
        }
        if turn % 64 == 63 {
            server.cut();
        }
    }
    wait_endpoints(&outgrow, &at(&[5, 59, 73]));
    // Out of order: what is known stays, also in another data process.
    server.set_mood(Mood::Failing);
    let told = outgrow.wait("the problem", SOON, |outgrow| {
        let problem = service(outgrow)["discovery"]["problem"]
            .as_str()?
            .to_owned();
        problem
            .contains("etcdserver: request timed out")
            .then_some(())
    });
    told.expect("the problem");
    outgrow.upgrade(None).expect("an upgrade");
    wait_endpoints(&outgrow, &at(&[5, 59, 73]));
    // All is forgotten meanwhile.
    server.delete("shop", "app-b");
    server.compact();
    server.put("shop", "app", "app-c", pods(port, &[6, 7]));
    server.set_mood(Mood::Good);
    wait_endpoints(&outgrow, &at(&[5, 6, 7]));
    assert_eq!(
        service(&outgrow)["discovery"]["source"],
        "kubernetes shop/app"
    );
    assert!(load.end() > 100);
    outgrow.stop().expect("stopped");
}

/// A backend at every address of loopback.
pub(crate) fn everywhere() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer_all(stream));
        }
    });
    port
}

fn answer_all(mut stream: TcpStream) {
    let mut question = [0; 4_096];
    let mut length = 0;
    while let Ok(read) = stream.read(&mut question[length..]) {
        length += read;
        if read == 0 || length == question.len() {
            return;
        }
        if question[..length].ends_with(b"\r\n\r\n") {
            length = 0;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    }
}

/// Processor time of a process so far, in hundredths of a second.
pub(crate) fn processor_time(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let (_, rest) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields[at].parse::<u64>().expect("a number");
    number(11) + number(12)
}

#[test]
fn a_thousand_endpoints_come_and_go_and_no_request_fails() {
    let port = everywhere();
    let folder = Folder::new("churn").expect("a folder");
    let write = |turn: usize| {
        // A tenth is missing, another one each time.
        let staying = (0..1_000).filter(|number| number % 10 != turn % 10);
        let list: Vec<String> = staying
            .map(|number| format!("\"127.0.{}.{}:{port}\"", number / 250, number % 250 + 1))
            .collect();
        let list = format!("[{}]", list.join(", "));
        folder.write("next.json", list).expect("written");
        let path = folder.path();
        std::fs::rename(path.join("next.json"), path.join("list.json")).expect("renamed");
    };
    write(0);
    let path = folder.path().join("list.json");
    let outgrow = Outgrow::start(&config(&format!("file = {path:?}"))).expect("outgrow starts");
    let load = Load::start(&outgrow);
    let data = outgrow.pids().data[0];
    let (begin, used) = (Instant::now(), processor_time(data));
    for turn in 1..=5 {
        write(turn);
        let changes = metric(&outgrow, "outgrow_discovery_changes_total");
        let changed = outgrow.wait("a change", SOON, |outgrow| {
            (metric(outgrow, "outgrow_discovery_changes_total") > changes).then_some(())
        });
        changed.expect("a change");
        assert!((metric(&outgrow, "outgrow_discovery_endpoints") - 900.0).abs() < 0.5);
    }
    let share = (processor_time(data) - used) as f64 / 100.0 / begin.elapsed().as_secs_f64();
    assert!(load.end() > 100);
    // With the load, and with the metrics of a thousand endpoints read all the time.
    assert!(share < 0.9, "{share} of a processor");
    outgrow.stop().expect("stopped");
}

#[test]
fn a_file_changes_all_the_time_and_no_request_fails() {
    let backends = backends(4);
    let at: Vec<SocketAddr> = backends.iter().map(Recorder::address).collect();
    let folder = Folder::new("discover").expect("a folder");
    let write = |some: &[SocketAddr]| {
        let list: Vec<String> = some.iter().map(|one| format!("\"{one}\"")).collect();
        let list = format!("[{{\"targets\": [{}]}}]", list.join(", "));
        folder.write("next.json", list).expect("written");
        let path = folder.path();
        std::fs::rename(path.join("next.json"), path.join("list.json")).expect("renamed");
    };
    write(&at[..2]);
    let path = folder.path().join("list.json");
    let outgrow = Outgrow::start(&config(&format!("file = {path:?}"))).expect("outgrow starts");
    wait_endpoints(&outgrow, &at[..2]);
    let load = Load::start(&outgrow);
    let begin = Instant::now();
    // Faster than it is looked at, then slower.
    for turn in 0..60_usize {
        write(&[at[turn % 4], at[(turn + 1) % 4]]);
        thread::sleep(Duration::from_millis(5));
    }
    for turn in 0..3 {
        let some = [at[turn], at[turn + 1]];
        write(&some);
        wait_endpoints(&outgrow, &some);
    }
    // What is no list is told, and changes nothing.
    folder
        .write("list.json", "[\"10.0.0.1\"]")
        .expect("written");
    let told = outgrow.wait("the problem", SOON, |outgrow| {
        let problem = service(outgrow)["discovery"]["problem"]
            .as_str()?
            .to_owned();
        problem.contains("the port is missing").then_some(())
    });
    told.expect("the problem");
    wait_endpoints(&outgrow, &at[2..]);
    assert!(load.end() > 100);
    let changes = metric(&outgrow, "outgrow_discovery_changes_total");
    let seconds = begin.elapsed().as_secs_f64();
    assert!(changes / seconds <= 2.6, "{changes} changes in {seconds} s");
    outgrow.stop().expect("stopped");
}
