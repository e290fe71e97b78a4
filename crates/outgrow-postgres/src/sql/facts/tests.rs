//! Statements and what they are.

use super::*;

/// A statement in one line: kind, name, value, modes and flags, those that say something.
fn show(statement: &Statement<'_>) -> String {
    let mut line = format!("{:?}", statement.kind);
    if let Some(name) = &statement.name {
        line.push_str(&format!(" {}", String::from_utf8_lossy(&name.folded())));
    }
    match statement.value {
        Some(Value::Written(value)) => {
            line.push_str(&format!(" = {}", String::from_utf8_lossy(value)));
        }
        Some(other) => line.push_str(&format!(" = {other:?}")),
        None => {}
    }
    let modes = statement.modes;
    if let Some(read_only) = modes.read_only {
        line.push_str(if read_only { " ro" } else { " rw" });
    }
    if let Some(isolation) = modes.isolation {
        line.push_str(&format!(" {isolation:?}"));
    }
    if let Some(deferrable) = modes.deferrable {
        line.push_str(if deferrable {
            " deferrable"
        } else {
            " not deferrable"
        });
    }
    for (flag, text) in [
        (statement.chains, " chain"),
        (statement.holds, " hold"),
        (statement.sets_by_function, " sets"),
        (statement.reads_session_sequence, " sequence"),
        (statement.notifies, " notifies"),
    ] {
        line.push_str(if flag { text } else { "" });
    }
    for (pins, text) in [
        (statement.pins, "pin"),
        (statement.cleans, "clean"),
        (statement.may_clean, "may"),
    ] {
        for pin in pins.iter() {
            line.push_str(&format!(" {text}:{}", pin.as_str()));
        }
    }
    line
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let statements = Statements::new(text.as_bytes(), Lexing::default());
    let lines: Vec<_> = statements.map(|statement| show(&statement)).collect();
    assert_eq!(lines.join("; "), expected, "{text}");
}

#[test]
fn queries() {
    for text in [
        "SELECT 1",
        "(SELECT 1)",
        "VALUES (1)",
        "TABLE t",
        "WITH x AS (SELECT 1) TABLE x",
        "select",
    ] {
        check(text, "Select");
    }
    check("SELECT a INTO b FROM c", "SelectInto");
    check(
        "SELECT a INTO TEMP b FROM c",
        "SelectInto pin:temporary_object",
    );
    check(
        "SELECT a INTO LOCAL TEMPORARY TABLE b",
        "SelectInto pin:temporary_object",
    );
    check("SELECT t.into, 'into' FROM t", "Select");
    check("INSERT INTO t VALUES (1)", "Insert");
    check("UPDATE t SET a = 1", "Update");
    check("DELETE FROM t", "Delete");
    check(
        "MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE",
        "Merge",
    );
    check(
        "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
        "Insert",
    );
    check(
        "WITH x AS (INSERT INTO t VALUES (1) RETURNING a) SELECT * FROM x",
        "Select",
    );
    check("WITH x(a) AS (SELECT 1) UPDATE t SET a = 1", "Update");
    check("WITH x AS (SELECT 1) DELETE FROM t", "Delete");
    check("TRUNCATE t", "Truncate");
    check("EXPLAIN ANALYZE SELECT 1", "Explain");
    check("CALL p(1)", "Call");
}

#[test]
fn statements_are_split() {
    check("", "");
    check(" ;; -- c\n;", "");
    check(
        "SELECT 1;SELECT 2;;INSERT INTO t VALUES (';')",
        "Select; Select; Insert",
    );
    check(
        "CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM a; DELETE FROM b); SELECT 1",
        "Create; Select",
    );
    check(
        "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 1 END; SELECT x.end, 1 AS case; END; COMMIT",
        "Create; Commit",
    );
    check(
        "CREATE FUNCTION f() LANGUAGE sql AS $$ SELECT 1; $$; SELECT 2",
        "Create; Select",
    );
    check("BEGIN; SELECT 1; END", "Begin; Select; Commit");
    let text = b"  SELECT 1 ; /* c */ COMMIT --";
    let ranges: Vec<_> = Statements::new(text, Lexing::default())
        .map(|statement| &text[statement.range])
        .collect();
    assert_eq!(ranges, [&b"SELECT 1"[..], b"COMMIT"]);
}

