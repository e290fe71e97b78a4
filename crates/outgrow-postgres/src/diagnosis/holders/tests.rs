//! Who holds connections, and the verdict.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn pool() -> PoolUse {
    PoolUse {
        database: "shop".into(),
        user: "web".into(),
        server: None,
        is_session: false,
        lent: 2,
        idle: 0,
        coming: 0,
        waiting: 3,
        first_waits: SECOND,
        window: SECOND,
        transactions: 100,
        held: Duration::from_millis(1900),
        lendings: 100,
        waited: Duration::from_millis(500),
        mean_waiting: 2.5,
    }
}

fn holder(phase: Phase, for_time: Duration, text: &str) -> Holder {
    let fingerprint = text
        .bytes()
        .fold(7, |sum: u64, byte| sum.wrapping_mul(31) ^ u64::from(byte));
    Holder {
        phase,
        for_time,
        transaction_for: (phase != Phase::AtRest).then_some(for_time * 2),
        statement: Some(Text {
            fingerprint,
            normalised: text.into(),
        }),
        mean: Duration::from_millis(5),
        pins: Pins::default(),
        origin: Origin {
            application: Some("web".into()),
            client: Some("10.0.0.1:5000".into()),
            ..Origin::default()
        },
        process: 4711,
    }
}

fn silent_for(time: Duration, text: &str) -> Holder {
    holder(Phase::IdleInTransaction, time, text)
}

fn busy(text: &str) -> Holder {
    holder(Phase::Executing, Duration::from_millis(4), text)
}

fn slow(text: &str) -> Holder {
    Holder {
        mean: SECOND,
        ..busy(text)
    }
}

fn pinned(pin: Pin) -> Holder {
    Holder {
        pins: pin.into(),
        ..holder(Phase::AtRest, SECOND, "CREATE TEMP TABLE t")
    }
}

/// The statement that is named, and words that are in the verdict or the remedy.
fn check(pool: &PoolUse, holders: &[Holder], expected: Option<(Option<&str>, &[&str])>) {
    let mut reasons = Reasons::default();
    // Want of connections is told when it lasts.
    exhaustion(pool, holders, &mut reasons, &Thresholds::default());
    let found = exhaustion(pool, holders, &mut reasons, &Thresholds::default());
    let Some((statement, words)) = expected else {
        assert_eq!(found, None);
        return;
    };
    let found = found.expect("a finding");
    let named = found.statement.as_ref().map(|text| &*text.normalised);
    assert_eq!(named, statement, "{found:#?}");
    let told = format!("{} {}", found.evidence.join("\n"), found.remedy);
    for word in words {
        assert!(told.contains(word), "{word:?} is not in {told}");
    }
}

#[test]
fn the_reason_of_most_connections_is_told() {
    let update = "UPDATE stock SET amount = $1";
    let silent = silent_for(SECOND * 3, update);
    let words: &[&str] = &[
        "3 clients wait for one of 2 connections, the first of them for 1.0 s",
        "2 of 2 connections are held idle in transaction, for 3.0 s on average, after UPDATE",
        "web at 10.0.0.1:5000; server process 4711",
        "idle_transaction",
    ];
    check(
        &pool(),
        &[silent.clone(), silent.clone()],
        Some((Some(update), words)),
    );
    // Of equal ones it is the one that does nothing.
    let both = [busy("SELECT 1"), silent.clone()];
    check(
        &pool(),
        &both,
        Some((Some(update), &["1 of 2 connections are held idle"])),
    );
    let report = "SELECT report";
    let words: &[&str] = &[
        "2 of 2 connections execute something slow",
        "1.0 s on average",
        "EXPLAIN",
    ];
    check(
        &pool(),
        &[slow(report), slow(report)],
        Some((Some(report), words)),
    );
    // A silence that is short is a client that works.
    let short = silent_for(Duration::from_millis(2), update);
    let words: &[&str] = &[
        "the pool is too small for the load: 100 transactions/s of 19.0 ms each keep 1.9",
        "2.5 clients wait",
        "pool_size = 5",
    ];
    check(&pool(), &[busy("SELECT 1"), short], Some((None, words)));
    let words: &[&str] = &["because of advisory_lock", "pg_advisory_xact_lock"];
    check(
        &pool(),
        &[pinned(Pin::AdvisoryLock), busy("x")],
        Some((None, words)),
    );
    let session = PoolUse {
        is_session: true,
        ..pool()
    };
    let idle = holder(Phase::AtRest, SECOND, "SELECT 1");
    let words: &[&str] = &["lent for whole sessions", "pool_mode = \"transaction\""];
    check(&session, &[idle.clone(), idle], Some((None, words)));
}

