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
    assert_eq!(ledger.used_bytes(), KIB + 320 * KIB, "the credit was given");
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
    assert_eq!(ledger.refused_foreseen(), 2);
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
    assert!(
        foreseen <= part && foreseen > part - HELD_BY_STREAM - held_by(u64::from(FIRST_WINDOW)),
        "{foreseen}"
    );
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
        assert_eq!(account.unfinished.load(Ordering::Relaxed), 0);
        drop(tunnel);
        assert_eq!(account.unfinished.load(Ordering::Relaxed), 0);
    }
    assert_eq!((ledger.used_bytes(), ledger.foreseen_bytes()), (0, 0));
}
