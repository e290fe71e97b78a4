//! Prepared statements, whichever server connection a client gets.

use outgrow_testkit::postgres::{
    Session,
    message::{bind, close, describe, execute, parse, query, sync},
};

use super::{Tier, backend, converse, refusal, run, value};

/// Has a client act on each of `count` connections in turn: the one that it had last is held by
/// another one, so that it gets the next.
fn on_each(tier: &Tier, count: usize, client: &mut Session, mut act: impl FnMut(&mut Session)) {
    let mut holders = Vec::new();
    let mut seen = Vec::new();
    for _ in 0..count {
        act(client);
        seen.push(backend(client));
        let mut holder = tier.client();
        run(&mut holder, "BEGIN");
        holders.push(holder);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count, "{seen:?}");
    for mut holder in holders {
        run(&mut holder, "COMMIT");
    }
}

#[test]
fn a_statement_is_there_on_every_connection() {
    let Some(tier) = Tier::start("pool_size = 3") else {
        return;
    };
    let mut client = tier.client();
    client
        .prepare("one", "SELECT $1::int + 1")
        .expect("prepared");
    client
        .prepare("two", "SELECT 'two: ' || $1")
        .expect("prepared");
    for _ in 0..3 {
        on_each(&tier, 3, &mut client, |client| {
            let rows = client.execute("one", &[Some("41")]).expect("executed");
            assert_eq!(rows, [[Some("42".to_owned())]]);
            let rows = client.execute("two", &[Some("x")]).expect("executed");
            assert_eq!(rows, [[Some("two: x".to_owned())]]);
            let steps = [([describe(b'S', "one"), sync()].concat(), b'Z')];
            let tags: Vec<u8> = converse(client, &steps).iter().map(|one| one.tag).collect();
            assert_eq!(tags, *b"tTZ");
        });
    }
}

#[test]
fn the_unnamed_statement_is_there_on_every_connection() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    let (mut client, mut other) = (tier.client(), tier.client());
    let pid = |client: &mut Session| {
        let rows = client.execute("", &[Some("41")]).expect("executed");
        assert_eq!(rows[0][0].as_deref(), Some("42"));
        rows[0][1].clone()
    };
    let sql = "SELECT $1::int + 1, pg_backend_pid()";
    client.prepare("", sql).expect("prepared");
    let first = pid(&mut client);
    run(&mut other, "BEGIN");
    let second = pid(&mut client);
    assert_ne!(first, second, "the first one is held");
    run(&mut other, "COMMIT");
    assert_eq!(pid(&mut client), first, "that is used again");
    // What another client has left on a connection is not its own.
    let unknown = |client: &mut Session| {
        let error = client.execute("", &[Some("1")]).expect_err("there is none");
        assert!(error.to_string().contains("26000"), "{error}");
    };
    unknown(&mut other);
    unknown(&mut other);
    pid(&mut client);
    // Bound in its own series it need not be there afterwards, but it is while nobody comes between;
    // a simple query ends it.
    run(&mut client, "SELECT 1");
    unknown(&mut client);
    client.prepare("", "SELECT 7").expect("prepared");
    let steps = [([close(b'S', ""), sync()].concat(), b'Z')];
    converse(&mut client, &steps);
    unknown(&mut client);
    client.prepare("", "nonsense").expect_err("no statement");
    unknown_or_nonsense(&mut client);
    client.prepare("", sql).expect("prepared");
    let steps = [([describe(b'S', ""), sync()].concat(), b'Z')];
    let tags = |client: &mut Session| -> Vec<u8> {
        let heard = converse(client, &steps);
        heard.iter().map(|one| one.tag).collect()
    };
    assert_eq!(tags(&mut client), *b"tTZ");
    run(&mut other, "BEGIN");
    assert_eq!(tags(&mut client), *b"tTZ");
    run(&mut other, "COMMIT");
}

/// A statement that could not be prepared cannot be executed either, whatever is said of it.
fn unknown_or_nonsense(client: &mut Session) {
    let error = client.execute("", &[]).expect_err("there is none");
    let told = error.to_string();
    assert!(told.contains("26000") || told.contains("42601"), "{told}");
}

