//! Much data in and out, with little memory.

use std::{fs, io::Write, thread};

use outgrow_testkit::postgres::message::{
    bind, copy_data, copy_done, copy_fail, describe, flush, query, sync, terminate,
};

use super::{Tier, refusal, run, value};
use crate::shop::data_pid;

/// What the data process may grow by while a client moves 100 MB.
const GROWTH_LIMIT: u64 = 24 * 1024 * 1024;
const MIB: u64 = 1024 * 1024;

/// Memory of a process that is its own, in bytes, at its most since [`forget_peak`].
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse::<u64>().ok())
        .expect("a peak")
        * 1024
}

/// Begins anew with the peak, and returns it.
fn forget_peak(pid: u32) -> u64 {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("a peak can be forgotten");
    peak(pid)
}

#[test]
fn a_hundred_megabytes_go_through_in_little_memory() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    run(&mut tier.direct(), "CREATE UNLOGGED TABLE t (a text)");
    let mut client = tier.client();
    run(&mut client, "SELECT 1");
    let data = data_pid(&tier.outgrow);
    let before = forget_peak(data);
    let check = |what: &str| {
        let growth = peak(data).saturating_sub(before);
        assert!(growth < GROWTH_LIMIT, "{what}: {} MiB", growth / MIB);
    };
    // In: rows of 1 MB, in messages of their own.
    client.send(&query("COPY t FROM STDIN")).expect("sent");
    assert_eq!(client.receive().expect("answered").tag, b'G');
    let row = copy_data(&[&[b'x'; 1_000_000][..], b"\n"].concat());
    for _ in 0..100 {
        client.send(&row).expect("sent");
    }
    client.send(&copy_done()).expect("sent");
    client.answer().expect("copied");
    let sum = "SELECT count(*) || ' ' || sum(length(a)) FROM t";
    assert_eq!(value(&mut client, sum), "100 100000000");
    check("COPY in");
    // Out again.
    client.send(&query("COPY t TO STDOUT")).expect("sent");
    let messages = client.until_ready().expect("answered");
    let bytes: usize = messages
        .iter()
        .filter(|one| one.tag == b'd')
        .map(|one| one.body.len())
        .sum();
    assert_eq!(bytes, 100 * 1_000_001);
    drop(messages);
    check("COPY out");
    // As one row.
    let rows = client
        .query("SELECT repeat('y', 100000000)")
        .expect("a row");
    let length = rows[0][0].as_ref().map(String::len);
    assert_eq!(length, Some(100_000_000));
    drop(rows);
    check("a row of 100 MB");
    // As many rows.
    let rows = client.query("SELECT a FROM t").expect("rows");
    assert_eq!(rows.len(), 100);
    drop(rows);
    check("rows of 1 MB");
    // As one message of a client.
    let sql = format!("SELECT length('{}')", "z".repeat(100_000_000));
    assert_eq!(value(&mut client, &sql), "100000000");
    check("a query of 100 MB");
    // Another client was not held up by any memory that is missing.
    run(&mut tier.client(), "SELECT 1");
}

/// A client that does not read is no reason to hold what it should read.
#[test]
fn a_client_that_does_not_read_holds_no_memory() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    let data = data_pid(&tier.outgrow);
    let mut client = tier.client();
    let before = forget_peak(data);
    client
        .send(&query(
            "SELECT repeat('x', 1000) FROM generate_series(1, 100000)",
        ))
        .expect("sent");
    let mut other = tier.client();
    for _ in 0..50 {
        run(&mut other, "SELECT 1");
        thread::sleep(std::time::Duration::from_millis(10));
    }
    let growth = peak(data).saturating_sub(before);
    assert!(growth < GROWTH_LIMIT, "{} MiB", growth / MIB);
    assert_eq!(client.answer().expect("rows").len(), 100_000);
}

#[test]
fn a_server_that_reads_nothing_for_long_is_no_dead_one() {
    let settings = "pool_size = 1\n[postgres.timeouts]\nunacknowledged = \"300ms\"";
    let Some(tier) = Tier::start(settings) else {
        return;
    };
    let mut direct = tier.direct();
    run(&mut direct, "CREATE TABLE slow (id int, text text)");
    run(
        &mut direct,
        "CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS \
         $$BEGIN IF NEW.id = 1 THEN PERFORM pg_sleep(3); END IF; RETURN NEW; END$$",
    );
    run(
        &mut direct,
        "CREATE TRIGGER sleep BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION sleep()",
    );
    let mut client = tier.client();
    // More than its machine takes of what it does not read.
    let line = |id: usize| format!("{id}\t{}\n", "x".repeat(2_000)).into_bytes();
    client
        .send(&query("COPY slow FROM STDIN"))
        .expect("it is asked");
    assert_eq!(client.receive().expect("it takes data").tag, b'G');
    for id in 1..=4_000 {
        client.send(&copy_data(&line(id))).expect("it goes on");
    }
    client.send(&copy_done()).expect("the end");
    client.answer().expect("all of it is there");
    assert_eq!(value(&mut client, "SELECT count(*) FROM slow"), "4000");
}

