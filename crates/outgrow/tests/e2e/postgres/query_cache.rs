//! The query cache: answers without a server, and never one that is older than a write through here.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use outgrow_testkit::databases;
use outgrow_testkit::postgres::{Message, Session, message};
use serde_json::Value;

use super::{Tier, config, run, value};
use crate::checks::is_there;
use crate::replicas::{ACCESS, at, start as start_with_replicas, wait_roles};
use crate::shop::{SOON, try_state};

const PROVEN: &str = "pool_size = 5\ncache = { statements = \"proven\", ttl = \"60s\" }";

fn counted(tier: &Tier, what: &str) -> u64 {
    let state = try_state(&tier.outgrow).expect("the state");
    state["postgres"]["cache"][what]
        .as_u64()
        .unwrap_or_default()
}

/// Waits until answers are kept: the catalogue is there.
fn wait_cache(tier: &Tier, client: &mut Session) {
    let end = Instant::now() + SOON;
    let before = counted(tier, "hits");
    while counted(tier, "hits") == before {
        assert!(Instant::now() < end, "nothing is answered from memory");
        run(client, "SELECT 'is it there'");
        thread::sleep(Duration::from_millis(30));
    }
}

fn start(settings: &str, set_up: &str) -> Option<Tier> {
    let tier = Tier::start(settings)?;
    run(&mut tier.direct(), set_up);
    wait_cache(&tier, &mut tier.client());
    Some(tier)
}

#[test]
fn what_a_reload_adds_begins_with_another_process() {
    let Some(mut tier) = Tier::start("") else {
        return;
    };
    let mut client = tier.client();
    run(&mut client, "SELECT 1");
    let settings = "cache = { statements = \"proven\" }";
    let with_cache = config(settings, tier.database.address());
    tier.outgrow.reload(&with_cache).expect("reloaded");
    tier.outgrow
        .wait("the new configuration", SOON, |outgrow| {
            let state = try_state(outgrow)?;
            let waits = state["postgres"]["cache"]["waits_for_restart"].as_bool();
            (waits == Some(true)).then_some(())
        })
        .expect("it is told");
    for _ in 0..3 {
        run(&mut client, "SELECT 1");
        run(&mut tier.client(), "SELECT 1");
    }
    assert_eq!(counted(&tier, "fills"), 0);
}

/// Whether what is said is answered from memory.
fn is_hit(tier: &Tier, say: impl FnOnce()) -> bool {
    let before = counted(tier, "hits");
    say();
    counted(tier, "hits") > before
}

#[test]
fn what_was_asked_before_is_answered_in_the_same_words() {
    let set_up =
        "CREATE TABLE t AS SELECT i AS id, 'row ' || i AS text FROM generate_series(1, 50) AS i";
    let Some(tier) = start(PROVEN, set_up) else {
        return;
    };
    let mut client = tier.client();
    client
        .prepare("known", "SELECT text FROM t WHERE id = $1::int")
        .expect("prepared");
    let mut binary = message::bind("", "known", &[Some("8")]);
    // One format for all columns of the result: binary.
    let end = binary.len();
    binary.truncate(end - 2);
    binary.extend_from_slice(&[0, 1, 0, 1]);
    let length = (binary.len() - 1) as u32;
    binary[1..5].copy_from_slice(&length.to_be_bytes());
    let unnamed = |value: &str| {
        [
            message::parse("", "SELECT id, text FROM t WHERE id = $1::int"),
            message::bind("", "", &[Some(value)]),
            message::describe(b'P', ""),
            message::execute("", 0),
            message::sync(),
        ]
        .concat()
    };
    let named = |bind: Vec<u8>| [bind, message::execute("", 0), message::sync()].concat();
    let series = [
        message::query("SELECT * FROM t ORDER BY id"),
        message::query("SELECT * FROM t WHERE id < 0"),
        unnamed("7"),
        unnamed("9"),
        named(message::bind("", "known", &[Some("7")])),
        named(message::bind("", "known", &[Some("9")])),
        named(binary),
    ];
    let mut say = |bytes: &[u8]| -> Vec<Message> {
        client.send(bytes).expect("sent");
        client.until_ready().expect("an answer")
    };
    for one in &series {
        let mut first = Vec::new();
        assert!(
            !is_hit(&tier, || first = say(one)),
            "nobody asked it before"
        );
        let mut again = Vec::new();
        assert!(is_hit(&tier, || again = say(one)), "{first:?}");
        assert_eq!(first, again);
    }
    // What is said in one breath is answered in its order.
    let mut client = tier.client();
    client
        .send(&[unnamed("7"), unnamed("8"), unnamed("9")].concat())
        .expect("sent");
    for number in 7..10 {
        let answer = client.until_ready().expect("an answer");
        let row = answer.iter().find_map(Message::row).expect("a row");
        assert_eq!(row[0].as_deref(), Some(number.to_string().as_str()));
    }
    // Errors, notices, moments and what is not certain are not kept.
    for sql in [
        "SELECT 1 / (id - id) FROM t",
        "SELECT now() FROM t",
        "SELECT 'today'::date FROM t",
        "SELECT random() FROM t",
        "SELECT relname FROM pg_class",
        "SHOW work_mem",
        "/* outgrow: cache=0s */ SELECT * FROM t",
    ] {
        for _ in 0..2 {
            assert!(!is_hit(&tier, || drop(client.query(sql))), "{sql}");
        }
    }
    // In a transaction everything is asked of the server.
    run(&mut client, "BEGIN");
    assert!(!is_hit(&tier, || run(
        &mut client,
        "SELECT * FROM t ORDER BY id"
    )));
    run(&mut client, "COMMIT");
    assert!(is_hit(&tier, || run(
        &mut client,
        "SELECT * FROM t ORDER BY id"
    )));
}

