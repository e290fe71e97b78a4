//! Chains of sessions that wait for one another.

use super::*;
use crate::diagnosis::Origin;
use crate::diagnosis::server::session::OurClient;

fn session(process: i32, blocked_by: &[i32], seconds: u64) -> Session {
    Session {
        process,
        user: "app".to_owned(),
        kind: "client backend".to_owned(),
        state: "active".to_owned(),
        statement: Some(Duration::from_secs(seconds)),
        transaction: Some(Duration::from_secs(seconds)),
        text: format!("UPDATE orders SET number = {process}"),
        blocked_by: blocked_by.to_vec(),
        ..Session::default()
    }
}

fn lock(process: i32, kind: &str, mode: &str, is_granted: bool, target: &str) -> Lock {
    Lock {
        process,
        kind: kind.to_owned(),
        mode: mode.to_owned(),
        is_granted,
        target: target.to_owned(),
        waited: None,
    }
}

fn found(sessions: &[Session], locks: &[Lock]) -> Vec<Finding> {
    let database = Arc::from("shop");
    let seen = Seen {
        database: &database,
        server: None,
        sessions,
        locks,
    };
    find(seen, Duration::from_secs(2))
}

/// The first line of evidence of each finding.
#[track_caller]
fn check(sessions: &[Session], expected: &[&str]) {
    let found = found(sessions, &[]);
    let lines: Vec<&str> = found.iter().map(|one| one.evidence[0].as_str()).collect();
    assert_eq!(lines, expected);
}

#[test]
fn the_end_of_the_chain_is_named() {
    check(&[], &[]);
    check(&[session(1, &[], 9)], &[]);
    check(&[session(1, &[], 9), session(2, &[1], 1)], &[]);
    check(
        &[session(1, &[], 9), session(2, &[1], 5)],
        &["1 session waits for process 1, the longest for 5.0 s: for a lock"],
    );
    // One behind the other, and a third that waits for both.
    check(
        &[
            session(1, &[], 9),
            session(2, &[1], 5),
            session(3, &[2], 4),
            session(4, &[3, 2], 3),
        ],
        &["3 sessions wait for process 1, the longest for 5.0 s: for a lock"],
    );
    // Two ends.
    check(
        &[
            session(1, &[], 9),
            session(2, &[], 9),
            session(3, &[1, 2], 5),
            session(4, &[2], 3),
        ],
        &[
            "2 sessions wait for process 2, the longest for 5.0 s: for a lock",
            "1 session waits for process 1, the longest for 5.0 s: for a lock",
        ],
    );
    // A circle is the server's to break; who waits behind it waits for nobody else.
    check(
        &[
            session(1, &[2], 9),
            session(2, &[1], 9),
            session(3, &[1], 9),
        ],
        &[],
    );
    // A session that is not among those that were told, and a prepared transaction.
    check(
        &[session(2, &[77], 5), session(3, &[0], 4)],
        &[
            "1 session waits for process 77, the longest for 5.0 s: for a lock",
            "1 session waits for process 0, the longest for 4.0 s: for a lock",
        ],
    );
}

#[test]
fn a_row_that_an_idle_client_has_locked() {
    let mut root = session(1, &[], 14);
    root.state = "idle in transaction".to_owned();
    root.changed = Some(Duration::from_secs(12));
    root.client = Some(OurClient {
        number: 5,
        address: "10.0.0.1:4000".to_owned(),
        user: "app".to_owned(),
        application: "worker".to_owned(),
        statement: None,
        told: Origin::default(),
    });
    let locks = [
        lock(1, "relation", "AccessShareLock", true, "public.orders_pkey"),
        lock(1, "relation", "RowExclusiveLock", true, "public.orders"),
        lock(1, "transactionid", "ExclusiveLock", true, ""),
        lock(2, "transactionid", "ShareLock", false, ""),
        lock(2, "tuple", "ExclusiveLock", true, "public.orders"),
    ];
    let found = found(&[root, session(2, &[1], 12)], &locks);
    let [finding] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(finding.kind, Kind::LockWait);
    assert_eq!(finding.severity, Severity::Warning);
    assert_eq!(
        finding.evidence,
        [
            "1 session waits for process 1, the longest for 12.0 s: for a row of public.orders",
            "process 1 (user app, local) is idle in transaction for 12.0 s, its transaction open \
             for 14.0 s, with RowExclusiveLock on public.orders",
            "behind process 1: client 5 at 10.0.0.1:4000, user app, application worker",
            "process 2 (user app, local) waits 12.0 s for 1: UPDATE orders SET number = $1",
        ]
    );
    let statement = finding.statement.as_ref().expect("a statement");
    assert_eq!(&*statement.normalised, "UPDATE orders SET number = $1");
    let origin = finding.origin.as_ref().expect("an origin");
    assert_eq!(origin.application.as_deref(), Some("worker"));
    assert!(finding.remedy.contains("client 5 at 10.0.0.1:4000"));
    assert!(finding.remedy.contains("pg_terminate_backend(1)"));
}

#[test]
fn the_remedy_fits_the_one_at_the_end() {
    let check = |change: &dyn Fn(&mut Session), expected: &str| {
        let mut root = session(1, &[], 60);
        change(&mut root);
        let found = found(&[root, session(2, &[1], 40)], &[]);
        let remedy = &found[0].remedy;
        assert!(remedy.contains(expected), "{remedy}");
        assert_eq!(found[0].severity, Severity::Critical);
    };
    check(&|_| {}, "make it shorter");
    check(
        &|root| root.text = "ALTER TABLE orders ADD a int".to_owned(),
        "lock_timeout",
    );
    check(
        &|root| root.state = "idle in transaction (aborted)".to_owned(),
        "idle_transaction",
    );
    check(
        &|root| root.kind = "autovacuum worker".to_owned(),
        "wraparound",
    );
    let prepared = found(&[session(2, &[0], 40)], &[]);
    assert!(prepared[0].remedy.contains("ROLLBACK PREPARED"));
}

#[test]
fn relations_and_times_of_locks_are_told() {
    let mut wanted = lock(2, "relation", "RowExclusiveLock", false, "public.orders");
    wanted.waited = Some(Duration::from_millis(2_500));
    let locks = [
        lock(1, "relation", "AccessExclusiveLock", true, "public.orders"),
        wanted,
    ];
    let found = found(&[session(1, &[], 60), session(2, &[1], 40)], &locks);
    assert_eq!(
        found[0].evidence[0],
        "1 session waits for process 1, the longest for 2.5 s: for RowExclusiveLock of \
         public.orders"
    );
    assert!(found[0].evidence[1].contains("AccessExclusiveLock on public.orders"));
}
