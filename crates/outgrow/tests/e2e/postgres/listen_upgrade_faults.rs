//! Clients that listen, in an upgrade in which something fails: who stays connected has missed nothing,
//! and who cannot go along is told so.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use outgrow_testkit::{
    faults::{Fault, Proxy},
    outgrow::{Launch, Outgrow},
    postgres::{Session, message},
};

use super::{
    Tier, config,
    handover::{upgrade, wait_taken},
    listen::heard,
    listen_upgrade::{SETTINGS, listeners, notify_numbers, take},
    run, value,
};
use crate::shop::{SOON, data_pid};

/// What a client hears next.
fn hear(client: &mut Session) -> String {
    let message = client.receive().expect("a message");
    heard(&message).map_or_else(|| format!("{message:?}"), |(_, _, payload)| payload)
}

/// An outgrow with its database behind a proxy, and two clients that listen on `c`.
fn with_proxy(tier: &Tier) -> (Proxy, Outgrow, [Session; 2]) {
    let proxy = Proxy::start(tier.database.address()).expect("a proxy");
    let outgrow = Launch::config(&config("pool_size = 2", proxy.address())).start();
    let outgrow = outgrow.expect("outgrow starts");
    let at = outgrow.address("pooler").expect("an address");
    let mut clients = [(); 2].map(|()| Session::of(at, "postgres").expect("let in"));
    for client in &mut clients {
        run(client, "LISTEN c");
    }
    (proxy, outgrow, clients)
}

/// Where the next process cannot listen, who does is told to reconnect as before, whether it waits for
/// something or not; who does not listen goes along.
#[test]
fn who_listens_is_told_when_the_next_process_cannot() {
    let Some(tier) = Tier::start("") else {
        return;
    };
    let (proxy, outgrow, [mut listener, mut worker]) = with_proxy(&tier);
    let at = outgrow.address("pooler").expect("an address");
    let mut other = Session::of(at, "postgres").expect("let in");
    run(&mut other, "SELECT 1");
    run(&mut tier.direct(), "NOTIFY c, 'before'");
    assert_eq!(hear(&mut listener), "before");
    assert_eq!(hear(&mut worker), "before");
    // What there is goes on, and nothing new can be had.
    proxy.set(Fault::Refuse).expect("refused");
    let told = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            loop {
                if let Err(told) = worker.query("SELECT pg_sleep(0.01)") {
                    return told.to_string();
                }
            }
        });
        upgrade(&outgrow);
        worker.join().expect("it is told")
    });
    assert_eq!(told, "FATAL 57P01 server shutting down");
    let told = listener.answer().expect_err("it is sent away").to_string();
    assert_eq!(told, "FATAL 57P01 server shutting down");
    proxy.set(Fault::None).expect("back");
    run(&mut other, "SELECT 1");
    outgrow
        .wait_told(
            "1 clients were handed to the next data process, 2 told to reconnect (2 listens)",
        )
        .expect("told");
}

/// One attempt of the next process to connect decides nothing.
#[test]
fn who_listens_goes_along_when_the_server_is_gone_for_a_moment() {
    let Some(tier) = Tier::start("") else {
        return;
    };
    let (proxy, outgrow, mut clients) = with_proxy(&tier);
    proxy.set(Fault::Refuse).expect("refused");
    outgrow.upgrade(None).expect("another one");
    thread::sleep(Duration::from_millis(1_500));
    proxy.set(Fault::None).expect("back");
    wait_taken(&outgrow, 2);
    run(&mut tier.direct(), "NOTIFY c, 'after'");
    for client in &mut clients {
        assert_eq!(hear(client), "after");
    }
}

