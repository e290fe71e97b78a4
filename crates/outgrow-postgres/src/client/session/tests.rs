//! Texts that are executed, and what the session is after them.

use super::*;

/// Each text is executed, with the transaction's state after it; then the difference to a new
/// connection is what is expected.
fn check(texts: &[(&str, char)], expected: &str) {
    let mut session = Session::default();
    let followed = Followed::default();
    let mut before = 'I';
    for (text, after) in texts {
        session.note(text.as_bytes(), Lexing::default(), &followed, before == 'E');
        if *after == 'I' {
            session.end_transaction(false);
        }
        before = *after;
    }
    let mut sql = Vec::new();
    session
        .settings()
        .write_difference(&Settings::default(), &mut sql);
    assert_eq!(String::from_utf8_lossy(&sql), expected, "{texts:?}");
}

#[test]
fn what_is_no_setting_any_more_is_left_out() {
    let mut session = Session::default();
    let followed = Followed::default();
    let text = b"SET plpgsql.a = 1; SET work_mem = 5; SET plpgsql.ab = 2";
    session.note(text, Lexing::default(), &followed, false);
    session.end_transaction(false);
    let message = b"invalid configuration parameter name \"plpgsql.a\"";
    let dropped = session.drop_unknown(message);
    assert_eq!(dropped, [b"plpgsql.a"[..].into()]);
    let message = b"unrecognized configuration parameter \"work_mem\"";
    assert!(session.drop_unknown(message).is_empty(), "no extension's");
    let mut sql = Vec::new();
    session
        .settings()
        .write_difference(&Settings::default(), &mut sql);
    let left = String::from_utf8_lossy(&sql).into_owned();
    assert_eq!(left, "SET work_mem = 5;SET plpgsql.ab = 2;");
}

#[test]
fn settings_follow_transactions() {
    check(&[("SET work_mem = '1MB'", 'I')], "SET work_mem = '1MB';");
    check(
        &[("set Work_Mem to 5; select 1", 'I')],
        "set Work_Mem to 5;",
    );
    check(
        &[("BEGIN", 'T'), ("SET a.b = 1", 'T'), ("COMMIT", 'I')],
        "SET a.b = 1;",
    );
    check(
        &[("BEGIN", 'T'), ("SET a.b = 1", 'T'), ("ROLLBACK", 'I')],
        "",
    );
    check(
        &[
            ("BEGIN", 'T'),
            ("SET a.b = 1", 'T'),
            ("x", 'E'),
            ("COMMIT", 'I'),
        ],
        "",
    );
    check(
        &[
            ("BEGIN; SET a.a = 1; SAVEPOINT s; SET a.b = 2", 'T'),
            ("ROLLBACK TO s; SET a.c = 3; END", 'I'),
        ],
        "SET a.a = 1;SET a.c = 3;",
    );
    check(&[("SET work_mem = 1", 'I'), ("RESET work_mem", 'I')], "");
    check(&[("SET work_mem = 1", 'I'), ("DISCARD ALL", 'I')], "");
    check(&[("SET LOCAL work_mem = 1", 'I')], "");
    check(&[("SET TimeZone = 'UTC'", 'I')], "");
    check(
        &[("SELECT set_config('search_path', 'it''s', false)", 'I')],
        "SELECT pg_catalog.set_config('search_path','it''s',false);",
    );
    check(&[("SELECT set_config('search_path', 'x', true)", 'I')], "");
    check(
        &[("SET ROLE a", 'I'), ("RESET SESSION AUTHORIZATION", 'I')],
        "",
    );
    check(
        &[("SET ROLE a; SET SESSION AUTHORIZATION b; SET ROLE c", 'I')],
        "SET SESSION AUTHORIZATION b;SET ROLE c;",
    );
    check(
        &[
            ("SET ROLE a", 'I'),
            ("BEGIN; SET SESSION AUTHORIZATION b; ROLLBACK", 'I'),
        ],
        "SET ROLE a;",
    );
}

#[test]
fn differences_are_set_and_reset() {
    let settings = |pairs: &[(&str, &str)]| {
        let mut settings = Settings::default();
        for (name, statement) in pairs {
            settings.set(name.as_bytes(), Some(statement.as_bytes().into()));
        }
        settings
    };
    let check = |client: &Settings, server: &Settings, expected: &str| {
        let mut sql = Vec::new();
        client.write_difference(server, &mut sql);
        assert_eq!(String::from_utf8_lossy(&sql), expected);
    };
    let one = settings(&[("work_mem", "SET work_mem=1")]);
    let other = settings(&[("work_mem", "SET work_mem=2"), ("my.x", "SET my.x=1")]);
    check(&one, &one, "");
    check(&one, &Settings::default(), "SET work_mem=1;");
    check(&Settings::default(), &one, "RESET \"work_mem\";");
    check(&one, &other, "RESET \"my\".\"x\";SET work_mem=1;");
    let role = ("role", "SET ROLE c");
    let alone = settings(&[role]);
    let both = settings(&[
        ("session_authorization", "SET SESSION AUTHORIZATION b"),
        role,
    ]);
    check(
        &both,
        &alone,
        "RESET \"role\";SET SESSION AUTHORIZATION b;SET ROLE c;",
    );
    let ended = "RESET \"session_authorization\";RESET \"role\";";
    check(&alone, &both, &format!("{ended}SET ROLE c;"));
    let more = settings(&[role, ("log_statement", "SET log_statement=1")]);
    check(
        &more,
        &alone,
        "RESET \"role\";SET log_statement=1;SET ROLE c;",
    );
    check(&Settings::default(), &alone, "RESET \"role\";");
}

