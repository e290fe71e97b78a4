//! Whose time it is, and who waits for the threads.

use std::sync::mpsc;

use outgrow_message::Ledger;

use super::*;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

#[test]
fn time_alone_gives_back_what_was_spent() {
    let micros = |micros: u64| Ticks(micros * 1_000);
    let Share(budget, _) = OF_BODY;
    let mut account = Account::new(OF_BODY);
    assert_eq!(account.left(micros(1_000)), budget);
    account.charge(micros(1_000), micros(1_100));
    assert_eq!(account.left(micros(1_100)).as_micros(), 50);
    assert_eq!(account.left(micros(1_180)).as_micros(), 60);
    // However often it is asked.
    let asked: Vec<u128> = (1..=8)
        .map(|step| account.left(micros(1_180 + step * 10)).as_micros())
        .collect();
    assert_eq!(asked.last(), Some(&70));
    account.charge(micros(1_260), micros(1_860));
    assert_eq!(account.left(micros(1_860)), Duration::ZERO);
    assert_eq!(account.left(micros(1_860 + 680 * 8)), budget);
    // A thread that did not run for a second owes no eight.
    account.charge(micros(10_000), micros(1_010_000));
    assert_eq!(account.left(micros(1_010_000 + 8 * 2_000)), budget);
}

/// Counts what it was told to do.
#[derive(Debug, Default)]
struct Steps {
    left: usize,
}

impl Errand for Steps {
    fn run(&mut self, go: Go) {
        while self.left > 0 {
            self.left -= 1;
            if !go.goes_on() {
                return;
            }
        }
    }
}

fn desk() -> Arc<Desk> {
    let ledger = Ledger::new(1 << 20);
    let shelf = Shelf::new(Arc::clone(&ledger), 1);
    Desk::new(shelf, Blocks::new(ledger), Clock::start())
}

#[test]
fn who_has_spent_its_time_is_left_one_step() {
    let mut turns = desk().response(Steps { left: 1 << 40 });
    assert!(turns.has_time_for(OF_BODY.0));
    turns.here(Steps::run);
    let left = turns.work().expect("it is here").left;
    assert!(left < 1 << 40, "{left}");
    spend(&mut turns.account);
    assert!(!turns.has_time_for(Duration::from_nanos(1)));
    let before = turns.work().expect("it is here").left;
    turns.here(Steps::run);
    assert_eq!(turns.work().expect("it is here").left, before - 1);
}

/// However many bodies a client sends: what one has had is held against the next.
#[test]
fn all_requests_together_have_a_part_of_the_time() {
    let desk = desk();
    let mut first = desk.request(CLIENT, Steps { left: 100 });
    assert!(first.has_time_for(OF_BODY.0));
    first.here(Steps::run);
    assert!(
        locked(&desk.requests).spent > Duration::ZERO,
        "it is charged"
    );
    let others = [2, 3].map(|number| {
        let client = IpAddr::from([192, 0, 2, number]);
        desk.request(client, Steps { left: 100 })
    });
    desk.spend();
    for mut turns in others {
        assert!(!turns.has_time_for(Duration::from_nanos(1)));
        turns.here(Steps::run);
        assert_eq!(turns.work().expect("it is here").left, 99);
    }
    let mut response = desk.response(Steps { left: 100 });
    assert!(response.has_time_for(OF_BODY.0), "what is foreseen");
    // A quarter of the time comes back.
    let mut all = Account::new(OF_REQUESTS);
    all.charge(Ticks(0), Ticks(600_000));
    assert_eq!(all.left(Ticks(1_000_000)), Duration::from_micros(100));
}

/// Has the only thread of requests wait until it is released, for somebody else's.
fn block(desk: &Desk) -> (mpsc::Sender<()>, Option<Ticket<bool>>) {
    let (release, held) = mpsc::channel::<()>();
    let other = desk.shelf.line_of(IpAddr::from([192, 0, 2, 9]));
    let place = other.place().expect("a place");
    let blocked = other.push(place, move || held.recv().is_ok());
    (release, blocked.ok())
}

/// One who has sent much waits for its own, and others do not.
#[test]
fn each_client_has_a_line_of_its_own() {
    let desk = desk();
    let (release, blocked) = block(&desk);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let begin = |client| {
        let mut turns = desk.request(client, Steps { left: 1 });
        let is_in = turns.poll_line(&cx).is_ready() && turns.hand_over();
        (turns, is_in)
    };
    let mut all: Vec<_> = (0..12).map(|_| begin(CLIENT)).collect();
    let waiting = all.iter().filter(|(_, is_in)| *is_in).count();
    assert_eq!(waiting, 8);
    let other = begin(IpAddr::from([192, 0, 2, 2]));
    assert!(other.1);
    let mut response = desk.response(Steps { left: 1 });
    assert!(response.poll_line(&cx).is_ready() && response.hand_over());
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");
    // The threads of responses are others.
    assert!(runtime.block_on(std::future::poll_fn(|cx| response.poll(cx))));
    assert!(all[11].0.poll_line(&cx).is_pending());
    assert!(all[0].0.poll(&mut cx).is_pending());
    release.send(()).expect("the thread waits");
    all.push(other);
    for (mut turns, is_in) in all {
        runtime.block_on(std::future::poll_fn(|cx| {
            if !is_in && turns.ticket.is_none() {
                ready!(turns.poll_line(cx));
                assert!(turns.hand_over());
            }
            turns.poll(cx)
        }));
        assert_eq!(turns.work().expect("it is here").left, 0);
    }
    drop(blocked);
}

/// Who goes on by itself leaves the line to those behind it.
#[test]
fn who_needs_no_thread_any_more_leaves_its_line() {
    let desk = desk();
    let (release, blocked) = block(&desk);
    let cx = Context::from_waker(std::task::Waker::noop());
    let mut all: Vec<_> = (0..10)
        .map(|_| desk.request(CLIENT, Steps { left: 1 }))
        .collect();
    let mut ready = |at: usize| all[at].poll_line(&cx).is_ready();
    let in_line: Vec<bool> = (0..10).map(&mut ready).collect();
    assert_eq!(in_line, [[true; 8].as_slice(), &[false; 2]].concat());
    // The first has a place, and the ninth waits for one.
    all[0].here(Steps::run);
    assert!(all[8].waits_for_threads());
    all[8].here(Steps::run);
    assert!(!all[8].waits_for_threads());
    assert!(all[9].poll_line(&cx).is_ready());
    assert!(all[0].poll_line(&cx).is_pending());
    all[1].leave_line();
    assert!(all[0].poll_line(&cx).is_ready());
    drop((release, blocked));
}
