//! A pool that is spread over two workers: one limit, one line as far as is promised, one view of it,
//! and clients that notice nothing when they change their lane.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use outgrow_testkit::outgrow::Outgrow;
use outgrow_testkit::postgres::{Session, message};
use serde_json::Value;

use super::{Tier, config, run, value};
use crate::shop::{SOON, data_pid, try_state};

/// Two workers, after these lines in `[postgres]`.
fn on_two(settings: &str) -> String {
    format!("{settings}\n[process]\nworkers = 2")
}

fn start(settings: &str) -> Option<Tier> {
    Tier::start(&on_two(settings))
}

/// Connections of the pool at the server.
fn connections(direct: &mut Session) -> u32 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND \
               pid <> pg_backend_pid() AND application_name NOT LIKE 'outgrow%'";
    value(direct, sql).parse().expect("a number")
}

/// What the state says of the one pool.
fn pool(outgrow: &Outgrow) -> Value {
    let state = try_state(outgrow).unwrap_or_default();
    state["postgres"]["pools"][0].clone()
}

/// Clients of each lane.
fn clients(outgrow: &Outgrow) -> Vec<u64> {
    let pool = pool(outgrow);
    let lanes = pool["lanes"]["each"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    lanes
        .iter()
        .filter_map(|lane| lane["clients"].as_u64())
        .collect()
}

fn wait_clients(outgrow: &Outgrow, what: &str, is: impl Fn(&[u64]) -> bool) {
    let are = |outgrow: &Outgrow| is(&clients(outgrow)).then_some(());
    let waited = outgrow.wait(what, SOON, are);
    waited.unwrap_or_else(|error| panic!("{error}: {}", pool(outgrow)));
}

/// Tells those who watch that it is over, also when a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Says transactions until it is over; the longest. Who loses its server comes again.
fn load(address: SocketAddr, sql: &str, is_over: &AtomicBool, done: &AtomicU64) -> Duration {
    let start = || Session::of(address, "postgres").expect("let in");
    let mut session = start();
    let mut longest = Duration::ZERO;
    while !is_over.load(Ordering::SeqCst) {
        let began = Instant::now();
        match session.query(sql) {
            Ok(_) => {
                done.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                let is_lost = ["57P01", "08006", "08007"].contains(&error.code());
                assert!(is_lost, "{error}");
                session = start();
            }
        }
        longest = longest.max(began.elapsed());
    }
    longest
}

#[test]
fn two_lanes_never_have_more_connections_than_the_pool_may() {
    let Some(tier) = start("lanes = 2\npool_size = 3") else {
        return;
    };
    let address = tier.address();
    let (is_over, done) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let over = Over(&is_over);
        let sql = "BEGIN; SELECT pg_sleep(0.001); COMMIT";
        let loads: Vec<_> = (0..24)
            .map(|_| scope.spawn(|| load(address, sql, &is_over, &done)))
            .collect();
        let mut direct = tier.direct();
        wait_clients(&tier.outgrow, "both lanes have some", |all| {
            all.iter().sum::<u64>() == 24 && all.len() == 2 && all.iter().all(|count| *count >= 8)
        });
        let mut most = 0;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3) {
            most = most.max(connections(&mut direct));
            // One of them dies now and then.
            if done.load(Ordering::Relaxed).is_multiple_of(7) {
                let _ = direct.query(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle' \
                     AND pid <> pg_backend_pid() AND backend_type = 'client backend' LIMIT 1",
                );
            }
        }
        drop(over);
        assert_eq!(most, 3, "connections at a time");
        let longest = loads.into_iter().filter_map(|one| one.join().ok()).max();
        let longest = longest.expect("some");
        assert!(longest < Duration::from_secs(2), "{longest:?} for one");
    });
    let told = pool(&tier.outgrow);
    assert_eq!(told["size"], 3, "{told}");
    let moved = told["lanes"]["moved_connections"].as_u64();
    assert!(moved.is_some_and(|count| count > 0), "{told}");
    let done = done.load(Ordering::Relaxed);
    assert!(
        told["transactions"].as_u64() >= Some(done),
        "{done}: {told}"
    );
}