#[test]
fn marked_answers_live_for_as_long_as_they_say() {
    let marked = "cache = { }";
    let Some(tier) = Tier::start(marked) else {
        return;
    };
    run(&mut tier.direct(), "CREATE TABLE t (a int)");
    let mut client = tier.client();
    let end = Instant::now() + SOON;
    // Also what is of the moment, when somebody says so.
    let moment = "/* outgrow: cache=400ms */ SELECT now() FROM (VALUES (1)) AS v";
    while counted(&tier, "hits") == 0 {
        assert!(Instant::now() < end, "nothing is answered from memory");
        run(&mut client, moment);
    }
    let first = value(&mut client, moment);
    thread::sleep(Duration::from_millis(500));
    assert_ne!(value(&mut client, moment), first);
    for _ in 0..2 {
        assert!(!is_hit(&tier, || run(&mut client, "SELECT a FROM t")));
    }
    // A write that others make is seen when the time is over.
    let count = "/* outgrow: cache=1s */ SELECT count(*) FROM t";
    assert_eq!(value(&mut client, count), "0");
    run(&mut tier.direct(), "INSERT INTO t VALUES (1)");
    let end = Instant::now() + SOON;
    while value(&mut client, count) != "1" {
        assert!(Instant::now() < end, "it is never seen");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_kind_of_write_is_seen_at_once() {
    let set_up = "CREATE TABLE parent (id int PRIMARY KEY); \
        CREATE TABLE child (id int REFERENCES parent ON DELETE CASCADE); \
        CREATE TABLE log (what text); CREATE TABLE noted (id int); CREATE TABLE plain (id int); \
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \
          $$BEGIN INSERT INTO log VALUES ('noted'); RETURN NEW; END$$; \
        CREATE TRIGGER note AFTER INSERT ON noted FOR EACH ROW EXECUTE FUNCTION note(); \
        CREATE FUNCTION sneak() RETURNS int LANGUAGE plpgsql AS \
          $$BEGIN INSERT INTO log VALUES ('sneaked'); RETURN 1; END$$; \
        CREATE PROCEDURE called() LANGUAGE sql AS $$INSERT INTO log VALUES ('called')$$; \
        CREATE VIEW shown AS SELECT count(*) AS n FROM plain; \
        CREATE TABLE parts (id int) PARTITION BY RANGE (id); \
        CREATE TABLE part1 PARTITION OF parts FOR VALUES FROM (0) TO (1000000); \
        INSERT INTO parent SELECT generate_series(1, 100); INSERT INTO child SELECT id FROM parent; \
        INSERT INTO plain SELECT generate_series(1, 100)";
    let Some(tier) = start(PROVEN, set_up) else {
        return;
    };
    let (mut writer, mut reader) = (tier.client(), tier.client());
    let mut direct = tier.direct();
    let reads = [
        "SELECT count(*) FROM parent",
        "SELECT count(*) FROM child",
        "SELECT count(*) FROM log",
        "SELECT count(*) FROM plain",
        "SELECT n FROM shown",
        "SELECT sum(id) FROM plain",
        "SELECT count(*) FROM parts",
    ];
    let mut check = |writer: &mut Session, what: &str, write: &dyn Fn(&mut Session)| {
        // They are there from before the write, once the catalogue is known that follows a definition.
        let end = Instant::now() + SOON;
        let before = counted(&tier, "hits");
        while counted(&tier, "hits") < before + reads.len() as u64 {
            assert!(Instant::now() < end, "nothing is kept before {what}");
            for sql in reads {
                value(&mut reader, sql);
                value(&mut reader, sql);
            }
        }
        write(writer);
        for sql in reads {
            let told = value(&mut reader, sql);
            assert_eq!(told, value(&mut direct, sql), "{sql} after {what}");
        }
    };
    for sql in [
        "INSERT INTO plain VALUES (1)",
        "UPDATE plain SET id = id + 1",
        "DELETE FROM plain WHERE id < 10",
        "WITH gone AS (DELETE FROM plain WHERE id < 20 RETURNING 1) SELECT count(*) FROM gone",
        "DELETE FROM parent WHERE id < 10",
        "INSERT INTO noted VALUES (1)",
        "SELECT sneak()",
        "CALL called()",
        "DO $$BEGIN INSERT INTO log VALUES ('done'); END$$",
        "INSERT INTO parts SELECT generate_series(1, 10)",
        "INSERT INTO part1 SELECT generate_series(11, 20)",
        "BEGIN; INSERT INTO plain VALUES (2); COMMIT",
        "ALTER TABLE plain ADD COLUMN more int",
        "TRUNCATE plain",
    ] {
        check(&mut writer, sql, &|writer| run(writer, sql));
    }
    check(&mut writer, "a transaction", &|writer| {
        run(writer, "BEGIN");
        run(writer, "INSERT INTO plain VALUES (3)");
        run(&mut tier.client(), "SELECT count(*) FROM plain");
        run(writer, "COMMIT");
    });
    check(&mut writer, "COPY", &|writer| {
        writer
            .send(&message::query("COPY plain (id) FROM STDIN"))
            .expect("sent");
        let mut data = message::copy_data(b"1\n2\n3\n");
        data.extend(message::copy_done());
        writer.send(&data).expect("sent");
        writer.answer().expect("copied");
    });
    check(&mut writer, "a prepared statement", &|writer| {
        let name = "insert";
        let _ = writer.prepare(name, "INSERT INTO plain VALUES ($1)");
        writer.execute(name, &[Some("5")]).expect("written");
        writer
            .extended("INSERT INTO plain VALUES ($1)", &[Some("6")])
            .expect("written");
    });
}

#[test]
fn who_asks_and_how_is_a_part_of_the_question() {
    let set_up = "CREATE TABLE t (owner name, day date); \
        INSERT INTO t VALUES ('ann', '2001-02-03'), ('bob', '2004-05-06'), ('bob', '2004-05-06'); \
        CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; GRANT SELECT ON t TO ann, bob; \
        ALTER TABLE t ENABLE ROW LEVEL SECURITY; \
        CREATE POLICY own ON t USING (owner = current_user)";
    let settings = format!("{PROVEN}\n[postgres.user.ann]\n[postgres.user.bob]");
    let Some(tier) = start(&settings, set_up) else {
        return;
    };
    let session = |user: &str, more: &[(&str, &str)]| {
        let start = [&[("user", user), ("database", "postgres")][..], more].concat();
        Session::start(tier.address(), &start).expect("a session")
    };
    // Each user's pool may be on a worker of its own, with a catalogue of its own.
    let count = "SELECT count(*) FROM t";
    for (user, expected) in [("ann", "1"), ("bob", "2"), ("ann", "1"), ("bob", "2")] {
        let mut client = session(user, &[]);
        wait_cache(&tier, &mut client);
        assert_eq!(value(&mut client, count), expected);
        assert!(is_hit(&tier, || assert_eq!(
            value(&mut client, count),
            expected
        )));
    }
    let day = "SELECT max(day) FROM t";
    let mut client = session("ann", &[]);
    assert_eq!(value(&mut client, day), "2001-02-03");
    let mut german = session("ann", &[("DateStyle", "German")]);
    assert_eq!(value(&mut german, day), "03.02.2001");
    run(&mut client, "SET DateStyle = 'German'");
    assert_eq!(value(&mut client, day), "03.02.2001");
    run(&mut client, "SET search_path = 'nowhere'");
    assert!(client.query(day).is_err(), "there is no such table");
    run(&mut client, "RESET search_path");
    assert_eq!(value(&mut client, day), "03.02.2001");
}

#[test]
fn of_many_readers_and_writers_nobody_reads_what_is_over() {
    const CLIENTS: usize = 16;
    const ROUNDS: i64 = 150;
    let set_up = "CREATE TABLE t (id int PRIMARY KEY, n bigint); INSERT INTO t SELECT i, 0 FROM generate_series(0, 3) AS i";
    let Some(tier) = start(PROVEN, set_up) else {
        return;
    };
    let before = counted(&tier, "hits");
    // What every reader must see at least.
    let over: Vec<AtomicI64> = (0..4).map(|_| AtomicI64::new(0)).collect();
    let reads = AtomicU64::new(0);
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (tier, over, reads) = (&tier, &over, &reads);
            scope.spawn(move || {
                let mut client = tier.client();
                client
                    .prepare("n", "SELECT n FROM t WHERE id = $1::int")
                    .expect("prepared");
                for round in 0..ROUNDS {
                    let id = (number + round as usize) % 4;
                    if round % 15 == 0 {
                        let update = format!("UPDATE t SET n = n + 1 WHERE id = {id} RETURNING n");
                        let n: i64 = if number % 2 == 0 {
                            value(&mut client, &update).parse().expect("a number")
                        } else {
                            run(&mut client, "BEGIN");
                            let n = value(&mut client, &update).parse().expect("a number");
                            run(&mut client, "COMMIT");
                            n
                        };
                        over[id].fetch_max(n, Ordering::SeqCst);
                    }
                    let least = over[id].load(Ordering::SeqCst);
                    let rows = if number % 3 == 0 {
                        client.query(&format!("SELECT n FROM t WHERE id = {id}"))
                    } else {
                        client.execute("n", &[Some(&id.to_string())])
                    };
                    let rows = rows.expect("an answer");
                    let n: i64 = rows[0][0].as_deref().expect("a value").parse().expect("n");
                    assert!(n >= least, "{n} of {id}, {least} is over");
                    reads.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    let hits = counted(&tier, "hits") - before;
    let reads = reads.load(Ordering::SeqCst);
    println!("{hits} of {reads} reads from memory");
    assert!(hits * 10 > reads, "{hits} of {reads} reads say nothing");
    let state: Value = try_state(&tier.outgrow).expect("the state");
    println!("{}", state["postgres"]["cache"]);
}

#[test]
fn what_a_replica_answered_that_is_behind_is_nobodys_own_write() {
    if !is_there(databases::has_postgres(), "postgresql") {
        return;
    }
    let primary = databases::postgres(ACCESS).expect("a primary");
    primary
        .query(
            "CREATE ROLE replicator LOGIN REPLICATION; CREATE TABLE t (n int); \
             INSERT INTO t VALUES (0)",
        )
        .expect("set up");
    let replica = primary.postgres_replica().expect("a replica");
    replica
        .query("ALTER SYSTEM SET recovery_min_apply_delay = '150ms'")
        .and_then(|()| replica.query("SELECT pg_reload_conf()"))
        .expect("delayed");
    let cache = "cache = { statements = \"proven\", ttl = \"60s\" }";
    let outgrow = start_with_replicas(&[&primary, &replica], cache);
    let client = || Session::of(at(&outgrow), "postgres").expect("a connection");
    let (mut writer, mut reader) = (client(), client());
    run(&mut writer, "SELECT 1");
    wait_roles(&outgrow, &["primary", "replica"]);
    let hits = || {
        let state = try_state(&outgrow).expect("the state");
        state["postgres"]["cache"]["hits"]
            .as_u64()
            .unwrap_or_default()
    };
    let end = Instant::now() + SOON;
    while hits() == 0 {
        assert!(Instant::now() < end, "nothing is answered from memory");
        run(&mut reader, "SELECT max(n) FROM t");
        thread::sleep(Duration::from_millis(30));
    }
    let before = hits();
    for n in 1..60 {
        run(&mut writer, &format!("UPDATE t SET n = {n}"));
        // Whoever asks first, it is kept for all.
        value(&mut reader, "SELECT max(n) FROM t");
        let seen = value(&mut writer, "SELECT max(n) FROM t");
        assert_eq!(seen, n.to_string());
        thread::sleep(Duration::from_millis(n % 7 * 10));
    }
    assert!(hits() - before > 50, "{} hits say nothing", hits() - before);
}
