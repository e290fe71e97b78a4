//! What is counted, and who is refused.

use super::*;

const KIB: u64 = 1024;

fn account(limit: u64) -> (Arc<Ledger>, Arc<Account>) {
    let ledger = Ledger::new(limit);
    let account = account_of(&ledger, Arc::default());
    (ledger, account)
}

fn account_of(ledger: &Arc<Ledger>, holder: Arc<Holder>) -> Arc<Account> {
    let charge = ledger.charge(KIB).expect("room");
    let windows = Windows {
        stream: 32 * KIB,
        connection: 128 * KIB,
        address_percent: 25,
    };
    Account::new(ledger, charge, windows, holder)
}

fn unfinished(account: &Arc<Account>) -> Option<Unfinished> {
    account.unfinished().map(|(unfinished, _)| unfinished)
}

#[test]
fn windows_grow_with_what_is_taken_while_there_is_memory() {
    let (ledger, account) = account(16 << 20);
    assert_eq!(account.took(1 << 20), None, "nobody waits for anything");
    let (request, wider) = account.unfinished().expect("room");
    assert_eq!(wider, Some(64 * KIB), "two streams' windows");
    assert_eq!(ledger.used_bytes(), KIB + 160 * KIB + 32 * KIB);
    assert_eq!(account.took(0), Some(128 * KIB), "what came before counts");
    assert_eq!(account.took(1 << 20), None, "it is as wide as it may be");
    drop(request);
    let widened = (320 - 80) * KIB;
    assert_eq!(ledger.used_bytes(), KIB + widened, "the credit was given");
    let again = account.unfinished().expect("room");
    assert_eq!(again.1, None);
    assert_eq!(ledger.used_bytes(), KIB + 320 * KIB + 32 * KIB);
    drop(again);
    drop(account);
    assert_eq!((ledger.used_bytes(), ledger.foreseen_bytes()), (0, 0));
}

#[test]
fn a_request_that_is_not_taken_leaves_others_room() {
    let (ledger, account) = account(8 << 20);
    let (request, wider) = account.unfinished().expect("room");
    assert_eq!(wider, Some(64 * KIB), "two streams' windows");
    let other = account.unfinished().expect("room");
    assert_eq!(other.1, None, "once is enough");
    assert_eq!(ledger.used_bytes(), KIB + 160 * KIB + 64 * KIB);
    drop((request, other));
    let (ledger, account) = self::account(4 << 20);
    let (request, wider) = account.unfinished().expect("room");
    assert_eq!(wider, None, "there is no memory for it");
    ledger.set_limit(16 << 20);
    let (other, wider) = account.unfinished().expect("room");
    assert_eq!(wider, Some(64 * KIB));
    drop((request, other));
}

/// Those of which nothing is taken for now leave others room, as far as there is memory and the window may grow.
#[test]
fn windows_grow_for_who_waits() {
    let (ledger, account) = account(16 << 20);
    let stalls = |is_stalled| {
        account.note_stalled(is_stalled);
        account.fit_stalled()
    };
    assert_eq!(stalls(true), None, "there is no body");
    assert_eq!(stalls(false), None);
    let (request, wider) = account.unfinished().expect("room");
    assert_eq!(wider, Some(64 * KIB));
    // The same one again and again is one.
    for wider in [Some(96 * KIB), None, None] {
        assert_eq!(stalls(true), wider);
        assert_eq!(account.fit_stalled(), None);
        stalls(false);
    }
    stalls(true);
    let others = ledger.charge(4 << 20);
    assert_eq!(stalls(true), None, "a quarter of it is in use");
    drop(others);
    assert_eq!(account.fit_stalled(), Some(128 * KIB), "asked again");
    assert_eq!(stalls(true), None, "it is as wide as it may be");
    assert_eq!(ledger.used_bytes(), KIB + 320 * KIB + 32 * KIB);
    drop((request, account));
    assert_eq!((ledger.used_bytes(), ledger.foreseen_bytes()), (0, 0));
}

#[test]
fn without_memory_windows_stay_and_requests_are_few() {
    let (ledger, account) = account(4 << 20);
    let first = unfinished(&account);
    let other = ledger.charge(2_000 * KIB).expect("half of it");
    assert!(first.is_some() && ledger.is_tight());
    assert_eq!(account.took(1 << 20), None);
    let others: Vec<_> = (0..10).map_while(|_| unfinished(&account)).collect();
    assert_eq!(others.len(), TIGHT_REQUESTS - 1);
    drop((first, others));
    let rest = ledger.charge(1_740 * KIB);
    assert!(rest.is_some() && unfinished(&account).is_none());
    drop((other, rest, account));
    assert_eq!((ledger.used_bytes(), ledger.foreseen_bytes()), (0, 0));
}

