//! What clients have shown is shown to the server: nobody but them knows a password.

use outgrow_testkit::databases;

use crate::database::Database;
use crate::is_there;
use crate::pooler::{Pooler, Setup};

#[test]
fn scram_keys_and_md5_verifiers_go_all_the_way() {
    if !is_there(databases::has_postgres(), "postgresql") {
        return;
    }
    let server = Database::start();
    // Users are in no list: the server is asked for their verifiers.
    let mut setup = Setup::new(server.address(), "host all all all md5\n", "");
    setup.asks = true;
    let pooler = Pooler::start(setup);
    let ann = pooler.psql("ann", "apple", "");
    assert_eq!(ann.as_deref(), Ok("ann"));
    assert_eq!(pooler.take_log(), ["ann: scram-sha-256 SCRAM keys"]);
    let failed = "FATAL:  password authentication failed for user";
    for (user, password) in [("ann", "pear"), ("nobody", "apple"), ("empty", "apple")] {
        let text = pooler.psql(user, password, "").unwrap_err();
        assert!(text.ends_with(&format!("{failed} \"{user}\"")), "{text}");
    }
    // The server's database that asks by MD5; there the verifier itself is passed on.
    let _ = pooler.take_log();
    let old = pooler.psql("old", "apple", "dbname=hashed");
    assert_eq!(old.as_deref(), Ok("old"));
    assert_eq!(pooler.take_log(), ["old: md5 an MD5 verifier"]);
    let refused = pooler.psql("old", "apple", "").unwrap_err();
    let kind = "the server asks for SCRAM-SHA-256, and we have an MD5 verifier";
    assert!(refused.ends_with(kind), "{refused}");
}

#[test]
fn a_list_with_the_servers_verifier_and_one_with_another() {
    if !is_there(databases::has_postgres(), "postgresql") {
        return;
    }
    let server = Database::start();
    let stored = String::from_utf8(server.stored("ann").unwrap().text()).unwrap();
    let users = format!("\"ann\" \"{stored}\"\n");
    let rules = "host clear all all password\nhost all all all scram-sha-256\n";
    let pooler = Pooler::start(Setup::new(server.address(), rules, &users));
    let ann = pooler.psql("ann", "apple", "");
    assert_eq!(ann.as_deref(), Ok("ann"));
    // In clear text here, the password is there for whatever the server asks.
    let ann = pooler.psql("ann", "apple", "dbname=clear");
    assert_eq!(ann.as_deref(), Ok("ann"));
    assert_eq!(
        pooler.take_log(),
        ["ann: scram-sha-256 SCRAM keys", "ann: password a password"]
    );
    // The same password, stored anew: another salt.
    server.superuser().query("ALTER ROLE ann PASSWORD 'apple'");
    let text = pooler.psql("ann", "apple", "").unwrap_err();
    assert!(
        text.contains("has another SCRAM verifier for the user"),
        "{text}"
    );
    // With the password in the list all is well again.
    let rules = "host all all all scram-sha-256\n";
    let pooler = Pooler::start(Setup::new(server.address(), rules, "\"ann\" \"apple\"\n"));
    let ann = pooler.psql("ann", "apple", "");
    assert_eq!(ann.as_deref(), Ok("ann"));
    assert_eq!(pooler.take_log(), ["ann: scram-sha-256 a password"]);
}
