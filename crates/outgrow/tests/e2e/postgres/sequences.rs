//! What sequences gave last, in transaction mode: a client's own, or none as in a new session, and
//! never another client's.

use std::{
    thread,
    time::{Duration, Instant},
};

use outgrow_testkit::postgres::{Session, message};

use super::{Tier, backend, refusal, run, value};
use crate::shop::SOON;

const UNDEFINED: &str = "ERROR 55000 lastval is not yet defined in this session";
const TABLES: &str = "CREATE TABLE a (id serial, x int); CREATE TABLE b (id serial, x int);
                      ALTER SEQUENCE a_id_seq RESTART 1000; ALTER SEQUENCE b_id_seq RESTART 5000";

fn shop(settings: &str) -> Option<Tier> {
    let tier = Tier::start(settings)?;
    run(&mut tier.direct(), TABLES);
    Some(tier)
}

/// The pool's clients are known to ask outside of transactions.
fn asked(tier: &Tier) {
    let mut client = tier.client();
    assert_eq!(refusal(&mut client, "SELECT lastval()"), UNDEFINED);
    client.leave().expect("it is gone");
}

#[test]
fn what_another_client_got_is_not_given() {
    let Some(tier) = shop("pool_size = 1") else {
        return;
    };
    let (mut one, mut other) = (tier.client(), tier.client());
    run(&mut one, "INSERT INTO a (x) VALUES (1)");
    assert_eq!(refusal(&mut other, "SELECT lastval()"), UNDEFINED);
    let undefined = refusal(&mut other, "SELECT currval('a_id_seq')");
    assert!(undefined.starts_with("ERROR 55000 currval"), "{undefined}");
    // By the extended protocol, by a statement with a name, by number.
    run(&mut one, "INSERT INTO a (x) VALUES (1)");
    let told = other.extended("SELECT lastval()", &[]);
    assert_eq!(told.expect_err("none").to_string(), UNDEFINED);
    other.prepare("s", "SELECT lastval()").expect("prepared");
    run(&mut one, "INSERT INTO a (x) VALUES (1)");
    let told = other.execute("s", &[]).expect_err("none");
    assert_eq!(told.to_string(), UNDEFINED);
    run(&mut one, "INSERT INTO a (x) VALUES (1)");
    let lastval = [&2559_u32.to_be_bytes()[..], &[0; 6]].concat();
    other.send(&message::tagged(b'F', &lastval)).expect("sent");
    assert_eq!(other.answer().expect_err("none").to_string(), UNDEFINED);
    // Behind what was sent in the same breath.
    run(&mut one, "INSERT INTO a (x) VALUES (1)");
    let both = [
        message::query("SELECT 1"),
        message::query("SELECT lastval()"),
    ];
    other.send(&both.concat()).expect("sent");
    other.answer().expect("rows");
    assert_eq!(other.answer().expect_err("none").to_string(), UNDEFINED);
    // Once it is known that this is asked here, within a transaction too.
    run(&mut one, "INSERT INTO a (x) VALUES (1)");
    run(&mut other, "BEGIN; SELECT 1");
    assert_eq!(refusal(&mut other, "SELECT lastval()"), UNDEFINED);
    run(&mut other, "ROLLBACK");
}

#[test]
fn its_own_is_given_after_the_insert() {
    let Some(tier) = shop("pool_size = 2") else {
        return;
    };
    asked(&tier);
    let over = Instant::now() + Duration::from_secs(3);
    thread::scope(|scope| {
        for number in 0..6 {
            let mut client = tier.client();
            scope.spawn(move || {
                let mut rounds = 0;
                while Instant::now() < over {
                    rounds += 1;
                    let tag = number * 1_000_000 + rounds;
                    run(&mut client, &format!("INSERT INTO a (x) VALUES ({tag})"));
                    let id = value(&mut client, "SELECT lastval()");
                    let sql = format!("SELECT x FROM a WHERE id = {id}");
                    assert_eq!(value(&mut client, &sql), tag.to_string());
                    let sql = "INSERT INTO b (id, x) VALUES (nextval('b_id_seq'), $1)";
                    client
                        .extended(sql, &[Some(&tag.to_string())])
                        .expect("inserted");
                    let sql = "INSERT INTO a (id, x) VALUES (0, currval('b_id_seq'))";
                    client.extended(sql, &[]).expect("inserted");
                    let sql = "SELECT currval('b_id_seq')";
                    let id = client.extended(sql, &[]).expect("a value");
                    let id = id[0][0].clone().expect("no null");
                    let sql = format!("SELECT x FROM b WHERE id = {id}");
                    assert_eq!(value(&mut client, &sql), tag.to_string());
                }
                assert!(rounds > 10, "{rounds}");
            });
        }
    });
}

