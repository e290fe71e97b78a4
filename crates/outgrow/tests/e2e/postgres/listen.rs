//! LISTEN and NOTIFY through a pool whose connections are not a client's own: everybody hears what it
//! would hear from Postgres, and nobody keeps a connection for it.

use std::{
    thread,
    time::{Duration, Instant},
};

use outgrow_testkit::{
    faults::{Fault, Proxy},
    outgrow::{Launch, Outgrow},
    postgres::{Message, Session, message},
};
use serde_json::Value;

use super::{Tier, backend, config, modes::connections, refusal, run, value};
use crate::shop::{SOON, try_state};

/// A notification: who sent it, channel and payload.
pub(super) type Heard = (u32, String, String);

pub(super) fn heard(message: &Message) -> Option<Heard> {
    if message.tag != b'A' {
        return None;
    }
    let (process, rest) = message.body.split_first_chunk::<4>()?;
    let mut texts = rest
        .split(|byte| *byte == 0)
        .map(|text| String::from_utf8_lossy(text).into_owned());
    Some((u32::from_be_bytes(*process), texts.next()?, texts.next()?))
}

/// The next notification.
fn next(session: &mut Session) -> Heard {
    let message = session.receive().expect("a message");
    heard(&message).unwrap_or_else(|| panic!("{message:?} is no notification"))
}

/// The payload of the next one.
fn payload(session: &mut Session) -> String {
    next(session).2
}

/// Executes, and gives what is heard up to the end of that.
fn hear(session: &mut Session, sql: &str) -> Vec<String> {
    session.send(&message::query(sql)).expect("sent");
    let messages = session.until_ready().expect("an answer");
    if let Some(problem) = messages.iter().find_map(Message::problem) {
        panic!("{sql}: {problem}");
    }
    let all = messages.iter().filter_map(heard);
    all.map(|(_, channel, payload)| format!("{channel} {payload}"))
        .collect()
}

/// A value of the only pool in the state.
fn of_pool(outgrow: &Outgrow, name: &str) -> Value {
    let state = try_state(outgrow).expect("the state");
    state["postgres"]["pools"][0][name].clone()
}

#[test]
fn two_hundred_listen_over_one_connection() {
    let Some(tier) = Tier::start_with("pool_size = 2", &["max_connections=20"]) else {
        return;
    };
    const CLIENTS: usize = 200;
    const EACH: usize = 50;
    let mut clients: Vec<Session> = (0..CLIENTS).map(|_| tier.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        run(client, &format!("LISTEN of_all; LISTEN \"Own {number}\""));
    }
    let mut direct = tier.direct();
    // The pool's, and the one that listens.
    assert!(connections(&mut direct) <= 3);
    let listeners = of_pool(&tier.outgrow, "listeners");
    let channels = of_pool(&tier.outgrow, "channels");
    assert_eq!((listeners, channels), (200.into(), 201.into()));
    for number in 0..EACH {
        run(&mut direct, &format!("NOTIFY of_all, '{number}'"));
    }
    for number in 0..CLIENTS {
        run(&mut direct, &format!("NOTIFY \"Own {number}\", 'own'"));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        for expected in 0..EACH {
            assert_eq!(payload(client), expected.to_string());
        }
        let (_, channel, payload) = next(client);
        assert_eq!((channel, &*payload), (format!("Own {number}"), "own"));
        // And it works as any other client.
        assert_eq!(value(client, "SELECT 'works'"), "works");
    }
    drop(clients);
    let over = |outgrow: &Outgrow| (of_pool(outgrow, "channels") == 0).then_some(());
    tier.outgrow
        .wait("they are forgotten", SOON, over)
        .expect("they are");
    // The connections that were lent listen on nothing.
    let mut client = tier.client();
    let sql = "SELECT count(*) FROM pg_listening_channels()";
    assert_eq!(value(&mut client, sql), "0");
}

