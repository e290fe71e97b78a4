//! What is told of how a database is used: what statements cost, and what is wrong, each with the
//! right statement and what to do about it; nothing where nothing is wrong.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use outgrow_testkit::{
    outgrow::{Outgrow, binary},
    postgres::{Session, message},
};
use serde_json::Value;

use super::{MOMENT, Tier, run, value};
use crate::shop::{SOON, state};

/// Thresholds that a test can wait for.
const QUICK: &str = "[postgres.diagnosis]\nslow_statement = \"200ms\"\nlong_transaction = \"1500ms\"\n\
                     idle_transaction = \"1s\"\npool_wait = \"100ms\"";

/// The findings of a kind that hold at present.
pub(super) fn findings(outgrow: &Outgrow, kind: &str) -> Vec<Value> {
    let all = state(outgrow)["postgres"]["findings"].take();
    let all = all.as_array().cloned().unwrap_or_default();
    let is_it = |one: &Value| one["kind"] == kind && one["holds"] == true;
    all.into_iter().filter(is_it).collect()
}

/// Waits for a finding of a kind.
pub(super) fn wait_finding(outgrow: &Outgrow, kind: &str) -> Value {
    let found = outgrow.wait(kind, SOON, |outgrow| findings(outgrow, kind).pop());
    found.unwrap_or_else(|error| {
        let tier = state(outgrow)["postgres"].take();
        panic!("{error}: {tier:#}")
    })
}

/// All of a finding's words, for a look.
pub(super) fn words(finding: &Value) -> String {
    format!("{} {}", finding["evidence"], finding["remedy"])
}

/// Whether every word is in the text.
pub(super) fn check(text: &str, expected: &[&str]) {
    for word in expected {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}

/// What a statement has cost.
fn cost(outgrow: &Outgrow, text: &str) -> Value {
    let all = state(outgrow)["postgres"]["statements"]["costliest"].take();
    let all = all.as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|one| one["text"] == text).cloned();
    found.unwrap_or_else(|| panic!("{text} is not in {all:#?}"))
}

/// A client that says what its application is called.
pub(super) fn client(tier: &Tier, application: &str) -> Session {
    let parameters = [
        ("user", "postgres"),
        ("database", "postgres"),
        ("application_name", application),
    ];
    Session::start(tier.address(), &parameters).expect("let in")
}

#[test]
fn statements_are_told_with_what_they_cost() {
    let Some(tier) = Tier::start("") else {
        return;
    };
    let mut client = tier.client();
    run(&mut client, "CREATE TABLE items (id int, name text)");
    for number in 0..10 {
        let insert = format!("INSERT INTO items VALUES ({number}, 'secret {number}')");
        run(&mut client, &insert);
    }
    let more = "INSERT INTO items SELECT 1, 'x' FROM generate_series(1, 10)";
    run(&mut client, more);
    for _ in 0..3 {
        value(
            &mut client,
            "SELECT count(*) FROM items /*route='%2Fitems'*/",
        );
    }
    client
        .query("SELECT * FROM missing")
        .expect_err("no such table");
    let parameters = [Some("1")];
    client
        .extended("SELECT name FROM items WHERE id = $1", &parameters)
        .expect("rows");
    client
        .prepare("named", "SELECT id FROM items WHERE name = $1")
        .expect("prepared");
    for _ in 0..4 {
        client.execute("named", &[Some("x")]).expect("rows");
    }
    // The client's silence in a transaction is the last statement's.
    run(&mut client, "BEGIN");
    run(&mut client, "UPDATE items SET name = 'y' WHERE id = 3");
    thread::sleep(MOMENT);
    run(&mut client, "COMMIT");
    let numbers = |text: &str, keys: [&str; 3]| -> Vec<u64> {
        let cost = cost(&tier.outgrow, text);
        keys.iter().filter_map(|key| cost[*key].as_u64()).collect()
    };
    let keys = ["calls", "errors", "rows"];
    let insert = "INSERT INTO items VALUES ($1 /*, ... */)";
    assert_eq!(numbers(insert, keys), [10, 0, 10]);
    assert_eq!(numbers("SELECT count(*) FROM items", keys), [3, 0, 3]);
    assert_eq!(numbers("SELECT * FROM missing", keys), [1, 1, 0]);
    assert_eq!(
        numbers("SELECT name FROM items WHERE id = $1", keys),
        [1, 0, 11]
    );
    assert_eq!(
        numbers("SELECT id FROM items WHERE name = $1", keys),
        [4, 0, 40]
    );
    let update = cost(&tier.outgrow, "UPDATE items SET name = $1 WHERE id = $2");
    let idle = update["idle_in_transaction_us"].as_u64().expect("a time");
    assert!(idle >= MOMENT.as_micros() as u64, "{update:#}");
    let execute = update["execute_us"].as_u64().expect("a time");
    assert!(execute > 0 && execute < idle, "{update:#}");
    let count = cost(&tier.outgrow, "SELECT count(*) FROM items");
    assert_eq!(count["origin"]["route"], "/items");
    // No value is told.
    let all = state(&tier.outgrow)["postgres"].to_string();
    assert!(!all.contains("secret"), "{all}");
    let admin = tier.outgrow.address("admin").expect("an address");
    let table = Command::new(binary().expect("a binary"))
        .args([
            "postgres",
            "statements",
            "--by",
            "calls",
            "--admin",
            &admin.to_string(),
        ])
        .output()
        .expect("it runs");
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    check(
        &table,
        &[
            "FINGERPRINT",
            "INSERT INTO items",
            "SELECT count(*) FROM items",
        ],
    );
}