#[test]
fn clients_have_names_of_their_own() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    let mut clients: Vec<Session> = (0..10).map(|_| tier.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let sql = format!("SELECT {number}");
        client.prepare("s", &sql).expect("prepared");
        client.prepare("same", "SELECT 'same'").expect("prepared");
    }
    for _ in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            let rows = client.execute("s", &[]).expect("executed");
            assert_eq!(rows, [[Some(number.to_string())]]);
        }
    }
    // One that closes its own does not take it away from others.
    let (first, others) = clients.split_first_mut().expect("ten");
    let bytes = [close(b'S', "same"), sync()].concat();
    let tags: Vec<u8> = converse(first, &[(bytes, b'Z')])
        .iter()
        .map(|one| one.tag)
        .collect();
    assert_eq!(tags, *b"3Z");
    let error = first.execute("same", &[]).expect_err("it is closed");
    assert_eq!(error.code(), "26000");
    for client in others {
        client.execute("same", &[]).expect("executed");
    }
    first.prepare("same", "SELECT 'other'").expect("prepared");
    assert_eq!(
        first.execute("same", &[]).expect("executed"),
        [[Some("other".to_owned())]]
    );
}

#[test]
fn a_connection_holds_no_more_than_it_may() {
    let Some(tier) = Tier::start("pool_size = 1\nmax_prepared_statements = 3") else {
        return;
    };
    let mut client = tier.client();
    for number in 0..10 {
        let sql = format!("SELECT {number} + $1::int");
        client
            .prepare(&format!("s{number}"), &sql)
            .expect("prepared");
    }
    for round in 0..3 {
        for number in 0..10 {
            let rows = client.execute(&format!("s{number}"), &[Some("100")]);
            let rows = rows.unwrap_or_else(|error| panic!("{round} {number}: {error}"));
            assert_eq!(rows, [[Some((number + 100).to_string())]]);
        }
    }
    let held = value(&mut client, "SELECT count(*) FROM pg_prepared_statements");
    assert!(held.parse::<u32>().expect("a number") <= 3, "{held}");
    // Many at once, within one batch: more than may be held.
    let mut batch = Vec::new();
    for number in 0..10 {
        batch.extend(bind("", &format!("s{number}"), &[Some("1")]));
        batch.extend(execute("", 0));
    }
    batch.extend(sync());
    client.send(&batch).expect("sent");
    let rows = client.answer().expect("answered");
    let expected: Vec<_> = (1..=10)
        .map(|number| vec![Some(number.to_string())])
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn an_unknown_name_is_an_error_and_no_more() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    let mut client = tier.client();
    for _ in 0..3 {
        let error = client.execute("nobody", &[]).expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "ERROR 26000 prepared statement \"nobody\" does not exist"
        );
        assert_eq!(value(&mut client, "SELECT 1"), "1");
    }
    // One that another client has.
    let mut other = tier.client();
    other.prepare("theirs", "SELECT 1").expect("prepared");
    other.execute("theirs", &[]).expect("executed");
    let error = client.execute("theirs", &[]).expect_err("unknown");
    assert_eq!(error.code(), "26000");
}

#[test]
fn a_parse_that_fails_leaves_no_name() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    let mut client = tier.client();
    for _ in 0..3 {
        let error = client.prepare("s", "SELEC 1").expect_err("nonsense");
        assert_eq!(error.code(), "42601");
        let error = client.execute("s", &[]).expect_err("it is not there");
        assert_eq!(error.code(), "26000");
        let error = client
            .prepare("s", "SELECT * FROM nowhere")
            .expect_err("no table");
        assert_eq!(error.code(), "42P01");
    }
    run(&mut client, "CREATE TABLE nowhere (a int)");
    client
        .prepare("s", "SELECT * FROM nowhere")
        .expect("now it is there");
    client.execute("s", &[]).expect("executed");
    // In a batch, what follows the error was never asked for.
    let bytes = [
        parse("t", "SELEC"),
        parse("u", "SELECT 1"),
        bind("", "u", &[]),
        execute("", 0),
        sync(),
    ];
    let error = {
        client.send(&bytes.concat()).expect("sent");
        client.answer().expect_err("nonsense")
    };
    assert_eq!(error.code(), "42601");
    let error = client.execute("u", &[]).expect_err("it was skipped");
    assert_eq!(error.code(), "26000");
    client.prepare("u", "SELECT 1").expect("the name is free");
    client.execute("u", &[]).expect("executed");
}