#[test]
fn transactions() {
    check("BEGIN", "Begin");
    check("begin work", "Begin");
    check("START TRANSACTION READ ONLY", "Begin ro");
    check(
        "BEGIN READ WRITE, ISOLATION LEVEL REPEATABLE READ",
        "Begin rw RepeatableRead",
    );
    check(
        "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE",
        "Begin ro Serializable deferrable",
    );
    check(
        "BEGIN ISOLATION LEVEL READ COMMITTED NOT DEFERRABLE",
        "Begin ReadCommitted not deferrable",
    );
    check(
        "BEGIN ISOLATION LEVEL READ UNCOMMITTED",
        "Begin ReadUncommitted",
    );
    check("COMMIT", "Commit");
    check("END WORK AND CHAIN", "Commit chain");
    check("COMMIT AND NO CHAIN", "Commit");
    check("ABORT TRANSACTION AND CHAIN", "Rollback chain");
    check("ROLLBACK", "Rollback");
    check("SAVEPOINT \"A b\"", "Savepoint A b");
    check("RELEASE Sp", "Release sp");
    check("RELEASE SAVEPOINT sp", "Release sp");
    check("RELEASE savepoint", "Release savepoint");
    check("ROLLBACK TO sp", "RollbackTo sp");
    check("ROLLBACK WORK TO SAVEPOINT sp", "RollbackTo sp");
    check("PREPARE TRANSACTION 'it''s'", "PrepareTransaction it's");
    check("COMMIT PREPARED 'a'", "CommitPrepared a");
    check("ROLLBACK PREPARED 'a'", "RollbackPrepared a");
}

#[test]
fn settings() {
    check("SET a = 1", "Set a = 1");
    check("SET A.b TO 'x', \"Y\"", "Set a.b = 'x', \"Y\"");
    check("SET SESSION a TO DEFAULT", "Set a = Default");
    check("SET LOCAL a = on", "SetLocal a = on");
    check("SET a FROM CURRENT", "Set a = Current");
    check("SET TIME ZONE 'UTC'", "Set timezone = 'UTC'");
    check(
        "SET TIME ZONE INTERVAL '1' HOUR TO MINUTE",
        "Set timezone = INTERVAL '1' HOUR TO MINUTE",
    );
    check("SET LOCAL TIME ZONE LOCAL", "SetLocal timezone = Default");
    check("SET TIME ZONE DEFAULT", "Set timezone = Default");
    check("SET NAMES 'utf8'", "Set client_encoding = 'utf8'");
    check("SET NAMES", "Set client_encoding = Default");
    check("SET SCHEMA 'x'", "Set search_path = 'x'");
    check("SET ROLE bob", "Set role = bob");
    check("SET LOCAL ROLE NONE", "SetLocal role = NONE");
    check("SET role = bob", "Set role = bob");
    check(
        "SET SESSION AUTHORIZATION bob",
        "Set session_authorization = bob",
    );
    check(
        "SET SESSION SESSION AUTHORIZATION DEFAULT",
        "Set session_authorization = Default",
    );
    check(
        "SET LOCAL SESSION AUTHORIZATION 'bob'",
        "SetLocal session_authorization = 'bob'",
    );
    check("SET XML OPTION DOCUMENT", "Set xmloption = DOCUMENT");
    check("SET TRANSACTION READ ONLY", "SetTransaction ro");
    check(
        "SET LOCAL TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SetTransaction Serializable",
    );
    check("SET TRANSACTION SNAPSHOT '00-1'", "SetTransaction");
    check(
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        "SetCharacteristics rw",
    );
    check("SET CONSTRAINTS ALL DEFERRED", "SetConstraints");
    check(
        "SET search_path = pg_temp, x",
        "Set search_path = pg_temp, x pin:temporary_object",
    );
    check("SET seed = 0.5", "Set seed = 0.5 pin:random_seed");
    check("SET U&\"a\" = 1", "Set = 1 pin:untracked_setting");
    check("RESET a.b", "Reset a.b may:untracked_setting");
    check("RESET ALL", "ResetAll all may:untracked_setting");
    check("RESET TIME ZONE", "Reset timezone may:untracked_setting");
    check(
        "RESET SESSION AUTHORIZATION",
        "Reset session_authorization may:untracked_setting",
    );
    check("SHOW a.B", "Show a.b");
    check("SHOW ALL", "Show all");
    check(
        "SHOW TRANSACTION ISOLATION LEVEL",
        "Show transaction_isolation",
    );
}

