//! Things that die: server processes, the server, our data process, the network between.

use std::{
    thread,
    time::{Duration, Instant},
};

use outgrow_testkit::{
    postgres::{PostgresError, Session, message},
    processes,
};

use super::{Tier, backend, refusal, run, value};
use crate::shop::{SOON, data_pid};

/// Retries until it is answered; how long that took.
fn until_answered(tier: &Tier) -> Duration {
    let began = Instant::now();
    let answered = |_: &_| {
        let mut client = Session::of(tier.address(), "postgres").ok()?;
        client.value("SELECT 1").ok().filter(|one| one == "1")
    };
    tier.outgrow
        .wait("an answer", SOON, answered)
        .expect("it comes");
    began.elapsed()
}

#[test]
fn a_server_process_that_ends_at_rest_is_noticed_by_nobody() {
    let Some(tier) = Tier::start("pool_size = 3") else {
        return;
    };
    let mut client = tier.client();
    client.prepare("s", "SELECT $1::int").expect("prepared");
    run(&mut client, "SET work_mem = '5MB'");
    let mut direct = tier.direct();
    for round in 0..10 {
        run(
            &mut direct,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        );
        if round % 2 == 0 {
            // The end may be seen before the next query, or by it.
            thread::sleep(Duration::from_millis(20));
        }
        let rows = client.execute("s", &[Some("5")]);
        match rows {
            Ok(rows) => assert_eq!(rows, [[Some("5".to_owned())]]),
            Err(error) if round % 2 == 1 => {
                // It was lent in the moment in which it ended.
                eprintln!("{round}: {error}");
                client = tier.client();
                client.prepare("s", "SELECT $1::int").expect("prepared");
                run(&mut client, "SET work_mem = '5MB'");
                continue;
            }
            Err(error) => panic!("{round}: {error}"),
        }
        assert_eq!(value(&mut client, "SHOW work_mem"), "5MB");
    }
}

#[test]
fn a_server_process_that_is_ended_in_a_query_says_why() {
    let Some(tier) = Tier::start("pool_size = 3") else {
        return;
    };
    let mut client = tier.client();
    let mut other = tier.client();
    client
        .send(&message::query("SELECT pg_sleep(60)"))
        .expect("sent");
    let mut direct = tier.direct();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let ended = |_: &_| (value(&mut direct, end) == "t").then_some(());
    tier.outgrow
        .wait("it sleeps", SOON, ended)
        .expect("it does");
    let error = client.answer().expect_err("it was ended");
    assert_eq!(
        error.to_string(),
        "FATAL 57P01 terminating connection due to administrator command"
    );
    client.is_over().expect("as with Postgres itself");
    run(&mut other, "SELECT 1");
}

#[test]
fn a_server_process_that_is_killed_ends_its_client_and_no_other() {
    let Some(tier) = Tier::start("pool_size = 3") else {
        return;
    };
    run(&mut tier.direct(), "CREATE TABLE t (a int)");
    let (mut client, mut idle) = (tier.client(), tier.client());
    run(&mut idle, "SET work_mem = '5MB'");
    run(&mut client, "BEGIN; INSERT INTO t VALUES (1)");
    let pid = backend(&mut client).parse().expect("a process");
    processes::kill9(pid).expect("killed");
    // Postgres ends all of its processes then, and recovers.
    let told = refusal(&mut client, "SELECT 1");
    assert!(
        [
            "FATAL 57P02",
            "FATAL 57P03",
            "WARNING 57P02",
            "FATAL 08006",
            "the connection"
        ]
        .iter()
        .any(|known| told.starts_with(known)),
        "{told}"
    );
    until_answered(&tier);
    // One that had no connection at that moment goes on, with all that is its own.
    assert_eq!(value(&mut idle, "SHOW work_mem"), "5MB");
    assert_eq!(value(&mut idle, "SELECT count(*) FROM t"), "0");
}