/// Both ways of saying it, in transactions, with names as they are written: compared with Postgres.
#[test]
fn what_is_heard_is_what_postgres_says() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    let story = |client: &mut Session, other: &mut Session| {
        let mut all = Vec::new();
        let mut tell = |other: &mut Session, client: &mut Session, sql: &str| {
            run(other, sql);
            // All that is heard of it is there by then.
            thread::sleep(Duration::from_millis(100));
            all.push(format!("{sql}: {:?}", hear(client, "SELECT 1")));
        };
        for sql in ["LISTEN Folded", "LISTEN \"Quoted\"\"Name\""] {
            run(client, sql);
        }
        client.extended("LISTEN extended", &[]).expect("done");
        client.prepare("p", "LISTEN prepared").expect("prepared");
        client.execute("p", &[]).expect("done");
        tell(other, client, "NOTIFY folded, '1'; NOTIFY FOLDED, '2'");
        tell(other, client, "NOTIFY \"Folded\", '3'");
        tell(other, client, "NOTIFY \"Quoted\"\"Name\", '4'");
        tell(
            other,
            client,
            "SELECT pg_notify('extended', '5'), pg_notify('prepared', '6')",
        );
        // Twice the same in a transaction is once.
        tell(
            other,
            client,
            "BEGIN; NOTIFY folded, 'a'; NOTIFY folded, 'a'; NOTIFY folded, 'b'; COMMIT",
        );
        tell(other, client, "BEGIN; NOTIFY folded, 'never'; ROLLBACK");
        let long = "n".repeat(70);
        run(client, &format!("LISTEN {long}"));
        tell(other, client, &format!("NOTIFY {}, 'cut'", &long[..63]));
        // Rolled back, by hand, by an error, and to a savepoint.
        run(client, "BEGIN; LISTEN undone; ROLLBACK");
        assert!(refusal(client, "LISTEN undone; SELECT 1/0").contains("22012"));
        run(
            client,
            "BEGIN; SAVEPOINT a; LISTEN undone; ROLLBACK TO a; LISTEN done; COMMIT",
        );
        tell(other, client, "NOTIFY undone; NOTIFY done");
        run(client, "BEGIN; UNLISTEN done; ROLLBACK");
        tell(other, client, "NOTIFY done, 'still'");
        run(client, "UNLISTEN done");
        tell(other, client, "NOTIFY done; NOTIFY folded, 'other'");
        run(client, "BEGIN; UNLISTEN *; LISTEN folded; COMMIT");
        tell(other, client, "NOTIFY extended; NOTIFY folded, 'only'");
        // In a transaction nothing is heard.
        run(client, "BEGIN");
        tell(other, client, "NOTIFY folded, 'held back'");
        all.push(format!("{:?}", hear(client, "COMMIT")));
        run(client, "BEGIN READ ONLY; LISTEN in_reading; COMMIT");
        run(other, "NOTIFY in_reading");
        all.push(payload(client));
        assert!(refusal(client, "BEGIN; SELECT 1/0").contains("22012"));
        assert!(refusal(client, "LISTEN failed").contains("25P02"));
        run(client, "ROLLBACK");
        run(client, "DISCARD ALL");
        run(other, "NOTIFY folded; NOTIFY in_reading");
        thread::sleep(Duration::from_millis(100));
        all.push(format!("{:?}", hear(client, "SELECT 1")));
        all
    };
    let expected = story(&mut tier.direct(), &mut tier.direct());
    let seen = story(&mut tier.client(), &mut tier.client());
    assert_eq!(seen, expected);
    let mut direct = tier.direct();
    assert!(connections(&mut direct) <= 3);
}

