//! Logins that fail, that never come to an end, that are too many; and the versions of the protocol.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use outgrow_testkit::postgres::{Session, message};

use super::{Tier, run, value};
use crate::shop::{SOON, try_state};

/// The words with which a login with a wrong password is refused, and how long that took.
fn fail(tier: &Tier, user: &str) -> (String, Duration) {
    let began = Instant::now();
    let (host, port) = (tier.address().ip().to_string(), tier.address().port());
    let output = Command::new("psql")
        .args(["--no-psqlrc", "-h", &host, "-p", &port.to_string()])
        .args(["-U", user, "-d", "postgres", "-c", "SELECT 1"])
        .env("PGPASSWORD", "wrong")
        .output()
        .expect("psql runs");
    assert!(!output.status.success(), "let in");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (said, began.elapsed())
}

#[test]
fn who_guesses_passwords_waits_and_learns_nothing_of_who_exists() {
    let settings = "[postgres.throttle]\nfree = 2\nfirst = \"3s\"\nmost = \"3s\"\n\
                    patience = \"7s\"\n[postgres.user.alice]\npassword = \"right\"";
    let Some(tier) = Tier::start_asking("scram-sha-256", settings) else {
        return;
    };
    for user in ["alice", "nobody"] {
        let tries: Vec<_> = (0..5).map(|_| fail(&tier, user)).collect();
        let said: Vec<_> = tries
            .iter()
            .map(|(said, _)| said.replace(user, "USER"))
            .collect();
        assert!(said.iter().all(|one| *one == said[0]), "{said:?}");
        assert!(said[0].contains("authentication failed"), "{said:?}");
        let times: Vec<_> = tries.iter().map(|(_, time)| *time).collect();
        let waited = |time: &Duration| *time >= Duration::from_millis(2_500);
        assert!(!waited(&times[0]), "{times:?}");
        assert!(times[3..].iter().all(waited), "{user}: {times:?}");
    }
    // Who tries many times at once is refused at last.
    let said: Vec<_> = thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| fail(&tier, "nobody").0))
            .collect();
        all.into_iter()
            .map(|one| one.join().expect("ends"))
            .collect()
    });
    let is_refused = |one: &String| one.contains("too many failed logins");
    assert!(said.iter().any(is_refused), "{said:?}");
    let state = try_state(&tier.outgrow).expect("a state");
    let logins = &state["postgres"]["logins"];
    assert!(logins["failed"].as_u64() >= Some(10), "{logins}");
    assert!(logins["slowed"].as_u64() >= Some(4), "{logins}");
    assert!(logins["refused"].as_u64() >= Some(1), "{logins}");
}

#[test]
fn those_who_never_log_in_do_not_keep_others_out() {
    let Some(tier) = Tier::start("max_logins = 5") else {
        return;
    };
    let mut silent: Vec<_> = (0..12)
        .map(|_| TcpStream::connect(tier.address()).expect("connected"))
        .collect();
    let began = Instant::now();
    run(&mut tier.client(), "SELECT 1");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    // Those who were there first have gone, with a word.
    let mut said = String::new();
    silent[0].set_read_timeout(Some(SOON)).expect("set");
    let _ = silent[0].read_to_string(&mut said);
    assert!(said.contains("53300"), "{said:?}");
    let state = try_state(&tier.outgrow).expect("a state");
    let logins = &state["postgres"]["logins"];
    assert!(logins["dropped"].as_u64() >= Some(1), "{logins}");
}

#[test]
fn one_address_has_no_more_clients_than_it_may() {
    let Some(tier) = Tier::start("max_clients_per_address = 2") else {
        return;
    };
    let _two = [tier.client(), tier.client()];
    let refused = Session::of(tier.address(), "postgres");
    let refused = refused.map(|_| ()).expect_err("a third");
    assert_eq!(
        refused.to_string(),
        "FATAL 53300 client connections exceeded (max_clients_per_address)"
    );
}

