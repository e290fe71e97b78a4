//! What a client has set is there on whatever connection it gets, and on no other client's.

use outgrow_testkit::postgres::Session;

use super::{Tier, refusal, run, value};

/// Has `act` work on both connections of the pool: the one that was used last is held by another
/// client, so that what follows gets the other one.
fn on_both(tier: &Tier, mut act: impl FnMut()) {
    act();
    let mut holder = tier.client();
    run(&mut holder, "BEGIN");
    act();
    run(&mut holder, "COMMIT");
}

#[test]
fn settings_follow_their_client() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    let (mut one, mut other) = (tier.client(), tier.client());
    // Reported ones, and others.
    let own = [
        ("application_name", "one", "other"),
        ("TimeZone", "Asia/Tokyo", "America/Lima"),
        ("DateStyle", "German, DMY", "SQL, MDY"),
        ("IntervalStyle", "iso_8601", "sql_standard"),
        ("work_mem", "5MB", "6MB"),
        ("statement_timeout", "50s", "1min"),
        ("my.own", "it's mine \\ quoted", "other's"),
        ("search_path", "one", "other"),
        ("extra_float_digits", "0", "2"),
        (
            "default_transaction_isolation",
            "serializable",
            "repeatable read",
        ),
    ];
    let set = |client: &mut Session, name: &str, value: &str| {
        let value = value.replace('\'', "''");
        run(client, &format!("SET {name} = '{value}'"));
    };
    for (name, of_one, of_other) in own {
        set(&mut one, name, of_one);
        set(&mut other, name, of_other);
    }
    for _ in 0..3 {
        on_both(&tier, || {
            for (name, of_one, of_other) in own {
                let show = format!("SHOW {name}");
                assert_eq!(value(&mut one, &show), of_one, "{name}");
                assert_eq!(value(&mut other, &show), of_other, "{name}");
            }
        });
    }
    // A third one has none of it.
    let mut third = tier.client();
    let mut direct = tier.direct();
    for (name, ..) in own {
        let sql = format!("SELECT coalesce(current_setting('{name}', true), '')");
        assert_eq!(value(&mut third, &sql), value(&mut direct, &sql), "{name}");
    }
    run(&mut one, "RESET work_mem; RESET ALL");
    assert_eq!(value(&mut one, "SHOW work_mem"), "4MB");
    assert_eq!(value(&mut one, "SHOW search_path"), "\"$user\", public");
    assert_eq!(value(&mut other, "SHOW work_mem"), "6MB");
}

#[test]
fn settings_of_the_start_are_those_of_the_session() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    let start = [
        ("user", "postgres"),
        ("database", "postgres"),
        ("application_name", "it's mine"),
        ("client_encoding", "latin1"),
        ("options", "-c TimeZone=Asia/Tokyo -c datestyle=SQL"),
    ];
    let mut direct = Session::start(tier.database.address(), &start).expect("let in");
    let mut client = Session::start(tier.address(), &start).expect("let in");
    let mut other = tier.client();
    for name in [
        "application_name",
        "client_encoding",
        "TimeZone",
        "DateStyle",
        "server_version",
        "server_encoding",
        "integer_datetimes",
        "IntervalStyle",
        "standard_conforming_strings",
        "is_superuser",
        "session_authorization",
        "default_transaction_read_only",
        "in_hot_standby",
    ] {
        let shown = format!("SHOW {name}");
        let expected = value(&mut direct, &shown);
        assert_eq!(value(&mut other, "SELECT 1"), "1");
        assert_eq!(value(&mut client, &shown), expected, "{name}");
        // What the client said itself may be told it in its own words.
        let told = |session: &Session| {
            let value = session.parameters.get(name).cloned().unwrap_or_default();
            value.split(',').next().unwrap_or_default().to_uppercase()
        };
        assert_eq!(told(&client), told(&direct), "{name}");
    }
    assert_eq!(
        other.parameters.get("application_name").map(String::as_str),
        Some("")
    );
}

