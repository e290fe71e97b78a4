//! Clients that listen go along in an upgrade: each hears everything that is notified meanwhile, once
//! and in order. Not here: when something fails (`listen_upgrade_faults`).

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use outgrow_testkit::postgres::{Session, message};

use super::{
    Tier,
    handover::{upgrade, wait_taken},
    listen::heard,
    run, value,
};
use crate::shop::{SOON, try_state};

/// The last payload.
pub(super) const END: &str = "end";
/// More than any test lets wait: the machine may be slow.
pub(super) const SETTINGS: &str = "pool_size = 4\nnotifications = { backlog = \"64MiB\" }";

/// Notifies numbers on `all` until it is over, and says at the end that it was the last; gives how
/// many.
pub(super) fn notify_numbers(mut direct: Session, is_over: &AtomicBool) -> usize {
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        run(&mut direct, &format!("NOTIFY numbers, '{count}'"));
        count += 1;
    }
    run(&mut direct, &format!("NOTIFY numbers, '{END}'"));
    count
}

/// Takes what was heard: the next number, or the end; whether that is it.
pub(super) fn take(client: usize, channel: &str, payload: &str, next: &mut usize) -> bool {
    if channel != "numbers" {
        return false;
    }
    if payload == END {
        return true;
    }
    assert_eq!(payload, next.to_string(), "client {client}");
    *next += 1;
    false
}

/// Hears up to the end; gives how many numbers. With `works` it works meanwhile.
fn hear_numbers(client: usize, session: &mut Session, works: bool) -> usize {
    let mut next = 0;
    loop {
        if !works {
            let message = session.receive();
            let message = message.unwrap_or_else(|error| panic!("client {client}: {error}"));
            if let Some(problem) = message.problem() {
                panic!("client {client} after {next}: {problem}");
            }
            let (_, channel, payload) = heard(&message).expect("a notification");
            if take(client, &channel, &payload, &mut next) {
                return next;
            }
            continue;
        }
        let sql = match next % 3 {
            0 => "BEGIN; SELECT 1; COMMIT",
            1 => "SELECT pg_sleep(0.002)",
            _ => "SELECT 1",
        };
        session.send(&message::query(sql)).expect("sent");
        let all = session.until_ready();
        let all = all.unwrap_or_else(|error| panic!("client {client} after {next}: {error}"));
        let mut is_over = false;
        for message in &all {
            if let Some(problem) = message.problem() {
                panic!("client {client} after {next}: {problem}");
            }
            if let Some((_, channel, payload)) = heard(message) {
                is_over |= take(client, &channel, &payload, &mut next);
            }
        }
        if is_over {
            return next;
        }
    }
}

/// So many clients that listen on `c`.
pub(super) fn listeners(tier: &Tier, count: usize) -> Vec<Session> {
    let mut clients: Vec<Session> = (0..count).map(|_| tier.client()).collect();
    for client in &mut clients {
        run(client, "LISTEN c");
    }
    clients
}

#[test]
fn who_listens_misses_nothing_in_three_upgrades() {
    const CLIENTS: usize = 24;
    let Some(tier) = Tier::start(SETTINGS) else {
        return;
    };
    let mut clients: Vec<Session> = (0..CLIENTS).map(|_| tier.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        run(client, &format!("LISTEN numbers; LISTEN \"Own {number}\""));
    }
    let keys: Vec<_> = clients.iter().map(|client| client.key.clone()).collect();
    let is_over = AtomicBool::new(false);
    let (count, each) = thread::scope(|scope| {
        let hearing = clients.iter_mut().enumerate();
        let hearing: Vec<_> = hearing
            .map(|(number, client)| {
                scope.spawn(move || hear_numbers(number, client, number % 2 == 1))
            })
            .collect();
        let writer = scope.spawn(|| notify_numbers(tier.direct(), &is_over));
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(300));
            upgrade(&tier.outgrow);
            wait_taken(&tier.outgrow, CLIENTS as u64);
        }
        thread::sleep(Duration::from_millis(300));
        is_over.store(true, Ordering::Relaxed);
        let count = writer.join().expect("it writes");
        let each: Vec<_> = hearing
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        (count, each)
    });
    for one in each {
        assert_eq!(one.ok(), Some(count), "{}", tier.outgrow.stderr());
    }
    assert!(count > 300, "{count} show nothing");
    // They listen on, each on its own, and nothing is left of how they came.
    let mut direct = tier.direct();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.key, keys[number]);
        run(&mut direct, &format!("NOTIFY \"Own {number}\", 'still'"));
        let (_, channel, _) = heard(&client.receive().expect("a message")).expect("heard");
        assert_eq!(channel, format!("Own {number}"));
        assert_eq!(value(client, "SELECT 'works'"), "works");
    }
    let state = try_state(&tier.outgrow).expect("a state");
    let pool = &state["postgres"]["pools"][0];
    assert_eq!(
        (&pool["listeners"], &pool["channels"]),
        (&CLIENTS.into(), &(CLIENTS + 1).into())
    );
    run(&mut clients[0], "UNLISTEN *");
    run(&mut direct, "NOTIFY numbers, 'for others'");
    assert_eq!(value(&mut clients[0], "SELECT 'alone'"), "alone");
    let (_, _, payload) = heard(&clients[1].receive().expect("a message")).expect("heard");
    assert_eq!(payload, "for others");
}

