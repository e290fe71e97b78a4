//! Limits and times, and what clients are told when they meet them.

use std::{
    thread,
    time::{Duration, Instant},
};

use outgrow_testkit::postgres::{PostgresError, Session, message};

use super::{Tier, backend, modes::connections, run, value};
use crate::shop::SOON;

/// The words with which a client is not let in.
fn refused(tier: &Tier, parameters: &[(&str, &str)]) -> String {
    match Session::start(tier.address(), parameters) {
        Ok(_) => panic!("{parameters:?} is let in"),
        Err(error) => error.to_string(),
    }
}

const USUAL: [(&str, &str); 2] = [("user", "postgres"), ("database", "postgres")];

#[test]
fn clients_beyond_a_limit_are_told_so() {
    let settings = "max_clients = 5\n[postgres.user.few]\nmax_clients = 2\n\
                    [postgres.database.postgres]\n\
                    [postgres.database.small]\nname = \"postgres\"\nmax_clients = 3";
    let Some(tier) = Tier::start(settings) else {
        return;
    };
    run(&mut tier.direct(), "CREATE ROLE few LOGIN");
    let start = |user: &str, database: &str| {
        let parameters = [("user", user), ("database", database)];
        Session::start(tier.address(), &parameters)
    };
    let mut clients: Vec<_> = (0..3)
        .map(|_| start("postgres", "small").expect("let in"))
        .collect();
    assert_eq!(
        refused(&tier, &[("user", "postgres"), ("database", "small")]),
        "FATAL 53300 client connections exceeded (max_db_client_connections)"
    );
    clients.pop();
    for _ in 0..2 {
        clients.push(start("few", "postgres").expect("let in"));
    }
    assert_eq!(
        refused(&tier, &[("user", "few"), ("database", "postgres")]),
        "FATAL 53300 client connections exceeded (max_user_client_connections)"
    );
    clients.push(start("postgres", "postgres").expect("the fifth"));
    assert_eq!(
        refused(&tier, &USUAL),
        "FATAL 53300 no more connections allowed (max_client_conn)"
    );
    // Those who are in are served, and who leaves makes room.
    for client in &mut clients {
        run(client, "SELECT 1");
    }
    clients.pop();
    let room = |_: &_| start("postgres", "postgres").ok();
    tier.outgrow
        .wait("there is room", SOON, room)
        .expect("again");
}

#[test]
fn who_waits_for_too_long_is_told_so() {
    let Some(tier) = Tier::start("pool_size = 1\n[postgres.timeouts]\nwait = \"500ms\"") else {
        return;
    };
    let (mut holder, mut client) = (tier.client(), tier.client());
    run(&mut holder, "BEGIN");
    let began = Instant::now();
    let error = client.query("SELECT 1").expect_err("nothing is free");
    let took = began.elapsed();
    assert_eq!(error.to_string(), "FATAL 08P01 query_wait_timeout");
    assert!(
        took >= Duration::from_millis(450) && took < Duration::from_secs(3),
        "{took:?}"
    );
    client.is_over().expect("and closed");
    run(&mut holder, "COMMIT");
    run(&mut tier.client(), "SELECT 1");
}

