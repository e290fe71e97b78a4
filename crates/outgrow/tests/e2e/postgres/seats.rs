//! The connections to one server: never more than it may have, shared by all pools, also while two
//! data processes run.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use outgrow_testkit::outgrow::Outgrow;
use outgrow_testkit::postgres::{Session, message};
use serde_json::Value;

use super::{Tier, modes::connections, run, value};
use crate::shop::{SOON, try_state};

/// Two names for the same database: two pools.
const TWO: &str = "[postgres.database.postgres]\n\
                   [postgres.database.second]\nname = \"postgres\"";

fn client(address: SocketAddr, database: &str) -> Session {
    Session::of(address, database).expect("let in")
}

/// What the state says of the one server.
fn seats(outgrow: &Outgrow) -> Value {
    let state = try_state(outgrow).unwrap_or_default();
    state["postgres"]["connections"][0].clone()
}

/// Tells those who watch that it is over, also when a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Looks how many connections there are until it is told to end: the most at a time.
fn watch(direct: &mut Session, is_over: &AtomicBool) -> u32 {
    let mut most = 0;
    while !is_over.load(Ordering::SeqCst) {
        most = most.max(connections(direct));
        thread::sleep(Duration::from_millis(2));
    }
    most
}

#[test]
fn one_server_has_no_more_connections_than_it_may() {
    let settings = format!("pool_size = 3\nmax_server_connections = 4\n{TWO}");
    let Some(tier) = Tier::start(&settings) else {
        return;
    };
    let mut direct = tier.direct();
    let mut all: Vec<_> = [
        "postgres", "postgres", "postgres", "second", "second", "second",
    ]
    .map(|database| client(tier.address(), database))
    .into_iter()
    .collect();
    for client in &mut all {
        client
            .send(&message::query("SELECT pg_sleep(1)"))
            .expect("sent");
    }
    let mut most = 0;
    for client in &mut all {
        most = most.max(connections(&mut direct));
        client.answer().expect("its turn");
    }
    assert!(most <= 4, "{most} at a time");
    let told = seats(&tier.outgrow);
    assert_eq!(told["limit"], 4, "{told}");
    assert_eq!(told["max_connections"], 100, "{told}");
}

#[test]
fn a_small_pool_has_its_part_beside_a_busy_one() {
    let settings = format!("pool_size = 20\nmax_server_connections = 4\n{TWO}");
    let Some(tier) = Tier::start(&settings) else {
        return;
    };
    let mut direct = tier.direct();
    let (address, is_over) = (tier.address(), AtomicBool::new(false));
    let served = AtomicU64::new(0);
    let (most, slowest) = thread::scope(|scope| {
        let (is_over, served) = (&is_over, &served);
        let over = Over(is_over);
        for _ in 0..20 {
            scope.spawn(move || {
                let mut busy = client(address, "postgres");
                while !is_over.load(Ordering::SeqCst) {
                    run(&mut busy, "SELECT pg_sleep(0.01)");
                    served.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let watcher = scope.spawn(|| watch(&mut direct, is_over));
        thread::sleep(Duration::from_millis(500));
        let mut small = client(address, "second");
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let began = Instant::now();
            run(&mut small, "SELECT 1");
            slowest = slowest.max(began.elapsed());
            thread::sleep(Duration::from_millis(20));
        }
        drop(over);
        let most = watcher.join().expect("no panic");
        (most, slowest)
    });
    assert!(most <= 4, "{most} at a time");
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    let served = served.load(Ordering::SeqCst);
    assert!(served > 50, "{served}");
}

#[test]
fn what_is_idle_elsewhere_is_in_nobodys_way() {
    let settings = format!("pool_size = 3\nmax_server_connections = 3\n{TWO}");
    let Some(tier) = Tier::start(&settings) else {
        return;
    };
    let mut direct = tier.direct();
    let mut first: Vec<_> = (0..3).map(|_| client(tier.address(), "postgres")).collect();
    for one in &mut first {
        run(one, "BEGIN");
    }
    for one in &mut first {
        run(one, "COMMIT");
    }
    assert_eq!(connections(&mut direct), 3);
    let began = Instant::now();
    run(&mut client(tier.address(), "second"), "SELECT 1");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(connections(&mut direct), 3);
    assert!(seats(&tier.outgrow)["given_up"].as_u64() >= Some(1));
}

#[test]
fn a_server_that_takes_few_is_asked_for_no_more() {
    // Three of these are for superusers.
    let Some(tier) = Tier::start_with("pool_size = 30\nedges = 2", &["max_connections=19"]) else {
        return;
    };
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let address = tier.address();
            thread::spawn(move || run(&mut client(address, "postgres"), "SELECT pg_sleep(0.2)"))
        })
        .collect();
    let mut direct = tier.direct();
    let mut most = 0;
    for client in clients {
        most = most.max(connections(&mut direct));
        client.join().expect("nobody is refused");
    }
    let told = seats(&tier.outgrow);
    assert_eq!(told["limit"], 8, "half of what it takes: {told}");
    assert_eq!(told["reserved"], 3, "{told}");
    assert!(
        tier.outgrow
            .stderr()
            .contains("the server takes 16 connections")
    );
    // Before it had said so a few more may have been made.
    assert!(most <= 16, "{most}");
    let fewer = |_: &_| (connections(&mut direct) <= 8).then_some(());
    tier.outgrow
        .wait("no more than 8", SOON, fewer)
        .expect("soon");
}

#[test]
fn two_data_processes_together_have_no_more_than_one_may() {
    let settings = "pool_size = 4\nmax_server_connections = 4";
    let Some(tier) = Tier::start(settings) else {
        return;
    };
    let mut direct = tier.direct();
    let (address, is_over) = (tier.address(), AtomicBool::new(false));
    let mut old: Vec<_> = (0..4).map(|_| client(address, "postgres")).collect();
    for one in &mut old {
        run(one, "BEGIN");
    }
    let most = thread::scope(|scope| {
        let is_over = &is_over;
        let over = Over(is_over);
        let watcher = scope.spawn(|| watch(&mut direct, is_over));
        tier.outgrow.upgrade(None).expect("upgraded");
        let new = scope.spawn(move || value(&mut client(address, "postgres"), "SELECT 'new'"));
        thread::sleep(Duration::from_millis(500));
        // The old process has all four: its client's transaction makes room.
        assert!(!new.is_finished());
        run(&mut old[0], "SELECT 1");
        run(&mut old[0], "COMMIT");
        assert_eq!(new.join().expect("its turn"), "new");
        for one in &mut old[1..] {
            run(one, "COMMIT");
        }
        let busy: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(move || {
                    let mut one = client(address, "postgres");
                    for _ in 0..5 {
                        run(&mut one, "SELECT pg_sleep(0.05)");
                    }
                })
            })
            .collect();
        for one in busy {
            one.join().expect("served");
        }
        drop(over);
        watcher.join().expect("no panic")
    });
    assert_eq!(most, 4);
    let all = |outgrow: &Outgrow| (seats(outgrow)["limit"] == 4).then_some(());
    tier.outgrow
        .wait("the old one's part is free", SOON, all)
        .expect("soon");
    assert_eq!(value(&mut client(address, "postgres"), "SELECT 1"), "1");
}
