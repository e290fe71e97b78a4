//! Upgrades that clients do not notice: those at rest are handed to the next data process, with
//! their sessions.
//!
//! Not here: transactions that go on in the old process (`changes`), clients with TLS
//! (`postgres_tls`), those that listen (`listen_upgrade`).

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use outgrow_testkit::{
    outgrow::Outgrow,
    postgres::{PostgresError, Session, message},
};

use super::{MOMENT, Tier, backend, config, run, value};
use crate::shop::{SOON, data_pid, try_state};

/// Waits until the data process `old` has ended.
pub(super) fn ended(outgrow: &Outgrow, old: u32) {
    let is_gone = |outgrow: &Outgrow| (!outgrow.pids().data.contains(&old)).then_some(());
    outgrow
        .wait("the old one ends", SOON, is_gone)
        .expect("it does");
}

/// An upgrade, and the end of the process before it: nobody holds it up.
pub(super) fn upgrade(outgrow: &Outgrow) {
    let old = data_pid(outgrow);
    outgrow.upgrade(None).expect("another one");
    ended(outgrow, old);
}

fn taken(outgrow: &Outgrow) -> Option<u64> {
    try_state(outgrow)?["postgres"]["handover"]["taken"].as_u64()
}

pub(super) fn wait_taken(outgrow: &Outgrow, count: u64) {
    let are_taken = |outgrow: &Outgrow| (taken(outgrow)? == count).then_some(());
    let what = format!("{count} are taken");
    outgrow.wait(&what, SOON, are_taken).expect("they are");
}

#[test]
fn two_hundred_sessions_outlive_five_upgrades() {
    let Some(tier) = Tier::start("pool_size = 5") else {
        return;
    };
    run(&mut tier.direct(), "CREATE ROLE other");
    let mut clients: Vec<Session> = (0..200).map(|_| tier.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        run(client, &format!("SET work_mem = '{}kB'", 1_100 + number));
        run(client, &format!("SET application_name = 'number {number}'"));
        run(client, &format!("SET my.own = 'it''s {number}'"));
        let sql = format!("SELECT {number} + $1::int");
        client.prepare("own", &sql).expect("prepared");
        if number % 3 == 0 {
            run(client, "SET ROLE other");
        }
        // Prepared without a name, and not used yet.
        let unnamed = message::parse("", &format!("SELECT 'unnamed {number}', $1::text"));
        let series = [unnamed, message::sync()].concat();
        client.send(&series).expect("sent");
        client.answer().expect("prepared");
    }
    let keys: Vec<_> = clients.iter().map(|client| client.key.clone()).collect();
    let unique: BTreeSet<_> = keys.iter().collect();
    assert_eq!(unique.len(), 200);
    for round in 1..=5 {
        upgrade(&tier.outgrow);
        wait_taken(&tier.outgrow, 200);
        for (number, client) in clients.iter_mut().enumerate() {
            let told = format!("round {round}, number {number}");
            let rows = client.execute("", &[Some("x")]);
            let rows = rows.unwrap_or_else(|error| panic!("{told}: unnamed: {error}"));
            let expected = [format!("unnamed {number}"), "x".to_owned()].map(Some);
            assert_eq!(rows, [expected.to_vec()], "{told}");
            let rows = client.execute("own", &[Some("1000")]).expect("prepared");
            assert_eq!(rows, [[Some((number + 1000).to_string())]], "{told}");
            let sql = "SELECT current_setting('work_mem') || ' ' || \
                       current_setting('application_name') || ' ' || \
                       current_setting('my.own') || ' ' || current_user";
            let role = if number % 3 == 0 { "other" } else { "postgres" };
            let memory = 1_100 + number;
            assert_eq!(
                value(client, sql),
                format!("{memory}kB number {number} it's {number} {role}"),
                "{told}"
            );
            // A simple query has ended it.
            let unnamed = message::parse("", &format!("SELECT 'unnamed {number}', $1::text"));
            let series = [unnamed, message::sync()].concat();
            client.send(&series).expect("sent");
            client.answer().expect("prepared");
        }
        for (client, key) in clients.iter().zip(&keys) {
            assert_eq!(client.key, *key);
        }
    }
    // What cancels it is what it was told at its login, four processes ago.
    let client = &mut clients[7];
    client
        .send(&message::query("SELECT pg_sleep(60)"))
        .expect("sent");
    wait_sleeps(&tier, 1);
    client.cancel().expect("asked");
    let told = client.answer().expect_err("it is cancelled");
    assert_eq!(told.code(), "57014", "{told}");
    run(client, "SELECT 1");
    // Resetting goes back to the session's start, and nothing else is changed.
    run(client, "RESET ALL");
    assert_eq!(value(client, "SHOW work_mem"), "4MB");
    assert_eq!(value(client, "SELECT current_user"), "postgres");
}

