//! What texts read and write, and a simulation: whatever comes in which order, no answer is given that is
//! older than a write that is over.

use std::time::Duration;

use outgrow_core::{Random, Ticks};

use super::tables::Builder;
use super::*;
use crate::sql::Lexing;
use crate::sql::catalogue::Catalogue;
use crate::sql::read_only;

fn tables() -> Tables {
    let mut builder = Builder::default();
    for (kind, name, other) in [
        ("p", "users", None),
        ("p", "orders", None),
        ("x", "audited", None),
        ("v", "active_users", None),
        ("e", "active_users", Some("users")),
        ("v", "nested", None),
        ("e", "nested", Some("active_users")),
        ("v", "recent", None),
        ("e", "recent", Some("orders")),
        ("o", "recent", None),
        ("v", "over_recent", None),
        ("e", "over_recent", Some("recent")),
        ("n", "pg_class", None),
        ("s", "price_of", None),
        ("w", "log_it", None),
    ] {
        builder.row(kind.as_bytes(), name.as_bytes(), other.map(str::as_bytes));
    }
    builder.finish()
}

/// The counts of some names.
fn slots(names: &[&str]) -> Vec<u16> {
    let tables = tables();
    let mut all: Vec<u16> = names
        .iter()
        .flat_map(|name| {
            let reading = tables.reading(format!("SELECT {name}").as_bytes(), Lexing::default());
            reading.expect("it can be told").depends.tables
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[test]
fn what_texts_read() {
    let tables = tables();
    let check = |text: &str, expected: Option<(&[&str], bool, bool)>| {
        let reading = tables.reading(text.as_bytes(), Lexing::default());
        let told = reading.map(|mut reading| {
            reading.depends.tables.sort_unstable();
            (
                reading.depends.tables,
                reading.depends.on_any,
                reading.is_lasting,
            )
        });
        let expected =
            expected.map(|(names, on_any, is_lasting)| (slots(names), on_any, is_lasting));
        assert_eq!(told, expected, "{text}");
    };
    check("SELECT 1", Some((&[], false, true)));
    check("SELECT * FROM users", Some((&["users"], false, true)));
    check(
        "SELECT * FROM public.\"users\" JOIN ORDERS ON true",
        Some((&["users", "orders"], false, true)),
    );
    check("SELECT * FROM nested", Some((&["nested"], false, true)));
    assert_eq!(slots(&["nested"]).len(), 3, "all the way down");
    check(
        "SELECT * FROM over_recent",
        Some((&["over_recent"], true, false)),
    );
    check("SELECT price_of(1)", Some((&[], true, false)));
    for text in [
        "SELECT now()",
        "SELECT pg_catalog.\"now\"()",
        "SELECT current_date",
        "SELECT age('2000-01-01')",
        "SELECT 'today'::date",
        "SELECT ' NOW '::timestamptz",
        "SELECT E'\\x6eow'::timestamptz",
    ] {
        check(text, Some((&[], false, false)));
    }
    check("SELECT * FROM pg_class", None);
    check("SELECT * FROM U&\"users\"", None);
    check("SELECT * FROM größe", None);
    let long = "x".repeat(64);
    check(&format!("SELECT * FROM {long}"), None);
    assert_eq!(
        Tables::default().reading(b"SELECT 1", Lexing::default()),
        None
    );
}

#[test]
fn what_texts_write() {
    let tables = tables();
    let catalogue = {
        use crate::sql::catalogue::{Builder, Limits};
        let mut builder = Builder::new(Limits::default());
        builder.row(b"V", b"150000");
        for (kind, name) in [("f", "lower"), ("F", "nextval"), ("F", "log_it")] {
            builder.row(kind.as_bytes(), name.as_bytes());
        }
        builder.finish()
    };
    let told = |text: &str, catalogue: &Catalogue| {
        let (facts, verdict) = read_only::examine(text.as_bytes(), Lexing::default(), catalogue);
        let touch = tables.writing(text.as_bytes(), Lexing::default(), &facts, &verdict);
        match touch {
            Touch::Tables(mut slots) => {
                slots.sort_unstable();
                slots.dedup();
                Touch::Tables(slots)
            }
            touch => touch,
        }
    };
    let some = |names: &[&str]| Touch::Tables(slots(names));
    let check = |text: &str, expected: Touch| {
        assert_eq!(told(text, &catalogue), expected, "{text}");
    };
    check("SELECT * FROM users", Touch::Nothing);
    check("SELECT * FROM users FOR UPDATE", Touch::Nothing);
    check(
        "SELECT * FROM users FOR NO KEY UPDATE OF users",
        Touch::Nothing,
    );
    check("SELECT nextval('s')", Touch::Nothing);
    check("BEGIN", Touch::Nothing);
    check("COMMIT", Touch::Nothing);
    check("SET work_mem = 1", Touch::Nothing);
    check("INSERT INTO users VALUES (1)", some(&["users"]));
    check(
        "INSERT INTO public.users (a) SELECT b FROM orders",
        some(&["users", "orders"]),
    );
    check(
        "INSERT INTO users VALUES (1) ON CONFLICT (a) DO UPDATE SET b = lower('x') RETURNING a",
        some(&["users"]),
    );
    check("UPDATE users SET a = nextval('s')", some(&["users"]));
    check("UPDATE ONLY users AS u SET a = 1;", some(&["users"]));
    check("DELETE FROM users", some(&["users"]));
    check(
        "DELETE FROM ONLY public.users USING orders",
        some(&["users", "orders"]),
    );
    check(
        "MERGE INTO users USING orders ON true WHEN MATCHED THEN UPDATE SET a = 1 \
         WHEN NOT MATCHED THEN INSERT VALUES (1)",
        some(&["users", "orders"]),
    );
    check("COPY users FROM STDIN", some(&["users"]));
    check(
        "WITH gone AS (DELETE FROM users RETURNING *) SELECT * FROM gone",
        some(&["users"]),
    );
    for text in [
        "INSERT INTO audited VALUES (1)",
        "INSERT INTO active_users VALUES (1)",
        "INSERT INTO unheard_of VALUES (1)",
        "UPDATE users SET a = log_it()",
        "WITH gone AS (DELETE FROM audited RETURNING *) SELECT * FROM gone",
        "SELECT log_it()",
        "SELECT unheard_of()",
        "SELECT * INTO users FROM orders",
        "TRUNCATE users",
        "COPY (DELETE FROM users RETURNING 1) TO STDOUT",
        "EXECUTE x",
        "CALL x()",
        "DO 'x'",
        "CREATE TABLE x (a int)",
        "EXPLAIN ANALYZE DELETE FROM users",
        "REFRESH MATERIALIZED VIEW x",
        "BEGIN; DELETE FROM users; COMMIT",
        "COMMIT PREPARED 'x'",
        "INSERT INTO U&\"users\" VALUES (1)",
        "DELETE FROM 'x",
        "whatever",
    ] {
        check(text, Touch::Everything);
    }
    assert_eq!(
        told("INSERT INTO users VALUES (1)", &Catalogue::default()),
        some(&["users"])
    );
    assert_eq!(
        told("SELECT lower('x')", &Catalogue::default()),
        Touch::Everything
    );
}

/// A write that is under way: of which tables, and what it writes.
struct Write {
    tables: Vec<usize>,
    touch: Touch,
}

/// A read that is under way.
struct Read {
    table: usize,
    fill: Fill,
    /// What the server has answered, once it has.
    answer: Option<u64>,
}

/// One run: reads and writes of some tables, each in its steps, in any order. The model is the servers'
/// tables and what each must at least be: its value when the last write that is over was.
fn simulate(seed: u64) {
    const TABLES: usize = 5;
    const MOST_READS: usize = 4;
    let mut random = Random::from_seed(seed);
    let cache = ResultCache::default();
    let domain = cache.domain("db", "shop");
    let mut there = [0_u64; TABLES];
    let mut acknowledged = [0_u64; TABLES];
    let mut writes: Vec<Write> = Vec::new();
    let mut reads: Vec<Read> = Vec::new();
    let mut now = Ticks(1);
    let (mut hits, mut last) = (0, 0);
    for _ in 0..3_000 {
        now = now + Duration::from_millis(random.next_u64() % 50);
        let table = (random.next_u64() % TABLES as u64) as usize;
        match random.next_u64() % 60 {
            0 => {
                let tables = match random.next_u64() % 8 {
                    0 => (0..TABLES).collect(),
                    1 => vec![table, (table + 1) % TABLES],
                    _ => vec![table],
                };
                let touch = if tables.len() == TABLES {
                    Touch::Everything
                } else {
                    Touch::Tables(tables.iter().map(|table| *table as u16).collect())
                };
                domain.touch(&touch, now);
                writes.push(Write { tables, touch });
            }
            1 if !writes.is_empty() => {
                let place = (random.next_u64() % writes.len() as u64) as usize;
                let write = writes.swap_remove(place);
                // The server commits, and some time later it is heard of.
                last += 1;
                for table in &write.tables {
                    there[*table] = last;
                }
                domain.touch(&write.touch, now);
                for table in &write.tables {
                    acknowledged[*table] = there[*table];
                }
            }
            2..=15 if !reads.is_empty() => {
                let place = (random.next_u64() % reads.len() as u64) as usize;
                let read = &mut reads[place];
                let now = there[read.table];
                read.answer.get_or_insert(now);
            }
            16..=29 if !reads.is_empty() => {
                let place = (random.next_u64() % reads.len() as u64) as usize;
                let read = reads.swap_remove(place);
                match read.answer {
                    Some(answer) => {
                        let answer = answer.to_be_bytes().to_vec();
                        cache.fill(read.fill, answer, &domain, 64 << 10, now);
                    }
                    None => cache.give_up(&read.fill),
                }
            }
            _ => {
                let key = [b't', table as u8, (random.next_u64() % 3) as u8];
                match cache.find(&key, &domain, now, random.next_u64().is_multiple_of(2)) {
                    Found::Answer(answer) => {
                        let answer = u64::from_be_bytes((*answer).try_into().expect("eight bytes"));
                        assert!(
                            answer >= acknowledged[table],
                            "seed {seed}: {answer} of table {table}, {} is over",
                            acknowledged[table]
                        );
                        hits += 1;
                    }
                    Found::Fill => {
                        let depends = Depends {
                            tables: vec![table as u16],
                            on_any: random.next_u64().is_multiple_of(8),
                        };
                        let stamp = domain.stamp(&depends, now).expect("no doubt");
                        reads.push(Read {
                            table,
                            fill: Fill {
                                key: key.into(),
                                stamp,
                                ttl: Duration::from_secs(5),
                            },
                            answer: None,
                        });
                        // One that is never answered.
                        if reads.len() > MOST_READS {
                            cache.give_up(&reads.swap_remove(0).fill);
                        }
                    }
                    Found::Wait(_) => {}
                }
            }
        }
    }
    assert!(hits > 50, "seed {seed}: {hits} hits say nothing");
}

#[test]
fn no_answer_is_older_than_a_write_that_is_over() {
    for seed in 0..200 {
        simulate(seed);
    }
}

#[test]
fn memory_is_bounded_and_time_runs_out() {
    let cache = ResultCache::default();
    let domain = cache.domain("db", "shop");
    let limit = 1 << 20;
    let stamp = || {
        domain
            .stamp(&Depends::default(), Ticks(0))
            .expect("no doubt")
    };
    let put = |number: u32, now: u64| {
        let key: Box<[u8]> = number.to_be_bytes().into();
        let fill = Fill {
            key,
            stamp: stamp(),
            ttl: Duration::from_secs(10),
        };
        cache.fill(fill, vec![0; 1000], &domain, limit, Ticks(now));
    };
    let is_there = |number: u32, now: u64| {
        let found = cache.find(&number.to_be_bytes(), &domain, Ticks(now), false);
        matches!(found, Found::Answer(_))
    };
    for number in 0..10_000 {
        put(number, 0);
        // One that is asked for stays.
        assert!(is_there(0, 0), "{number}");
        assert!(cache.counts().bytes <= limit);
    }
    let counts = cache.counts();
    assert!(counts.entries > 500 && counts.entries + counts.evictions == 10_000);
    assert!(is_there(0, 9_999_999_999) && !is_there(0, 10_000_000_000));
    // Larger than its part of the limit.
    let fill = Fill {
        key: (*b"large").into(),
        stamp: stamp(),
        ttl: Duration::from_secs(10),
    };
    cache.fill(fill, vec![0; 100_000], &domain, limit, Ticks(0));
    assert!(!matches!(
        cache.find(b"large", &domain, Ticks(0), false),
        Found::Answer(_)
    ));
    // While a write may be under way of which nobody hears, nothing is kept.
    domain.doubt(&Touch::Everything, Ticks(0));
    assert_eq!(domain.stamp(&Depends::default(), Ticks(1)), None);
    assert!(
        domain
            .stamp(&Depends::default(), Ticks(0) + DOUBT)
            .is_some()
    );
}
