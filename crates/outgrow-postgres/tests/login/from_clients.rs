//! psql and psycopg log in to us.

use std::process::Command;

use outgrow_testkit::databases;

use crate::database::Database;
use crate::is_there;
use crate::pooler::{Pooler, Setup};

/// The user's name says the method.
const RULES: &str = "\
    host all /^clear  all password\n\
    host all /^hash   all md5\n\
    host all /^scram  all scram-sha-256\n\
    host all trusted,nobody  all trust\n\
    host all unwanted all reject\n\
    host all both     all scram-sha-256\n";

/// All users of the pooler, who are at the server as well, where all get in by trust.
fn start(server: &Database) -> Pooler {
    let md5 = |user: &str| {
        let hash = outgrow_postgres::login::md5::Hash::of(b"apple", user);
        String::from_utf8(hash.text().to_vec()).unwrap()
    };
    let scram = server.stored("ann").unwrap().text();
    let scram = String::from_utf8(scram).unwrap();
    let mut users = String::new();
    let mut superuser = server.superuser();
    for method in ["clear", "hash", "scram"] {
        for (kind, secret) in [
            ("plain", "apple".to_owned()),
            ("md5", md5(&format!("{method}_md5"))),
            ("scram", scram.clone()),
            ("none", String::new()),
        ] {
            users += &format!("\"{method}_{kind}\" \"{secret}\"\n");
            superuser.query(&format!("CREATE ROLE {method}_{kind} LOGIN"));
        }
    }
    users += "\"trusted\" \"\"\n\"unwanted\" \"apple\"\n";
    superuser.query("CREATE ROLE trusted LOGIN");
    let access = "COPY (SELECT 'host all all 127.0.0.1/32 trust') TO PROGRAM \
                  'cat > pg_hba.conf'";
    superuser.query(access);
    superuser.query("SELECT pg_reload_conf()");
    Pooler::start(Setup::new(server.address(), RULES, &users))
}

#[test]
fn psql_logs_in_by_every_method() {
    if !is_there(databases::has_postgres(), "postgresql") {
        return;
    }
    let server = Database::start();
    let pooler = start(&server);
    for (method, kind, is_possible) in [
        ("clear", "plain", true),
        ("clear", "md5", true),
        ("clear", "scram", true),
        ("clear", "none", false),
        ("hash", "plain", true),
        ("hash", "md5", true),
        ("hash", "scram", true),
        ("hash", "none", false),
        ("scram", "plain", true),
        ("scram", "md5", false),
        ("scram", "scram", true),
        ("scram", "none", false),
        ("clear", "unknown", false),
        ("hash", "unknown", false),
        ("scram", "unknown", false),
    ] {
        let user = format!("{method}_{kind}");
        let failed = format!("FATAL:  password authentication failed for user \"{user}\"");
        for (password, is_right) in [("apple", true), ("pear", false)] {
            match pooler.psql(&user, password, "") {
                Ok(text) => assert!(is_possible && is_right && text == user, "{user} {password}"),
                Err(text) => {
                    let expected = !(is_possible && is_right) && text.ends_with(&failed);
                    assert!(expected, "{user} {password}: {text}");
                }
            }
        }
    }
    let trusted = pooler.psql("trusted", "", "");
    assert_eq!(trusted.as_deref(), Ok("trusted"));
    let check = |user: &str, expected: &str| {
        let text = pooler.psql(user, "apple", "").unwrap_err();
        assert!(text.ends_with(expected), "{text}");
    };
    check("nobody", "FATAL:  role \"nobody\" does not exist");
    let about = "host \"127.0.0.1\", user \"unwanted\", database \"postgres\", no encryption";
    check(
        "unwanted",
        &format!("FATAL:  pg_hba.conf rejects connection for {about}"),
    );
    let about = "host \"127.0.0.1\", user \"other\", database \"postgres\", no encryption";
    check(
        "other",
        &format!("FATAL:  no pg_hba.conf entry for {about}"),
    );
    // libpq itself speaks when we ask for something and it has no password.
    let text = pooler.psql("scram_plain", "", "").unwrap_err();
    assert!(text.ends_with("no password supplied"), "{text}");
    // That of another client, which is told in the log.
    let _ = pooler.take_log();
    let _ = pooler.psql("scram_md5", "apple", "");
    let expected = "user \"scram_md5\": has an MD5 verifier, not one of SCRAM";
    assert_eq!(pooler.take_log(), [expected]);
}

const PROGRAM: &str = "\
import sys, psycopg
port = sys.argv[1]
for user in sys.argv[2:]:
    for password in ['apple', 'pear']:
        try:
            text = f'host=127.0.0.1 port={port} user={user} dbname=postgres'
            with psycopg.connect(text, password=password) as connection:
                row = connection.execute('SELECT current_user, %s::int + 1', [41]).fetchone()
                print(*row)
        except psycopg.OperationalError as error:
            print(str(error).split('FATAL:  ')[1])
";

#[test]
fn psycopg_logs_in_by_every_method() {
    let python = || Command::new("python3");
    let has_psycopg = python().args(["-c", "import psycopg"]).output();
    if !has_psycopg.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: python3 has no psycopg");
        return;
    }
    if !is_there(databases::has_postgres(), "postgresql") {
        return;
    }
    let server = Database::start();
    let pooler = start(&server);
    let users = [
        "clear_scram",
        "hash_md5",
        "hash_scram",
        "scram_plain",
        "scram_scram",
    ];
    let output = python()
        .args(["-c", PROGRAM, &pooler.address().port().to_string()])
        .args(users)
        .output()
        .unwrap();
    let mut expected = String::new();
    for user in users {
        expected += &format!("{user} 42\npassword authentication failed for user \"{user}\"\n");
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        expected,
        "{complaint}"
    );
}