#[test]
fn who_waits_in_one_lane_gets_what_is_idle_in_the_other() {
    let Some(tier) = start("lanes = 2\npool_size = 1") else {
        return;
    };
    let mut all: Vec<Session> = (0..6).map(|_| tier.client()).collect();
    let mut pids = BTreeSet::new();
    // One connection serves both lanes, and nobody waits for a look.
    let began = Instant::now();
    for _ in 0..50 {
        for client in &mut all {
            pids.insert(value(client, "SELECT pg_backend_pid()"));
        }
    }
    let took = began.elapsed();
    assert_eq!(pids.len(), 1, "{pids:?}");
    assert!(took < Duration::from_secs(5), "300 queries in {took:?}");
    let told = pool(&tier.outgrow);
    let moved = told["lanes"]["moved_connections"].as_u64();
    assert!(moved.is_some_and(|count| count >= 50), "{told}");
    // Who came first is served first, in whichever lane.
    let [holder, rest @ ..] = &mut all[..] else {
        panic!("there are six");
    };
    run(holder, "BEGIN");
    for (place, client) in rest.iter_mut().enumerate() {
        let sql = format!("SELECT nextval('turn') - {place}");
        client.send(&message::query(&sql)).expect("sent");
        thread::sleep(Duration::from_millis(20));
    }
    run(holder, "CREATE SEQUENCE turn");
    run(holder, "COMMIT");
    for (place, client) in rest.iter_mut().enumerate() {
        let rows = client.answer().expect("its turn");
        assert_eq!(rows, [[Some("1".to_owned())]], "number {place}");
    }
}

#[test]
fn sessions_survive_the_change_of_their_lane() {
    let Some(mut tier) = start("lanes = 1\npool_size = 4") else {
        return;
    };
    let mut all: Vec<Session> = (0..20).map(|_| tier.client()).collect();
    for (number, client) in all.iter_mut().enumerate() {
        run(client, &format!("SET work_mem = '{}kB'", 1_100 + number));
        run(client, &format!("SET my.own = '{number}'"));
        let sql = format!("SELECT {number} + $1::int");
        client.prepare("own", &sql).expect("prepared");
        client.prepare("same", "SELECT $1::text").expect("prepared");
        run(client, "LISTEN all_hear");
        run(client, &format!("LISTEN only_{number}"));
        let unnamed = message::parse("", &format!("SELECT 'unnamed {number}', $1::text"));
        let series = [unnamed, message::sync()].concat();
        client.send(&series).expect("sent");
        client.answer().expect("prepared");
    }
    assert_eq!(pool(&tier.outgrow)["lanes"], Value::Null);
    for (round, lanes) in [(0, 2), (1, 1), (2, 2)] {
        let settings = on_two(&format!("lanes = {lanes}\npool_size = 4"));
        let text = config(&settings, tier.database.address());
        tier.outgrow.reload(&text).expect("taken");
        let are_moved = |all: &[u64]| match lanes {
            1 => all == [20, 0],
            _ => all == [10, 10] || all == [11, 9] || all == [9, 11] || all == [12, 8],
        };
        wait_clients(&tier.outgrow, &format!("round {round}"), are_moved);
        for (number, client) in all.iter_mut().enumerate() {
            let told = format!("round {round}, number {number}");
            let rows = client.execute("", &[Some("x")]).expect("the unnamed one");
            let expected = [format!("unnamed {number}"), "x".to_owned()].map(Some);
            assert_eq!(rows, [expected.to_vec()], "{told}");
            let rows = client.execute("own", &[Some("1000")]).expect("prepared");
            assert_eq!(rows, [[Some((number + 1000).to_string())]], "{told}");
            let rows = client.execute("same", &[Some("y")]).expect("prepared");
            assert_eq!(rows, [[Some("y".to_owned())]], "{told}");
            let sql = "SELECT current_setting('work_mem') || ' ' || current_setting('my.own')";
            let memory = 1_100 + number;
            assert_eq!(value(client, sql), format!("{memory}kB {number}"), "{told}");
            let unnamed = message::parse("", &format!("SELECT 'unnamed {number}', $1::text"));
            let series = [unnamed, message::sync()].concat();
            client.send(&series).expect("sent");
            client.answer().expect("prepared");
        }
        let mut direct = tier.direct();
        run(&mut direct, &format!("NOTIFY all_hear, 'round {round}'"));
        for (number, client) in all.iter_mut().enumerate() {
            let payload = format!("{round} for {number}");
            run(&mut direct, &format!("NOTIFY only_{number}, '{payload}'"));
            for expected in [format!("round {round}"), payload] {
                let heard = client.receive().expect("a notification");
                assert_eq!(heard.tag, b'A', "{heard:?}");
                assert!(
                    String::from_utf8_lossy(&heard.body).contains(&expected),
                    "{heard:?} instead of {expected}"
                );
            }
        }
    }
    // Servers have each text once, whoever brings it.
    let sql = "SELECT count(*) - count(DISTINCT statement) FROM pg_prepared_statements";
    for client in &mut all {
        assert_eq!(value(client, sql), "0");
    }
    // What cancels one is what it was told at its login.
    for client in all.iter_mut().take(4) {
        client
            .send(&message::query("SELECT pg_sleep(60)"))
            .expect("sent");
        let mut direct = tier.direct();
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND \
                   state = 'active'";
        let runs = |_: &_| (value(&mut direct, sql) == "1").then_some(());
        tier.outgrow.wait("it runs", SOON, runs).expect("it does");
        client.cancel().expect("asked");
        let told = client.answer().expect_err("it is cancelled");
        assert_eq!(told.code(), "57014", "{told}");
        run(client, "SELECT 1");
    }
}

