//! What somebody meets who tries it for the first time and has something wrong.

use std::process::Command;

use outgrow_testkit::{
    databases,
    folder::Folder,
    outgrow::{Launch, Outgrow, binary},
    ports,
    postgres::Session,
};

use super::{Tier, config, run, value};
use crate::checks::is_there;

/// What `outgrow check` says of a configuration.
fn checked(text: &str) -> String {
    let folder = Folder::new("newcomer").expect("a folder");
    let path = folder.write("outgrow.toml", text).expect("written");
    let output = Command::new(binary().expect("a binary"))
        .arg("check")
        .arg(path)
        .output()
        .expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn a_check_reads_what_a_start_would() {
    let usual = "[postgres]\nlisten = [\"127.0.0.1:6432\"]\nservice = \"db\"\nUSERS\n\
                 [service.db]\nendpoints = [\"127.0.0.1:5432\"]\n";
    let folder = Folder::new("lists").expect("a folder");
    let named = |key: &str, name: &str, text: &str| {
        let path = folder.write(name, text).expect("written");
        usual.replace("USERS", &format!("{key} = \"{}\"", path.display()))
    };
    let good = named("auth_file", "good.txt", "\"alice\" \"secret\"\n");
    assert!(!checked(&good).contains("error"), "{}", checked(&good));
    for (text, words) in [
        (
            usual.replace("USERS", "auth_file = \"/nowhere/users.txt\""),
            "/nowhere/users.txt cannot be read",
        ),
        (
            named("auth_file", "bad.txt", "\"alice\" secret\n"),
            "bad.txt",
        ),
        (
            named("auth_hba", "hba.conf", "host all all nonsense\n"),
            "hba.conf",
        ),
        (
            format!(
                "{}[postgres.user.bob]\npassword = \"SCRAM-SHA-256$x\"\n",
                usual.replace("USERS", "")
            ),
            "postgres.user.bob.password",
        ),
    ] {
        let told = checked(&text);
        assert!(told.contains(words), "{words}: {told}");
        assert!(!told.contains("good:"), "{told}");
    }
}

#[test]
fn a_configuration_that_is_wrong_is_told_with_what_to_do() {
    let usual = "[postgres]\nlisten = [\"127.0.0.1:6432\"]\nservice = \"db\"\n\
                 [service.db]\nendpoints = [\"127.0.0.1:5432\"]\n";
    let told = checked(usual);
    assert!(!told.contains("error"), "{told}");
    for (text, words) in [
        (
            usual.replace("service = \"db\"", "service = \"bd\""),
            &["bd", "[service.db]", ":3"][..],
        ),
        (
            usual.replace("service = \"db\"\n", ""),
            &["service", "write service = \"db\""],
        ),
        (
            usual.replace("listen =", "listens ="),
            &["listens", "listen"],
        ),
        (
            usual.replace(
                "service = \"db\"",
                "service = \"db\"\npool_mode = \"transactions\"",
            ),
            &["pool_mode", "transaction"],
        ),
        (
            usual.replace("service = \"db\"", "service = \"db\"\nauth = \"scram\""),
            &["scram-sha-256"],
        ),
        (
            usual.replace("listen = [\"127.0.0.1:6432\"]\n", ""),
            &["listen", "127.0.0.1:6432"],
        ),
        (
            usual.replace("service = \"db\"", "service = \"db\"\npool_size = 1000000"),
            &["pool_size", "100000"],
        ),
    ] {
        let told = checked(&text);
        for word in words {
            assert!(
                told.contains(word),
                "{word:?} is not in what it says of {text}:\n{told}"
            );
        }
    }
}

#[test]
fn a_server_that_is_not_there_is_told_to_clients() {
    let nobody = ports::free(1).expect("a port")[0];
    let settings = "[postgres.timeouts]\nconnect_retry = \"100ms\"\nwait = \"1s\"";
    let outgrow = Outgrow::start(&config(settings, nobody)).expect("it starts all the same");
    let address = outgrow.address("pooler").expect("an address");
    let told = Session::of(address, "postgres").map(|_| ());
    let told = told.expect_err("no server").to_string();
    assert!(told.starts_with("FATAL 08001"), "{told}");
    assert!(told.contains("could not be reached"), "{told}");
}

#[test]
fn what_the_server_says_reaches_the_client() {
    let Some(tier) = Tier::start("") else {
        return;
    };
    let told = Session::of(tier.address(), "nowhere").map(|_| ());
    let direct = Session::of(tier.database.address(), "nowhere").map(|_| ());
    assert_eq!(
        told.expect_err("no such database").to_string(),
        direct.expect_err("no such database").to_string()
    );
}

#[test]
fn a_login_that_the_server_refuses_is_told_as_such() {
    if !is_there(databases::has_postgres(), "postgresql") {
        return;
    }
    let database = databases::postgres("host all all 127.0.0.1/32 scram-sha-256");
    let database = database.expect("Postgres starts");
    database
        .query("CREATE ROLE shop LOGIN PASSWORD 'right'")
        .expect("made");
    let start = |password: &str| {
        let text = format!(
            "[postgres]\nlisten = [\"%pooler%\"]\nservice = \"db\"\nauth = \"trust\"\n\
             [postgres.user.shop]\npassword = \"{password}\"\n[postgres.timeouts]\nwait = \"2s\"\n\
             [service.db]\nendpoints = [\"{}\"]\n",
            database.address()
        );
        let outgrow = Launch::config(&text).start().expect("outgrow starts");
        let address = outgrow.address("pooler").expect("an address");
        let client = Session::start(address, &[("user", "shop"), ("database", "postgres")]);
        (outgrow, client)
    };
    let (_outgrow, client) = start("right");
    let mut client = client.expect("let in");
    assert_eq!(value(&mut client, "SELECT current_user"), "shop");
    let (_outgrow, client) = start("wrong");
    let told = client.map(|_| ()).expect_err("wrong").to_string();
    assert!(told.contains("28P01") && told.contains("shop"), "{told}");
}

#[test]
fn an_address_that_is_taken_is_told() {
    let Some(tier) = Tier::start("") else {
        return;
    };
    let text = config("", tier.database.address());
    let second = Launch::config(&text)
        .address("pooler", tier.address())
        .start();
    let told = second.map(|_| ()).expect_err("it is taken").to_string();
    assert!(told.contains(&tier.address().to_string()), "{told}");
    assert!(told.contains("is taken by another process"), "{told}");
    run(&mut tier.client(), "SELECT 1");
}

#[test]
fn a_web_browser_is_no_client() {
    let Some(tier) = Tier::start("") else {
        return;
    };
    let mut browser = Session::open(tier.address()).expect("connected");
    browser
        .send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("sent");
    // Told or closed, but soon.
    let _told = browser.answer().expect_err("no Postgres");
    run(&mut tier.client(), "SELECT 1");
}
