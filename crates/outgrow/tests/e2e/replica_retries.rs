//! Reads that a replica could not answer, asked again elsewhere: what the client sees of it is nothing
//! but the answer.
//!
//! `/* outgrow: replica */` takes the place of a catalogue that is out of date: it sends to a replica what
//! that must refuse.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use outgrow_testkit::databases::{self, Server};
use outgrow_testkit::outgrow::Outgrow;
use outgrow_testkit::postgres::{Message, Session, message};
use outgrow_testkit::processes;
use serde_json::Value;

use crate::postgres::{run, value};
use crate::replicas::{ACCESS, at, on_replicas, start, wait_roles};
use crate::shop::{SOON, try_state};

/// A primary, replicas of it, and an outgrow before them that sends reads to these.
struct House {
    primary: Server,
    replicas: Vec<Server>,
    outgrow: Outgrow,
}

impl House {
    fn start(replicas: usize) -> Self {
        let primary = databases::postgres(ACCESS).expect("a primary");
        primary
            .query(
                "CREATE ROLE replicator LOGIN REPLICATION; CREATE SEQUENCE seq; \
                 CREATE TABLE notes AS SELECT i AS id, i AS text FROM generate_series(1, 1000) AS i; \
                 CREATE FUNCTION loud() RETURNS bigint LANGUAGE plpgsql AS \
                 $$BEGIN RAISE NOTICE 'heard'; RETURN nextval('seq'); END$$",
            )
            .expect("set up");
        let replicas: Vec<_> = (0..replicas)
            .map(|_| primary.postgres_replica().expect("a replica"))
            .collect();
        let servers: Vec<&Server> = std::iter::once(&primary).chain(&replicas).collect();
        // A busy machine may be slow to replay what a client has written.
        let outgrow = start(&servers, "[postgres.replicas]\nwait = \"10s\"");
        let house = Self {
            primary,
            replicas,
            outgrow,
        };
        let mut client = house.client();
        run(&mut client, "SELECT 1");
        let roles = ["primary", "replica", "replica"];
        wait_roles(&house.outgrow, &roles[..servers_of(&house)]);
        house.wait_reads(&mut client);
        house
    }

    fn client(&self) -> Session {
        let client = Session::of(at(&self.outgrow), "postgres");
        client.unwrap_or_else(|error| panic!("{error}; outgrow: {}", self.outgrow.stderr()))
    }

