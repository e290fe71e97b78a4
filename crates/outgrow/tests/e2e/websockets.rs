//! WebSockets by foreign clients and a foreign server, over HTTP/1.1 and HTTP/2: what they say gets
//! through whole, an upgrade is not noticed, and a drain tells each of them its end; so does the end of
//! an instance, and of an endpoint that is taken out of the configuration.
//!
//! The clients are `websockets`, and `h2` with `wsproto` (RFC 8441), of PyPI: `websocket_ends.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use outgrow_testkit::child::TestChild;
use outgrow_testkit::folder::Folder;
use outgrow_testkit::outgrow::Outgrow;
use outgrow_testkit::wait;
use rustix::process::Signal;
use serde_json::Value;

use crate::apps::{From, install};
use crate::shop::{SOON, wait_ready};

/// Clients of each kind.
const CLIENTS: usize = 6;
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/websocket_ends.py");

fn packages() -> Option<PathBuf> {
    install(
        "websockets-17.4",
        From::PyPi,
        &["websockets==17.4", "h2==4.4.1", "wsproto==1.3.2"],
    )
}

/// The service has `service` in its table.
fn config(service: &str) -> String {
    format!(
        r#"
[process]
drain_timeout = "8s"
upgrade_drain_timeout = "60s"

[access]
to = "access.log"

[listener.public]
address = "%public%"
protocols = ["h2", "http/1.1"]

[route.app]
service = "app"

[service.app]
{service}
"#
    )
}

fn instances(packages: &Path, count: usize) -> String {
    let packages = packages.display();
    config(&format!(
        r#"command = ["python3", "{SCRIPT}", "server"]
environment = {{ PYTHONPATH = "{packages}" }}
instances = {count}
drain_timeout = "8s""#
    ))
}

fn start(packages: &Path) -> Outgrow {
    let outgrow = Outgrow::start(&instances(packages, 2)).expect("outgrow starts");
    wait_ready(&outgrow, 2);
    outgrow
}

struct Clients {
    _child: TestChild,
    lines: BufReader<std::process::ChildStdout>,
}

impl Clients {
    fn start(outgrow: &Outgrow, packages: &Path, what: &str) -> Self {
        let address = outgrow.address("public").expect("an address");
        let mut child = TestChild::start(
            Command::new("python3")
                .args([SCRIPT, what, "127.0.0.1", &address.port().to_string()])
                .arg(CLIENTS.to_string())
                .env("PYTHONPATH", packages)
                .stdout(Stdio::piped()),
        )
        .expect("python3");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Self {
            _child: child,
            lines,
        }
    }

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        (!line.is_empty()).then(|| serde_json::from_str(&line).expect("JSON"))
    }
}

fn upgraded_open(outgrow: &Outgrow) -> i64 {
    let state = crate::shop::state(outgrow);
    state["routes"][0]["upgraded_open"]
        .as_i64()
        .expect("a number")
}

#[test]
fn an_upgrade_is_not_noticed_and_a_stop_tells_everybody_in_turn() {
    let Some(packages) = packages() else { return };
    let outgrow = start(&packages);
    let mut clients = Clients::start(&outgrow, &packages, "clients");
    let open = clients.next().expect("all are open");
    assert_eq!(open["open"], 2 * CLIENTS);
    assert_eq!(open["first"]["subprotocol"], "chat");
    // Those of `websockets` compress; nobody here looks into that.
    let extensions = open["who"].as_array().expect("a list");
    let compressed = extensions.iter().filter(|count| **count == 1).count();
    assert_eq!(compressed, CLIENTS);
    assert_eq!(upgraded_open(&outgrow), 2 * CLIENTS as i64);
    outgrow.upgrade(None).expect("an upgrade");
    // The old process has them, and nobody was told anything; they go on for a while.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(outgrow.pids().data.len(), 2, "{}", outgrow.stderr());
    outgrow.signal(Signal::TERM).expect("signalled");
    let mut times = Vec::new();
    let mut codes = BTreeMap::new();
    while let Some(end) = clients.next() {
        let key = format!("{} {}", end["kind"].as_str().expect("a kind"), end["code"]);
        *codes.entry(key).or_insert(0) += 1;
        assert!(end["echoes"].as_u64().expect("a number") >= 20, "{end}");
        times.push(end["at"].as_f64().expect("a time"));
    }
    let expected = BTreeMap::from([
        ("OverHttp1 1012".to_owned(), CLIENTS),
        ("OverHttp2 1012".to_owned(), CLIENTS),
    ]);
    assert_eq!(codes, expected, "{}", outgrow.stderr());
    times.sort_by(f64::total_cmp);
    let spread = times.last().unwrap_or(&0.0) - times.first().unwrap_or(&0.0);
    // Twelve moments within six seconds; closer than one second together they are by chance once
    // in a hundred million times.
    assert!((1.0..8.5).contains(&spread), "{times:?}");
    let mut outgrow = outgrow;
    let ended = outgrow
        .wait_exit(Duration::from_secs(30))
        .expect("it stops");
    assert!(ended.success());
}

