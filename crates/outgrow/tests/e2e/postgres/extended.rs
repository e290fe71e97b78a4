//! Conversations as Postgres has them, message by message the same through us.

use outgrow_testkit::postgres::{
    Message, Session,
    message::{
        bind, close, copy_data, copy_done, copy_fail, describe, execute, flush, parse, query, sync,
        tagged,
    },
};

use super::{Step, Tier, converse, run};

fn steps(parts: &[(&[Vec<u8>], u8)]) -> Vec<Step> {
    let step = |(messages, until): &(&[Vec<u8>], u8)| (messages.concat(), *until);
    parts.iter().map(step).collect()
}

/// Conversations by name.
fn conversations() -> Vec<(&'static str, Vec<Step>)> {
    let usual = |sql: &str, parameters: &[Option<&str>]| {
        [
            parse("", sql),
            describe(b'S', ""),
            bind("", "", parameters),
            describe(b'P', ""),
            execute("", 0),
            sync(),
        ]
        .concat()
    };
    vec![
        (
            "a query",
            steps(&[(&[query("SELECT 1 AS a, NULL, 'x'")], b'Z')]),
        ),
        (
            "nothing",
            steps(&[(&[query("")], b'Z'), (&[query(" ; ;")], b'Z')]),
        ),
        (
            "several statements in one query",
            steps(&[(
                &[query(
                    "SELECT 1; SELECT 2 WHERE false; SELECT 1/0; SELECT 3",
                )],
                b'Z',
            )]),
        ),
        (
            "several queries at once",
            steps(&[
                (
                    &[
                        query("SELECT 1"),
                        query("BEGIN"),
                        query("nonsense"),
                        query("END"),
                    ],
                    b'Z',
                ),
                (&[], b'Z'),
                (&[], b'Z'),
                (&[], b'Z'),
            ]),
        ),
        (
            "what follows an error up to the Sync does nothing",
            steps(&[
                (&[parse("known", "SELECT 7"), sync()], b'Z'),
                (&[bind("", "nowhere", &[]), flush()], b'E'),
                (
                    &[
                        parse("late", "SELECT 7"),
                        parse("", "SELECT 8"),
                        query("SELECT 9"),
                        close(b'S', "known"),
                        copy_data(b"x"),
                        copy_done(),
                        sync(),
                    ],
                    b'Z',
                ),
                (
                    &[
                        parse("late", "SELECT 7"),
                        bind("", "late", &[]),
                        execute("", 0),
                        bind("", "known", &[]),
                        execute("", 0),
                        sync(),
                    ],
                    b'Z',
                ),
                // All at once.
                (
                    &[
                        bind("", "nowhere", &[]),
                        parse("later", "SELECT 7"),
                        query("SELECT 9"),
                        sync(),
                    ],
                    b'Z',
                ),
                (
                    &[
                        parse("later", "SELECT 7"),
                        bind("", "later", &[]),
                        execute("", 0),
                        sync(),
                    ],
                    b'Z',
                ),
                (&[query("SELECT 10")], b'Z'),
            ]),
        ),
        (
            "a notice",
            steps(&[(&[query("DO $$BEGIN RAISE NOTICE 'heard'; END$$")], b'Z')]),
        ),
        (
            "a statement without a name",
            steps(&[(&[usual("SELECT $1::int + 1", &[Some("41")])], b'Z')]),
        ),
        ("no statement", steps(&[(&[usual("", &[])], b'Z')])),
        (
            "an error in each step, and on",
            steps(&[
                (&[usual("SELEC", &[])], b'Z'),
                (&[usual("SELECT $1::int", &[Some("x")])], b'Z'),
                (&[usual("SELECT 1/$1::int", &[Some("0")])], b'Z'),
                (&[usual("SELECT $1", &[])], b'Z'),
                (&[bind("", "unknown", &[]), execute("", 0), sync()], b'Z'),
                (&[execute("unknown", 0), sync()], b'Z'),
                (&[describe(b'S', "unknown"), sync()], b'Z'),
                (&[describe(b'P', "unknown"), sync()], b'Z'),
                (
                    &[close(b'S', "unknown"), close(b'P', "unknown"), sync()],
                    b'Z',
                ),
                (&[usual("SELECT 2", &[])], b'Z'),
            ]),
        ),
        (
            "a pipeline with an error in the middle",
            steps(&[(
                &[
                    parse("", "SELECT 1"),
                    bind("", "", &[]),
                    execute("", 0),
                    parse("", "SELECT 1/0"),
                    bind("", "", &[]),
                    execute("", 0),
                    parse("", "SELECT 3"),
                    bind("", "", &[]),
                    execute("", 0),
                    sync(),
                ],
                b'Z',
            )]),
        ),
        (
            "a pipeline of many syncs",
            steps(&[
                (
                    &[
                        usual("SELECT 1", &[]),
                        usual("SELECT 1/0", &[]),
                        usual("SELECT 3", &[]),
                        sync(),
                    ],
                    b'Z',
                ),
                (&[], b'Z'),
                (&[], b'Z'),
                (&[], b'Z'),
            ]),
        ),
        (
            "rows a few at a time",
            steps(&[
                (&[query("BEGIN")], b'Z'),
                (
                    &[
                        parse("", "SELECT generate_series(1, 5)"),
                        bind("p", "", &[]),
                        execute("p", 2),
                        flush(),
                    ],
                    b's',
                ),
                (&[execute("p", 2), sync()], b'Z'),
                (
                    &[execute("p", 2), execute("p", 1), close(b'P', "p"), sync()],
                    b'Z',
                ),
                (&[query("COMMIT")], b'Z'),
            ]),
        ),
        (
            "answers without a sync",
            steps(&[
                (&[parse("", "SELECT 1"), flush()], b'1'),
                (&[describe(b'S', ""), flush()], b'T'),
                (&[bind("", "", &[]), flush()], b'2'),
                (&[execute("", 0), flush()], b'C'),
                (&[execute("", 0), flush()], b'C'),
                (&[sync()], b'Z'),
            ]),
        ),
        (
            "a query amid a pipeline",
            steps(&[
                (
                    &[parse("", "SELECT 1"), bind("", "", &[]), query("SELECT 2")],
                    b'Z',
                ),
                (&[sync()], b'Z'),
            ]),
        ),
        (
            "a transaction of the pipeline's own",
            steps(&[
                (
                    &[
                        usual("BEGIN", &[]),
                        usual("INSERT INTO made VALUES (1)", &[]),
                        usual("SELECT * FROM made", &[]),
                        query("ROLLBACK"),
                    ],
                    b'Z',
                ),
                (&[], b'Z'),
                (&[], b'Z'),
                (&[], b'Z'),
            ]),
        ),
        (
            "copies",
            steps(&[
                (&[query("CREATE TABLE copied (a int, b text)")], b'Z'),
                (&[query("COPY copied FROM STDIN")], b'G'),
                (
                    &[copy_data(b"1\tone\n2\tt"), copy_data(b"wo\n"), copy_done()],
                    b'Z',
                ),
                (&[query("COPY copied TO STDOUT")], b'Z'),
                (&[query("COPY copied FROM STDIN")], b'G'),
                (&[copy_data(b"3\tthree\n"), copy_fail("no more")], b'Z'),
                (&[query("COPY copied FROM STDIN")], b'G'),
                (&[copy_data(b"nonsense\n"), copy_done()], b'Z'),
                (
                    &[query(
                        "COPY copied FROM STDIN; SELECT 1; COPY copied TO STDOUT",
                    )],
                    b'G',
                ),
                (&[copy_data(b"4\tfour\n"), copy_done()], b'Z'),
                (&[query("DROP TABLE copied")], b'Z'),
            ]),
        ),
        (
            "copies by the extended protocol",
            steps(&[
                (&[query("CREATE TABLE copied (a int)")], b'Z'),
                (
                    &[
                        parse("", "COPY copied FROM STDIN"),
                        bind("", "", &[]),
                        execute("", 0),
                        sync(),
                    ],
                    b'G',
                ),
                (&[copy_data(b"1\n"), copy_done(), sync()], b'Z'),
                (
                    &[
                        parse("", "COPY copied TO STDOUT"),
                        bind("", "", &[]),
                        execute("", 0),
                        sync(),
                    ],
                    b'Z',
                ),
                (
                    &[
                        parse("", "COPY copied FROM STDIN"),
                        bind("", "", &[]),
                        execute("", 0),
                        copy_data(b"2\n"),
                        copy_done(),
                        sync(),
                    ],
                    b'Z',
                ),
                (
                    &[
                        parse("", "COPY nowhere FROM STDIN"),
                        bind("", "", &[]),
                        execute("", 0),
                        sync(),
                        copy_data(b"2\n"),
                        copy_done(),
                        sync(),
                    ],
                    b'Z',
                ),
                (&[], b'Z'),
                (&[query("DROP TABLE copied")], b'Z'),
            ]),
        ),
        (
            "a function call",
            // pg_catalog.int4pl by its number, two parameters and a result as text.
            steps(&[(
                &[tagged(
                    b'F',
                    b"\0\0\0\xb1\0\0\0\x02\0\0\0\x011\0\0\0\x0241\0\0",
                )],
                b'Z',
            )]),
        ),
        (
            "settings are reported",
            steps(&[
                (
                    &[query(
                        "SET application_name = 'x'; SET datestyle = 'German'",
                    )],
                    b'Z',
                ),
                (&[query("BEGIN; SET timezone = 'Asia/Tokyo'")], b'Z'),
                (&[query("ROLLBACK")], b'Z'),
                (&[query("RESET ALL")], b'Z'),
            ]),
        ),
        (
            "a cursor",
            steps(&[
                (
                    &[query(
                        "BEGIN; DECLARE c CURSOR FOR SELECT generate_series(1, 9)",
                    )],
                    b'Z',
                ),
                (
                    &[query("FETCH 3 FROM c; MOVE 2 IN c; FETCH 1 FROM c")],
                    b'Z',
                ),
                (&[query("END")], b'Z'),
            ]),
        ),
        (
            "a long row and a long query",
            steps(&[
                (&[query("SELECT repeat('x', 3000000)")], b'Z'),
                (
                    &[query(&format!("SELECT length('{}')", "y".repeat(600_000)))],
                    b'Z',
                ),
                (
                    &[usual("SELECT length($1)", &[Some(&"z".repeat(600_000))])],
                    b'Z',
                ),
            ]),
        ),
        (
            "savepoints",
            steps(&[
                (&[query("BEGIN; SAVEPOINT a")], b'Z'),
                (&[query("SELECT 1/0")], b'Z'),
                (&[query("ROLLBACK TO a")], b'Z'),
                (&[query("COMMIT")], b'Z'),
            ]),
        ),
    ]
}