#[test]
fn settings_by_function() {
    check("SELECT set_config('a.b', 'x', false)", "Select sets");
    check(
        "SELECT pg_catalog.set_config('search_path', '', false);",
        "Select sets",
    );
    check(
        "SELECT set_config('a', 'x', 'f') AS a, set_config('b', $$y$$, false) b",
        "Select sets",
    );
    check("SELECT set_config('a', 'x', true)", "Select");
    check("SELECT set_config($1, $2, true), 5 FROM t", "Select");
    check("SELECT set_config('a', f(b, 'c'), true) FROM t", "Select");
    check(
        "SELECT set_config('a', $1, false)",
        "Select pin:untracked_setting",
    );
    check(
        "SELECT set_config('a', 'x', false) FROM t",
        "Select pin:untracked_setting",
    );
    check(
        "SELECT set_config('a', 'x', false), 1",
        "Select pin:untracked_setting",
    );
    check(
        "SELECT set_config('a', 'x', b)",
        "Select pin:untracked_setting",
    );
    check(
        "SELECT \"set_config\"('a', 'x', false)",
        "Select pin:untracked_setting",
    );
    check("SELECT 'set_config(1)', set_config FROM t", "Select");
    check(
        "UPDATE pg_settings SET setting = 'x'",
        "Update pin:untracked_setting",
    );
    let text = b"SELECT set_config('A.b', 'it''s', false), set_config('c', 'd', true) AS e";
    let statement = Statements::new(text, Lexing::default())
        .next()
        .expect("one");
    let calls = setting_calls(text, Lexing::default(), statement.range);
    let call = |name: &str, value: &str, is_local| SettingCall {
        name: name.into(),
        value: value.into(),
        is_local,
    };
    assert_eq!(calls, [call("A.b", "it's", false), call("c", "d", true)]);
}

#[test]
fn prepared_statements_cursors_and_notifications() {
    check(
        "PREPARE p AS SELECT $1",
        "Prepare p pin:sql_prepared_statement",
    );
    check(
        "PREPARE \"P\" (int) AS SELECT $1",
        "Prepare P pin:sql_prepared_statement",
    );
    check(
        "PREPARE transaction AS SELECT 1",
        "Prepare transaction pin:sql_prepared_statement",
    );
    check("EXECUTE p(1, 2)", "Execute p");
    check("DEALLOCATE p", "Deallocate p may:sql_prepared_statement");
    check(
        "DEALLOCATE PREPARE p",
        "Deallocate p may:sql_prepared_statement",
    );
    check(
        "DEALLOCATE prepare",
        "Deallocate prepare may:sql_prepared_statement",
    );
    check(
        "DEALLOCATE ALL",
        "DeallocateAll clean:sql_prepared_statement",
    );
    check("LISTEN C", "Listen c pin:listen");
    check("UNLISTEN c", "Unlisten c may:listen");
    check("UNLISTEN *", "UnlistenAll clean:listen");
    check("NOTIFY c, 'payload'", "Notify c notifies");
    check("SELECT pg_notify('c', 'x') FROM t", "Select notifies");
    check(
        "SELECT \"pg_notify\" ('c', 'x'); SELECT 1",
        "Select notifies; Select",
    );
    check("SELECT pg_notify FROM t", "Select");
    check("DECLARE c CURSOR FOR SELECT 1", "Declare c");
    check(
        "DECLARE c NO SCROLL CURSOR WITH HOLD FOR SELECT 1",
        "Declare c hold pin:hold_cursor",
    );
    check(
        "DECLARE c CURSOR WITHOUT HOLD FOR WITH hold AS (SELECT 1) SELECT 1",
        "Declare c",
    );
    check("FETCH c", "Fetch c");
    check("FETCH FORWARD 10 FROM c", "Fetch c");
    check("MOVE ABSOLUTE -1 IN \"C\"", "Move C");
    check("CLOSE c", "Close c may:hold_cursor");
    check("CLOSE ALL", "CloseAll clean:hold_cursor");
}