#[test]
fn what_is_no_websocket_over_http2_is_refused() {
    let Some(packages) = packages() else { return };
    let outgrow = start(&packages);
    let mut clients = Clients::start(&outgrow, &packages, "refused");
    let opened = clients.next().expect("an answer");
    assert_eq!(opened["status"], 200);
    let headers = opened["headers"].as_object().expect("fields");
    assert!(!headers.contains_key("sec-websocket-accept"), "{opened}");
    assert_eq!(headers["sec-websocket-protocol"], "chat");
    let refused = clients.next().expect("an answer");
    assert_eq!(refused["status"], 400, "{refused}");
}

/// A server that is nobody's instance.
struct Server {
    _child: TestChild,
    address: SocketAddr,
}

impl Server {
    fn start(packages: &Path, folder: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let child = TestChild::start(
            Command::new("python3")
                .args([SCRIPT, "server"])
                .env("PYTHONPATH", packages)
                .env("PORT", address.port().to_string())
                .current_dir(folder),
        )
        .expect("python3");
        let is_there = wait::until("a server", SOON, || TcpStream::connect(address).ok());
        is_there.expect("the server listens");
        Self {
            _child: child,
            address,
        }
    }
}

/// As many clients as were at one of two are told, each at its own time; the others go on. Gives how
/// long it took until the last one was told.
fn half_are_told(outgrow: &Outgrow, clients: &mut Clients, since: Instant) -> Duration {
    const ALL: usize = 2 * CLIENTS;
    let mut times = Vec::new();
    let mut kinds = BTreeSet::new();
    for _ in 0..CLIENTS {
        let end = clients.next().expect("somebody is told");
        assert_eq!(end["code"], 1012, "{end}: {}", outgrow.stderr());
        kinds.insert(end["kind"].to_string());
        times.push(end["at"].as_f64().expect("a time"));
    }
    let took = since.elapsed();
    let spread = times[CLIENTS - 1] - times[0];
    // Six moments within six seconds.
    assert!((0.3..8.5).contains(&spread), "{times:?}");
    assert_eq!(kinds.len(), 2, "over both protocols: {kinds:?}");
    let open = outgrow.wait("the others stay", SOON, |_| {
        let open = upgraded_open(outgrow);
        (open == (ALL - CLIENTS) as i64).then_some(open)
    });
    open.expect("half of them");
    let metrics = outgrow.admin_get("/metrics").expect("metrics").text();
    let told = format!("outgrow_websockets_told_total{{route=\"app\"}} {CLIENTS}\n");
    assert!(metrics.contains(&told), "{metrics}");
    took
}

#[test]
fn who_is_at_an_instance_that_goes_is_told() {
    let Some(packages) = packages() else { return };
    let mut outgrow = start(&packages);
    let mut clients = Clients::start(&outgrow, &packages, "clients");
    clients.next().expect("all are open");
    let since = Instant::now();
    outgrow.reload(&instances(&packages, 1)).expect("one less");
    half_are_told(&outgrow, &mut clients, since);
    // It does not stop before they have gone, and does as soon as they have.
    wait_ready(&outgrow, 1);
    assert!(since.elapsed() < Duration::from_secs(10));
    let codes = std::fs::read_to_string(outgrow.folder().join("closed"));
    let codes = codes.expect("the server has heard of the ends");
    assert_eq!(codes, "1012\n".repeat(CLIENTS), "as by clients");
}

#[test]
fn who_is_at_an_endpoint_that_is_taken_out_is_told() {
    let Some(packages) = packages() else { return };
    let folder = Folder::new("servers").expect("a folder");
    let servers = [(); 2].map(|()| Server::start(&packages, folder.path()));
    let endpoints = |addresses: &[SocketAddr]| {
        let addresses: Vec<String> = addresses.iter().map(|one| format!("\"{one}\"")).collect();
        config(&format!("endpoints = [{}]", addresses.join(", ")))
    };
    let [one, other] = [&servers[0], &servers[1]].map(|server| server.address);
    let mut outgrow = Outgrow::start(&endpoints(&[one, other])).expect("outgrow starts");
    let mut clients = Clients::start(&outgrow, &packages, "clients");
    clients.next().expect("all are open");
    let since = Instant::now();
    outgrow.reload(&endpoints(&[one])).expect("one less");
    half_are_told(&outgrow, &mut clients, since);
    assert!(since.elapsed() < Duration::from_secs(10));
}