/// Waits until so many queries sleep.
fn wait_sleeps(tier: &Tier, count: usize) {
    let mut direct = tier.direct();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(%' AND \
               state = 'active' AND pid <> pg_backend_pid()";
    let sleep = |_: &_| (value(&mut direct, sql) == count.to_string()).then_some(());
    tier.outgrow.wait("it runs", SOON, sleep).expect("it does");
}

#[test]
fn a_load_of_transactions_notices_no_upgrade() {
    let Some(tier) = Tier::start("pool_size = 4") else {
        return;
    };
    run(
        &mut tier.direct(),
        "CREATE TABLE t (client int, number int)",
    );
    let address = tier.address();
    let over = Arc::new(AtomicBool::new(false));
    let work = move |number: usize, over: Arc<AtomicBool>| {
        let mut client = Session::of(address, "postgres").expect("let in");
        client
            .prepare("insert", "INSERT INTO t VALUES ($1::int, $2::int)")
            .expect("prepared");
        let mut done = 0_u32;
        let mut one = |done: u32| -> Result<(), PostgresError> {
            let (own, next) = (number.to_string(), done.to_string());
            if number.is_multiple_of(2) {
                client.query("BEGIN")?;
            }
            client.execute("insert", &[Some(&own), Some(&next)])?;
            if number.is_multiple_of(2) {
                client.query("COMMIT")?;
            }
            Ok(())
        };
        while !over.load(Ordering::Relaxed) {
            if let Err(error) = one(done) {
                panic!("client {number}, transaction {done}: {error}");
            }
            done += 1;
        }
        done
    };
    let threads: Vec<_> = (0..16)
        .map(|number| {
            let over = Arc::clone(&over);
            thread::spawn(move || work(number, over))
        })
        .collect();
    for _ in 0..6 {
        thread::sleep(Duration::from_millis(400));
        upgrade(&tier.outgrow);
    }
    over.store(true, Ordering::Relaxed);
    let done: u32 = threads
        .into_iter()
        .map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| panic!("{}", tier.outgrow.stderr()))
        })
        .sum();
    let mut direct = tier.direct();
    let count = value(&mut direct, "SELECT count(*) FROM t");
    assert_eq!(count, done.to_string(), "nothing is lost or done twice");
    let twice =
        "SELECT count(*) FROM (SELECT FROM t GROUP BY client, number HAVING count(*) > 1) x";
    assert_eq!(value(&mut direct, twice), "0");
    assert!(done > 500, "{done} show nothing");
}

#[test]
fn half_a_message_goes_along() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    let mut client = tier.client();
    let whole = message::query("SELECT 'in two parts'");
    client.send(&whole[..9]).expect("sent");
    upgrade(&tier.outgrow);
    client.send(&whole[9..]).expect("sent");
    let answer = client.answer().expect("rows");
    assert_eq!(answer, [[Some("in two parts".to_owned())]]);
}

#[test]
fn who_waits_for_a_connection_waits_in_the_next_process() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    let (mut holder, mut waiting) = (tier.client(), tier.client());
    run(&mut holder, "BEGIN");
    waiting
        .send(&message::query("SELECT 'at last'"))
        .expect("sent");
    let waits = |outgrow: &Outgrow| {
        let state = try_state(outgrow)?;
        (state["postgres"]["pools"][0]["waiting"].as_u64()? == 1).then_some(())
    };
    tier.outgrow.wait("it waits", SOON, waits).expect("it does");
    let old = data_pid(&tier.outgrow);
    tier.outgrow.upgrade(None).expect("another one");
    let answer = waiting.answer().expect("rows");
    assert_eq!(answer, [[Some("at last".to_owned())]]);
    run(&mut holder, "COMMIT");
    ended(&tier.outgrow, old);
    run(&mut holder, "SELECT 1");
}

