//! A primary and its replicas behind one service: who the primary is, reads that go to replicas and
//! see what their client wrote, and what a failover costs.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use outgrow_testkit::child::TestChild;
use outgrow_testkit::databases::{self, Server};
use outgrow_testkit::outgrow::Outgrow;
use serde_json::Value;

use crate::shop::{SOON, try_state};

pub(crate) const ACCESS: &str =
    "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust";
/// What psql says when an answer is over.
const END: &str = "-- over --";

/// A session of psql. None is left when the connection is lost.
pub(crate) struct Session {
    _child: TestChild,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Session {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let mut child = TestChild::start(
            Command::new("psql")
                .args(["--no-psqlrc", "-Atq", "-U", "postgres", "-d", "postgres"])
                .args([
                    "-h",
                    &address.ip().to_string(),
                    "-p",
                    &address.port().to_string(),
                ])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null()),
        )
        .expect("psql");
        Self {
            input: child.stdin.take().expect("piped"),
            output: BufReader::new(child.stdout.take().expect("piped")),
            _child: child,
        }
    }

    /// The lines that a statement answers; none when the connection is lost.
    pub(crate) fn ask(&mut self, sql: &str) -> Option<Vec<String>> {
        writeln!(self.input, "{sql};\n\\echo {END}").ok()?;
        self.input.flush().ok()?;
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end() {
                END => return Some(lines),
                line => lines.push(line.to_owned()),
            }
        }
    }
}

pub(crate) fn start(servers: &[&Server], more: &str) -> Outgrow {
    let endpoints: Vec<String> = servers
        .iter()
        .map(|server| format!("\"{}\"", server.address()))
        .collect();
    let config = format!(
        "[postgres]\nlisten = [\"%pg%\"]\nservice = \"db\"\nauth = \"any\"\npool_size = 4\n\
         reads = \"replicas\"\n{more}\n[service.db]\nendpoints = [{}]\n",
        endpoints.join(", ")
    );
    Outgrow::start(&config).expect("outgrow starts")
}

pub(crate) fn at(outgrow: &Outgrow) -> SocketAddr {
    outgrow.address("pg").expect("it listens")
}

/// The servers' roles as they are told, in the order of the configuration.
fn roles(outgrow: &Outgrow) -> Vec<String> {
    let state = try_state(outgrow).unwrap_or_default();
    let servers = state["postgres"]["servers"].as_array().cloned();
    let role = |server: &Value| server["role"].as_str().unwrap_or("unknown").to_owned();
    servers.unwrap_or_default().iter().map(role).collect()
}

pub(crate) fn wait_roles(outgrow: &Outgrow, expected: &[&str]) {
    let told = outgrow.wait("the roles", SOON, |outgrow| {
        (roles(outgrow) == expected).then_some(())
    });
    assert!(told.is_ok(), "{:?} instead of {expected:?}", roles(outgrow));
}

/// Transactions that replicas executed.
pub(crate) fn on_replicas(outgrow: &Outgrow) -> u64 {
    let state = try_state(outgrow).expect("the state");
    let pools = state["postgres"]["pools"].as_array().cloned();
    let pools = pools.unwrap_or_default();
    pools
        .iter()
        .filter_map(|pool| pool["on_replicas"].as_u64())
        .sum()
}

