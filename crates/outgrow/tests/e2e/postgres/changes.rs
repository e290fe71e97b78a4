//! Reloads and upgrades while clients are at work.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use outgrow_testkit::postgres::{Session, message};

use super::{MOMENT, Tier, backend, config, modes::connections, refusal, run, value};
use crate::shop::{SOON, data_pid};

fn databases(tier: &Tier, names: &[&str], settings: &str) -> String {
    let mut text = config(settings, tier.database.address());
    for name in names {
        text += &format!("[postgres.database.{name}]\nname = \"postgres\"\n");
    }
    text
}

#[test]
fn databases_come_and_go_without_touching_others() {
    let Some(mut tier) = Tier::start("[postgres.database.one]\nname = \"postgres\"") else {
        return;
    };
    let address = tier.address();
    let open = |database: &str| Session::of(address, database);
    let mut one = open("one").expect("let in");
    run(&mut one, "BEGIN; SET LOCAL work_mem = '5MB'");
    let own = backend(&mut one);
    let told = open("two").map(|_| ()).expect_err("not yet").to_string();
    assert_eq!(told, "FATAL 3D000 no such database: two");
    let text = databases(&tier, &["one", "two"], "");
    tier.outgrow.reload(&text).expect("taken");
    let mut two = open("two").expect("now it is there");
    run(&mut two, "BEGIN");
    assert_eq!(backend(&mut one), own);
    assert_eq!(value(&mut one, "SHOW work_mem"), "5MB");
    run(&mut one, "COMMIT");
    run(&mut two, "COMMIT");
    let mut waiting = open("two").expect("let in");
    run(&mut two, "SELECT 1");
    let text = databases(&tier, &["one"], "");
    tier.outgrow.reload(&text).expect("taken");
    let told = open("two").map(|_| ()).expect_err("gone").to_string();
    assert_eq!(told, "FATAL 3D000 no such database: two");
    // Who was in is told when it asks for something, and not left without an answer.
    let told = refusal(&mut waiting, "SELECT 1");
    assert!(told.starts_with("FATAL"), "{told}");
    assert_eq!(value(&mut one, "SELECT 1"), "1");
}

#[test]
fn a_pool_follows_its_new_size() {
    let Some(mut tier) = Tier::start("pool_size = 4") else {
        return;
    };
    let mut direct = tier.direct();
    let mut clients: Vec<Session> = (0..4).map(|_| tier.client()).collect();
    for client in &mut clients {
        run(client, "BEGIN");
    }
    assert_eq!(connections(&mut direct), 4);
    let text = config("pool_size = 1", tier.database.address());
    tier.outgrow.reload(&text).expect("taken");
    for client in &mut clients {
        run(client, "SELECT 1");
        run(client, "COMMIT");
    }
    let fewer = |_: &_| (connections(&mut direct) == 1).then_some(());
    tier.outgrow
        .wait("one is left", SOON, fewer)
        .expect("it is");
    for client in &mut clients {
        run(client, "SELECT 1");
    }
    assert_eq!(connections(&mut direct), 1);
    let text = config("pool_size = 3", tier.database.address());
    tier.outgrow.reload(&text).expect("taken");
    for client in &mut clients[..3] {
        run(client, "BEGIN");
    }
    assert_eq!(connections(&mut direct), 3);
}

#[test]
fn another_server_is_taken_for_what_begins_anew() {
    let Some(mut tier) = Tier::start("pool_size = 2") else {
        return;
    };
    let Some(other) = Tier::start("") else {
        return;
    };
    run(
        &mut tier.direct(),
        "CREATE TABLE place AS SELECT 'first' AS name",
    );
    run(
        &mut other.direct(),
        "CREATE TABLE place AS SELECT 'second' AS name",
    );
    let (mut amid, mut idle) = (tier.client(), tier.client());
    run(&mut amid, "BEGIN");
    assert_eq!(value(&mut idle, "SELECT name FROM place"), "first");
    let text = config("pool_size = 2", other.database.address());
    tier.outgrow.reload(&text).expect("taken");
    assert_eq!(value(&mut idle, "SELECT name FROM place"), "second");
    // A transaction stays where it began.
    assert_eq!(value(&mut amid, "SELECT name FROM place"), "first");
    run(&mut amid, "COMMIT");
    assert_eq!(value(&mut amid, "SELECT name FROM place"), "second");
    assert_eq!(
        connections(&mut tier.direct()),
        0,
        "those of the first are closed"
    );
}

#[test]
fn a_wrong_configuration_changes_nothing() {
    let Some(mut tier) = Tier::start("pool_size = 1") else {
        return;
    };
    let mut client = tier.client();
    run(&mut client, "BEGIN");
    let own = backend(&mut client);
    for (settings, expected) in [
        ("pool_size = 0", "pool_size"),
        ("pool_mode = \"nonsense\"", "transaction"),
        ("pool_sise = 5", "pool_size"),
        ("[postgres.database.x]\nservice = \"nowhere\"", "nowhere"),
    ] {
        let text = config(settings, tier.database.address());
        let error = tier.outgrow.reload(&text).expect_err("it is wrong");
        let told = error.to_string();
        assert!(told.contains(expected), "{settings}: {told}");
    }
    assert_eq!(backend(&mut client), own);
    run(&mut client, "COMMIT");
    run(&mut tier.client(), "SELECT 1");
}