/// However many streams ask at a time, each byte of a window is counted once.
#[test]
fn windows_are_widened_by_one_at_a_time() {
    for _ in 0..50 {
        let (ledger, account) = account(16 << 20);
        let all: Vec<_> = std::thread::scope(|scope| {
            let one = || (account.unfinished(), account.took(1 << 20));
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
            let joined = threads.into_iter().map(|one| one.join().expect("no panic"));
            joined.collect()
        });
        let window = account.granted().window;
        let streams = all.len() as u64 * HELD_BY_STREAM;
        assert_eq!(ledger.used_bytes(), KIB + held_by(window) + streams);
    }
}

#[test]
fn streams_that_are_only_opened_leave_others_their_memory() {
    let ledger = Ledger::new(64 << 20);
    let mut open = Vec::new();
    let mut counts = Vec::new();
    for _ in 0..200 {
        let account = account_of(&ledger, Arc::default());
        let requests: Vec<_> = (0..128).map_while(|_| unfinished(&account)).collect();
        counts.push(requests.len());
        open.push((account, requests));
    }
    assert!(counts[0] > 20, "{counts:?}: one may have many");
    assert!(
        counts[1..5].iter().all(|count| *count >= TIGHT_REQUESTS),
        "{counts:?}"
    );
    let used = ledger.used_bytes();
    let third = 64 * KIB * KIB / 3;
    assert!(used <= third + 200 * KIB, "{used}: a third at most");
    assert!(counts.last() == Some(&0), "{counts:?}: all of it is used");
    // Nor when all is used that may be, and windows are widened.
    for (account, _) in &open {
        while account.took(1 << 20).is_some() {}
    }
    assert!(!ledger.is_tight());
}

#[test]
fn one_address_leaves_others_their_share() {
    let ledger = Ledger::new(64 << 20);
    let (one, other) = (Arc::default(), Arc::default());
    let mut open = Vec::new();
    for _ in 0..100 {
        let account = account_of(&ledger, Arc::clone(&one));
        let requests: Vec<_> = (0..128).map_while(|_| unfinished(&account)).collect();
        while account.took(1 << 20).is_some() {}
        open.push((account, requests));
    }
    assert!(open[0].1.len() > 20 && open[99].1.is_empty());
    let part = 64 * KIB * KIB / 12;
    let foreseen = ledger.foreseen_bytes();
    let least = part - 2 * HELD_BY_STREAM - held_by(u64::from(FIRST_WINDOW));
    assert!(foreseen <= part && foreseen > least, "{foreseen}");
    let account = account_of(&ledger, other);
    let requests: Vec<_> = (0..10).map_while(|_| unfinished(&account)).collect();
    assert_eq!(requests.len(), 10);
    assert_eq!(account.took(1 << 20), Some(128 * KIB), "and it is fast");
}

#[test]
fn tunnels_that_are_open_leave_the_share() {
    let ledger = Ledger::new(64 << 20);
    let mut open = Vec::new();
    for _ in 0..200 {
        let account = account_of(&ledger, Arc::default());
        let mut tunnel = unfinished(&account).expect("room");
        tunnel.be_tunnel();
        tunnel.be_tunnel();
        open.push((account, tunnel));
    }
    let faster = 64 * KIB * KIB / WIDE_SHARE;
    assert!(
        ledger.foreseen_bytes() <= faster,
        "{}",
        ledger.foreseen_bytes()
    );
    let each = KIB + held_by(u64::from(FIRST_WINDOW)) + HELD_BY_STREAM;
    assert!(ledger.used_bytes() >= 200 * each, "it is counted");
    let requests: Vec<_> = (0..10).map_while(|_| unfinished(&open[0].0)).collect();
    assert_eq!(requests.len(), 10, "as if there were none");
    drop(requests);
    for (account, tunnel) in open {
        drop(tunnel);
        assert!(account.granted().first.is_none(), "nobody sends anything");
    }
    assert_eq!((ledger.used_bytes(), ledger.foreseen_bytes()), (0, 0));
}