/// What is answered to a start with this version and these parameters, up to ReadyForQuery: the
/// messages by tag, with their bodies; and the connection.
fn start(tier: &Tier, minor: u16, more: &[(&str, &str)]) -> (TcpStream, Vec<(u8, Vec<u8>)>) {
    let mut stream = TcpStream::connect(tier.address()).expect("connected");
    stream.set_read_timeout(Some(SOON)).expect("set");
    let mut body = (3_u32 << 16 | u32::from(minor)).to_be_bytes().to_vec();
    let usual = [("user", "postgres"), ("database", "postgres")];
    for (name, value) in usual.iter().chain(more) {
        body.extend(name.bytes().chain([0]).chain(value.bytes()).chain([0]));
    }
    body.push(0);
    let length = (body.len() as u32 + 4).to_be_bytes();
    stream
        .write_all(&[&length[..], &body].concat())
        .expect("sent");
    let answers = until_ready(&mut stream);
    (stream, answers)
}

fn until_ready(stream: &mut TcpStream) -> Vec<(u8, Vec<u8>)> {
    let mut answers = Vec::new();
    loop {
        let mut header = [0; 5];
        stream.read_exact(&mut header).expect("a message");
        let [tag, length @ ..] = header;
        let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
        stream.read_exact(&mut body).expect("its body");
        answers.push((tag, body));
        if tag == b'Z' {
            return answers;
        }
    }
}

#[test]
fn versions_of_the_protocol_are_agreed_upon() {
    let Some(tier) = Tier::start("") else {
        return;
    };
    let check = |minor, more: &[(&str, &str)], negotiated: Option<(u16, &[u8])>, secret: usize| {
        let (_stream, answers) = start(&tier, minor, more);
        let of = |tag| answers.iter().find(|(one, _)| *one == tag);
        let told = of(b'v').map(|(_, body)| body.clone());
        let expected = negotiated.map(|(minor, options)| {
            let version = (3_u32 << 16 | u32::from(minor)).to_be_bytes();
            [&version[..], options].concat()
        });
        assert_eq!(told, expected, "3.{minor} {more:?}");
        let (_, key) = of(b'K').expect("a key");
        assert_eq!(key.len(), 4 + secret, "3.{minor} {more:?}");
    };
    check(0, &[], None, 4);
    check(2, &[], None, 32);
    check(3, &[], Some((2, &[0, 0, 0, 0])), 32);
    check(9999, &[], Some((2, &[0, 0, 0, 0])), 32);
    let option = b"\0\0\0\x01_pq_.unknown\0";
    check(0, &[("_pq_.unknown", "1")], Some((0, option)), 4);
    check(2, &[("_pq_.unknown", "1")], Some((2, option)), 32);
}

#[test]
fn a_long_key_cancels_and_a_part_of_it_does_not() {
    let Some(tier) = Tier::start("") else {
        return;
    };
    let (mut stream, answers) = start(&tier, 2, &[]);
    let (_, key) = answers.iter().find(|(tag, _)| *tag == b'K').expect("a key");
    let cancel = |secret: &[u8]| {
        let process = u32::from_be_bytes(key[..4].try_into().expect("four"));
        let mut other = TcpStream::connect(tier.address()).expect("connected");
        let request = message::cancel(process, secret);
        other.write_all(&request).expect("sent");
        let mut rest = Vec::new();
        let _ = other.read_to_end(&mut rest);
    };
    stream
        .write_all(&message::query("SELECT pg_sleep(2)"))
        .expect("sent");
    let mut direct = tier.direct();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(2)' AND \
               state = 'active'";
    let runs = |_: &_| (value(&mut direct, sql) == "1").then_some(());
    tier.outgrow.wait("it runs", SOON, runs).expect("it does");
    cancel(&key[4..8]);
    cancel(&[&key[4..35], &[!key[35]]].concat());
    let answers = until_ready(&mut stream);
    assert!(answers.iter().any(|(tag, _)| *tag == b'D'), "it ran on");
    stream
        .write_all(&message::query("SELECT pg_sleep(60)"))
        .expect("sent");
    let sql = sql.replace("(2)", "(60)");
    let runs = |_: &_| (value(&mut direct, &sql) == "1").then_some(());
    tier.outgrow.wait("it runs", SOON, runs).expect("it does");
    cancel(&key[4..]);
    let answers = until_ready(&mut stream);
    let (_, error) = answers.iter().find(|(tag, _)| *tag == b'E').expect("ended");
    assert!(String::from_utf8_lossy(error).contains("57014"));
}