/// Without what differs by itself: error fields that name places of the source stay.
fn told(messages: Vec<Message>) -> Vec<String> {
    let told = messages.iter().map(|message| format!("{message:?}"));
    let shortened = told.map(|text| match text.len() {
        0..=2_000 => text,
        length => format!("{}… {length}", &text[..200]),
    });
    shortened.collect()
}

#[test]
fn conversations_are_as_with_postgres() {
    for mode in ["transaction", "session"] {
        let settings = format!("pool_size = 2\npool_mode = \"{mode}\"");
        let Some(tier) = Tier::start(&settings) else {
            return;
        };
        run(&mut tier.direct(), "CREATE TABLE made (a int)");
        for (name, steps) in conversations() {
            let mut direct = tier.direct();
            let expected = told(converse(&mut direct, &steps));
            drop(direct);
            let mut client = tier.client();
            let seen = told(converse(&mut client, &steps));
            assert_eq!(seen, expected, "{name}, by {mode}");
            client.leave().expect("goodbye");
        }
    }
}

/// The same with bytes that come one by one, and with many at once.
#[test]
fn it_does_not_matter_how_bytes_are_cut() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    let messages = [
        parse("s", "SELECT $1::int"),
        bind("", "s", &[Some("5")]),
        execute("", 0),
        sync(),
        query("SELECT 6"),
        close(b'S', "s"),
        sync(),
    ]
    .concat();
    let mut expected = None;
    for piece in [1, 2, 3, 5, 7, 11, 1000] {
        let mut client = tier.client();
        for bytes in messages.chunks(piece) {
            client.send(bytes).expect("sent");
        }
        let steps = [(Vec::new(), b'Z'), (Vec::new(), b'Z'), (Vec::new(), b'Z')];
        let seen = told(converse(&mut client, &steps));
        assert_eq!(expected.get_or_insert(seen.clone()), &seen, "by {piece}");
    }
}

