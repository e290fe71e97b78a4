//! Queries that run for longer than they may: they end at the server too, and their clients go on.

use std::time::{Duration, Instant};

use outgrow_testkit::postgres::{Session, message};

use super::{Tier, backend, run, value};
use crate::shop::SOON;

const SETTINGS: &str = "pool_size = 1\n[postgres.timeouts]\nquery = \"500ms\"";
const TOLD: &str = "ERROR 57014 canceling statement due to query timeout";

/// Nothing sleeps at the server any more.
fn sleeps_nothing(tier: &Tier, direct: &mut Session) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let is_over = |_: &_| (value(direct, sql) == "0").then_some(());
    tier.outgrow
        .wait("it ends", SOON, is_over)
        .expect("it does");
}

#[test]
fn the_server_ends_it_and_the_client_goes_on() {
    let Some(tier) = Tier::start(SETTINGS) else {
        return;
    };
    let mut direct = tier.direct();
    let mut client = tier.client();
    let before = backend(&mut client);
    let began = Instant::now();
    let told = client.query("SELECT pg_sleep(60)").expect_err("too long");
    assert_eq!(told.to_string(), TOLD);
    let took = began.elapsed();
    assert!(
        (Duration::from_millis(500)..SOON).contains(&took),
        "{took:?}"
    );
    assert_eq!(client.state, b'I');
    sleeps_nothing(&tier, &mut direct);
    assert_eq!(backend(&mut client), before, "the connection is kept");
    // Amid rows.
    client
        .send(&message::query("SELECT 1; SELECT pg_sleep(60)"))
        .expect("sent");
    let all = client.until_ready().expect("an answer");
    let tags: Vec<u8> = all.iter().map(|message| message.tag).collect();
    assert_eq!(tags, b"TDCTEZ");
    // In a transaction, with a savepoint.
    run(&mut client, "BEGIN; SAVEPOINT a");
    let told = client.extended("SELECT pg_sleep(60)", &[]);
    assert_eq!(told.expect_err("too long").to_string(), TOLD);
    assert_eq!(client.state, b'E');
    run(&mut client, "ROLLBACK TO a");
    assert_eq!(backend(&mut client), before);
    run(&mut client, "COMMIT");
}

#[test]
fn what_comes_behind_it_has_its_own_time() {
    let Some(tier) = Tier::start(SETTINGS) else {
        return;
    };
    let mut client = tier.client();
    let three = ["SELECT pg_sleep(60)", "SELECT 2", "SELECT pg_sleep(60)"];
    let three: Vec<u8> = three.iter().flat_map(|sql| message::query(sql)).collect();
    client.send(&three).expect("sent");
    assert_eq!(client.answer().expect_err("too long").to_string(), TOLD);
    let rows = client.answer().expect("rows");
    assert_eq!(rows, [[Some("2".to_owned())]]);
    assert_eq!(client.answer().expect_err("too long").to_string(), TOLD);
    // Ones that end at about that time are never hit by what was meant for the one before.
    for round in 0..20 {
        let sleep = 0.45 + f64::from(round) * 0.005;
        client
            .send(&message::query(&format!("SELECT pg_sleep({sleep})")))
            .expect("sent");
        match client.answer() {
            Ok(_) => {}
            Err(error) => assert_eq!(error.to_string(), TOLD),
        }
        assert_eq!(value(&mut client, "SELECT 3"), "3");
    }
}

/// A server that waits for the client's data cannot end the query.
#[test]
fn a_copy_without_data_is_ended_with_its_client() {
    let Some(tier) = Tier::start(SETTINGS) else {
        return;
    };
    let mut client = tier.client();
    run(&mut client, "CREATE TABLE t (x int)");
    client
        .send(&message::query("COPY t FROM STDIN"))
        .expect("sent");
    let told = client.answer().expect_err("too long").to_string();
    let expected = "FATAL 57014 query timeout, and the server has not ended the query";
    assert_eq!(told, expected);
    client.is_over().expect("and closed");
    assert_eq!(value(&mut tier.client(), "SELECT count(*) FROM t"), "0");
}

#[test]
fn what_is_under_way_in_a_transaction_that_takes_too_long_is_ended_too() {
    let Some(tier) = Tier::start("pool_size = 1\n[postgres.timeouts]\ntransaction = \"500ms\"")
    else {
        return;
    };
    let mut direct = tier.direct();
    let mut client = tier.client();
    run(&mut client, "BEGIN");
    let told = client.query("SELECT pg_sleep(60)").expect_err("too long");
    assert_eq!(told.to_string(), "FATAL 57014 transaction timeout");
    sleeps_nothing(&tier, &mut direct);
}