/// Whoever has many addresses takes what is not in use with tunnels on which nobody says anything, and of what
/// is in use no more than the third.
#[test]
fn tunnels_that_are_open_leave_others_their_memory() {
    let ledger = Ledger::new(64 << 20);
    let mut open = Vec::new();
    for _ in 0..40 {
        let holder = Arc::default();
        for _ in 0..5 {
            let account = account_of(&ledger, Arc::clone(&holder));
            let opened = (0..128).map_while(|_| {
                let mut tunnel = unfinished(&account)?;
                tunnel.be_tunnel();
                Some(tunnel)
            });
            let opened: Vec<_> = opened.collect();
            open.push((account, opened));
        }
    }
    assert!(ledger.is_tight());
    let (half, third) = (32 * KIB * KIB, 64 * KIB * KIB / 3);
    let states = open.len() as u64 * KIB;
    let most = half + third + states + HELD_BY_STREAM + held_by(u64::from(FIRST_WINDOW));
    assert!(ledger.used_bytes() <= most, "{}", ledger.used_bytes());
    assert!(ledger.charge(6 << 20).is_some(), "others have memory");
    // While it is short a connection's tunnels are of the few requests that it may have.
    let account = account_of(&ledger, Arc::default());
    let few: Vec<_> = (0..10).map_while(|_| unfinished(&account)).collect();
    assert!(few.len() <= TIGHT_REQUESTS, "{}", few.len());
}

#[test]
fn tunnels_count_as_requests_of_their_connection() {
    let (ledger, account) = account(16 << 20);
    let tunnels: Vec<_> = (0..TIGHT_REQUESTS)
        .map_while(|_| {
            let mut tunnel = unfinished(&account)?;
            tunnel.be_tunnel();
            Some(tunnel)
        })
        .collect();
    let used = ledger.charge(9 << 20);
    assert!(used.is_some() && ledger.is_tight() && tunnels.len() == TIGHT_REQUESTS);
    assert!(unfinished(&account).is_none());
    drop(tunnels);
    assert!(unfinished(&account).is_some());
}

/// Many share an address, and few of them send at a time.
#[test]
fn connections_that_wait_for_nothing_take_nothing_from_their_address() {
    let ledger = Ledger::new(64 << 20);
    let holder: Arc<Holder> = Arc::default();
    let idle: Vec<_> = (0..300)
        .map(|_| {
            let account = account_of(&ledger, Arc::clone(&holder));
            assert!(unfinished(&account).is_some(), "each has posted once");
            account
        })
        .collect();
    let sending: Vec<_> = idle.iter().take(30).map_while(unfinished).collect();
    assert_eq!(sending.len(), 30);
}

#[test]
fn an_address_may_have_more() {
    let ledger = Ledger::new(64 << 20);
    let holder: Arc<Holder> = Arc::default();
    let open = |percent| {
        let windows = Windows {
            stream: 32 * KIB,
            connection: 128 * KIB,
            address_percent: percent,
        };
        let charge = ledger.charge(KIB).expect("room");
        let account = Account::new(&ledger, charge, windows, Arc::clone(&holder));
        unfinished(&account).map(|unfinished| (account, unfinished))
    };
    let few: Vec<_> = std::iter::from_fn(|| open(25)).collect();
    let more: Vec<_> = std::iter::from_fn(|| open(100)).collect();
    assert!(more.len() > 2 * few.len(), "{} {}", few.len(), more.len());
}

/// Before the handshake is complete all whose address is not shown have one part.
#[test]
fn a_connection_becomes_its_addresss() {
    let ledger = Ledger::new(64 << 20);
    let unknown: Arc<Holder> = Arc::default();
    let [one, other] = [(); 2].map(|()| Arc::<Holder>::default());
    let fill = |holder: &Arc<Holder>| {
        let mut open = Vec::new();
        for at in 0..100 {
            let account = account_of(&ledger, Arc::clone(&unknown));
            if at > 0 {
                account.be_of(Arc::clone(holder));
            }
            let mut requests: Vec<_> = (0..20).map_while(|_| unfinished(&account)).collect();
            if at == 0 {
                account.be_of(Arc::clone(holder));
                requests.iter_mut().for_each(Unfinished::be_tunnel);
            }
            open.push((account, requests));
        }
        open
    };
    let filled = fill(&one);
    assert!(!filled[0].1.is_empty() && filled[99].1.is_empty());
    // Neither whose address is not known yet, nor another one, is kept out by that.
    let early = account_of(&ledger, Arc::clone(&unknown));
    let requests: Vec<_> = (0..10).map_while(|_| unfinished(&early)).collect();
    assert_eq!(requests.len(), 10);
    early.be_of(other);
    let requests: Vec<_> = (0..10).map_while(|_| unfinished(&early)).collect();
    assert_eq!(requests.len(), 10);
    early.be_of(one);
    assert!(unfinished(&early).is_none(), "it has its part");
}