#[test]
fn a_series_of_several_statements_is_told_apart() {
    let Some(tier) = Tier::start("") else {
        return;
    };
    let mut client = tier.client();
    let mut all = Vec::new();
    for sql in ["SELECT 1", "SELECT pg_sleep(0.2)", "SELECT 2, 3"] {
        all.extend(message::parse("", sql));
        all.extend(message::bind("", "", &[]));
        all.extend(message::execute("", 0));
    }
    all.extend(message::sync());
    client.send(&all).expect("sent");
    client.until_ready().expect("answered");
    // The server answers all of them at once, so that only their time together is known.
    let texts = ["SELECT $1", "SELECT pg_sleep($1)", "SELECT $1, $2"];
    let costs = texts.map(|text| cost(&tier.outgrow, text));
    let micros: Vec<_> = costs
        .iter()
        .filter_map(|one| one["execute_us"].as_u64())
        .collect();
    assert!(micros.iter().sum::<u64>() >= 190_000, "{costs:#?}");
    for one in &costs {
        assert_eq!(
            (&one["calls"], &one["rows"]),
            (&1.into(), &1.into()),
            "{one:#}"
        );
    }
}

#[test]
fn who_holds_connections_in_silence_is_named() {
    let Some(tier) = Tier::start(&format!("pool_size = 2\n{QUICK}")) else {
        return;
    };
    run(
        &mut tier.direct(),
        "CREATE TABLE stock (id int, amount int)",
    );
    let mut holders: Vec<_> = (0..2).map(|_| client(&tier, "checkout")).collect();
    for holder in &mut holders {
        run(holder, "BEGIN");
        run(
            holder,
            "UPDATE stock SET amount = 7 WHERE id = 4711 /*route='/pay'*/",
        );
    }
    let address = tier.address();
    let waits = thread::spawn(move || {
        let mut waiting = Session::of(address, "postgres").expect("let in");
        value(&mut waiting, "SELECT 1")
    });
    let found = wait_finding(&tier.outgrow, "pool_exhausted");
    let text = "UPDATE stock SET amount = $1 WHERE id = $2";
    assert_eq!(found["statement"]["text"], text, "{found:#}");
    assert_eq!(found["origin"]["application"], "checkout", "{found:#}");
    assert_eq!(found["origin"]["route"], "/pay", "{found:#}");
    let expected = [
        "2 of 2 connections are held idle in transaction",
        "idle_transaction",
    ];
    check(&words(&found), &expected);
    assert!(!words(&found).contains("4711"), "{found:#}");
    let idle = wait_finding(&tier.outgrow, "idle_in_transaction");
    assert_eq!(idle["statement"]["text"], text, "{idle:#}");
    check(&words(&idle), &["pg_terminate_backend", "checkout"]);
    for holder in &mut holders {
        run(holder, "COMMIT");
    }
    assert_eq!(waits.join().expect("served"), "1");
    let admin = tier.outgrow.address("admin").expect("an address");
    let told = Command::new(binary().expect("a binary"))
        .args(["postgres", "findings", "--admin", &admin.to_string()])
        .output()
        .expect("it runs");
    assert_eq!(told.status.code(), Some(1), "something was found");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    check(
        &told,
        &[
            "pool_exhausted",
            text,
            "route /pay",
            "=> end the transaction",
        ],
    );
}