#[test]
fn a_cancel_request_finds_its_client_in_the_old_process() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    let mut client = tier.client();
    client
        .send(&message::query("SELECT pg_sleep(60)"))
        .expect("sent");
    wait_sleeps(&tier, 1);
    let old = data_pid(&tier.outgrow);
    tier.outgrow.upgrade(None).expect("another one");
    tier.outgrow.upgrade(None).expect("and another one");
    // It is the newest that gets the request.
    client.cancel().expect("asked");
    let told = client.answer().expect_err("it is cancelled");
    assert_eq!(told.code(), "57014", "{told}");
    run(&mut client, "SELECT 1");
    ended(&tier.outgrow, old);
    run(&mut client, "SELECT 1");
    wait_taken(&tier.outgrow, 1);
}

/// The next process dies when some clients are its own and others are still at work in the old one:
/// those are lost that it had, and no others.
#[test]
fn when_the_next_process_dies_only_its_own_clients_are_lost() {
    let Some(tier) = Tier::start("pool_size = 40") else {
        return;
    };
    run(&mut tier.direct(), "CREATE TABLE t (a int)");
    let mut idle: Vec<Session> = (0..20).map(|_| tier.client()).collect();
    let mut amid: Vec<Session> = (0..20).map(|_| tier.client()).collect();
    for client in &mut amid {
        run(client, "BEGIN; INSERT INTO t VALUES (1)");
    }
    let old = data_pid(&tier.outgrow);
    tier.outgrow.upgrade(None).expect("another one");
    wait_taken(&tier.outgrow, 20);
    let next = data_pid(&tier.outgrow);
    tier.outgrow.kill9(next).expect("killed");
    for client in &mut idle {
        client.is_over().expect("it went with its process");
    }
    for (number, client) in amid.iter_mut().enumerate() {
        run(client, &format!("INSERT INTO t VALUES ({number})"));
        run(client, "COMMIT");
    }
    // They are handed to the one that comes after it.
    ended(&tier.outgrow, old);
    for client in &mut amid {
        run(client, "SELECT 1");
    }
    wait_taken(&tier.outgrow, 20);
    assert_eq!(value(&mut amid[0], "SELECT count(*) FROM t"), "40");
}

#[test]
fn who_may_not_come_in_any_more_is_told() {
    let Some(mut tier) = Tier::start("pool_size = 2\n[postgres.user.gone]") else {
        return;
    };
    run(&mut tier.direct(), "CREATE ROLE gone LOGIN");
    let parameters = [("user", "gone"), ("database", "postgres")];
    let mut gone = Session::start(tier.address(), &parameters).expect("let in");
    let mut stays = tier.client();
    run(&mut gone, "SELECT 1");
    let text = config("pool_size = 2", tier.database.address());
    tier.outgrow.reload(&text).expect("taken");
    // As with Postgres: a session stays, whatever becomes of who may begin one.
    run(&mut gone, "SELECT 1");
    upgrade(&tier.outgrow);
    let told = gone.answer().expect_err("it is sent away").to_string();
    assert_eq!(told, "FATAL 28000 user \"gone\" may not log in any more");
    run(&mut stays, "SELECT 1");
}

#[test]
fn limits_of_the_next_process_count() {
    let Some(mut tier) = Tier::start("pool_size = 2\nmax_clients = 10") else {
        return;
    };
    let mut clients: Vec<Session> = (0..6).map(|_| tier.client()).collect();
    let text = config("pool_size = 2\nmax_clients = 4", tier.database.address());
    tier.outgrow.reload(&text).expect("taken");
    upgrade(&tier.outgrow);
    let mut told = 0;
    for client in &mut clients {
        match client.query("SELECT 1") {
            Ok(_) => {}
            Err(error) => {
                let error = error.to_string();
                let expected = "FATAL 53300 no more connections allowed (max_client_conn)";
                assert!(
                    error == expected || error.starts_with("the conn"),
                    "{error}"
                );
                told += 1;
            }
        }
    }
    assert_eq!(told, 2);
}