#[test]
fn the_first_who_asks_gets_its_own_where_that_is_certain() {
    let Some(tier) = shop("pool_size = 1") else {
        return;
    };
    let mut other = tier.client();
    run(&mut other, "INSERT INTO b (x) VALUES (1)");
    // In a transaction.
    let mut client = tier.client();
    run(&mut client, "BEGIN; INSERT INTO a (x) VALUES (1)");
    assert_eq!(value(&mut client, "SELECT lastval()"), "1000");
    run(&mut client, "COMMIT");
    let Some(tier) = shop("pool_size = 1") else {
        return;
    };
    let mut other = tier.client();
    run(&mut other, "INSERT INTO b (x) VALUES (1)");
    // Who has had no other connection, nobody in between.
    let mut client = tier.client();
    run(&mut client, "INSERT INTO a (x) VALUES (1)");
    assert_eq!(value(&mut client, "SELECT lastval()"), "1000");
}

#[test]
fn a_connection_is_kept_for_a_moment_only() {
    let Some(tier) = shop("pool_size = 1") else {
        return;
    };
    asked(&tier);
    let (mut one, mut other) = (tier.client(), tier.client());
    run(&mut one, "INSERT INTO a (x) VALUES (1)");
    let began = Instant::now();
    assert_eq!(value(&mut other, "SELECT 1"), "1");
    assert!(began.elapsed() > Duration::from_millis(50), "it was kept");
    assert!(began.elapsed() < Duration::from_millis(900), "nobody asked");
    assert_eq!(refusal(&mut one, "SELECT lastval()"), UNDEFINED);
    // With RETURNING there is nothing to ask.
    run(&mut one, "INSERT INTO a (x) VALUES (1) RETURNING id");
    let began = Instant::now();
    assert_eq!(value(&mut other, "SELECT 1"), "1");
    assert!(began.elapsed() < Duration::from_millis(50), "it was kept");
    // Nor once it has asked.
    run(&mut one, "INSERT INTO a (x) VALUES (1)");
    assert_eq!(value(&mut one, "SELECT lastval()"), "1002");
    let began = Instant::now();
    assert_eq!(value(&mut other, "SELECT 1"), "1");
    assert!(began.elapsed() < Duration::from_millis(50), "it was kept");
    // While nobody wants it, its own connection is there for it whenever it asks.
    run(&mut one, "INSERT INTO a (x) VALUES (1)");
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT%' AND \
                now() - state_change > '1.5 s'";
    let mut direct = tier.direct();
    let is_idle = |_: &_| (value(&mut direct, idle) == "1").then_some(());
    tier.outgrow
        .wait("it is idle", SOON, is_idle)
        .expect("it is");
    assert_eq!(value(&mut one, "SELECT lastval()"), "1003");
}

#[test]
fn the_unnamed_statement_outlives_what_is_discarded() {
    let Some(tier) = shop("pool_size = 1") else {
        return;
    };
    let mut other = tier.client();
    let mut client = tier.client();
    client.prepare("", "SELECT 7").expect("prepared");
    run(&mut other, "INSERT INTO a (x) VALUES (1)");
    client.prepare("s", "SELECT lastval()").expect("prepared");
    let told = client.execute("s", &[]).expect_err("none");
    assert_eq!(told.to_string(), UNDEFINED);
    let rows = client.execute("", &[]).expect("a row");
    assert_eq!(rows, [[Some("7".to_owned())]]);
}

/// A session that is kept at its connection for another reason has its values as with Postgres.
#[test]
fn who_has_a_connection_of_its_own_has_its_values() {
    let Some(tier) = shop("pool_size = 2") else {
        return;
    };
    asked(&tier);
    let mut other = tier.client();
    run(&mut other, "INSERT INTO a (x) VALUES (1)");
    let mut client: Session = tier.client();
    run(&mut client, "CREATE TEMP TABLE t (id serial, x int)");
    let own = backend(&mut client);
    run(&mut client, "INSERT INTO a (x) VALUES (1)");
    run(&mut client, "INSERT INTO t (x) VALUES (1)");
    assert_eq!(value(&mut client, "SELECT currval('a_id_seq')"), "1001");
    assert_eq!(value(&mut client, "SELECT lastval()"), "1");
    assert_eq!(backend(&mut client), own);
}

/// Where the catalogue is known it tells that functions ask.
#[test]
fn what_functions_ask_is_their_clients_too() {
    let Some(tier) = shop("pool_size = 1\n[postgres.cache]") else {
        return;
    };
    let sql = "CREATE FUNCTION f() RETURNS bigint LANGUAGE sql AS 'SELECT lastval()'";
    run(&mut tier.direct(), sql);
    let (mut one, mut other) = (tier.client(), tier.client());
    let is_known = |_: &_| {
        run(&mut one, "INSERT INTO a (x) VALUES (1)");
        let told = other.query("SELECT f()");
        told.is_err_and(|error| error.to_string() == UNDEFINED)
            .then_some(())
    };
    tier.outgrow
        .wait("it is known", SOON, is_known)
        .expect("it is");
}