/// Its own notifications carry the process that a client knows as its own, and are there before it is
/// told that it was done; nobody else's do.
#[test]
fn own_notifications_are_known() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    let (mut one, mut other) = (tier.client(), tier.client());
    run(&mut one, "LISTEN c");
    run(&mut other, "LISTEN c");
    let (of_one, of_other) = (one.key.0, other.key.0);
    for round in 0..200 {
        for (client, process) in [(&mut one, of_one), (&mut other, of_other)] {
            let sql = match round % 3 {
                0 => format!("NOTIFY c, '{round}'"),
                1 => format!("BEGIN; NOTIFY c, '{round}'; COMMIT"),
                _ => format!("SELECT pg_notify('c', '{round}')"),
            };
            client.send(&message::query(&sql)).expect("sent");
            let all = client.until_ready().expect("an answer");
            let own: Vec<_> = all
                .iter()
                .filter_map(heard)
                .filter(|one| one.0 == process)
                .collect();
            assert_eq!(
                own,
                [(process, "c".to_owned(), round.to_string())],
                "{all:?}"
            );
        }
    }
    // Each has heard the other one's as well, in their order: as that one's.
    let rest = |client: &mut Session| {
        let all = hear(client, "SELECT 1");
        all.len()
    };
    thread::sleep(Duration::from_millis(100));
    // What `other` said last was not heard yet by `one`, which was asked before.
    assert_eq!((rest(&mut one), rest(&mut other)), (1, 0));
    // A client that does not listen is nobody whom they know.
    let mut third = tier.client();
    run(&mut third, "NOTIFY c, 'third'");
    let (process, ..) = next(&mut one);
    assert!(process != of_one && process != of_other);
}

/// Whoever acts on what a client committed with its LISTEN is heard by it.
#[test]
fn nothing_is_missed_after_the_commit() {
    let Some(tier) = Tier::start("pool_size = 4") else {
        return;
    };
    run(&mut tier.direct(), "CREATE TABLE asked (id int)");
    const ROUNDS: usize = 150;
    thread::scope(|scope| {
        scope.spawn(|| {
            // Answers each question as soon as it is committed, however early that is.
            let mut answering = tier.direct();
            let mut count = 0;
            let end = Instant::now() + Duration::from_secs(60);
            while count < ROUNDS && Instant::now() < end {
                let sql = "WITH taken AS (DELETE FROM asked RETURNING id) \
                           SELECT pg_notify('answer_' || id, 'yes') FROM taken";
                count += answering.query(sql).expect("answers").len();
            }
            assert_eq!(count, ROUNDS);
        });
        scope.spawn(|| {
            let mut asking = tier.client();
            for round in 0..ROUNDS {
                let sql = match round % 2 {
                    0 => format!("LISTEN answer_{round}; INSERT INTO asked VALUES ({round})"),
                    _ => format!(
                        "BEGIN; INSERT INTO asked VALUES ({round}); LISTEN answer_{round}; COMMIT"
                    ),
                };
                asking.send(&message::query(&sql)).expect("sent");
                let mut early = asking.until_ready().expect("an answer");
                if !early.iter().any(|one| heard(one).is_some()) {
                    early.push(asking.receive().expect("the answer"));
                }
                let answer = early.iter().find_map(heard).expect("the answer");
                assert_eq!(answer.1, format!("answer_{round}"));
                run(&mut asking, &format!("UNLISTEN answer_{round}"));
            }
        });
    });
}

#[test]
fn who_loses_what_listens_is_told() {
    let Some(tier) = Tier::start("pool_size = 3") else {
        return;
    };
    let (mut idle, mut busy, mut innocent) = (tier.client(), tier.client(), tier.client());
    run(&mut idle, "LISTEN c");
    run(&mut busy, "LISTEN c");
    run(&mut busy, "BEGIN");
    let mut direct = tier.direct();
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE application_name LIKE 'outgrow: LISTEN%'";
    assert_eq!(value(&mut direct, sql), "1");
    let end = idle
        .receive()
        .expect("an error")
        .problem()
        .expect("an error");
    assert_eq!((&*end.severity, &*end.code), ("FATAL", "08006"));
    assert!(
        end.message.contains("notifications may have been missed"),
        "{end}"
    );
    idle.is_over().expect("ended");
    // What is committed is known before the end.
    run(&mut busy, "CREATE TABLE kept (a int)");
    run(&mut busy, "COMMIT");
    let end = busy
        .receive()
        .expect("an error")
        .problem()
        .expect("an error");
    assert_eq!(end.code, "08006");
    assert_eq!(value(&mut innocent, "SELECT count(*) FROM kept"), "0");
    // Whoever comes back hears again.
    let mut again = tier.client();
    run(&mut again, "LISTEN c");
    run(&mut direct, "NOTIFY c, 'again'");
    assert_eq!(payload(&mut again), "again");
}

