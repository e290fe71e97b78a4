//! What pins a session, against a real server: the questions that tell whether a reason holds, and what
//! ends it.

use outgrow_postgres::sql::Lexing;
use outgrow_postgres::sql::facts::{Facts, Pin};

use crate::client::Client;
use crate::oracle::catalogue;
use crate::server;

/// Statements that pin, and for what.
const PINNING: [(&str, Pin); 8] = [
    ("CREATE TEMP TABLE x (a int)", Pin::Temporary),
    (
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        Pin::Temporary,
    ),
    ("SELECT 1 AS a INTO TEMP y", Pin::Temporary),
    (
        "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT",
        Pin::HoldCursor,
    ),
    ("SELECT pg_advisory_lock(1)", Pin::AdvisoryLock),
    (
        "SELECT pg_try_advisory_lock_shared(1, 2)",
        Pin::AdvisoryLock,
    ),
    ("PREPARE p AS SELECT 1", Pin::Prepared),
    ("LISTEN c", Pin::Listening),
];

#[test]
fn pins_hold_until_they_are_cleaned() {
    let Some(server) = server::start() else {
        return;
    };
    let mut client = Client::connect(server.address());
    let holds = |client: &mut Client, pin: Pin| {
        let question = pin.question().expect("a question");
        client.execute(question).column() == ["t"]
    };
    for (text, pin) in PINNING {
        let facts = Facts::of(text.as_bytes(), Lexing::default());
        assert!(facts.pins.contains(pin), "{text}");
        assert!(!holds(&mut client, pin), "{text}");
        client.execute(text);
        assert!(holds(&mut client, pin), "{text}");
        client.execute(pin.cleaning().expect("it can be cleaned"));
        assert!(!holds(&mut client, pin), "{text}");
        client.execute(text);
        client.execute("DISCARD ALL");
        assert!(!holds(&mut client, pin), "{text}");
    }
}

/// What is said to be for the transaction only leaves nothing.
#[test]
fn what_does_not_pin_leaves_nothing() {
    let Some(server) = server::start() else {
        return;
    };
    let mut client = Client::connect(server.address());
    client.execute("CREATE SEQUENCE s");
    for text in [
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT set_config('app.x', 'y', true)",
        "SELECT set_config('app.x', 'y', 't'), 1",
        "BEGIN; SET LOCAL app.x = 'y'; DECLARE c CURSOR FOR SELECT 1; COMMIT",
        "SELECT nextval('s')",
    ] {
        let facts = Facts::of(text.as_bytes(), Lexing::default());
        assert!(facts.pins.is_empty(), "{text}: {facts:?}");
        client.execute(text);
        for pin in [
            Pin::Temporary,
            Pin::HoldCursor,
            Pin::AdvisoryLock,
            Pin::Prepared,
        ] {
            let question = pin.question().expect("a question");
            assert_eq!(client.execute(question).column(), ["f"], "{text}: {pin:?}");
        }
        let setting = "SELECT coalesce(current_setting('app.x', true), '')";
        assert_eq!(client.execute(setting).column(), [""], "{text}");
    }
}

/// What a database has that asks for what sequences gave last.
#[test]
fn the_catalogue_tells_who_asks_sequences() {
    let Some(server) = server::start() else {
        return;
    };
    let mut client = Client::connect(server.address());
    client.execute("CREATE SEQUENCE s");
    assert!(!catalogue(&mut client).asks_sequences());
    for (make, end) in [
        (
            "CREATE FUNCTION f() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN LastVal(); END'",
            "DROP FUNCTION f()",
        ),
        (
            "CREATE TABLE t (a int DEFAULT currval('s'))",
            "DROP TABLE t",
        ),
        ("CREATE VIEW v AS SELECT 1 + lastval()", "DROP VIEW v"),
    ] {
        client.execute(make);
        assert!(catalogue(&mut client).asks_sequences(), "{make}");
        client.execute(end);
        assert!(!catalogue(&mut client).asks_sequences(), "{end}");
    }
    client.execute("CREATE TABLE t (a serial)");
    assert!(!catalogue(&mut client).asks_sequences(), "nextval alone");
}