#[test]
fn who_does_not_wait_for_long_is_no_finding() {
    let holders = [silent_for(SECOND, "x"), silent_for(SECOND, "x")];
    let none = |change: fn(&mut PoolUse)| {
        let mut pool = pool();
        change(&mut pool);
        check(&pool, &holders, None);
    };
    none(|pool| pool.waiting = 0);
    none(|pool| pool.first_waits = Duration::from_millis(50));
    // The server, or the budget, is what is missing.
    none(|pool| pool.coming = 1);
    none(|pool| pool.lent = 0);
    let mut slow_line = pool();
    slow_line.first_waits = Duration::from_millis(150);
    slow_line.waited = SECOND * 20;
    check(
        &slow_line,
        &holders,
        Some((Some("x"), &["a wait took 200.0 ms"])),
    );
    let off = Thresholds {
        pool_wait: Duration::ZERO,
        ..Thresholds::default()
    };
    let reasons = &mut Reasons::default();
    assert_eq!(exhaustion(&pool(), &holders, reasons, &off), None);
    let limits = Thresholds::default();
    assert_eq!(exhaustion(&pool(), &[], reasons, &limits), None);
}

#[test]
fn what_is_held_for_moments_is_not_taken_for_want_of_connections() {
    let limits = Thresholds::default();
    let mut reasons = Reasons::default();
    let mut told = |holders: &[Holder]| {
        let found = exhaustion(&pool(), holders, &mut reasons, &limits)?;
        Some(found.statement.map(|text| text.normalised.to_string()))
    };
    let (busy, silent) = (busy("SELECT 1"), silent_for(SECOND, "UPDATE"));
    let pay = Some(Some("UPDATE".to_owned()));
    // A single look at short statements is a moment.
    assert_eq!(told(&[busy.clone(), busy.clone()]), None);
    assert_eq!(told(&[silent.clone(), silent.clone()]), pay);
    assert_eq!(told(&[busy.clone(), busy.clone()]), None);
    assert_eq!(told(&[busy.clone(), silent.clone()]), pay);
    for _ in 0..10 {
        told(&[busy.clone(), busy.clone()]);
    }
    assert_eq!(told(&[busy.clone(), busy]), Some(None), "it lasts");
}

#[test]
fn transactions_that_are_long_or_silent_are_told() {
    let told = |holder: &Holder| -> Vec<(Kind, String)> {
        let holders = std::slice::from_ref(holder);
        let all = long_transactions(&pool(), holders, &Thresholds::default());
        let words = |one: Finding| (one.kind, format!("{:?} {}", one.evidence, one.remedy));
        all.into_iter().map(words).collect()
    };
    assert_eq!(told(&silent_for(SECOND * 5, "x")), []);
    let silent = told(&silent_for(SECOND * 10, "SELECT a"));
    assert_eq!(silent[0].0, Kind::IdleInTransaction);
    assert!(
        silent[0]
            .1
            .contains("said nothing for 10.0 s after SELECT a"),
        "{silent:?}"
    );
    assert!(
        silent[0].1.contains("pg_terminate_backend(4711)"),
        "{silent:?}"
    );
    let long = told(&holder(Phase::Executing, SECOND * 200, "SELECT b"));
    assert_eq!(long[0].0, Kind::LongTransaction);
    assert!(long[0].1.contains("open for 7 min"), "{long:?}");
    assert!(long[0].1.contains("pg_cancel_backend(4711)"), "{long:?}");
    assert_eq!(told(&holder(Phase::AtRest, SECOND * 1000, "x")), []);
}

#[test]
fn times_are_for_people() {
    let check = |micros: u64, expected: &str| {
        assert_eq!(Shown(Duration::from_micros(micros)).to_string(), expected);
    };
    check(5, "5 µs");
    check(1500, "1.5 ms");
    check(1_500_000, "1.5 s");
    check(600_000_000, "10 min");
    assert_eq!(shorten("SELECT 1"), "SELECT 1");
    let columns = "é, ".repeat(500);
    let long = shorten(&format!("SELECT {columns} FROM t WHERE a = $1"));
    assert!(
        long.starts_with("SELECT é, é") && long.contains(" … "),
        "{long}"
    );
    assert!(long.ends_with("FROM t WHERE a = $1"), "{long}");
    assert!(long.chars().count() < 170);
}