/// What a client notifies itself is its own in either process, is there before it is told that it was
/// done, and is heard by the others once, in order.
#[test]
fn own_notifications_are_known_in_every_process() {
    const CLIENTS: usize = 4;
    let Some(tier) = Tier::start(SETTINGS) else {
        return;
    };
    let mut clients = listeners(&tier, CLIENTS);
    let is_over = AtomicBool::new(false);
    let running = AtomicUsize::new(CLIENTS);
    let total = AtomicUsize::new(0);
    // What each has said, and what it has heard: of whom, and the number.
    let results: Vec<(usize, Vec<(usize, usize)>)> = thread::scope(|scope| {
        let work = |own: usize, session: &mut Session| {
            let process = session.key.0;
            let (mut said, mut all) = (0, Vec::new());
            let mut say = |session: &mut Session, sql: &str, expected: Option<usize>| {
                session.send(&message::query(sql)).expect("sent");
                let messages = session.until_ready();
                let messages =
                    messages.unwrap_or_else(|error| panic!("client {own} after {said}: {error}"));
                let mut of_own = Vec::new();
                for (sender, _, payload) in messages.iter().filter_map(heard) {
                    let (whose, number) = payload.split_once(' ').expect("two numbers");
                    let whose: usize = whose.parse().expect("a number");
                    let number: usize = number.parse().expect("a number");
                    assert_eq!(sender == process, whose == own, "client {own}: {payload}");
                    if whose == own {
                        of_own.push(number);
                    }
                    all.push((whose, number));
                }
                assert_eq!(
                    of_own,
                    expected.into_iter().collect::<Vec<_>>(),
                    "client {own}"
                );
                said += usize::from(expected.is_some());
                messages.iter().filter_map(heard).count()
            };
            let (mut next, mut count) = (0, 0);
            while !is_over.load(Ordering::Relaxed) {
                let sql = match next % 3 {
                    0 => format!("NOTIFY c, '{own} {next}'"),
                    1 => format!("BEGIN; NOTIFY c, '{own} {next}'; COMMIT"),
                    _ => format!("SELECT pg_notify('c', '{own} {next}')"),
                };
                count += say(session, &sql, Some(next));
                next += 1;
            }
            // All have said everything, and all of it is heard soon.
            total.fetch_add(next, Ordering::Relaxed);
            running.fetch_sub(1, Ordering::Release);
            while running.load(Ordering::Acquire) > 0 {
                thread::sleep(Duration::from_millis(10));
            }
            let began = Instant::now();
            while count < total.load(Ordering::Relaxed) && began.elapsed() < SOON {
                count += say(session, "SELECT 1", None);
            }
            (said, all)
        };
        let threads: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(own, session)| scope.spawn(move || work(own, session)))
            .collect();
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(300));
            upgrade(&tier.outgrow);
            wait_taken(&tier.outgrow, CLIENTS as u64);
        }
        is_over.store(true, Ordering::Relaxed);
        let results = threads.into_iter().map(thread::ScopedJoinHandle::join);
        results
            .map(|one| one.unwrap_or_else(|_| panic!("{}", tier.outgrow.stderr())))
            .collect()
    });
    for (own, (_, all)) in results.iter().enumerate() {
        for (whose, (said, _)) in results.iter().enumerate() {
            let of_one = all.iter().filter(|(of, _)| *of == whose);
            let of_one: Vec<usize> = of_one.map(|(_, number)| *number).collect();
            assert_eq!(
                of_one,
                (0..*said).collect::<Vec<_>>(),
                "{own} hears {whose}"
            );
        }
        assert!(results[own].0 > 20, "{} show nothing", results[own].0);
    }
}
