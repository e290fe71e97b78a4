//! When a server connection goes to another client, by mode, and what it brings along.

use std::{
    collections::BTreeSet,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use outgrow_testkit::postgres::Session;

use super::{MOMENT, Tier, backend, refusal, run, value};
use crate::shop::SOON;

/// The server connections of a pool, as the server itself sees them.
pub(super) fn connections(direct: &mut Session) -> u32 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND \
               pid <> pg_backend_pid()";
    value(direct, sql).parse().expect("a number")
}

#[test]
fn many_clients_share_few_connections_by_transaction() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    let mut clients: Vec<Session> = (0..20).map(|_| tier.client()).collect();
    let mut seen = BTreeSet::new();
    for client in &mut clients {
        seen.insert(backend(client));
    }
    assert!(seen.len() <= 2, "{seen:?}");
    // Within a transaction it is always the same one, and nobody else's.
    let [first, second, third, ..] = &mut clients[..] else {
        unreachable!("there are twenty");
    };
    run(first, "BEGIN");
    let of_first = backend(first);
    run(second, "BEGIN");
    let of_second = backend(second);
    assert_ne!(of_first, of_second);
    for _ in 0..5 {
        assert_eq!(backend(first), of_first);
        assert_eq!(backend(second), of_second);
    }
    run(first, "COMMIT");
    for _ in 0..5 {
        assert_eq!(backend(third), of_first);
    }
    assert_eq!(connections(&mut tier.direct()), 2);
}

#[test]
fn a_failed_transaction_stays_with_its_client() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    let (mut one, mut other) = (tier.client(), tier.client());
    run(&mut one, "BEGIN");
    assert!(refusal(&mut one, "SELECT 1/0").starts_with("ERROR 22012"));
    assert_eq!(one.state, b'E');
    let (sender, done) = mpsc::channel();
    let waiting = thread::spawn(move || {
        let answer = value(&mut other, "SELECT 'fine'");
        sender.send(answer).expect("heard");
    });
    assert_eq!(
        done.recv_timeout(MOMENT),
        Err(RecvTimeoutError::Timeout),
        "the only connection is in a failed transaction"
    );
    assert!(refusal(&mut one, "SELECT 1").starts_with("ERROR 25P02"));
    run(&mut one, "ROLLBACK");
    assert_eq!(done.recv_timeout(SOON).as_deref(), Ok("fine"));
    waiting.join().expect("no panic");
}

#[test]
fn those_who_wait_are_served_in_their_order() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    run(
        &mut tier.direct(),
        "CREATE TABLE served (place serial, client int)",
    );
    let mut holder = tier.client();
    run(&mut holder, "BEGIN");
    let waiting: Vec<_> = (0..8)
        .map(|number| {
            let mut client = tier.client();
            let sql = format!("INSERT INTO served (client) VALUES ({number})");
            let thread = thread::spawn(move || run(&mut client, &sql));
            // Nothing outside tells that it has joined the line.
            thread::sleep(Duration::from_millis(50));
            thread
        })
        .collect();
    run(&mut holder, "COMMIT");
    for thread in waiting {
        thread.join().expect("no panic");
    }
    let order = value(
        &mut holder,
        "SELECT string_agg(client::text, '' ORDER BY place) FROM served",
    );
    assert_eq!(order, "01234567");
}

#[test]
fn a_session_keeps_its_connection_and_leaves_it_clean() {
    let Some(tier) = Tier::start("pool_mode = \"session\"\npool_size = 2") else {
        return;
    };
    let (mut one, mut other) = (tier.client(), tier.client());
    let (of_one, of_other) = (backend(&mut one), backend(&mut other));
    assert_ne!(of_one, of_other);
    for sql in [
        "SET work_mem = '5MB'",
        "SET application_name = 'one'",
        "CREATE TEMP TABLE own (a int)",
        "PREPARE own AS SELECT 1",
        "SELECT pg_advisory_lock(1)",
        "LISTEN own",
        "DECLARE own CURSOR WITH HOLD FOR SELECT 1",
    ] {
        run(&mut one, sql);
        assert_eq!(backend(&mut one), of_one);
    }
    one.prepare("own2", "SELECT 2").expect("prepared");
    let address = tier.address();
    let (sender, came) = mpsc::channel();
    let third = thread::spawn(move || {
        let mut third = Session::of(address, "postgres").expect("let in");
        sender.send(backend(&mut third)).expect("heard");
        third
    });
    let early = came.recv_timeout(MOMENT);
    assert_eq!(early, Err(RecvTimeoutError::Timeout));
    one.leave().expect("goodbye");
    assert_eq!(came.recv_timeout(SOON), Ok(of_one));
    let mut third = third.join().expect("no panic");
    let clean = [
        ("SHOW work_mem", "4MB"),
        ("SHOW application_name", ""),
        ("SELECT count(*) FROM pg_prepared_statements", "0"),
        ("SELECT count(*) FROM pg_cursors", "0"),
        ("SELECT count(*) FROM pg_listening_channels()", "0"),
        (
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
            "0",
        ),
        ("SELECT to_regclass('own') IS NULL", "t"),
    ];
    for (sql, expected) in clean {
        assert_eq!(value(&mut third, sql), expected, "{sql}");
    }
}

