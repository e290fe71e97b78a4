//! A replica that is behind is told, with why and with what it costs the primary.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use outgrow_testkit::databases::{self, Server};
use outgrow_testkit::outgrow::{Launch, Outgrow};
use outgrow_testkit::postgres::Session;

use super::inspect::{findings, says, told, wait_finding};
use super::{backend, run};
use crate::checks::is_there;
use crate::shop::SOON;

const ACCESS: &str = "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust";

fn start(primary: &Server, replica: &Server) -> Outgrow {
    let (primary, replica) = (primary.address(), replica.address());
    let config = format!(
        "[postgres]\nlisten = [\"%pooler%\"]\nservice = \"db\"\nauth = \"any\"\npool_size = 4\n\
         reads = \"replicas\"\n[postgres.replicas]\nmax_lag = \"1s\"\n[postgres.diagnosis]\n\
         interval = \"1s\"\n[service.db]\nendpoints = [\"{primary}\", \"{replica}\"]\n"
    );
    Launch::config(&config).start().expect("outgrow starts")
}

#[test]
fn a_replica_that_is_behind_is_told_with_the_cause() {
    if !is_there(databases::has_postgres(), "postgresql") {
        return;
    }
    // Replay waits for queries for as long as they like.
    let settings = ["max_standby_streaming_delay=-1"];
    let primary = databases::postgres_with(ACCESS, &settings).expect("a primary");
    primary
        .query("CREATE ROLE replicator LOGIN REPLICATION; CREATE TABLE notes (id int)")
        .expect("set up");
    primary
        .query("INSERT INTO notes SELECT generate_series(1, 1000)")
        .expect("rows");
    let replica = primary.postgres_replica().expect("a replica");
    let outgrow = start(&primary, &replica);
    let address = outgrow.address("pooler").expect("an address");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Reads that a replica could execute, and writes that it is behind with.
        scope.spawn(|| {
            let mut client = Session::of(address, "postgres").expect("let in");
            while !is_over.load(Ordering::SeqCst) {
                run(&mut client, "INSERT INTO notes VALUES (1)");
                run(&mut client, "SELECT count(*) FROM pg_class");
                thread::sleep(Duration::from_millis(20));
            }
        });
        let _ends = Ends(&is_over);
        look(&outgrow, &primary, &replica);
    });
}

/// Ends the load, also of a test that fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn look(outgrow: &Outgrow, primary: &Server, replica: &Server) {
    let wait = |cause: &str| {
        wait_finding(outgrow, "replica_lag", SOON, |one| {
            told(one).contains(cause) && told(one).contains("went to the primary")
        })
    };
    // Nothing is told while it follows.
    thread::sleep(Duration::from_secs(3));
    assert!(findings(outgrow, "replica_lag").is_empty());
    let mut reader = Session::of(replica.address(), "postgres").expect("let in");
    run(
        &mut reader,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM notes",
    );
    let process = backend(&mut reader);
    for sql in [
        "DELETE FROM notes",
        "VACUUM notes",
        "INSERT INTO notes VALUES (1)",
    ] {
        primary.query(sql).expect("done");
    }
    let found = wait("its replay waits for a query");
    says(
        &found,
        &[
            "behind the primary",
            &format!("waits for a query: process {process} (user postgres"),
            &format!("pg_cancel_backend({process})"),
            "max_standby_streaming_delay",
            "the primary says: streaming",
        ],
    );
    assert_eq!(found["server"], replica.address().to_string());
    run(&mut reader, "COMMIT");
    replica
        .query("SELECT pg_wal_replay_pause()")
        .expect("paused");
    let found = wait("its replay is paused");
    says(
        &found,
        &[
            "pg_wal_replay_resume()",
            "0 of these bytes have not arrived",
        ],
    );
    replica
        .query("SELECT pg_wal_replay_resume()")
        .expect("resumed");
    // Nobody says it any more.
    wait_finding(outgrow, "replica_lag", SOON, |one| {
        one["last_ms_ago"].as_u64() > Some(4_000)
    });
}