/// A connection that has died without a word is found out as well.
#[test]
fn a_server_that_does_not_answer_is_no_server() {
    let Some(tier) = Tier::start("") else {
        return;
    };
    let proxy = Proxy::start(tier.database.address()).expect("a proxy");
    let outgrow = Launch::config(&config("pool_size = 2", proxy.address())).start();
    let outgrow = outgrow.expect("outgrow starts");
    let at = outgrow.address("pooler").expect("an address");
    let mut client = Session::of(at, "postgres").expect("let in");
    run(&mut client, "LISTEN c");
    let free = |outgrow: &Outgrow| (of_pool(outgrow, "lent") == 0).then_some(());
    outgrow
        .wait("it has no connection", SOON, free)
        .expect("none");
    proxy.set(Fault::Stall).expect("stalled");
    // Asked for another channel it does not answer.
    let mut other = Session::of(at, "postgres").expect("let in");
    other.send(&message::query("LISTEN d")).expect("sent");
    let end = client
        .receive()
        .expect("an error")
        .problem()
        .expect("an error");
    assert_eq!(end.code, "08006", "{end}");
}

#[test]
fn who_does_not_read_is_ended() {
    let Some(tier) = Tier::start("notifications = { backlog = \"64KiB\" }") else {
        return;
    };
    let (slow, mut good) = (tier.client(), tier.client());
    let mut slow = slow;
    run(&mut slow, "LISTEN c");
    run(&mut good, "LISTEN c");
    let mut direct = tier.direct();
    let long = "x".repeat(7_900);
    // More than sockets hold.
    for number in 0..3_000 {
        run(&mut direct, &format!("NOTIFY c, '{number} {long}'"));
        assert!(payload(&mut good).starts_with(&format!("{number} ")));
        if number % 100 == 0 && of_pool(&tier.outgrow, "listeners") == 1 {
            break;
        }
    }
    let gone = |outgrow: &Outgrow| (of_pool(outgrow, "listeners") == 1).then_some(());
    tier.outgrow.wait("it is ended", SOON, gone).expect("it is");
    // What it had got in order is there, and then the end.
    let mut count = 0;
    while let Ok(message) = slow.receive() {
        if let Some((_, _, payload)) = heard(&message) {
            assert!(payload.starts_with(&format!("{count} ")));
            count += 1;
        }
    }
    assert!(count > 0);
    assert_eq!(value(&mut good, "SELECT 1"), "1");
}

/// What cannot be shared is as before: the client keeps its connection.
#[test]
fn who_cannot_share_keeps_a_connection() {
    let check = |settings: &str, listen: &str, notify: &str| {
        let Some(tier) = Tier::start(settings) else {
            return;
        };
        let mut first = tier.client();
        run(&mut first, "LISTEN first");
        let start = [("user", "postgres"), ("client_encoding", "latin1")];
        let mut client = Session::start(tier.address(), &start).expect("let in");
        run(&mut client, listen);
        let own = backend(&mut client);
        let mut direct = tier.direct();
        run(&mut direct, notify);
        assert_eq!(payload(&mut client), "for it", "{listen}");
        assert_eq!(backend(&mut client), own, "{listen}");
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'outgrow%'";
        let shared = if settings.contains("false") { "0" } else { "1" };
        assert_eq!(value(&mut direct, sql), shared);
        run(&mut client, "UNLISTEN *");
        run(&mut direct, notify);
        assert_eq!(hear(&mut client, "SELECT 1"), Vec::<String>::new());
    };
    check(
        "notifications = { shared = false }",
        "LISTEN c",
        "NOTIFY c, 'for it'",
    );
    // Texts in another encoding; names that depend on one; what is hidden in a program.
    check("", "LISTEN c", "NOTIFY c, 'for it'");
    check(
        "notifications = { max_channels = 1 }",
        "SET client_encoding = 'UTF8'; LISTEN c",
        "NOTIFY c, 'for it'",
    );
    check("", "DO $$ BEGIN LISTEN c; END $$", "NOTIFY c, 'for it'");
}
