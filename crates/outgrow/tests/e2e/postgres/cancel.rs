//! A cancel request hits the query that it is for, and never another one.

use std::{
    fs::{self, Permissions},
    io::Read,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use outgrow_testkit::{
    databases,
    faults::{Fault, Proxy},
    folder::Folder,
    outgrow::Launch,
    postgres::{PostgresError, Session, message},
};

use super::{Tier, config, modes::connections, run, value};
use crate::{checks::is_there, shop::SOON};

#[test]
fn a_hundred_at_once_hit_those_that_they_are_for() {
    let Some(tier) = Tier::start_with("pool_size = 100", &["max_connections=150"]) else {
        return;
    };
    let mut clients: Vec<Session> = (0..100).map(|_| tier.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let sql = match number % 2 {
            0 => "SELECT pg_sleep(60)".to_owned(),
            _ => format!("SELECT {number} FROM pg_sleep(5)"),
        };
        client.send(&message::query(&sql)).expect("sent");
    }
    let mut direct = tier.direct();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND \
               state = 'active' AND pid <> pg_backend_pid()";
    let all = |_: &_| (value(&mut direct, sql) == "100").then_some(());
    tier.outgrow.wait("all run", SOON, all).expect("they do");
    thread::scope(|scope| {
        for client in clients.iter().step_by(2) {
            scope.spawn(|| client.cancel().expect("asked"));
        }
    });
    for (number, client) in clients.iter_mut().enumerate() {
        match client.answer() {
            Ok(rows) => assert_eq!(rows, [[Some(number.to_string())]]),
            Err(PostgresError::Said(problem)) => {
                assert_eq!(number % 2, 0, "{number} was not cancelled: {problem}");
                assert_eq!(problem.code, "57014");
            }
            Err(error) => panic!("{number}: {error}"),
        }
        // Nobody is any the worse for it.
        assert_eq!(
            value(client, &format!("SELECT {number}")),
            number.to_string()
        );
    }
}

/// Requests that come late, when the server connection works for somebody else already.
#[test]
fn late_ones_hit_nobody() {
    let Some(tier) = Tier::start("pool_size = 3") else {
        return;
    };
    let address = tier.address();
    let over = Arc::new(AtomicBool::new(false));
    let (queries, asked, hits) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut threads = Vec::new();
    for number in 0..6 {
        let (over, queries) = (Arc::clone(&over), Arc::clone(&queries));
        threads.push(thread::spawn(move || {
            let mut innocent = Session::of(address, "postgres").expect("let in");
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                count += 1;
                let tag = format!("{number} {count}");
                let sql = format!("SELECT '{tag}', pg_sleep(0.001)");
                let seen = innocent.value(&sql);
                let seen = seen.unwrap_or_else(|error| panic!("an innocent one: {error}"));
                assert_eq!(seen, tag);
                queries.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for number in 0..4_u64 {
        let (over, asked, hits) = (Arc::clone(&over), Arc::clone(&asked), Arc::clone(&hits));
        threads.push(thread::spawn(move || {
            let mut victim = Session::of(address, "postgres").expect("let in");
            let mut round = number;
            while !over.load(Ordering::Relaxed) {
                round += 1;
                victim
                    .send(&message::query("SELECT 'victim', pg_sleep(0.002)"))
                    .expect("sent");
                // About when it ends: before, then, and after.
                thread::sleep(Duration::from_micros(round % 50 * 100));
                victim.cancel().expect("asked");
                asked.fetch_add(1, Ordering::Relaxed);
                match victim.answer() {
                    Ok(rows) => assert_eq!(rows[0][0].as_deref(), Some("victim")),
                    Err(error) => {
                        assert_eq!(error.code(), "57014", "{error}");
                        hits.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }));
    }
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    // Otherwise it has shown nothing: some hit, and some came too late. On a busy machine that takes
    // a while.
    let has_shown = || {
        let (asked, hits) = (count(&asked), count(&hits));
        count(&queries) > 200 && asked > 100 && hits > 5 && asked > hits + 5
    };
    let (least, most) = (Duration::from_secs(6), Duration::from_secs(60));
    let began = Instant::now();
    while began.elapsed() < least || (!has_shown() && began.elapsed() < most) {
        assert!(
            !threads.iter().any(thread::JoinHandle::is_finished),
            "a panic"
        );
        thread::sleep(Duration::from_millis(50));
    }
    over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().expect("no panic");
    }
    let (queries, asked, hits) = (count(&queries), count(&asked), count(&hits));
    assert!(
        queries > 200 && asked > 100 && hits > 5 && hits < asked,
        "{queries} innocent queries, {asked} requests, {hits} hits"
    );
}

#[test]
fn a_wrong_key_hits_nobody() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    let mut client = tier.client();
    client
        .send(&message::query("SELECT 'whole' FROM pg_sleep(1)"))
        .expect("sent");
    let (process, secret) = client.key.clone();
    assert_eq!(secret.len(), 4, "protocol 3.0");
    for key in [
        (process, vec![0; 4]),
        (process ^ 1, secret.clone()),
        (process, Vec::new()),
        (process, vec![1; 300]),
        (0, vec![0; 4]),
    ] {
        let mut other = Session::open(tier.address()).expect("connected");
        other.send(&message::cancel(key.0, &key.1)).expect("sent");
        // Nothing says whether there is such a client.
        other.end_sending().expect("ended");
        let _said = other.is_over();
    }
    assert_eq!(client.answer().expect("rows"), [[Some("whole".to_owned())]]);
}

/// The connection that is cancelled in a transaction stays with its client.
#[test]
fn a_cancelled_transaction_goes_on_as_with_postgres() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    let mut client = tier.client();
    run(&mut client, "BEGIN; SAVEPOINT a");
    client
        .send(&message::query("SELECT pg_sleep(60)"))
        .expect("sent");
    let mut direct = tier.direct();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let sleeps = |_: &_| (value(&mut direct, sql) == "1").then_some(());
    tier.outgrow
        .wait("it sleeps", SOON, sleeps)
        .expect("it does");
    client.cancel().expect("asked");
    assert_eq!(client.answer().expect_err("cancelled").code(), "57014");
    assert_eq!(client.state, b'E');
    run(&mut client, "ROLLBACK TO a");
    assert_eq!(value(&mut client, "SELECT 1"), "1");
    run(&mut client, "COMMIT");
}

/// As long as it waits for a connection there is nothing to cancel on the server; the client must
/// not have to wait to its end for that.
#[test]
fn who_waits_in_line_can_be_cancelled() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    let (mut holder, mut client) = (tier.client(), tier.client());
    run(&mut holder, "BEGIN");
    client.send(&message::query("SELECT 1")).expect("sent");
    thread::sleep(super::MOMENT);
    client.cancel().expect("asked");
    let began = Instant::now();
    let stream = client.stream();
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a limit");
    let told = client.answer();
    assert!(began.elapsed() < Duration::from_secs(4), "{told:?}");
    assert_eq!(told.expect_err("cancelled").code(), "57014");
    run(&mut holder, "COMMIT");
    assert_eq!(value(&mut client, "SELECT 2"), "2");
}

/// Only what it waits with: a series of messages up to its Sync, and nothing behind that.
#[test]
fn what_waits_in_line_is_dropped_as_a_whole() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    let (mut holder, mut client) = (tier.client(), tier.client());
    run(&mut holder, "CREATE TABLE t (x int)");
    run(&mut holder, "BEGIN");
    let insert = |number: u32| {
        [
            message::parse("s", &format!("INSERT INTO t VALUES ({number})")),
            message::bind("", "s", &[]),
            message::execute("", 0),
        ]
        .concat()
    };
    // The rest of the series comes after the request.
    client.send(&insert(1)).expect("sent");
    thread::sleep(super::MOMENT);
    client.cancel().expect("asked");
    let told = client.receive().expect("an error").problem();
    assert_eq!(told.expect("an error").code, "57014");
    let more = [
        insert(2),
        message::flush(),
        message::sync(),
        insert(3),
        message::sync(),
    ];
    client.send(&more.concat()).expect("sent");
    let rest = client.until_ready().expect("the Sync's answer");
    assert_eq!(rest.len(), 1, "{rest:?}");
    run(&mut holder, "COMMIT");
    client.answer().expect("the third is inserted");
    assert_eq!(value(&mut client, "SELECT sum(x) FROM t"), "3");
    // A request that comes when nothing waits any more hits nothing.
    client.cancel().expect("asked");
    assert_eq!(value(&mut client, "SELECT sum(x) FROM t"), "3");
    // A message that is not there as a whole.
    run(&mut holder, "BEGIN");
    let long = message::query(&format!("SELECT '{}'", "x".repeat(600_000)));
    let (start, end) = long.split_at(300_000);
    client.send(start).expect("sent");
    thread::sleep(super::MOMENT);
    client.cancel().expect("asked");
    client.send(end).expect("sent");
    assert_eq!(client.answer().expect_err("cancelled").code(), "57014");
    run(&mut holder, "COMMIT");
    assert_eq!(value(&mut client, "SELECT 2"), "2");
}

/// While there is no server at all.
#[test]
fn who_waits_for_a_server_to_come_back_can_be_cancelled() {
    let settings = "pool_size = 1\n[postgres.timeouts]\nserver_idle = \"100ms\"";
    let Some(mut tier) = Tier::start(settings) else {
        return;
    };
    let mut client = tier.client();
    assert_eq!(value(&mut client, "SELECT 1"), "1");
    // Not one that is lost with the server: there is none.
    let mut direct = tier.direct();
    let is_alone = |_: &_| (connections(&mut direct) == 0).then_some(());
    tier.outgrow
        .wait("it is closed", SOON, is_alone)
        .expect("it is");
    tier.database.kill();
    client.send(&message::query("SELECT 2")).expect("sent");
    thread::sleep(super::MOMENT);
    client.cancel().expect("asked");
    assert_eq!(client.answer().expect_err("cancelled").code(), "57014");
}

/// A request that hits a question of ours, and not what the client did before, harms nobody.
#[test]
fn late_ones_do_not_end_who_is_kept() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    let mut client = tier.client();
    for _ in 0..200 {
        run(&mut client, "SELECT pg_advisory_lock(1)");
        // We ask now whether there is a lock.
        client.cancel().expect("asked");
        run(&mut client, "SELECT pg_advisory_unlock(1)");
        client.cancel().expect("asked");
    }
    assert_eq!(value(&mut client, "SELECT 1"), "1");
}

/// Of a name with two addresses the one at which the session is, although new connections go to the other
/// one by then: there a fake server tells what each connection begins with, and answers nothing.
#[test]
fn it_goes_to_the_address_at_which_the_session_is() {
    if !is_there(databases::has_postgres(), "postgresql") {
        return;
    }
    let folder = Folder::new("hosts").expect("a folder");
    let hosts = "127.0.0.1 db.internal\n127.0.0.2 db.internal\n";
    let hosts = folder.write("hosts", hosts).expect("written");
    let hosts = hosts.display();
    let surround = |program: &Path| {
        let program = program.display();
        format!(
            "exec unshare --map-root-user --mount sh -c \
             'mount --bind \"{hosts}\" /etc/hosts && exec \"{program}\" \"$@\"' sh \"$@\"\n"
        )
    };
    let tried = Command::new("sh")
        .args(["-c", &surround(Path::new("true"))])
        .output();
    if !tried.is_ok_and(|output| output.status.success()) {
        eprintln!("not tested: unshare --mount is not permitted here");
        return;
    }
    let binary = outgrow_testkit::outgrow::binary().expect("a binary");
    let script = format!("#!/bin/sh\n{}", surround(&binary));
    let script = folder.write("outgrow", script).expect("written");
    let mode = Permissions::from_mode(0o755);
    fs::set_permissions(&script, mode).expect("set");

    let database = databases::postgres("host all all 127.0.0.1/32 trust").expect("Postgres starts");
    let proxy = Proxy::start(database.address()).expect("a proxy");
    let port = proxy.address().port();
    let config = config("pool_size = 2", proxy.address());
    let config = config.replace(&proxy.address().to_string(), &format!("db.internal:{port}"));
    let outgrow = Launch::config(&config).binary(script).start();
    let outgrow = outgrow.expect("outgrow starts");
    let client = || Session::of(outgrow.address("pooler").expect("an address"), "postgres");
    let mut first_client = client().expect("let in");
    run(&mut first_client, "SELECT 1");
    first_client
        .send(&message::query("SELECT pg_sleep(20)"))
        .expect("sent");

    let mut direct = Session::of(database.address(), "postgres").expect("let in");
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let sleeps = |_: &_| (value(&mut direct, sql) == "1").then_some(());
    outgrow.wait("it sleeps", SOON, sleeps).expect("it does");

    let listener = TcpListener::bind(("127.0.0.2", port)).expect("bound");
    let (begins, begun) = mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = [0; 8];
            let _ = stream.read_exact(&mut bytes);
            let _ = begins.send(bytes);
        }
    });
    proxy.set(Fault::Refuse).expect("it refuses");
    let mut other = client().expect("let in");
    other.send(&message::query("SELECT 1")).expect("sent");
    let login = begun.recv_timeout(SOON).expect("it goes to the other one");
    let asks_to_cancel = |begin: &[u8; 8]| message::cancel(0, &[0; 4]).starts_with(begin);
    assert!(!asks_to_cancel(&login));
    proxy.set(Fault::None).expect("it listens");

    first_client.cancel().expect("asked");
    let ended = first_client.answer().expect_err("cancelled");
    assert_eq!(ended.code(), "57014", "{ended}");
    let at_other = begun.try_iter().filter(asks_to_cancel).count();
    assert_eq!(at_other, 0);
}