/// Looks while so many clients execute a statement again and again.
fn while_busy<T>(tier: &Tier, clients: usize, sql: &str, look: impl FnOnce() -> T) -> T {
    let (address, end) = (tier.address(), Instant::now() + SOON + SOON);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut session = Session::of(address, "postgres").expect("let in");
                while !is_over.load(Ordering::SeqCst) && Instant::now() < end {
                    run(&mut session, sql);
                }
            });
        }
        let seen = look();
        is_over.store(true, Ordering::SeqCst);
        seen
    })
}

#[test]
fn slow_statements_are_named_as_such_and_as_the_reason_of_waits() {
    let Some(tier) = Tier::start(&format!("pool_size = 2\n{QUICK}")) else {
        return;
    };
    let (slow, exhausted) = while_busy(&tier, 5, "SELECT pg_sleep(0.3)", || {
        let exhausted = wait_finding(&tier.outgrow, "pool_exhausted");
        (wait_finding(&tier.outgrow, "slow_statement"), exhausted)
    });
    assert_eq!(slow["statement"]["text"], "SELECT pg_sleep($1)", "{slow:#}");
    assert_eq!(
        exhausted["statement"]["text"], "SELECT pg_sleep($1)",
        "{exhausted:#}"
    );
    check(&words(&exhausted), &["execute something slow", "EXPLAIN"]);
    check(&words(&slow), &["on average", "EXPLAIN"]);
}

#[test]
fn a_pool_that_is_too_small_and_pinned_connections_are_told_apart() {
    let settings = format!("pool_size = 1\n{}", QUICK.replace("100ms", "5ms"));
    let Some(tier) = Tier::start(&settings) else {
        return;
    };
    let address = tier.address();
    let sql = "SELECT count(*) FROM generate_series(1, 20000)";
    let look = || wait_finding(&tier.outgrow, "pool_exhausted");
    let found = while_busy(&tier, 8, sql, look);
    check(
        &words(&found),
        &["too small for the load", "transactions/s", "pool_size = "],
    );
    let mut pinned = client(&tier, "listener");
    run(&mut pinned, "CREATE TEMP TABLE scratch (a int)");
    let waits = thread::spawn(move || {
        let mut waiting = Session::of(address, "postgres").expect("let in");
        value(&mut waiting, "SELECT 1")
    });
    let found = tier.outgrow.wait("pinned", SOON, |outgrow| {
        let mut all = findings(outgrow, "pool_exhausted").into_iter();
        all.find(|one| words(one).contains("temporary_object"))
    });
    let found = found.expect("the reason to stay");
    check(&words(&found), &["do nothing", "ON COMMIT DROP"]);
    drop(pinned);
    assert_eq!(waits.join().expect("served"), "1");
}

#[test]
fn long_transactions_are_named() {
    // Else who asks servers tells it.
    let settings = format!("{QUICK}\nservers = false");
    let Some(tier) = Tier::start(&settings) else {
        return;
    };
    let mut client = client(&tier, "report");
    run(&mut client, "BEGIN");
    let end = Instant::now() + SOON;
    let found = loop {
        run(
            &mut client,
            "SELECT count(*) FROM pg_class WHERE relname = 'a'",
        );
        if let Some(found) = findings(&tier.outgrow, "long_transaction").pop() {
            break found;
        }
        assert!(Instant::now() < end, "it is not told");
        thread::sleep(Duration::from_millis(100));
    };
    run(&mut client, "COMMIT");
    assert_eq!(found["origin"]["application"], "report", "{found:#}");
    let text = "SELECT count(*) FROM pg_class WHERE relname = $1";
    assert_eq!(found["statement"]["text"], text, "{found:#}");
    check(&words(&found), &["has been open for", "pg_cancel_backend"]);
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let Some(tier) = Tier::start("") else {
        return;
    };
    let (host, port) = (
        tier.address().ip().to_string(),
        tier.address().port().to_string(),
    );
    let bench = |arguments: &[&str]| {
        let done = Command::new("pgbench")
            .args(["-h", &host, "-p", &port, "-U", "postgres"])
            .args(arguments)
            .arg("postgres")
            .output()
            .expect("pgbench runs");
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    };
    bench(&["-i", "-q"]);
    for mode in ["simple", "extended", "prepared"] {
        bench(&["-M", mode, "-S", "-c", "8", "-T", "2"]);
        bench(&["-M", mode, "-c", "4", "-T", "2"]);
    }
    let tier = state(&tier.outgrow)["postgres"].take();
    assert_eq!(
        tier["findings"],
        Value::Array(Vec::new()),
        "{:#}",
        tier["findings"]
    );
    let known = tier["statements"]["known"].as_u64().expect("a number");
    assert!(known >= 8, "{tier:#}");
}