    /// Waits until reads go to replicas.
    fn wait_reads(&self, client: &mut Session) {
        let before = on_replicas(&self.outgrow);
        let end = Instant::now() + SOON;
        while on_replicas(&self.outgrow) == before {
            assert!(Instant::now() < end, "no read goes to a replica");
            run(client, "SELECT count(*) FROM notes");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Reads that were asked again for this reason.
    fn retries(&self, reason: &str) -> u64 {
        let state = try_state(&self.outgrow).expect("the state");
        let pools = state["postgres"]["pools"].as_array().cloned();
        let count = |pool: &Value| pool["retries"][reason].as_u64();
        pools.unwrap_or_default().iter().filter_map(count).sum()
    }
}

fn servers_of(house: &House) -> usize {
    house.replicas.len() + 1
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|one| char::from(one.tag)).collect()
}

#[test]
fn what_a_replica_refuses_is_asked_of_the_primary_and_learnt() {
    let house = House::start(1);
    let mut client = house.client();
    let before = on_replicas(&house.outgrow);
    // Each text once, in each of the ways in which one is said; the answer is that of one server.
    let check = |client: &mut Session, messages: &[Vec<u8>], expected: &str| {
        client.send(&messages.concat()).expect("sent");
        let answer = client.until_ready().expect("an answer");
        assert_eq!(tags(&answer), expected);
    };
    let text = |column: &str| format!("/* outgrow: replica */ SELECT nextval('seq') AS {column}");
    check(&mut client, &[message::query(&text("a"))], "TDCZ");
    assert_eq!(house.retries("writes"), 1);
    // It is learnt.
    check(&mut client, &[message::query(&text("a"))], "TDCZ");
    assert_eq!(house.retries("writes"), 1);
    let unnamed = [
        message::parse("", &text("b")),
        message::bind("", "", &[]),
        message::describe(b'P', ""),
        message::execute("", 0),
        message::sync(),
    ];
    check(&mut client, &unnamed, "12TDCZ");
    assert_eq!(house.retries("writes"), 2);
    let named = [
        message::parse("named", &text("c")),
        message::describe(b'S', "named"),
        message::bind("", "named", &[]),
        message::execute("", 0),
        message::sync(),
    ];
    check(&mut client, &named, "1tT2DCZ");
    assert_eq!(house.retries("writes"), 3);
    client.execute("named", &[]).expect("it is prepared");
    // Prepared before, and executed the first time.
    client.prepare("early", &text("d")).expect("prepared");
    client.execute("early", &[]).expect("executed");
    assert_eq!(house.retries("writes"), 4);
    // One that takes a name and gives it anew.
    client.prepare("again", "SELECT 1").expect("prepared");
    let anew = [
        message::close(b'S', "again"),
        message::parse("again", &text("e")),
        message::bind("", "again", &[]),
        message::execute("", 0),
        message::sync(),
    ];
    check(&mut client, &anew, "312DCZ");
    assert_eq!(house.retries("writes"), 5);
    client.execute("again", &[]).expect("it has its new text");
    // A notice of the replica's is not heard, that of the primary is.
    let loud = "/* outgrow: replica */ SELECT loud()";
    check(&mut client, &[message::query(loud)], "TNDCZ");
    assert_eq!(house.retries("writes"), 6);
    // What is said behind it is answered behind it, and by the same server.
    let series: Vec<_> = ["f", "g"]
        .map(|column| message::query(&text(column)))
        .into();
    client.send(&series.concat()).expect("sent");
    for _ in 0..2 {
        assert_eq!(tags(&client.until_ready().expect("an answer")), "TDCZ");
    }
    assert_eq!(house.retries("writes"), 7);
    // Each was executed once.
    assert_eq!(value(&mut client, "SELECT nextval('seq')"), "12");
    assert_eq!(
        on_replicas(&house.outgrow),
        before + 2,
        "only what was prepared early counts as a replica's"
    );
}

#[test]
fn what_has_begun_to_be_answered_is_not_asked_again() {
    let house = House::start(1);
    let mut client = house.client();
    let late = "/* outgrow: replica */ SELECT i, CASE WHEN i = 9000 THEN nextval('seq') END \
                FROM generate_series(1, 10000) AS i";
    let error = client
        .query(late)
        .expect_err("some rows were there already");
    assert_eq!(error.code(), "25006", "{error}");
    assert_eq!(house.retries("writes"), 0);
    // It is learnt all the same.
    assert_eq!(client.query(late).expect("the primary").len(), 10_000);
    // In a transaction there is nothing to be asked again.
    run(&mut client, "BEGIN READ ONLY");
    run(&mut client, "SELECT count(*) FROM notes");
    let error = client
        .query("SELECT nextval('seq')")
        .expect_err("read only");
    assert_eq!(error.code(), "25006", "{error}");
    run(&mut client, "ROLLBACK");
    // Nor of what a replica answers as the primary would.
    let error = client.query("SELECT 1 / (id - id) FROM notes");
    assert_eq!(error.expect_err("by zero").code(), "22012");
    assert_eq!(house.retries("writes"), 0);
}

#[test]
fn a_catalogue_that_is_out_of_date_costs_no_error() {
    let house = House::start(1);
    let mut client = house.client();
    let define = |volatility: &str, body: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION f() RETURNS bigint LANGUAGE plpgsql {volatility} AS \
             $$BEGIN {body} END$$"
        )
    };
    let is_there = |volatility: &str| {
        let mut replica = Session::of(house.replicas[0].address(), "postgres").expect("a replica");
        let ask = "SELECT coalesce(max(provolatile::text), '') FROM pg_proc WHERE proname = 'f'";
        while value(&mut replica, ask) != volatility {
            thread::sleep(Duration::from_millis(5));
        }
    };
    // The catalogue is looked at every few seconds: once it falls between the two.
    for _ in 0..10 {
        house
            .primary
            .query(&define("STABLE", "RETURN 0;"))
            .expect("stable");
        is_there("s");
        let before = on_replicas(&house.outgrow);
        let end = Instant::now() + SOON;
        while on_replicas(&house.outgrow) == before {
            assert!(Instant::now() < end, "the function does not get known");
            run(&mut client, "SELECT f()");
            thread::sleep(Duration::from_millis(20));
        }
        let writes = "INSERT INTO notes VALUES (0, 0); RETURN 1;";
        house
            .primary
            .query(&define("VOLATILE", writes))
            .expect("volatile");
        is_there("v");
        assert_eq!(value(&mut client, "SELECT f()"), "1");
        let count = "/* outgrow: primary */ SELECT count(*) FROM notes WHERE id = 0";
        assert_eq!(value(&mut client, count), "1", "it was executed once");
        if house.retries("writes") > 0 {
            return;
        }
        run(&mut client, "DELETE FROM notes WHERE id = 0");
    }
    panic!("the catalogue was never out of date");
}