#[test]
fn reasons_come_and_go() {
    let mut session = Session::default();
    let followed = Followed::default();
    let mut note = |text: &str| {
        session.note(text.as_bytes(), Lexing::default(), &followed, false);
        let pins: Vec<_> = session.pins().iter().map(Pin::as_str).collect();
        pins.join(",")
    };
    assert_eq!(note("select 1"), "");
    assert_eq!(note("CREATE TEMP TABLE t (a int)"), "temporary_object");
    assert_eq!(
        note("SELECT pg_advisory_lock(1)"),
        "temporary_object,advisory_lock"
    );
    assert_eq!(note("SELECT pg_advisory_unlock_all()"), "temporary_object");
    assert_eq!(note("DROP TABLE t"), "temporary_object");
    let (pin, _) = session
        .next_question()
        .expect("whether it was the last one");
    assert_eq!(pin, Pin::Temporary);
    session.note_answer(pin, false);
    assert!(session.pins().is_empty() && session.next_question().is_none());
}

#[test]
fn what_is_listened_on_counts_once_it_is_committed() {
    let check = |texts: &[(&str, char)], expected: &[&str], is_alone: bool| {
        let mut session = Session::default();
        let followed = Followed::default();
        let mut before = 'I';
        for (text, after) in texts {
            session.note(text.as_bytes(), Lexing::default(), &followed, before == 'E');
            if *after == 'I' {
                session.end_transaction(false);
            }
            before = *after;
        }
        let heard = session.take_heard();
        let heard: Vec<_> = heard
            .iter()
            .map(|change| match change {
                listening::Change::Listen(name) => format!("+{}", name.escape_ascii()),
                listening::Change::Unlisten(name) => format!("-{}", name.escape_ascii()),
                listening::Change::UnlistenAll => "-*".to_owned(),
            })
            .collect();
        assert_eq!(heard, expected, "{texts:?}");
        assert_eq!(session.listens_alone(), is_alone, "{texts:?}");
    };
    check(&[("LISTEN A; UNLISTEN b", 'I')], &["+a", "-b"], false);
    check(
        &[("UNLISTEN *", 'I'), ("DISCARD ALL", 'I')],
        &["-*", "-*"],
        false,
    );
    check(&[("BEGIN; LISTEN a", 'T')], &[], false);
    check(&[("BEGIN; LISTEN a", 'T'), ("ROLLBACK", 'I')], &[], false);
    check(
        &[("BEGIN; LISTEN a", 'T'), ("x", 'E'), ("END", 'I')],
        &[],
        false,
    );
    check(
        &[(
            "BEGIN; LISTEN a; SAVEPOINT s; LISTEN b; ROLLBACK TO s; END",
            'I',
        )],
        &["+a"],
        false,
    );
    check(&[("DO 'BEGIN LISTEN a; END'", 'I')], &[], true);
    let many: Vec<_> = (0..1_000)
        .map(|number| format!("LISTEN c{number};"))
        .collect();
    let many = many.concat();
    let mut session = Session::default();
    let followed = Followed::default();
    session.note(many.as_bytes(), Lexing::default(), &followed, false);
    session.end_transaction(false);
    assert_eq!(session.take_heard().len(), 1_000);
    assert!(!session.listens_alone() && !session.pins().contains(Pin::Setting));
    session.note(
        many.repeat(5).as_bytes(),
        Lexing::default(),
        &followed,
        false,
    );
    session.end_transaction(false);
    assert!(session.take_heard().is_empty() && session.listens_alone());
}

#[test]
fn an_own_connection_is_unlistened_or_asked() {
    let mut session = Session::default();
    let followed = Followed::default();
    session.note(b"LISTEN a", Lexing::default(), &followed, false);
    assert_eq!(session.next_question(), Some((Pin::Listening, UNLISTEN)));
    session.listen_alone();
    let (_, question) = session.next_question().expect("one");
    assert!(question.contains("pg_listening_channels"), "{question}");
    session.note_answer(Pin::Listening, true);
    // Rolled back it is still true.
    session.note(b"BEGIN; UNLISTEN *", Lexing::default(), &followed, false);
    session.note(b"ROLLBACK", Lexing::default(), &followed, false);
    assert!(session.pins().contains(Pin::Listening));
    session.note_answer(Pin::Listening, false);
    assert!(session.pins().is_empty() && !session.listens_alone());
}