/// Waits until reads go to replicas: the catalogue is there, and the replicas have everything.
fn wait_reads(outgrow: &Outgrow, session: &mut Session) {
    let before = on_replicas(outgrow);
    let end = Instant::now() + SOON;
    while on_replicas(outgrow) == before {
        assert!(Instant::now() < end, "no read goes to a replica");
        session
            .ask("SELECT count(*) FROM pg_class")
            .expect("a connection");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn reads_go_to_replicas_and_see_what_their_client_wrote() {
    const USERS: usize = 4;
    const WRITES: usize = 60;
    let primary = databases::postgres(ACCESS).expect("a primary");
    primary
        .query("CREATE ROLE replicator LOGIN REPLICATION; CREATE TABLE notes (id int, text int)")
        .expect("set up");
    let replicas = [(); 2].map(|()| primary.postgres_replica().expect("a replica"));
    let outgrow = start(&[&replicas[0], &primary, &replicas[1]], "");
    let mut first = Session::new(at(&outgrow));
    assert_eq!(first.ask("SELECT 1"), Some(vec!["1".to_owned()]));
    wait_roles(&outgrow, &["replica", "primary", "replica"]);
    wait_reads(&outgrow, &mut first);
    let before = on_replicas(&outgrow);
    thread::scope(|scope| {
        for user in 0..USERS {
            let address = at(&outgrow);
            scope.spawn(move || {
                let mut session = Session::new(address);
                for number in 0..WRITES {
                    let insert = format!("INSERT INTO notes VALUES ({user}, {number})");
                    session.ask(&insert).expect("a connection");
                    for _ in 0..4 {
                        let ask = format!("SELECT max(text) FROM notes WHERE id = {user}");
                        let seen = session.ask(&ask).expect("a connection");
                        assert_eq!(seen, [number.to_string()], "a stale read");
                    }
                }
            });
        }
    });
    let reads = (USERS * WRITES * 4) as u64;
    let served = on_replicas(&outgrow) - before;
    assert!(
        served * 10 >= reads * 9,
        "{served} of {reads} reads on replicas"
    );
    // What is not certain stays with the primary.
    let before = on_replicas(&outgrow);
    for sql in [
        "SELECT nextval('seq')",
        "SELECT text FROM notes LIMIT 1 FOR UPDATE",
        "WITH gone AS (DELETE FROM notes WHERE id < 0 RETURNING 1) SELECT count(*) FROM gone",
        "SELECT random() < 2",
        "/* outgrow: primary */ SELECT 1",
        "BEGIN; SELECT 1; COMMIT",
    ] {
        first.ask(sql).expect("a connection");
    }
    assert_eq!(on_replicas(&outgrow), before);
    // A transaction that says that it only reads is a replica's as a whole.
    for sql in ["BEGIN READ ONLY", "SELECT count(*) FROM notes", "COMMIT"] {
        first.ask(sql).expect("a connection");
    }
    assert_eq!(on_replicas(&outgrow), before + 1);
}

#[test]
fn a_failover_costs_what_was_under_way_and_a_moment() {
    const USERS: usize = 4;
    let mut primary = databases::postgres(ACCESS).expect("a primary");
    // With a synchronous replica nothing that was acknowledged can be lost.
    primary
        .query("CREATE ROLE replicator LOGIN REPLICATION; CREATE TABLE notes (id int, text int)")
        .expect("set up");
    let replica = primary.postgres_replica().expect("a replica");
    primary
        .query("ALTER SYSTEM SET synchronous_standby_names = '*'")
        .and_then(|()| primary.query("SELECT pg_reload_conf()"))
        .expect("synchronous");
    let outgrow = start(&[&primary, &replica], "");
    let mut first = Session::new(at(&outgrow));
    first.ask("SELECT 1").expect("a connection");
    wait_roles(&outgrow, &["primary", "replica"]);
    let is_over = AtomicBool::new(false);
    let address = at(&outgrow);
    let (acknowledged, worst, lost) = thread::scope(|scope| {
        let users: Vec<_> = (0..USERS)
            .map(|user| {
                let is_over = &is_over;
                scope.spawn(move || write_until(is_over, address, user))
            })
            .collect();
        thread::sleep(Duration::from_secs(1));
        primary.kill();
        replica.query("SELECT pg_promote()").expect("promoted");
        thread::sleep(Duration::from_secs(3));
        is_over.store(true, Ordering::SeqCst);
        let mut all = (BTreeSet::new(), Duration::ZERO, 0);
        for user in users {
            let (acknowledged, worst, lost) = user.join().expect("a user");
            all.0.extend(acknowledged);
            all.1 = all.1.max(worst);
            all.2 += lost;
        }
        all
    });
    let mut last = Session::new(at(&outgrow));
    let rows = last
        .ask("SELECT id || ' ' || text FROM notes")
        .expect("the new primary");
    let there: BTreeSet<String> = rows.into_iter().collect();
    let missing: Vec<_> = acknowledged.difference(&there).collect();
    assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
    assert!(acknowledged.len() > 50, "{} writes", acknowledged.len());
    assert!(
        lost <= USERS,
        "{lost} sessions ended, more than were under way"
    );
    // How long it takes is for the machine to say; that it ends is what is asked here.
    assert!(worst < Duration::from_secs(20), "{worst:?} without a write");
}

/// The last failover, once there was one.
fn failover(outgrow: &Outgrow) -> Value {
    let told = |outgrow: &Outgrow| {
        let state = try_state(outgrow)?;
        state["postgres"]["failovers"].as_array()?.last().cloned()
    };
    let told = outgrow.wait("a failover", SOON, told);
    told.expect("it is noticed")
}

/// A primary whose replica may be cut off, with an outgrow before both, and five rows written
/// through that.
fn primary_and_replica(cut_off: bool) -> (Server, Server, Outgrow) {
    let primary = databases::postgres(ACCESS).expect("a primary");
    primary
        .query("CREATE ROLE replicator LOGIN REPLICATION; CREATE TABLE notes (id int)")
        .expect("set up");
    let replica = primary.postgres_replica().expect("a replica");
    let outgrow = start(&[&primary, &replica], "");
    let mut session = Session::new(at(&outgrow));
    session.ask("INSERT INTO notes VALUES (0)").expect("a row");
    wait_roles(&outgrow, &["primary", "replica"]);
    if cut_off {
        replica
            .query("ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'")
            .and_then(|()| replica.query("SELECT pg_reload_conf()"))
            .expect("cut off");
        let is_off = |_: &Outgrow| {
            let mut direct = Session::new(primary.address());
            let count = direct.ask("SELECT count(*) FROM pg_stat_replication")?;
            (count == ["0"]).then_some(())
        };
        outgrow.wait("no replica", SOON, is_off).expect("cut off");
    } else {
        primary
            .query("ALTER SYSTEM SET synchronous_standby_names = '*'")
            .and_then(|()| primary.query("SELECT pg_reload_conf()"))
            .expect("synchronous");
    }
    for number in 1..=5 {
        let insert = format!("INSERT INTO notes VALUES ({number})");
        session.ask(&insert).expect("a row");
    }
    // The primary is looked at twice a second.
    thread::sleep(Duration::from_secs(2));
    (primary, replica, outgrow)
}

#[test]
fn what_an_asynchronous_failover_lost_is_told() {
    let (mut primary, replica, outgrow) = primary_and_replica(true);
    primary.kill();
    replica.query("SELECT pg_promote()").expect("promoted");
    let told = failover(&outgrow);
    assert_eq!(told["nothing_lost"], false, "{told}");
    assert!(told["lost_bytes_at_least"].as_u64() > Some(100), "{told}");
    assert!(
        told["lost_transactions_at_most"].as_u64() >= Some(5),
        "{told}"
    );
    assert_eq!(told["old"], primary.address().to_string(), "{told}");
    assert_eq!(told["new"], replica.address().to_string(), "{told}");
    assert!(outgrow.stderr().contains("bytes of the log are not there"));
    let mut session = Session::new(at(&outgrow));
    let left = session.ask("SELECT count(*) FROM notes WHERE id > 0");
    assert_eq!(left, Some(vec!["0".to_owned()]), "they are gone");
}

#[test]
fn that_a_synchronous_failover_lost_nothing_is_told() {
    let (mut primary, replica, outgrow) = primary_and_replica(false);
    primary.kill();
    replica.query("SELECT pg_promote()").expect("promoted");
    let told = failover(&outgrow);
    assert_eq!(told["nothing_lost"], true, "{told}");
    assert_eq!(told["lost_bytes_at_least"], 0, "{told}");
    assert!(outgrow.stderr().contains("nothing that was acknowledged"));
    let mut session = Session::new(at(&outgrow));
    let left = session.ask("SELECT count(*) FROM notes WHERE id > 0");
    assert_eq!(left, Some(vec!["5".to_owned()]));
}

/// Writes with sessions that are begun anew when they are lost: what was acknowledged, the longest
/// time without, how many sessions were lost.
pub(crate) fn write_until(
    is_over: &AtomicBool,
    address: SocketAddr,
    user: usize,
) -> (Vec<String>, Duration, usize) {
    let (mut acknowledged, mut worst, mut lost) = (Vec::new(), Duration::ZERO, 0);
    let mut last = Instant::now();
    let mut number = 0;
    let mut session = Session::new(address);
    while !is_over.load(Ordering::SeqCst) {
        number += 1;
        let insert = format!("INSERT INTO notes VALUES ({user}, {number}) RETURNING 'done'");
        match session.ask(&insert) {
            Some(lines) if lines == ["done"] => {
                acknowledged.push(format!("{user} {number}"));
                worst = worst.max(last.elapsed());
                last = Instant::now();
            }
            _ => {
                lost += 1;
                session = Session::new(address);
            }
        }
    }
    (acknowledged, worst, lost)
}