#[test]
fn resetting_goes_back_to_the_start() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    let start = [
        ("user", "postgres"),
        ("database", "postgres"),
        ("application_name", "shop"),
        ("options", "-c TimeZone=Asia/Tokyo -c datestyle=SQL"),
    ];
    let mut direct = Session::start(tier.database.address(), &start).expect("let in");
    let mut client = Session::start(tier.address(), &start).expect("let in");
    let mut other = tier.client();
    let names = ["TimeZone", "DateStyle", "application_name", "IntervalStyle"];
    let resets = [
        "RESET TimeZone",
        "SET TIME ZONE DEFAULT",
        "SET TimeZone TO DEFAULT",
        "RESET datestyle",
        "RESET ALL",
        "DISCARD ALL",
        "BEGIN; RESET TimeZone; COMMIT",
        "SET TimeZone = 'UTC'; RESET ALL",
    ];
    for keeps in [false, true] {
        if keeps {
            // Then it stays at its connection.
            for session in [&mut direct, &mut client] {
                run(session, "SELECT pg_advisory_lock_shared(1)");
            }
        }
        for reset in resets {
            if keeps && reset == "DISCARD ALL" {
                continue;
            }
            for session in [&mut direct, &mut client] {
                run(
                    session,
                    "SET TimeZone = 'America/Lima'; SET application_name = 'x'",
                );
                run(
                    session,
                    "SET IntervalStyle = 'iso_8601'; SET DateStyle = 'German'",
                );
                run(session, reset);
            }
            for name in names {
                let shown = format!("SHOW {name}");
                let expected = value(&mut direct, &shown);
                if !keeps {
                    assert_eq!(value(&mut other, "SELECT 1"), "1");
                }
                assert_eq!(value(&mut client, &shown), expected, "{name} after {reset}");
            }
            let told = |session: &Session| session.parameters.get("TimeZone").cloned();
            assert_eq!(told(&client), told(&direct), "after {reset}");
        }
    }
}

#[test]
fn changes_are_reported_to_their_client_alone() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    let (mut one, mut other) = (tier.client(), tier.client());
    let zone = |client: &Session| {
        client
            .parameters
            .get("TimeZone")
            .cloned()
            .unwrap_or_default()
    };
    let usual = zone(&other);
    run(&mut one, "SET TimeZone = 'Asia/Tokyo'");
    assert_eq!(zone(&one), "Asia/Tokyo");
    for _ in 0..3 {
        run(&mut other, "SELECT 1");
        assert_eq!(zone(&other), usual);
        run(&mut one, "SELECT 1");
        assert_eq!(zone(&one), "Asia/Tokyo");
    }
    // What is rolled back is reported as such.
    run(&mut one, "BEGIN; SET TimeZone = 'America/Lima'");
    assert_eq!(zone(&one), "America/Lima");
    run(&mut one, "ROLLBACK");
    assert_eq!(zone(&one), "Asia/Tokyo");
    run(&mut other, "SELECT 1");
    assert_eq!(value(&mut one, "SHOW TimeZone"), "Asia/Tokyo");
}

#[test]
fn only_what_is_committed_stays() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    let (mut one, mut other) = (tier.client(), tier.client());
    let mut check = |sql: &[&str], expected: &str| {
        for text in sql {
            // Some of them are to fail.
            let _answer = one.query(text);
        }
        run(&mut other, "SHOW work_mem");
        assert_eq!(value(&mut one, "SHOW work_mem"), expected, "{sql:?}");
        run(&mut one, "RESET work_mem");
        assert_eq!(value(&mut other, "SHOW work_mem"), "4MB", "{sql:?}");
    };
    check(&["SET work_mem = '5MB'"], "5MB");
    check(&["BEGIN", "SET work_mem = '5MB'", "COMMIT"], "5MB");
    check(&["BEGIN", "SET work_mem = '5MB'", "ROLLBACK"], "4MB");
    check(
        &["BEGIN; SET work_mem = '5MB'", "SELECT 1/0", "COMMIT"],
        "4MB",
    );
    check(&["BEGIN", "SET LOCAL work_mem = '5MB'", "COMMIT"], "4MB");
    check(&["SET work_mem = 'nonsense'"], "4MB");
    check(&["SET work_mem = '5MB'; SELECT 1/0"], "4MB");
    check(&["SELECT 1/0; SET work_mem = '5MB'"], "4MB");
    check(
        &[
            "BEGIN",
            "SET work_mem = '5MB'",
            "SAVEPOINT a",
            "SET work_mem = '6MB'",
            "ROLLBACK TO a",
            "COMMIT",
        ],
        "5MB",
    );
    check(&["SELECT set_config('work_mem', '5MB', false)"], "5MB");
    check(&["SELECT set_config('work_mem', '5MB', true)"], "4MB");
    check(&["SET SESSION work_mem TO '5MB'"], "5MB");
    check(&["SET work_mem = '5MB'", "DISCARD ALL"], "4MB");
    check(&["BEGIN; COMMIT; SET work_mem = '5MB'"], "5MB");
    check(
        &["/* a */ SET /* b */ work_mem /* c */ = '5MB' -- d"],
        "5MB",
    );
}

/// What cannot be said again elsewhere stays where it was said, with its client.
#[test]
fn what_cannot_be_followed_keeps_its_connection() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    for sql in [
        "UPDATE pg_settings SET setting = 5120 WHERE name = 'work_mem'",
        "DO $$BEGIN PERFORM set_config('work_mem', '5MB', false); END$$",
        "SELECT set_config(name, '5MB', false) FROM pg_settings WHERE name = 'work_mem'",
    ] {
        let (mut one, mut other) = (tier.client(), tier.client());
        run(&mut one, sql);
        for _ in 0..3 {
            assert_eq!(value(&mut other, "SHOW work_mem"), "4MB", "{sql}");
            assert_eq!(value(&mut one, "SHOW work_mem"), "5MB", "{sql}");
        }
        drop(one);
        for _ in 0..3 {
            on_both(&tier, || {
                assert_eq!(value(&mut other, "SHOW work_mem"), "4MB", "{sql}");
            });
        }
    }
}