#[test]
fn what_is_in_the_way_of_replay_is_asked_of_the_primary() {
    let house = House::start(1);
    let replica = &house.replicas[0];
    replica
        .query("ALTER SYSTEM SET max_standby_streaming_delay = 0")
        .and_then(|()| replica.query("SELECT pg_reload_conf()"))
        .expect("set");
    let mut client = house.client();
    let long = "/* outgrow: replica */ SELECT count(*) FROM notes, pg_sleep(2)";
    client.send(&message::query(long)).expect("sent");
    let mut other = Session::of(replica.address(), "postgres").expect("a replica");
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%FROM notes, pg_sleep%' \
                   AND pid <> pg_backend_pid()";
    let end = Instant::now() + SOON;
    while value(&mut other, running) != "1" {
        assert!(Instant::now() < end, "it does not run there");
        thread::sleep(Duration::from_millis(10));
    }
    house
        .primary
        .query("DELETE FROM notes WHERE id > 900")
        .and_then(|()| house.primary.query("VACUUM notes"))
        .expect("vacuumed");
    let rows = client.answer().expect("the primary's answer");
    assert_eq!(rows, [[Some("900".to_owned())]]);
    assert_eq!(house.retries("conflict"), 1);
}

#[test]
fn a_replica_that_dies_is_noticed_by_no_reader() {
    const READERS: usize = 6;
    let mut house = House::start(2);
    let is_over = AtomicBool::new(false);
    let reads = AtomicU64::new(0);
    let address = at(&house.outgrow);
    thread::scope(|scope| {
        for number in 0..READERS {
            let (is_over, reads) = (&is_over, &reads);
            scope.spawn(move || {
                let mut client = Session::of(address, "postgres").expect("a connection");
                client
                    .prepare("sum", "SELECT sum(text) FROM notes WHERE id <= $1")
                    .expect("prepared");
                while !is_over.load(Ordering::SeqCst) {
                    let rows = if number % 2 == 0 {
                        client.query("SELECT sum(text) FROM notes WHERE id <= 100")
                    } else {
                        client.execute("sum", &[Some("100")])
                    };
                    let rows = rows.unwrap_or_else(|error| panic!("a read failed: {error}"));
                    assert_eq!(rows, [[Some("5050".to_owned())]]);
                    reads.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        thread::sleep(Duration::from_secs(1));
        // Its processes all at once, as when the machine is gone.
        let mut replica = house.replicas.remove(0);
        for process in processes::under(replica.pid()) {
            let _ended = processes::kill9(process.pid);
        }
        replica.kill();
        thread::sleep(Duration::from_secs(2));
        // And one that shuts down in order.
        let second = house.replicas.remove(0);
        processes::signal(second.pid(), processes::Signal::INT).expect("shut down");
        let before = reads.load(Ordering::SeqCst);
        let end = Instant::now() + SOON;
        while reads.load(Ordering::SeqCst) < before + 200 {
            assert!(Instant::now() < end, "nobody reads any more");
            thread::sleep(Duration::from_millis(20));
        }
        is_over.store(true, Ordering::SeqCst);
    });
    let all = reads.load(Ordering::SeqCst);
    println!(
        "{all} reads; lost {}, shutdown {}",
        house.retries("lost"),
        house.retries("shutdown")
    );
}

#[test]
fn a_session_that_is_ended_in_a_read_is_asked_again_once() {
    let house = House::start(2);
    let mut client = house.client();
    let end_it = |address| {
        let mut other = Session::of(address, "postgres").expect("a server");
        let ended = value(
            &mut other,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE query LIKE '%FROM notes, pg_sleep%' AND state = 'active' AND pid <> pg_backend_pid()",
        );
        ended != "0"
    };
    let end_anywhere = || {
        let end = Instant::now() + SOON;
        while !house.replicas.iter().any(|one| end_it(one.address())) {
            assert!(Instant::now() < end, "it runs nowhere");
            thread::sleep(Duration::from_millis(10));
        }
    };
    let long = "/* outgrow: replica */ SELECT count(*) FROM notes, pg_sleep(1)";
    client.send(&message::query(long)).expect("sent");
    end_anywhere();
    let rows = client.answer().expect("the other replica's answer");
    assert_eq!(rows, [[Some("1000".to_owned())]]);
    assert_eq!(house.retries("shutdown"), 1);
    // The second time in a row it is the client's.
    client.send(&message::query(long)).expect("sent");
    end_anywhere();
    thread::sleep(Duration::from_millis(200));
    end_anywhere();
    let error = client.answer().expect_err("it was ended twice");
    assert_eq!(error.code(), "57P01", "{error}");
    assert_eq!(house.retries("shutdown"), 2);
}

#[test]
fn more_than_a_block_may_be_said_behind_a_read() {
    let house = House::start(1);
    let mut client = house.client();
    let long = "/* outgrow: replica */ SELECT count(*) FROM notes, pg_sleep(0.5)";
    let padding = "x".repeat(5_000);
    let short = message::query(&format!("SELECT 1 /* {padding} */"));
    client.send(&message::query(long)).expect("sent");
    thread::scope(|scope| {
        let mut stream = client.stream().try_clone().expect("a second handle");
        scope.spawn(move || {
            for _ in 0..100 {
                std::io::Write::write_all(&mut stream, &short).expect("sent");
            }
        });
        assert_eq!(client.answer().expect("the long one").len(), 1);
        for number in 0..100 {
            let rows = client.answer();
            assert!(rows.is_ok_and(|rows| rows.len() == 1), "{number}");
        }
    });
}
