//! Clients that vanish at any moment: what they leave behind reaches nobody else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use outgrow_testkit::postgres::{
    Session,
    message::{
        bind, close, copy_data, copy_done, describe, execute, flush, parse, query, startup, sync,
        terminate,
    },
};

use super::{Step, Tier, converse, run, value};

/// How a client goes.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// It closes (FIN, or RST when something was not read).
    Closes,
    /// It says no more, and reads until the other side closes.
    HalfCloses,
}

/// A conversation in which everything happens that could be left half done.
fn conversation() -> Vec<Step> {
    let step = |messages: &[Vec<u8>], until: u8| (messages.concat(), until);
    vec![
        step(
            &[startup(&[("user", "postgres"), ("database", "postgres")])],
            b'Z',
        ),
        step(&[query("SELECT 'mine', 1")], b'Z'),
        step(
            &[
                parse("s", "INSERT INTO t VALUES ('mine', $1)"),
                describe(b'S', "s"),
                bind("", "s", &[Some("1")]),
                execute("", 0),
                sync(),
            ],
            b'Z',
        ),
        step(&[query("BEGIN")], b'Z'),
        step(
            &[query("SET work_mem = '5MB'; SET timezone = 'Asia/Tokyo'")],
            b'Z',
        ),
        step(&[query("INSERT INTO t VALUES ('open', 2)")], b'Z'),
        step(&[query("SELECT pg_advisory_xact_lock(1)")], b'Z'),
        step(
            &[query(
                "DECLARE c CURSOR FOR SELECT 'mine', generate_series(1, 100)",
            )],
            b'Z',
        ),
        step(
            &[parse("", "FETCH 50 FROM c"), bind("p", "", &[]), flush()],
            b'2',
        ),
        step(&[execute("p", 5), flush()], b's'),
        step(&[execute("p", 0), sync()], b'Z'),
        step(&[query("SELEC")], b'Z'),
        step(&[query("ROLLBACK")], b'Z'),
        step(
            &[query("BEGIN; INSERT INTO t VALUES ('mine', 3); COMMIT")],
            b'Z',
        ),
        step(&[query("COPY t FROM STDIN")], b'G'),
        step(&[copy_data(b"open\t4\n"), copy_data(b"open\t5\n")], 0),
        step(&[copy_data(b"nonsense\n"), copy_done()], b'Z'),
        step(
            &[query(
                "COPY (SELECT 'mine', generate_series(1, 1000)) TO STDOUT",
            )],
            b'Z',
        ),
        step(&[query("CREATE TEMP TABLE own (a int)")], b'Z'),
        step(&[query("PREPARE own AS SELECT 'mine'; LISTEN own")], b'Z'),
        step(&[query("SELECT pg_advisory_lock(2)")], b'Z'),
        step(&[close(b'S', "s"), sync()], b'Z'),
        step(&[query("SELECT 'mine', generate_series(1, 3000)")], b'Z'),
        step(&[terminate()], 0),
    ]
}

/// Plays the first `count` bytes: whole steps with their answers, or all at once without waiting
/// for any.
fn play(client: &mut Session, steps: &[Step], count: usize, waits: bool) {
    let mut left = count;
    for (bytes, until) in steps {
        if bytes.len() > left {
            client.send(&bytes[..left]).expect("sent");
            return;
        }
        left -= bytes.len();
        let until = if waits { *until } else { 0 };
        if until == 0 {
            // It may have been refused already.
            let _sent = client.send(bytes);
        } else {
            converse(client, &[(bytes.clone(), until)]);
        }
    }
}

/// What a client finds must be a new session's.
fn is_clean(tier: &Tier, other: &mut Session, what: &str) {
    let tag = format!("other {what}");
    let sql = format!(
        "SELECT '{tag}', pg_current_xact_id_if_assigned() IS NULL, current_setting('work_mem'), \
         current_setting('timezone') = 'Asia/Tokyo', \
         (SELECT count(*) FROM pg_cursors), \
         (SELECT count(*) FROM pg_prepared_statements WHERE from_sql), \
         (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND \
         pid = pg_backend_pid()), \
         (SELECT count(*) FROM pg_listening_channels()), \
         to_regclass('own') IS NULL, \
         (SELECT count(*) FROM t WHERE tag = 'open')"
    );
    let rows = other.query(&sql);
    let rows = rows.unwrap_or_else(|error| panic!("{what}: {error}: {}", tier.outgrow.stderr()));
    let expected = [&tag, "t", "4MB", "f", "0", "0", "0", "0", "t", "0"];
    let expected: Vec<_> = expected.iter().map(|one| Some((*one).to_owned())).collect();
    assert_eq!(rows, [expected], "{what}");
    assert_eq!(other.state, b'I', "{what}");
    // The protocol is where it was: the next answer is to the next question.
    let rows = other.extended("SELECT 'next ' || $1", &[Some(&tag)]);
    assert_eq!(rows.expect(what), [[Some(format!("next {tag}"))]]);
}