#[test]
fn a_name_is_taken_once() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    let mut client = tier.client();
    client.prepare("s", "SELECT 1").expect("prepared");
    for sql in ["SELECT 1", "SELECT 2"] {
        let error = client.prepare("s", sql).expect_err("it is taken");
        assert_eq!(error.code(), "42P05", "{sql}");
        assert_eq!(
            client.execute("s", &[]).expect("executed"),
            [[Some("1".to_owned())]],
            "the first one stays"
        );
    }
}

#[test]
fn statements_are_given_back_by_sql_as_well() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    let mut client = tier.client();
    for (sql, goes) in [
        ("DEALLOCATE s", true),
        ("DEALLOCATE PREPARE \"s\"", true),
        ("DEALLOCATE ALL", true),
        ("DISCARD ALL", true),
        ("DISCARD PLANS", false),
    ] {
        client.prepare("s", "SELECT 1").expect("prepared");
        client.execute("s", &[]).expect("executed");
        run(&mut client, sql);
        match client.execute("s", &[]) {
            Ok(_) => assert!(!goes, "{sql}"),
            Err(error) => {
                assert_eq!(error.code(), "26000", "{sql}");
                assert!(goes, "{sql}");
            }
        }
        if !goes {
            run(&mut client, "DEALLOCATE ALL");
        }
    }
    let error = client.query("DEALLOCATE unknown").expect_err("unknown");
    assert_eq!(error.code(), "26000");
}

#[test]
fn statements_of_sql_stay_with_their_client() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    let (mut one, mut other) = (tier.client(), tier.client());
    run(&mut one, "PREPARE s (int) AS SELECT $1 + 1");
    run(&mut other, "PREPARE s (int) AS SELECT $1 + 100");
    for _ in 0..5 {
        assert_eq!(value(&mut one, "EXECUTE s (1)"), "2");
        assert_eq!(value(&mut other, "EXECUTE s (1)"), "101");
    }
}

/// What a driver does when the result of a statement has changed: close and prepare again.
#[test]
fn a_changed_table_is_seen_after_preparing_again() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    let mut admin = tier.direct();
    run(
        &mut admin,
        "CREATE TABLE t (a int); INSERT INTO t VALUES (1)",
    );
    let (mut client, mut other) = (tier.client(), tier.client());
    for client in [&mut client, &mut other] {
        client.prepare("s", "SELECT * FROM t").expect("prepared");
        client.execute("s", &[]).expect("executed");
    }
    run(&mut admin, "ALTER TABLE t ADD b int DEFAULT 2");
    for client in [&mut client, &mut other] {
        let mut seen = Vec::new();
        for attempt in 0..5 {
            match client.execute("s", &[]) {
                Ok(rows) => {
                    seen = rows;
                    break;
                }
                Err(error) => {
                    assert_eq!(error.code(), "0A000", "{attempt}: {error}");
                    client
                        .send(&[close(b'S', "s"), sync()].concat())
                        .expect("sent");
                    client.answer().expect("closed");
                    client.prepare("s", "SELECT * FROM t").expect("prepared");
                }
            }
        }
        let expected = [[Some("1".to_owned()), Some("2".to_owned())]];
        assert_eq!(seen, expected, "it was prepared again");
    }
}

/// Who knows what a statement answers must not get something else: Postgres refuses, and drivers
/// prepare it again.
#[test]
fn a_statement_never_answers_otherwise_than_it_said() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    run(
        &mut tier.direct(),
        "CREATE TABLE t (a int); INSERT INTO t VALUES (1)",
    );
    let (mut client, mut other) = (tier.client(), tier.client());
    let executed = |client: &mut Session, name: &str| match client.execute(name, &[]) {
        Ok(rows) => rows[0].len().to_string(),
        Err(error) => error.code().to_owned(),
    };
    for (client, name) in [(&mut client, "s"), (&mut other, "o")] {
        client.prepare(name, "SELECT * FROM t").expect("prepared");
        assert_eq!(executed(client, name), "1");
    }
    run(&mut client, "ALTER TABLE t ADD b int");
    assert_eq!(executed(&mut client, "s"), "0A000");
    assert_eq!(executed(&mut other, "o"), "0A000");
    // Under another name, as drivers do that close names later.
    for (client, name) in [(&mut client, "s2"), (&mut other, "o2")] {
        client.prepare(name, "SELECT * FROM t").expect("prepared");
        assert_eq!(executed(client, name), "2");
    }
    assert_eq!(executed(&mut client, "s"), "0A000", "that one stays old");
}