#[test]
fn copies() {
    check("COPY t FROM STDIN", "CopyIn");
    check("COPY t (a, b) FROM stdin WITH (FORMAT csv)", "CopyIn");
    check("COPY t TO STDOUT", "CopyOut");
    check("COPY (SELECT a FROM b) TO STDOUT", "CopyOut");
    check("COPY t FROM '/x'", "CopyServer");
    check("COPY t TO PROGRAM 'x'", "CopyServer");
}

#[test]
fn the_rest() {
    check(
        "DISCARD ALL",
        "DiscardAll clean:temporary_object clean:hold_cursor clean:advisory_lock clean:untracked_setting clean:sql_prepared_statement clean:listen clean:sequence",
    );
    check("DISCARD PLANS", "DiscardPlans");
    check("DISCARD SEQUENCES", "DiscardSequences clean:sequence");
    check("DISCARD TEMP", "DiscardTemporary clean:temporary_object");
    check("CREATE TABLE t (a int)", "Create");
    check("CREATE TEMP TABLE t (a int)", "Create pin:temporary_object");
    check(
        "CREATE OR REPLACE TEMPORARY VIEW v AS SELECT 1",
        "Create pin:temporary_object",
    );
    check(
        "CREATE GLOBAL TEMP SEQUENCE s",
        "Create pin:temporary_object",
    );
    check("CREATE TABLE temp (temporary int)", "Create");
    check(
        "CREATE FUNCTION pg_temp.f() RETURNS int AS ''",
        "Create pin:temporary_object",
    );
    check(
        "CREATE TABLE \"pg_temp\" . t ()",
        "Create pin:temporary_object",
    );
    check(
        "EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1",
        "Explain pin:temporary_object",
    );
    check("ALTER TABLE t ADD b int", "Alter");
    check("DROP TABLE t", "Drop may:temporary_object");
    check("GRANT SELECT ON t TO u", "Grant");
    check("VACUUM", "Maintenance");
    check("LOCK t", "Lock");
    check("LOAD 'x'", "Load pin:load");
    check("DO $$ BEGIN PERFORM 1; END $$", "Do");
    check(
        "DO $$ BEGIN CREATE TEMP TABLE t (); END $$",
        "Do pin:temporary_object",
    );
    check(
        "DO 'BEGIN PERFORM pg_advisory_lock(1); END'",
        "Do pin:advisory_lock",
    );
    check("NONSENSE", "Unknown pin:not_understood");
    check("'x'", "Unknown pin:not_understood");
}

#[test]
fn functions_that_concern_a_session() {
    check("SELECT pg_advisory_lock(1)", "Select pin:advisory_lock");
    check(
        "SELECT PG_TRY_ADVISORY_LOCK_SHARED (1, 2)",
        "Select pin:advisory_lock",
    );
    check("SELECT \"pg_advisory_lock\"(1)", "Select pin:advisory_lock");
    check(
        "SELECT pg_catalog.pg_advisory_lock(1)",
        "Select pin:advisory_lock",
    );
    check(
        "INSERT INTO t SELECT pg_advisory_lock(1)",
        "Insert pin:advisory_lock",
    );
    check("SELECT pg_advisory_xact_lock(1)", "Select");
    check("SELECT pg_advisory_lock FROM t", "Select");
    check("SELECT pg_advisory_unlock(1)", "Select may:advisory_lock");
    check(
        "SELECT pg_advisory_unlock_all()",
        "Select clean:advisory_lock",
    );
    check("SELECT currval('s'), lastval()", "Select sequence");
    check("SELECT nextval('s')", "Select");
    check("SELECT setseed(0.1)", "Select pin:random_seed");
    check(
        "SELECT dblink_connect('a', 'b')",
        "Select pin:dblink_connection",
    );
    check(
        "SELECT dblink_disconnect('a')",
        "Select may:dblink_connection",
    );
}