/// Who has what cannot change its process is told, once it is at rest, as before.
#[test]
fn who_cannot_go_along_is_told() {
    let Some(mut tier) = Tier::start("pool_size = 4") else {
        return;
    };
    let (mut pinned, mut plain) = (tier.client(), tier.client());
    run(&mut pinned, "CREATE TEMP TABLE own (a int)");
    let own = backend(&mut pinned);
    let old = data_pid(&tier.outgrow);
    tier.outgrow.upgrade(None).expect("another one");
    run(&mut plain, "SELECT 1");
    wait_taken(&tier.outgrow, 1);
    thread::sleep(MOMENT);
    run(&mut pinned, "INSERT INTO own VALUES (1)");
    assert_eq!(backend(&mut pinned), own, "it goes on where its table is");
    // Free of it, it is handed over.
    run(&mut pinned, "DROP TABLE own");
    ended(&tier.outgrow, old);
    run(&mut pinned, "SELECT 1");
    wait_taken(&tier.outgrow, 2);
    let state = try_state(&tier.outgrow).expect("a state");
    let before = &state["postgres"]["handover"]["before"][0];
    assert_eq!(before["handed_over"], 2, "{before}");
    // Who listens where the next process does not for it is told, and the log and the next process
    // say so.
    let mut listener = tier.client();
    run(&mut listener, "LISTEN news");
    let settings = "pool_size = 4\nnotifications = { shared = false }";
    let text = config(settings, tier.database.address());
    tier.outgrow.reload(&text).expect("taken");
    upgrade(&tier.outgrow);
    let told = listener.answer().expect_err("it is sent away").to_string();
    assert_eq!(told, "FATAL 57P01 server shutting down");
    tier.outgrow
        .wait_told(
            "2 clients were handed to the next data process, 1 told to reconnect (1 listens)",
        )
        .expect("told");
    let state = try_state(&tier.outgrow).expect("a state");
    let before = &state["postgres"]["handover"]["before"][0];
    assert_eq!(before["told_to_reconnect"]["listens"], 1, "{before}");
}

#[test]
fn sessions_stay_in_their_process() {
    let Some(tier) = Tier::start("pool_size = 4\npool_mode = \"session\"") else {
        return;
    };
    let (mut used, mut unused) = (tier.client(), tier.client());
    let own = backend(&mut used);
    tier.outgrow.upgrade(None).expect("another one");
    // One that has no connection yet is as good as any.
    run(&mut unused, "SELECT 1");
    wait_taken(&tier.outgrow, 1);
    thread::sleep(MOMENT);
    assert_eq!(backend(&mut used), own);
}

/// Bytes of a process that are its own, or none.
fn own_kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let count = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    count.unwrap_or_default()
}

#[test]
#[ignore = "a measurement: ten thousand clients, the time and the memory that they take"]
fn ten_thousand_idle_clients_move_within_seconds() {
    const CLIENTS: u64 = 10_000;
    let Some(tier) = Tier::start("pool_size = 4\nmax_clients = 20000\nmax_logins = 1000") else {
        return;
    };
    let old = data_pid(&tier.outgrow);
    let before = own_kib(old);
    let mut clients: Vec<Session> = (0..CLIENTS).map(|_| tier.client()).collect();
    for client in &mut clients {
        run(client, "SET work_mem = '5MB'");
        client
            .prepare("own", "SELECT $1::int + 1")
            .expect("prepared");
    }
    let there = own_kib(old);
    let began = std::time::Instant::now();
    tier.outgrow.upgrade(None).expect("another one");
    let next = data_pid(&tier.outgrow);
    wait_taken(&tier.outgrow, CLIENTS);
    let took = began.elapsed();
    ended(&tier.outgrow, old);
    let after = own_kib(next);
    println!(
        "{CLIENTS} clients moved within {took:?} of the order to upgrade; bytes for each: {} where \
         they logged in, {} where they were taken to (the whole process: {after} KiB)",
        (there - before) * 1_024 / CLIENTS,
        after.saturating_sub(before) * 1_024 / CLIENTS,
    );
    for client in clients.iter_mut().step_by(97) {
        let rows = client.execute("own", &[Some("1")]).expect("prepared");
        assert_eq!(rows, [[Some("2".to_owned())]]);
        assert_eq!(value(client, "SHOW work_mem"), "5MB");
    }
    assert!(took < Duration::from_secs(20), "{took:?}");
}