/// Who notifies holds a lock of the server's until its commit is through, which here takes longer than
/// the connection that listens waits for any answer.
#[test]
fn a_commit_that_takes_long_ends_nobody_who_listens() {
    const CLIENTS: usize = 6;
    let Some(tier) = Tier::start(SETTINGS) else {
        return;
    };
    let mut clients = listeners(&tier, CLIENTS);
    let (mut direct, mut slow) = (tier.direct(), tier.direct());
    run(&mut direct, "CREATE TABLE t (a int)");
    run(&mut direct, "NOTIFY c, 'before'");
    let set_names = |direct: &mut Session, names: &str| {
        let sql = format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'");
        run(direct, &sql);
        run(direct, "SELECT pg_reload_conf()");
        let is_set = |_: &_| {
            let shown = value(&mut tier.direct(), "SHOW synchronous_standby_names");
            (shown == names).then_some(())
        };
        tier.outgrow.wait("it is set", SOON, is_set).expect("it is");
    };
    set_names(&mut direct, "nobody");
    let commit = message::query("BEGIN; INSERT INTO t VALUES (1); NOTIFY c, 'slow'; COMMIT");
    slow.send(&commit).expect("sent");
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let waits = |_: &_| (value(&mut direct, sql) == "1").then_some(());
    tier.outgrow.wait("it waits", SOON, waits).expect("it does");
    tier.outgrow.upgrade(None).expect("another one");
    // Markers wait behind it, give up, and are asked for again.
    let sql = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND \
               query LIKE '%NOTIFY \"outgrow%'";
    let waits = |_: &_| (value(&mut direct, sql) == "t").then_some(());
    tier.outgrow
        .wait("they wait", SOON, waits)
        .expect("they do");
    thread::sleep(Duration::from_secs(6));
    set_names(&mut direct, "");
    slow.until_ready().expect("it is committed");
    wait_taken(&tier.outgrow, CLIENTS as u64);
    run(&mut direct, "NOTIFY c, 'after'");
    for client in &mut clients {
        let heard = [(); 3].map(|()| hear(client));
        assert_eq!(heard, ["before", "slow", "after"]);
    }
}

/// How a client's ends.
#[derive(Debug)]
enum End {
    /// It has heard everything.
    Complete(usize),
    /// Its connection was gone: it was another process's already.
    Gone,
    /// It was told to reconnect.
    Told,
}

/// Hears numbers up to the end, and works meanwhile or not. What it asks is answered in time.
fn hear_or_end(client: &mut Session, works: bool) -> End {
    let mut next = 0;
    let mut asked = None;
    loop {
        if works && asked.is_none() && client.send(&message::query("SELECT 1")).is_ok() {
            asked = Some(Instant::now());
        }
        let Ok(message) = client.receive() else {
            let is_in_time = asked.is_none_or(|at| at.elapsed() < Duration::from_secs(20));
            assert!(is_in_time, "it is not answered");
            return End::Gone;
        };
        if message.problem().is_some() {
            return End::Told;
        }
        if message.tag == b'Z' {
            asked = None;
        }
        if let Some((_, channel, payload)) = heard(&message)
            && take(0, &channel, &payload, &mut next)
        {
            return End::Complete(next);
        }
    }
}

/// Whatever moment the next process dies at: who goes on has missed nothing, and who does not has
/// heard everything up to some point.
#[test]
fn when_the_next_process_dies_nobody_misses_anything_unknowingly() {
    const CLIENTS: usize = 40;
    let Some(tier) = Tier::start(SETTINGS) else {
        return;
    };
    let (mut complete, mut gone, mut told) = (0, 0, 0);
    // Until some had gone over and others had not, and for four times at least.
    for (round, pause) in [0, 5, 20, 60, 10, 30, 90, 150, 250, 400]
        .into_iter()
        .enumerate()
    {
        if round >= 4 && complete > 0 && gone > 0 {
            break;
        }
        let mut clients: Vec<Session> = (0..CLIENTS).map(|_| tier.client()).collect();
        for client in &mut clients {
            run(client, "LISTEN numbers");
        }
        let is_over = AtomicBool::new(false);
        let (count, each) = thread::scope(|scope| {
            let hearing = clients.iter_mut().enumerate();
            let hearing: Vec<_> = hearing
                .map(|(number, client)| scope.spawn(move || hear_or_end(client, number % 2 == 1)))
                .collect();
            let writer = scope.spawn(|| notify_numbers(tier.direct(), &is_over));
            thread::sleep(Duration::from_millis(100));
            tier.outgrow.upgrade(None).expect("another one");
            thread::sleep(Duration::from_millis(pause));
            tier.outgrow.kill9(data_pid(&tier.outgrow)).expect("killed");
            thread::sleep(Duration::from_secs(2));
            is_over.store(true, Ordering::Relaxed);
            let count = writer.join().expect("it writes");
            let each: Vec<_> = hearing
                .into_iter()
                .map(|one| one.join().expect("in order, and once"))
                .collect();
            (count, each)
        });
        for one in each {
            match one {
                End::Complete(heard) => {
                    assert_eq!(heard, count, "round {round}");
                    complete += 1;
                }
                End::Gone => gone += 1,
                End::Told => told += 1,
            }
        }
        println!("after round {round}: {complete} heard all, {gone} were gone, {told} told");
    }
    assert!(complete > 0 && gone > 0, "{complete} {gone}: none was amid");
}