/// A pipeline longer than all buffers together, in both directions, while nobody reads.
#[test]
fn a_long_pipeline_neither_stops_nor_grows() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    let mut client = tier.client();
    let one = [
        parse("", "SELECT repeat($1, 100)"),
        bind("", "", &[Some("0123456789")]),
        execute("", 0),
        sync(),
    ]
    .concat();
    let count = 20_000;
    let reader = client.stream().try_clone().expect("a second handle");
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        let mut stream = reader;
        for _ in 0..count / 100 {
            stream.write_all(&one.repeat(100)).expect("sent");
        }
    });
    for number in 0..count {
        let rows = client
            .answer()
            .unwrap_or_else(|error| panic!("{number}: {error}"));
        assert_eq!(rows[0][0].as_ref().map(String::len), Some(1000), "{number}");
    }
    writer.join().expect("no panic");
}

#[test]
fn what_is_no_message_ends_only_that_client() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    let mut other = tier.client();
    for bytes in [
        b"Q\0\0\0\x03".to_vec(),
        b"Q\xff\xff\xff\xff".to_vec(),
        b"?\0\0\0\x04".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"B\0\0\0\x04".to_vec(),
        tagged(b'P', b""),
        tagged(b'B', b"no end of a name"),
        tagged(b'E', b""),
        tagged(b'Q', b"SELECT 1"),
        tagged(b'S', b"x"),
    ] {
        let mut client = tier.client();
        client.send(&bytes).expect("sent");
        client.send(&sync()).expect("sent");
        // Whatever it is told, it is over or in order; never silent.
        let _told: Vec<Message> = std::iter::from_fn(|| client.receive().ok())
            .take_while(|message| message.tag != b'Z')
            .collect();
        drop(client);
        run(&mut other, "SELECT 1");
    }
    let mut early = Session::open(tier.address()).expect("connected");
    early.send(b"\0\0\0\x05\0\x03\0\0").expect("sent");
    let _told = early.receive();
    run(&mut other, "SELECT 1");
}
