//! WebSockets by foreign clients and a foreign server, over HTTP/1.1 and HTTP/2: what they say gets
//! through whole, an upgrade is not noticed, and a drain tells each of them its end.
//!
//! The clients are `websockets`, and `h2` with `wsproto` (RFC 8441), of PyPI: `websocket_ends.py`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use outgrow_testkit::outgrow::Outgrow;
use rustix::process::Signal;
use serde_json::Value;

use crate::apps::{From, install};
use crate::shop::wait_ready;

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

fn start(packages: &Path, more: &str) -> Outgrow {
    let packages = packages.display();
    let config = format!(
        r#"
[process]
drain_timeout = "8s"
upgrade_drain_timeout = "60s"
{more}

[access]
to = "access.log"

[listener.public]
address = "%public%"
protocols = ["h2", "http/1.1"]

[route.app]
service = "app"

[service.app]
command = ["python3", "{SCRIPT}", "server"]
environment = {{ PYTHONPATH = "{packages}" }}
instances = 2
"#
    );
    let outgrow = Outgrow::start(&config).expect("outgrow starts");
    wait_ready(&outgrow, 2);
    outgrow
}

struct Clients {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Clients {
    fn start(outgrow: &Outgrow, packages: &Path, what: &str) -> Self {
        let address = outgrow.address("public").expect("an address");
        let mut child = Command::new("python3")
            .args([SCRIPT, what, "127.0.0.1", &address.port().to_string()])
            .arg(CLIENTS.to_string())
            .env("PYTHONPATH", packages)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, lines }
    }

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        (!line.is_empty()).then(|| serde_json::from_str(&line).expect("JSON"))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
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
    let outgrow = start(&packages, "");
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
    let outgrow = start(&packages, "");
    let mut clients = Clients::start(&outgrow, &packages, "refused");
    let opened = clients.next().expect("an answer");
    assert_eq!(opened["status"], 200);
    let headers = opened["headers"].as_object().expect("fields");
    assert!(!headers.contains_key("sec-websocket-accept"), "{opened}");
    assert_eq!(headers["sec-websocket-protocol"], "chat");
    let refused = clients.next().expect("an answer");
    assert_eq!(refused["status"], 400, "{refused}");
}