#[test]
fn what_takes_too_long_is_ended() {
    let timeouts = "pool_size = 2\n[postgres.timeouts]\nquery = \"500ms\"\n\
                    idle_transaction = \"400ms\"\ntransaction = \"2s\"";
    let Some(tier) = Tier::start(timeouts) else {
        return;
    };
    let told = |client: &mut Session, sql: &str| {
        client
            .query(sql)
            .expect_err("it takes too long")
            .to_string()
    };
    let mut client = tier.client();
    assert_eq!(
        told(&mut client, "SELECT pg_sleep(5)"),
        "ERROR 57014 canceling statement due to query timeout"
    );
    run(&mut client, "BEGIN");
    assert_eq!(
        client.answer().expect_err("it is silent").to_string(),
        "FATAL 25P03 idle transaction timeout"
    );
    let mut client = tier.client();
    run(&mut client, "BEGIN");
    let began = Instant::now();
    let error = loop {
        if let Err(error) = client.query("SELECT 1") {
            break error;
        }
        assert!(began.elapsed() < SOON, "it goes on for ever");
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(error.to_string(), "FATAL 57014 transaction timeout");
    // Nothing of it is left: what was ended is not handed on.
    let mut direct = tier.direct();
    let gone = |_: &_| {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' OR \
                   state LIKE 'idle in%'";
        (value(&mut direct, sql) == "0").then_some(())
    };
    tier.outgrow
        .wait("nothing is left", SOON, gone)
        .expect("soon");
    run(&mut tier.client(), "SELECT 1");
}

#[test]
fn a_client_that_is_silent_for_too_long_is_sent_away() {
    let timeouts = "pool_size = 1\n[postgres.timeouts]\nclient_idle = \"500ms\"\nlogin = \"600ms\"";
    let Some(tier) = Tier::start(timeouts) else {
        return;
    };
    let mut client = tier.client();
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(200));
        run(&mut client, "SELECT 1");
    }
    let error = client.answer().expect_err("it is silent");
    assert_eq!(error.to_string(), "FATAL 57P05 client_idle_timeout");
    // One that never says who it is.
    let mut slow = Session::open(tier.address()).expect("connected");
    let began = Instant::now();
    let error = slow.answer().expect_err("it says nothing");
    assert_eq!(error.to_string(), "FATAL 08P01 client_login_timeout");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_pool_has_no_more_connections_than_it_may() {
    let settings = "pool_size = 3\nmin_pool_size = 2\nreserve_pool_size = 2\n\
                    reserve_pool_timeout = \"500ms\"\n[postgres.timeouts]\nserver_idle = \"500ms\"";
    let Some(tier) = Tier::start(settings) else {
        return;
    };
    let mut direct = tier.direct();
    let mut clients: Vec<Session> = (0..6).map(|_| tier.client()).collect();
    let address = tier.address();
    for client in &mut clients[..3] {
        run(client, "BEGIN");
    }
    assert_eq!(connections(&mut direct), 3);
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            thread::spawn(move || {
                let mut client = Session::of(address, "postgres").expect("let in");
                let began = Instant::now();
                run(&mut client, "BEGIN");
                (client, began.elapsed())
            })
        })
        .collect();
    // Two get the reserve after they have waited, the third waits on.
    let reserve = |_: &_| (connections(&mut direct) == 5).then_some(());
    tier.outgrow
        .wait("the reserve", SOON, reserve)
        .expect("it is taken");
    thread::sleep(Duration::from_secs(1));
    assert_eq!(connections(&mut direct), 5);
    run(&mut clients[0], "COMMIT");
    for thread in waiting {
        let (mut client, took) = thread.join().expect("no panic");
        assert!(took >= Duration::from_millis(400), "{took:?}");
        run(&mut client, "COMMIT");
    }
    for client in &mut clients[1..3] {
        run(client, "COMMIT");
    }
    // Back to what is kept.
    let fewer = |_: &_| (connections(&mut direct) == 2).then_some(());
    tier.outgrow
        .wait("the rest is closed", SOON, fewer)
        .expect("in time");
    thread::sleep(Duration::from_secs(1));
    assert_eq!(connections(&mut direct), 2);
}

#[test]
fn connections_get_no_older_than_they_may() {
    let Some(tier) = Tier::start("pool_size = 1\n[postgres.timeouts]\nserver_lifetime = \"1s\"")
    else {
        return;
    };
    let mut client = tier.client();
    let first = backend(&mut client);
    // In a transaction it stays, however old.
    run(&mut client, "BEGIN");
    let own = backend(&mut client);
    thread::sleep(Duration::from_millis(1_500));
    assert_eq!(backend(&mut client), own);
    run(&mut client, "COMMIT");
    assert_ne!(backend(&mut client), first);
}

#[test]
fn one_database_has_no_more_connections_than_it_may() {
    let settings = "pool_size = 3\n[postgres.database.postgres]\n\
                    [postgres.database.third]\nname = \"postgres\"\nmax_server_connections = 1";
    let Some(tier) = Tier::start(settings) else {
        return;
    };
    let mut direct = tier.direct();
    let mut clients: Vec<_> = (0..2)
        .map(|_| Session::of(tier.address(), "third").expect("let in"))
        .collect();
    run(&mut clients[0], "BEGIN");
    clients[1].send(&message::query("SELECT 1")).expect("sent");
    thread::sleep(super::MOMENT);
    assert_eq!(connections(&mut direct), 1);
    run(&mut clients[0], "COMMIT");
    clients[1].answer().expect("its turn");
}

#[test]
fn what_a_start_asks_for_and_cannot_have_is_told() {
    let Some(tier) = Tier::start("") else {
        return;
    };
    let with = |name: &str, value: &str| {
        let parameters = [USUAL[0], USUAL[1], (name, value)];
        match Session::start(tier.address(), &parameters) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(
        with("work_mem", "1MB"),
        "FATAL 08P01 unsupported startup parameter: work_mem"
    );
    assert_eq!(with("extra_float_digits", "2"), "", "drivers send it");
    assert_eq!(
        with("options", "-c work_mem=1MB"),
        "FATAL 08P01 unsupported startup parameter in options: work_mem"
    );
    assert_eq!(
        refused(&tier, &[("database", "postgres")]),
        "FATAL 08P01 no username supplied"
    );
    let said = Session::start(
        tier.address(),
        &[("user", "unknown"), ("database", "postgres")],
    );
    let Err(PostgresError::Said(problem)) = said else {
        panic!("{said:?}");
    };
    assert!(
        problem.code.starts_with("28") && problem.message.contains("unknown"),
        "{problem}"
    );
}