#[test]
fn by_the_extended_protocol_as_well() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    let (mut one, mut other) = (tier.client(), tier.client());
    let executed = |client: &mut Session, sql: &str, parameters: &[Option<&str>]| {
        let rows = client.extended(sql, parameters);
        rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
    };
    executed(&mut one, "SET work_mem = '5MB'", &[]);
    assert_eq!(value(&mut other, "SHOW work_mem"), "4MB");
    assert_eq!(value(&mut one, "SHOW work_mem"), "5MB");
    one.prepare("s", "SET work_mem = '7MB'").expect("prepared");
    assert_eq!(
        value(&mut one, "SHOW work_mem"),
        "5MB",
        "only when executed"
    );
    one.execute("s", &[]).expect("executed");
    assert_eq!(value(&mut other, "SHOW work_mem"), "4MB");
    assert_eq!(value(&mut one, "SHOW work_mem"), "7MB");
    // With a value that is not in the text.
    run(&mut one, "RESET work_mem");
    let sql = "SELECT set_config('work_mem', $1, false)";
    executed(&mut one, sql, &[Some("6MB")]);
    assert_eq!(value(&mut tier.client(), "SHOW work_mem"), "4MB");
    assert_eq!(value(&mut one, "SHOW work_mem"), "6MB");
}

/// The server says at once when it cannot be set: it is the client that is told, not the next one.
#[test]
fn a_setting_that_cannot_be_brought_ends_only_its_client() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    run(&mut tier.direct(), "CREATE ROLE gone; CREATE SCHEMA stays");
    let (mut one, mut other) = (tier.client(), tier.client());
    run(&mut one, "SET ROLE gone");
    assert_eq!(value(&mut other, "SELECT current_user"), "postgres");
    run(&mut tier.direct(), "DROP ROLE gone");
    let told = refusal(&mut one, "SELECT current_user");
    assert!(!told.is_empty());
    for _ in 0..3 {
        assert_eq!(value(&mut other, "SELECT current_user"), "postgres");
        assert_eq!(other.state, b'I');
    }
    // And what a start asks for that the server does not know.
    let mut wrong = Session::start(
        tier.address(),
        &[
            ("user", "postgres"),
            ("database", "postgres"),
            ("client_encoding", "nonsense"),
        ],
    );
    let told = match &mut wrong {
        Ok(session) => refusal(session, "SELECT 1"),
        Err(error) => error.to_string(),
    };
    assert!(
        told.contains("client_encoding") || told.contains("parameter"),
        "{told}"
    );
    assert_eq!(value(&mut other, "SELECT current_user"), "postgres");
}

/// What a client says is not executed with what another one has set.
#[test]
fn nothing_is_executed_before_its_settings_are_there() {
    let Some(tier) = Tier::start("pool_size = 1") else {
        return;
    };
    run(
        &mut tier.direct(),
        "CREATE ROLE weak; CREATE TABLE t (x int)",
    );
    let mut client = tier.client();
    run(&mut client, "SET ROLE weak");
    assert_eq!(value(&mut client, "SELECT current_user"), "weak");
    // Somebody else uses the connection, and the role goes.
    assert_eq!(value(&mut tier.client(), "SELECT current_user"), "postgres");
    run(&mut tier.direct(), "DROP ROLE weak");
    let told = client
        .query("INSERT INTO t VALUES (1)")
        .expect_err("no role");
    assert_eq!(told.to_string(), "FATAL 08P01 invalid server parameter");
    assert_eq!(value(&mut tier.direct(), "SELECT count(*) FROM t"), "0");
}

/// An extension that is loaded knows its own settings; one that it does not know is none any more.
#[test]
fn a_setting_that_an_extension_does_not_know_goes() {
    let Some(tier) = Tier::start("pool_size = 2") else {
        return;
    };
    let mut client = tier.client();
    run(&mut client, "SET plpgsql.other = 1; SET work_mem = '5MB'");
    let mut holder = tier.client();
    run(&mut holder, "BEGIN");
    // It gets another connection, on which it is known.
    let mut loader = tier.client();
    run(&mut loader, "DO 'BEGIN END'");
    assert_eq!(value(&mut client, "SHOW work_mem"), "5MB");
    let gone = "SELECT current_setting('plpgsql.other', true) IS NULL";
    assert_eq!(value(&mut client, gone), "t");
}