#[test]
fn texts_are_summed_up() {
    let of = |text: &str| Facts::of(text.as_bytes(), Lexing::default());
    assert_eq!(of("  "), Facts::default());
    let plain = of("SELECT 1; UPDATE t SET a = 1");
    assert_eq!((plain.kind, plain.statements), (Kind::Select, 2));
    assert!(!plain.needs_reading() && !plain.depends_on_values);
    assert!(of("BEGIN; SELECT 1").controls_transaction);
    assert!(of("SELECT 1; SET a = 1").sets);
    assert!(of("SET a = 1").depends_on_values);
    assert!(of("SELECT set_config('a', 'b', false)").sets);
    assert!(of("EXECUTE p").prepares);
    assert!(of("UNLISTEN *").listens);
    assert!(of("FETCH c").uses_cursor);
    assert!(of("COPY t FROM STDIN").copies_in);
    assert!(of("COPY t TO STDOUT").copies_out);
    assert!(of("SELECT 1; DROP TABLE t").defines);
    assert!(of("SELECT a INTO b").defines);
    assert!(of("SELECT lastval()").reads_session_sequence);
    for (text, names) in [
        ("EXECUTE p", true),
        ("EXPLAIN ANALYZE EXECUTE p", true),
        ("CREATE TABLE t AS EXECUTE p", true),
        ("SELECT 1; DEALLOCATE p", true),
        ("PREPARE p AS SELECT 1", true),
        ("SELECT 1", false),
    ] {
        assert_eq!(of(text).names_prepared, names, "{text}");
    }
    for (text, gives) in [
        ("INSERT INTO t VALUES (1)", true),
        ("INSERT INTO t VALUES (1) RETURNING id", false),
        (
            "INSERT INTO t VALUES (1); INSERT INTO t VALUES (1) RETURNING id",
            true,
        ),
        ("WITH n AS (INSERT INTO t VALUES (1)) SELECT 1", true),
        (
            "MERGE INTO t USING s ON true WHEN NOT MATCHED THEN INSERT VALUES (1)",
            true,
        ),
        ("SELECT pg_catalog.nextval('s')", true),
        ("SELECT \"nextval\"('s')", true),
        ("COPY t FROM STDIN", true),
        ("COPY t TO STDOUT", false),
        ("CALL p()", true),
        ("DO 'BEGIN END'", true),
        ("EXECUTE p", true),
        ("UPDATE t SET nextval = 1", false),
        ("SELECT insert FROM t", true),
        ("SELECT 1", false),
    ] {
        assert_eq!(of(text).gives_sequence_values, gives, "{text}");
    }
    assert!(of("/*outgrow: replica*/ SELECT 1").hints.replica);
    // The last word counts.
    let locked = of("SELECT pg_advisory_unlock_all(); SELECT pg_advisory_lock(1)");
    assert!(locked.pins.contains(Pin::AdvisoryLock) && locked.cleans.is_empty());
    let unlocked = of("SELECT pg_advisory_lock(1); SELECT pg_advisory_unlock_all()");
    assert!(unlocked.pins.is_empty() && unlocked.cleans.contains(Pin::AdvisoryLock));
}

#[test]
fn what_cannot_be_told_pins() {
    let lexing = Lexing {
        standard_conforming_strings: None,
        safe_encoding: false,
    };
    let of = |text: &str| {
        Facts::of(text.as_bytes(), lexing)
            .pins
            .contains(Pin::Unread)
    };
    assert!(of("SELECT 'a\\'"));
    assert!(of("SELECT 'é'"));
    assert!(!of("SELECT 'a'"));
}

#[test]
fn pins_say_what_they_are() {
    let mut names = std::collections::BTreeSet::new();
    let mut all = Pins::default();
    for text in [
        "SELECT pg_advisory_lock(1)",
        "CREATE TEMP TABLE t ()",
        "LISTEN c",
        "PREPARE p AS SELECT 1",
    ] {
        all.extend(Facts::of(text.as_bytes(), Lexing::default()).pins);
    }
    for pin in all.iter() {
        assert!(names.insert(pin.as_str()));
        assert!(
            pin.cleaning().is_some() && pin.question().is_some(),
            "{pin:?}"
        );
        // What cleans is known to clean.
        let cleaning = Facts::of(
            pin.cleaning().unwrap_or_default().as_bytes(),
            Lexing::default(),
        );
        assert!(cleaning.cleans.contains(pin), "{pin:?}");
    }
    assert_eq!(names.len(), 4);
}