fn cut(mode: &str, waits: bool, way: Way, step: usize) {
    let settings = format!("pool_size = 1\npool_mode = \"{mode}\"");
    let Some(tier) = Tier::start(&settings) else {
        return;
    };
    run(
        &mut tier.direct(),
        "CREATE UNLOGGED TABLE t (tag text, a int)",
    );
    let steps = conversation();
    let length: usize = steps.iter().map(|(bytes, _)| bytes.len()).sum();
    // In session mode the other one would keep the only connection.
    let mut lasting = (mode != "session").then(|| tier.client());
    for count in (0..=length).step_by(step) {
        let mut client = Session::open(tier.address()).expect("connected");
        play(&mut client, &steps, count, waits);
        if matches!(way, Way::HalfCloses) {
            // It may have been closed already, where all was said.
            let _ended = client.end_sending();
            while client.receive().is_ok() {}
        }
        drop(client);
        let what = format!("{count} of {length} bytes, {way:?}");
        match &mut lasting {
            Some(other) => is_clean(&tier, other, &what),
            None => is_clean(&tier, &mut tier.client(), &what),
        }
    }
    assert_eq!(
        value(
            &mut tier.direct(),
            "SELECT count(*) FROM t WHERE tag = 'open'"
        ),
        "0"
    );
}

#[test]
fn at_every_byte() {
    cut("transaction", true, Way::Closes, 1);
}

#[test]
fn at_every_byte_without_reading() {
    cut("transaction", false, Way::Closes, 1);
}

#[test]
fn at_every_byte_by_half() {
    cut("transaction", true, Way::HalfCloses, 1);
}

#[test]
fn at_bytes_of_a_session() {
    cut("session", true, Way::Closes, 3);
}

/// A generator that needs nothing: xorshift, its seed in every message.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// One client's life: tagged questions in every way, and now and then it is gone.
fn live(address: std::net::SocketAddr, number: u64, over: &AtomicBool, rows_seen: &AtomicUsize) {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15 ^ (number + 1));
    let mut client = None;
    let mut count = 0_u64;
    while !over.load(Ordering::Relaxed) {
        let mut session = match client.take() {
            Some(session) => session,
            None => Session::of(address, "postgres").expect("let in"),
        };
        count += 1;
        let tag = format!("{number}.{count}");
        let rows = chance.below(200);
        let sql = format!("SELECT '{tag}', generate_series(1, {rows})");
        let messages = match chance.below(5) {
            0 => query(&sql),
            1 => [parse("", &sql), bind("", "", &[]), execute("", 0), sync()].concat(),
            2 => query(&format!("BEGIN; {sql}; COMMIT")),
            3 => {
                let name = format!("s{}", chance.below(1 << 40));
                [
                    parse(&name, &sql),
                    bind("", &name, &[]),
                    execute("", 0),
                    sync(),
                ]
                .concat()
            }
            _ => query(&format!(
                "INSERT INTO t VALUES ('{tag}') RETURNING tag, 1; {sql}"
            )),
        };
        match chance.below(10) {
            // Gone in the middle of the question.
            0 => {
                let part = chance.below(messages.len() as u64) as usize;
                session.send(&messages[..part]).expect("sent");
            }
            // Gone in the middle of the answer.
            1 => {
                session.send(&messages).expect("sent");
                for _ in 0..chance.below(rows + 3) {
                    let message = session.receive().expect("answered");
                    check(message.row().as_deref(), &tag, rows_seen);
                    if message.tag == b'Z' {
                        break;
                    }
                }
            }
            // Gone in a transaction.
            2 => {
                let sql = format!("BEGIN; INSERT INTO t VALUES ('open {tag}')");
                session.query(&sql).expect("begun");
            }
            // It stays.
            _ => {
                session.send(&messages).expect("sent");
                let answer = session.answer();
                let answer = answer.unwrap_or_else(|error| panic!("{tag}: {error}"));
                for row in &answer {
                    check(Some(row.as_slice()), &tag, rows_seen);
                }
                assert!(answer.len() as u64 >= rows, "{tag}: {} rows", answer.len());
                assert_eq!(session.state, b'I', "{tag}");
                client = Some(session);
            }
        }
    }
}

fn check(row: Option<&[Option<String>]>, tag: &str, rows_seen: &AtomicUsize) {
    if let Some(row) = row {
        assert_eq!(row[0].as_deref(), Some(tag), "another one's row");
        rows_seen.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn no_row_reaches_another_client() {
    let Some(tier) = Tier::start("pool_size = 4\nmax_prepared_statements = 20") else {
        return;
    };
    run(&mut tier.direct(), "CREATE UNLOGGED TABLE t (tag text)");
    let address = tier.address();
    let over = Arc::new(AtomicBool::new(false));
    let rows_seen = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..24)
        .map(|number| {
            let (over, rows_seen) = (Arc::clone(&over), Arc::clone(&rows_seen));
            thread::spawn(move || live(address, number, &over, &rows_seen))
        })
        .collect();
    thread::sleep(Duration::from_secs(8));
    over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().expect("no panic");
    }
    let rows = rows_seen.load(Ordering::Relaxed);
    assert!(rows > 10_000, "{rows} rows show nothing");
    let mut direct = tier.direct();
    assert_eq!(
        value(&mut direct, "SELECT count(*) FROM t WHERE tag LIKE 'open%'"),
        "0"
    );
    let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
    assert_eq!(value(&mut direct, open), "0");
}
