//! Users who stay: the cookie, what becomes of a user whose endpoint drains, fails or is full, and
//! keys that keep requests together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use outgrow_testkit::backend::{Recorder, Script, response};
use outgrow_testkit::http;
use outgrow_testkit::outgrow::Outgrow;

use super::Front;

/// Backends that answer with their number.
fn backends(count: usize) -> Vec<Recorder> {
    (0..count)
        .map(|number| {
            let answer = response(number.to_string());
            Recorder::start(Script::answer(answer)).expect("a backend")
        })
        .collect()
}

fn addresses(backends: &[Recorder]) -> Vec<SocketAddr> {
    backends.iter().map(Recorder::address).collect()
}

/// A browser: it has the cookie that it was given last.
#[derive(Clone, Default)]
struct User {
    cookie: String,
}

impl User {
    /// The number of the backend that answered, or the status that did not come from one.
    fn visits(&mut self, outgrow: &Outgrow) -> Result<usize, u16> {
        let url = outgrow.url("public", "/");
        let cookie = format!("theme=dark; {}", self.cookie);
        let answer = http::request("GET", &url, &[("Cookie", &cookie)], b"").expect("an answer");
        if let Some(line) = answer.header("Set-Cookie") {
            let pair = line.split(';').next().expect("a cookie");
            pair.clone_into(&mut self.cookie);
        }
        if answer.status != 200 {
            return Err(answer.status);
        }
        Ok(answer.text().parse().expect("a number"))
    }
}

fn users(outgrow: &Outgrow, count: usize) -> Vec<(User, usize)> {
    let new = |_| {
        let mut user = User::default();
        let at = user.visits(outgrow).expect("an endpoint");
        (user, at)
    };
    (0..count).map(new).collect()
}

const STICKY: &str = "sticky = { secret = \"0123456789abcdef\", drain = \"0s\" }";

#[test]
fn a_user_stays_over_reloads_restarts_and_edges() {
    let backends = backends(3);
    let front = Front {
        service: STICKY,
        ..Front::default()
    };
    let outgrow = front.start(&addresses(&backends));
    let mut all = users(&outgrow, 20);
    let places: BTreeSet<usize> = all.iter().map(|(_, at)| *at).collect();
    assert!(places.len() > 1, "all users are at {places:?}");
    // Another edge with the same secret, which knows the endpoints in another order.
    let mut turned = addresses(&backends);
    turned.reverse();
    let other = front.start(&turned);
    for (user, at) in &mut all {
        let given = user.cookie.clone();
        assert_eq!(user.visits(&outgrow), Ok(*at));
        assert_eq!(user.visits(&other), Ok(*at));
        assert_eq!(user.cookie, given, "no news, no cookie");
        assert!(given.starts_with("outgrow_app="), "{given}");
    }
    // What nobody signed is worth nothing.
    let (tag, nonce) = all[0].0.cookie.split_at(all[0].0.cookie.len() - 4);
    let (start, last) = tag.split_at(tag.len() - 1);
    let other = if last == "x" { "y" } else { "x" };
    let mut forger = User {
        cookie: format!("{start}{other}{nonce}"),
    };
    let before = forger.cookie.clone();
    assert!(forger.visits(&outgrow).is_ok());
    assert_ne!(forger.cookie, before, "a cookie of ours replaced it");
}

#[test]
fn users_leave_an_endpoint_that_drains_or_dies() {
    let mut backends = backends(3);
    let config = |drains: &str| {
        let config = Front {
            service: STICKY,
            ..Front::default()
        }
        .config(&addresses(&backends));
        let first = format!("\"{}\"", backends[0].address());
        let table = format!("{{ address = {first}{drains} }}");
        config.replacen(&first, &table, 1)
    };
    let (plain, draining) = (config(""), config(", drain = true"));
    let mut outgrow = Outgrow::start(&plain).expect("outgrow starts");
    let mut all = users(&outgrow, 30);
    outgrow.reload(&draining).expect("a good file");
    for (user, at) in &mut all {
        let now = user.visits(&outgrow).expect("an endpoint");
        assert!(now != 0, "the drained one is left");
        assert!(*at == 0 || now == *at, "the others stay");
        *at = now;
        assert_eq!(user.visits(&outgrow), Ok(now), "moved for good");
    }
    outgrow.reload(&plain).expect("a good file");
    assert!(users(&outgrow, 60).iter().any(|(_, at)| *at == 0));
    drop(backends.remove(1));
    for (user, at) in &mut all {
        let now = user.visits(&outgrow).expect("another endpoint");
        assert!(now != 1, "it is dead");
        assert!(*at == 1 || now == *at, "the others stay");
    }
}

/// The window is long, so that nobody leaves during the test but those whose moment is at once.
#[test]
fn users_leave_a_draining_endpoint_one_after_the_other() {
    let backends = backends(2);
    let config = |drains: &str| {
        let front = Front {
            service: "sticky = { drain = \"24h\" }",
            ..Front::default()
        };
        let first = format!("\"{}\"", backends[0].address());
        let table = format!("{{ address = {first}{drains} }}");
        front
            .config(&addresses(&backends))
            .replacen(&first, &table, 1)
    };
    let mut outgrow = Outgrow::start(&config("")).expect("outgrow starts");
    let mut all = users(&outgrow, 40);
    outgrow
        .reload(&config(", drain = true"))
        .expect("a good file");
    for (user, at) in &mut all {
        assert_eq!(
            user.visits(&outgrow),
            Ok(*at),
            "it is served while it drains"
        );
    }
    for (_, at) in users(&outgrow, 20) {
        assert_eq!(at, 1, "nobody new comes");
    }
}

#[test]
fn a_user_who_must_not_move_is_told_so() {
    let mut backends = backends(2);
    let front = Front {
        service: "sticky = { gone = \"refuse\" }",
        ..Front::default()
    };
    let outgrow = front.start(&addresses(&backends));
    let mut all = users(&outgrow, 20);
    drop(backends.remove(0));
    for (user, at) in &mut all {
        let expected = if *at == 0 { Err(503) } else { Ok(1) };
        let got = user.visits(&outgrow);
        // The very first one finds the connection dead, before anything is known.
        assert!(got == expected || (*at == 0 && got == Err(502)), "{got:?}");
    }
}

#[test]
fn keys_keep_requests_together() {
    for (balance, by, field) in [
        ("maglev", "header:X-User", "X-User"),
        ("ring_hash", "cookie:user", "Cookie"),
    ] {
        let backends = backends(4);
        let service = format!("balance = \"{balance}\"\nhash_by = \"{by}\"");
        let front = Front {
            service: &service,
            ..Front::default()
        };
        let outgrow = front.start(&addresses(&backends));
        let mut of_key: BTreeMap<usize, String> = BTreeMap::new();
        for round in 0..3 {
            for key in 0..20 {
                let value = match field {
                    "Cookie" => format!("other=1; user=u{key}"),
                    _ => format!("u{key}"),
                };
                let url = outgrow.url("public", "/");
                let answer = http::request("GET", &url, &[(field, &value)], b"").expect("one");
                let at = of_key.entry(key).or_insert_with(|| answer.text());
                assert_eq!(*at, answer.text(), "{balance} {key} in round {round}");
            }
        }
        let places: BTreeSet<&String> = of_key.values().collect();
        assert!(places.len() > 2, "{balance}: {places:?}");
    }
}