#[test]
fn lanes_are_handed_over_in_an_upgrade() {
    let Some(tier) = start("lanes = 2\npool_size = 3") else {
        return;
    };
    let address = tier.address();
    let (is_over, done) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let over = Over(&is_over);
        let sql = "BEGIN; SELECT 1; COMMIT";
        for _ in 0..12 {
            scope.spawn(|| load(address, sql, &is_over, &done));
        }
        wait_clients(&tier.outgrow, "both lanes have some", |all| {
            all.iter().sum::<u64>() == 12 && all.len() == 2
        });
        for _ in 0..2 {
            let old = data_pid(&tier.outgrow);
            tier.outgrow.upgrade(None).expect("another one");
            let is_gone = |outgrow: &Outgrow| (!outgrow.pids().data.contains(&old)).then_some(());
            tier.outgrow
                .wait("the old one ends", SOON, is_gone)
                .expect("it does");
            wait_clients(&tier.outgrow, "they are spread again", |all| {
                all.iter().sum::<u64>() == 12 && all.len() == 2 && all.iter().all(|one| *one > 2)
            });
        }
        drop(over);
    });
}

#[test]
fn a_reload_renews_the_connections_of_all_lanes() {
    let Some(mut tier) = start("lanes = 2\npool_size = 4") else {
        return;
    };
    let address = tier.address();
    let (is_over, done) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let over = Over(&is_over);
        for _ in 0..12 {
            scope.spawn(|| load(address, "SELECT pg_backend_pid()", &is_over, &done));
        }
        wait_clients(&tier.outgrow, "both lanes have some", |all| {
            all.iter().sum::<u64>() == 12 && all.len() == 2
        });
        // A reload that leads elsewhere renews the connections of both.
        let mut direct = tier.direct();
        let sql = "SELECT coalesce(min(backend_start)::text, '') FROM pg_stat_activity WHERE \
                   backend_type = 'client backend' AND pid <> pg_backend_pid() AND \
                   application_name NOT LIKE 'outgrow%'";
        for round in 0..3 {
            let now = value(&mut direct, "SELECT clock_timestamp()::text");
            let own = format!(
                "lanes = 2\npool_size = 4\n[postgres.database.postgres]\nconnect_query = \"SELECT {round}\""
            );
            let text = config(&on_two(&own), tier.database.address());
            tier.outgrow.reload(&text).expect("taken");
            let are_new = |_: &_| {
                let oldest = value(&mut direct, sql);
                (!oldest.is_empty() && oldest > now && connections(&mut direct) <= 4).then_some(())
            };
            tier.outgrow
                .wait("all are new", SOON, are_new)
                .expect("they are");
        }
        drop(over);
    });
}