#[test]
fn an_upgrade_lets_transactions_end() {
    let Some(tier) = Tier::start("pool_size = 3") else {
        return;
    };
    run(&mut tier.direct(), "CREATE TABLE t (a int)");
    let (mut amid, mut running, mut idle) = (tier.client(), tier.client(), tier.client());
    run(&mut amid, "BEGIN; INSERT INTO t VALUES (1)");
    run(&mut idle, "SELECT 1");
    running
        .send(&message::query("SELECT 'whole' FROM pg_sleep(2)"))
        .expect("sent");
    let old = data_pid(&tier.outgrow);
    tier.outgrow.upgrade(None).expect("another one");
    assert_ne!(data_pid(&tier.outgrow), old);
    // New clients are the new one's, at once.
    run(&mut tier.client(), "SELECT 1");
    assert_eq!(
        running.answer().expect("rows"),
        [[Some("whole".to_owned())]]
    );
    thread::sleep(MOMENT);
    run(&mut amid, "INSERT INTO t VALUES (2)");
    run(&mut amid, "COMMIT");
    // All of them are the new one's now.
    for client in [&mut amid, &mut running, &mut idle] {
        assert_eq!(value(client, "SELECT sum(a) FROM t"), "3");
    }
    let ended = |outgrow: &outgrow_testkit::outgrow::Outgrow| {
        (!outgrow.pids().data.contains(&old)).then_some(())
    };
    tier.outgrow
        .wait("the old one ends", SOON, ended)
        .expect("it does");
}

/// Work goes on over upgrades and reloads: what is told as done is done, nothing is done twice, and
/// no connection is lost.
#[test]
fn nothing_that_was_acknowledged_is_lost_by_upgrades() {
    let Some(mut tier) = Tier::start("pool_size = 4") else {
        return;
    };
    run(
        &mut tier.direct(),
        "CREATE TABLE t (client int, number int)",
    );
    let address = tier.address();
    let over = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                let mut done = 0_u32;
                let mut unknown = 0_u32;
                let mut next = 0_u32;
                while !over.load(Ordering::Relaxed) {
                    let mut client = Session::of(address, "postgres").expect("always let in");
                    while !over.load(Ordering::Relaxed) {
                        next += 1;
                        let sql = format!("BEGIN; INSERT INTO t VALUES ({number}, {next}); COMMIT");
                        match client.query(&sql) {
                            Ok(_) => done += 1,
                            // Sent away between two transactions: what was sent meanwhile was
                            // not read.
                            Err(error) => {
                                let told = error.to_string();
                                assert!(
                                    told.starts_with("FATAL 57P01") || told.starts_with("the conn"),
                                    "{told}"
                                );
                                unknown += 1;
                                break;
                            }
                        }
                    }
                }
                (done, unknown)
            })
        })
        .collect();
    for round in 0..4 {
        thread::sleep(Duration::from_millis(700));
        tier.outgrow.upgrade(None).expect("another one");
        let text = config(
            &format!("pool_size = {}", 3 + round),
            tier.database.address(),
        );
        tier.outgrow.reload(&text).expect("taken");
    }
    thread::sleep(Duration::from_millis(500));
    over.store(true, Ordering::Relaxed);
    let (mut done, mut unknown) = (0, 0);
    for thread in threads {
        let (one, other) = thread.join().expect("no panic");
        done += one;
        unknown += other;
    }
    let mut direct = tier.direct();
    let count: u32 = value(&mut direct, "SELECT count(*) FROM t")
        .parse()
        .expect("a number");
    assert!(
        count >= done && count <= done + unknown,
        "{done} done, {unknown} unknown, {count} there"
    );
    let twice =
        "SELECT count(*) FROM (SELECT FROM t GROUP BY client, number HAVING count(*) > 1) x";
    assert_eq!(value(&mut direct, twice), "0");
    assert!(done > 200, "{done} show nothing");
    assert_eq!(unknown, 0, "nobody notices an upgrade");
}

#[test]
fn a_stop_lets_transactions_end() {
    let Some(Tier { outgrow, database }) = Tier::start("pool_size = 2\n") else {
        return;
    };
    let address = outgrow.address("pooler").expect("an address");
    let mut direct = Session::of(database.address(), "postgres").expect("let in");
    run(&mut direct, "CREATE TABLE t (a int)");
    let mut amid = Session::of(address, "postgres").expect("let in");
    let mut idle = Session::of(address, "postgres").expect("let in");
    run(&mut amid, "BEGIN; INSERT INTO t VALUES (1)");
    let stopping = thread::spawn(move || outgrow.stop());
    let told = idle.answer().expect_err("it is sent away").to_string();
    assert_eq!(told, "FATAL 57P01 server shutting down");
    run(&mut amid, "COMMIT");
    let told = amid.answer().expect_err("then it is as well").to_string();
    assert_eq!(told, "FATAL 57P01 server shutting down");
    stopping.join().expect("no panic").expect("stopped");
    assert_eq!(value(&mut direct, "SELECT count(*) FROM t"), "1");
    assert_eq!(connections(&mut direct), 0);
}