#[test]
fn prepared_and_simple_queries_mix() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    let mut client = tier.client();
    let batch = [
        query("SELECT 1"),
        parse("s", "SELECT 2"),
        sync(),
        query("SELECT 3"),
        bind("", "s", &[]),
        execute("", 0),
        sync(),
        close(b'S', "s"),
        sync(),
    ];
    client.send(&batch.concat()).expect("sent");
    let mut all = Vec::new();
    for _ in 0..5 {
        all.extend(client.answer().expect("answered").concat());
    }
    let all: Vec<_> = all.into_iter().flatten().collect();
    assert_eq!(all, ["1", "3", "2"]);
}

/// What others have prepared on the connection that is shared is not there for a client, even when it
/// knows what that is called at the server.
#[test]
fn names_of_ours_are_nobodys() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    let (mut one, mut other) = (tier.client(), tier.client());
    one.prepare("a", "SELECT 'of the one'").expect("prepared");
    let sql = "SELECT name FROM pg_prepared_statements";
    let name = value(&mut other, sql);
    assert!(name.starts_with("outgrow_"), "{name}");
    assert!(name.len() > 20, "it could be guessed: {name}");
    for text in [
        format!("EXECUTE {name}"),
        format!("EXECUTE \"{name}\""),
        format!("DEALLOCATE {name}"),
        format!("DEALLOCATE PREPARE {name}"),
        format!("EXPLAIN EXECUTE {name}"),
        format!("CREATE TEMP TABLE t AS EXECUTE {name}"),
        format!("SELECT 1; EXECUTE {name}"),
    ] {
        let told = refusal(&mut other, &text);
        assert!(told.starts_with("ERROR 26000"), "{text}: {told}");
        let told = other.extended(&text, &[]).expect_err("there is none");
        let is_one = !text.contains(';');
        assert_eq!(
            told.code(),
            if is_one { "26000" } else { "42601" },
            "{text}"
        );
        let told = other.prepare("p", &text).map(|()| other.execute("p", &[]));
        assert!(!matches!(told, Ok(Ok(_))), "{text}: {told:?}");
        other
            .send(&[close(b'S', "p"), sync()].concat())
            .expect("sent");
        other.answer().expect("closed");
    }
    let told = other.execute(&name, &[]).expect_err("there is none");
    assert_eq!(told.code(), "26000");
    let messages = [describe(b'S', &name), sync()];
    other.send(&messages.concat()).expect("sent");
    assert_eq!(other.answer().expect_err("there is none").code(), "26000");
    let messages = [close(b'S', &name), sync()];
    other.send(&messages.concat()).expect("sent");
    other.answer().expect("closing what is not there is none");
    // A name of its own may be any.
    other
        .prepare(&name, "SELECT 'of the other'")
        .expect("prepared");
    let rows = other.execute(&name, &[]).expect("its own");
    assert_eq!(rows, [[Some("of the other".to_owned())]]);
    let rows = one.execute("a", &[]).expect("still there");
    assert_eq!(rows, [[Some("of the one".to_owned())]]);
}

/// What a function ends on the connection that is shared is missed once at most.
#[test]
fn a_connection_on_which_statements_are_missing_is_made_like_new() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    let (mut one, mut other) = (tier.client(), tier.client());
    one.prepare("a", "SELECT 1").expect("prepared");
    run(&mut other, "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$");
    let told = one.execute("a", &[]).expect_err("it is gone");
    assert_eq!(told.code(), "26000");
    let rows = one.execute("a", &[]).expect("it is prepared again");
    assert_eq!(rows, [[Some("1".to_owned())]]);
}