#[test]
fn a_client_that_goes_on_after_an_error_holds_no_memory() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    let mut client = tier.client();
    run(&mut client, "SELECT 1");
    let data = data_pid(&tier.outgrow);
    client
        .send(&[bind("", "nowhere", &[]), flush()].concat())
        .expect("sent");
    assert_eq!(client.receive().expect("refused").tag, b'E');
    let before = forget_peak(data);
    let many = describe(b'P', "").repeat(100_000);
    for _ in 0..20 {
        client.send(&many).expect("nobody reads it but to skip it");
    }
    client.send(&sync()).expect("the end of it");
    assert_eq!(client.receive().expect("ready").tag, b'Z');
    let growth = peak(data) - before;
    assert!(growth < GROWTH_LIMIT, "{growth} bytes more");
    assert_eq!(value(&mut client, "SELECT 2"), "2");
}

#[test]
fn a_copy_that_comes_to_nothing_leaves_nothing() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    run(&mut tier.direct(), "CREATE TABLE t (a int)");
    let mut other = tier.client();
    let mut nothing_is_left = |how: &str| {
        assert_eq!(value(&mut other, "SELECT count(*) FROM t"), "0", "{how}");
        assert_eq!(other.state, b'I', "{how}");
    };
    let begin = || {
        let mut client = tier.client();
        client.send(&query("COPY t FROM STDIN")).expect("sent");
        assert_eq!(client.receive().expect("answered").tag, b'G');
        client.send(&copy_data(b"1\n2\n3\n")).expect("sent");
        client
    };
    let mut failing = begin();
    failing.send(&copy_fail("enough")).expect("sent");
    let error = failing.answer().expect_err("it was given up");
    assert_eq!(error.code(), "57014");
    run(&mut failing, "SELECT 1");
    nothing_is_left("CopyFail");
    let mut wrong = begin();
    wrong.send(&copy_data(b"nonsense\n")).expect("sent");
    // The rest of the data is on its way when the server says no.
    for _ in 0..1000 {
        wrong
            .send(&copy_data(&[b'5', b'\n'].repeat(1000)))
            .expect("sent");
    }
    wrong.send(&copy_done()).expect("sent");
    assert_eq!(wrong.answer().expect_err("nonsense").code(), "22P02");
    run(&mut wrong, "SELECT 1");
    nothing_is_left("nonsense");
    drop(begin());
    nothing_is_left("vanished");
    let mut polite = begin();
    polite.send(&terminate()).expect("sent");
    drop(polite);
    nothing_is_left("goodbye in the middle");
    let mut amid = begin();
    // A message that never ends.
    amid.send(b"d\0\x10\0\0half of it").expect("sent");
    drop(amid);
    nothing_is_left("vanished in a message");
}

/// While one client copies in, another one copies out, and neither gets what is the other's.
#[test]
fn copies_do_not_mix() {
    let Some(tier) = Tier::start("pool_size = 4") else {
        return;
    };
    run(&mut tier.direct(), "CREATE TABLE t (client int, row int)");
    let address = tier.address();
    let threads: Vec<_> = (0..8)
        .map(|number| {
            thread::spawn(move || {
                let client = outgrow_testkit::postgres::Session::of(address, "postgres");
                let mut client = client.expect("let in");
                for round in 0..10 {
                    client.send(&query("COPY t FROM STDIN")).expect("sent");
                    assert_eq!(client.receive().expect("answered").tag, b'G');
                    let mut data = Vec::new();
                    for row in 0..500 {
                        writeln!(data, "{number}\t{}", round * 500 + row).expect("written");
                    }
                    for piece in data.chunks(777) {
                        client.send(&copy_data(piece)).expect("sent");
                    }
                    client.send(&copy_done()).expect("sent");
                    client.answer().expect("copied");
                    let sql = format!(
                        "COPY (SELECT client, row FROM t WHERE client = {number} ORDER BY row) \
                         TO STDOUT"
                    );
                    client.send(&query(&sql)).expect("sent");
                    let messages = client.until_ready().expect("answered");
                    let lines = messages.iter().filter(|one| one.tag == b'd');
                    let lines: Vec<_> = lines.map(|one| one.body.clone()).collect();
                    let expected =
                        (0..(round + 1) * 500).map(|row| format!("{number}\t{row}\n").into_bytes());
                    assert_eq!(lines, expected.collect::<Vec<_>>());
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    let mut client = tier.client();
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), "40000");
    assert!(refusal(&mut client, "COPY t TO '/nowhere/x'").starts_with("ERROR 58P01"));
}