#[test]
fn a_session_that_vanishes_in_a_transaction_leaves_nothing() {
    let Some(tier) = Tier::start("pool_mode = \"session\"\npool_size = 1") else {
        return;
    };
    run(&mut tier.direct(), "CREATE TABLE t (a int)");
    let mut one = tier.client();
    run(&mut one, "BEGIN; INSERT INTO t VALUES (1)");
    drop(one);
    let mut other = tier.client();
    assert_eq!(value(&mut other, "SELECT count(*) FROM t"), "0");
    assert_eq!(other.state, b'I');
    assert_eq!(
        value(
            &mut other,
            "SELECT pg_current_xact_id_if_assigned() IS NULL"
        ),
        "t"
    );
}

#[test]
fn by_statement_transactions_are_refused() {
    let Some(tier) = Tier::start("pool_mode = \"statement\"\npool_size = 1") else {
        return;
    };
    run(&mut tier.direct(), "CREATE TABLE t (a int)");
    let (mut one, mut other) = (tier.client(), tier.client());
    for number in 0..5 {
        run(&mut one, &format!("INSERT INTO t VALUES ({number})"));
        assert_eq!(
            value(&mut other, "SELECT count(*) FROM t"),
            (number + 1).to_string()
        );
    }
    // It may be told that it has begun before it is told that it may not.
    let refused = match one.query("BEGIN; INSERT INTO t VALUES (100)") {
        Err(error) => error.to_string(),
        Ok(_) => one.answer().expect_err("it is refused").to_string(),
    };
    assert_eq!(
        refused,
        "FATAL 08P01 transaction blocks not allowed in statement pooling mode"
    );
    // The connection that had the transaction is not handed on with it.
    assert_eq!(value(&mut other, "SELECT max(a) FROM t"), "4");
    assert_eq!(other.state, b'I');
}

#[test]
fn what_belongs_to_a_session_keeps_its_connection_until_it_is_gone() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    let check = |begin: &str, holds: (&str, &str), end: &str| {
        let (mut one, mut other) = (tier.client(), tier.client());
        run(&mut one, begin);
        let own = backend(&mut one);
        for _ in 0..6 {
            assert_ne!(backend(&mut other), own, "{begin}");
            assert_eq!(value(&mut one, holds.0), holds.1, "{begin}");
            assert_eq!(backend(&mut one), own, "{begin}");
        }
        run(&mut one, end);
        // It is lent again: two others at the same time need both connections.
        let mut third = tier.client();
        run(&mut other, "BEGIN");
        run(&mut third, "BEGIN");
        let both = [backend(&mut other), backend(&mut third)];
        assert!(both.contains(&own), "{begin}: {own} is not free: {both:?}");
        run(&mut other, "COMMIT");
        run(&mut third, "COMMIT");
    };
    check(
        "CREATE TEMP TABLE own (a int); INSERT INTO own VALUES (7)",
        ("SELECT a FROM own", "7"),
        "DROP TABLE own",
    );
    check(
        "SELECT pg_advisory_lock(7)",
        (
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
            "1",
        ),
        "SELECT pg_advisory_unlock(7)",
    );
    check(
        "BEGIN; DECLARE own CURSOR WITH HOLD FOR SELECT g FROM generate_series(1, 100) g; COMMIT",
        ("SELECT count(*) FROM pg_cursors", "1"),
        "CLOSE own",
    );
    check(
        "PREPARE own AS SELECT 8",
        ("EXECUTE own", "8"),
        "DEALLOCATE own",
    );
}

#[test]
fn what_belonged_to_a_session_is_not_the_next_ones() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    for (begin, sql, expected) in [
        (
            "CREATE TEMP TABLE own (a int)",
            "SELECT to_regclass('own') IS NULL",
            "t",
        ),
        (
            "SELECT pg_advisory_lock(7)",
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
            "0",
        ),
        (
            "PREPARE own AS SELECT 8",
            "SELECT count(*) FROM pg_prepared_statements",
            "0",
        ),
        (
            "LISTEN own",
            "SELECT count(*) FROM pg_listening_channels()",
            "0",
        ),
        ("SET work_mem = '7MB'", "SHOW work_mem", "4MB"),
        (
            "SET my.own = 'x'",
            "SELECT coalesce(current_setting('my.own', true), '')",
            "",
        ),
        (
            "SET search_path = 'x'",
            "SHOW search_path",
            "\"$user\", public",
        ),
        ("SET ROLE pg_monitor", "SELECT current_user", "postgres"),
    ] {
        for says_goodbye in [true, false] {
            let mut one = tier.client();
            run(&mut one, begin);
            match says_goodbye {
                true => one.leave().expect("goodbye"),
                false => drop(one),
            }
            let mut other = tier.client();
            assert_eq!(value(&mut other, sql), expected, "{begin}");
        }
    }
}