#[test]
fn the_server_dies_and_comes_back() {
    let Some(mut tier) =
        Tier::start("pool_size = 3\n[postgres.timeouts]\nconnect_retry = \"100ms\"\nwait = \"5s\"")
    else {
        return;
    };
    let (mut idle, mut amid) = (tier.client(), tier.client());
    idle.prepare("s", "SELECT 'prepared'").expect("prepared");
    run(&mut amid, "BEGIN");
    tier.database.kill();
    let told = refusal(&mut amid, "SELECT 1");
    assert!(
        told.starts_with("FATAL") || told.starts_with("the connection"),
        "{told}"
    );
    // While it is away clients wait, and are then told what is wrong.
    let mut late = Session::open(tier.address()).expect("we are there");
    late.send(&message::startup(&[
        ("user", "postgres"),
        ("database", "postgres"),
    ]))
    .expect("sent");
    let began = Instant::now();
    let address = tier.address();
    let patient = thread::spawn(move || {
        let mut patient = Session::of(address, "postgres")?;
        patient.value("SELECT 'patient'")
    });
    thread::sleep(Duration::from_secs(1));
    tier.database.restart().expect("it starts again");
    let patient = patient.join().expect("no panic");
    assert_eq!(patient.expect("it waited for long enough"), "patient");
    let rows = idle.execute("s", &[]).expect("executed");
    assert_eq!(rows, [[Some("prepared".to_owned())]]);
    late.answer().expect("let in");
    assert!(began.elapsed() < SOON);
}

#[test]
fn who_waits_for_a_server_that_is_away_is_told_so() {
    let Some(mut tier) =
        Tier::start("pool_size = 3\n[postgres.timeouts]\nconnect_retry = \"100ms\"\nwait = \"1s\"")
    else {
        return;
    };
    let mut idle = tier.client();
    run(&mut idle, "SELECT 1");
    tier.database.kill();
    let began = Instant::now();
    // The server's processes outlive their parent by a moment.
    let told = loop {
        match idle.query("SELECT 1") {
            Ok(_) => assert!(began.elapsed() < Duration::from_secs(5), "it lives on"),
            Err(error) => break error.to_string(),
        }
    };
    // Or by such a process, with its last words.
    let is_told = told.starts_with("FATAL 08001") || told.starts_with("FATAL 57P01");
    assert!(is_told, "{told}");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    // One that comes now is let in, since it is known what a server would say, or is told at once.
    let told = match Session::of(tier.address(), "postgres") {
        Ok(mut new) => refusal(&mut new, "SELECT 1"),
        Err(error) => error.to_string(),
    };
    assert!(told.starts_with("FATAL 08001"), "{told}");
    assert!(told.contains("could not be reached"), "{told}");
}

#[test]
fn our_data_process_dies_and_leaves_nothing_open() {
    let Some(tier) = Tier::start("pool_size = 3") else {
        return;
    };
    let mut direct = tier.direct();
    run(&mut direct, "CREATE TABLE t (a int)");
    for _ in 0..3 {
        let (mut amid, mut idle) = (tier.client(), tier.client());
        run(&mut idle, "SELECT 1");
        run(
            &mut amid,
            "BEGIN; INSERT INTO t VALUES (1); SELECT pg_advisory_lock(1)",
        );
        let victim = data_pid(&tier.outgrow);
        tier.outgrow.kill9(victim).expect("killed");
        for client in [&mut amid, &mut idle] {
            let told = refusal(client, "SELECT 1");
            assert!(told.starts_with("the connection"), "{told}");
        }
        let took = until_answered(&tier);
        assert!(took < Duration::from_secs(5), "{took:?}");
        let left = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
        let gone = |_: &_| (value(&mut direct, left) == "0").then_some(());
        tier.outgrow
            .wait("the lock is free", SOON, gone)
            .expect("it is");
        assert_eq!(value(&mut direct, "SELECT count(*) FROM t"), "0");
    }
}

/// The outcome of a COMMIT whose answer did not come is not known, and said to be so.
#[test]
fn a_commit_in_doubt_is_not_repeated() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    let mut direct = tier.direct();
    // A commit that takes long: a trigger at its end sleeps.
    run(
        &mut direct,
        "CREATE TABLE t (a int); \
         CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
         $$BEGIN PERFORM pg_sleep(60); RETURN NULL; END$$; \
         CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION slow()",
    );
    let mut client = tier.client();
    run(&mut client, "BEGIN; INSERT INTO t VALUES (1)");
    client.send(&message::query("COMMIT")).expect("sent");
    let sleeps = "SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let pid = tier.outgrow.wait("it commits", SOON, |_| {
        Some(value(&mut direct, sleeps)).filter(|pid| pid != "0")
    });
    let pid = pid.expect("it does").parse().expect("a process");
    processes::kill9(pid).expect("killed");
    let error = client.answer().expect_err("no answer");
    assert!(!matches!(error, PostgresError::Unexpected(_)), "{error}");
    until_answered(&tier);
    let mut other = tier.client();
    assert_eq!(value(&mut other, "SELECT count(*) FROM t"), "0");
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COMMIT%' AND \
                state = 'active'";
    assert_eq!(value(&mut other, busy), "0", "it was not sent again");
}
