//! What is sent a second time, and what never is.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use outgrow_shop::shoppers::{Kind, Pace, Plan, Shoppers};
use outgrow_testkit::{
    backend::{Recorder, Script, Step, response},
    faults::{Fault, Proxy},
    http::{self, Response},
    outgrow::Outgrow,
};

use super::{Front, ask, connect, records};
use crate::shop::{Beside, SOON};

/// Outlier ejection would hide what is tested here; round robin makes it the same each time.
const PLAIN: &str = "balance = \"round_robin\"\noutlier = { consecutive_failures = 0 }";

/// Each worker takes turns of its own.
const ONE_WORKER: &str = "[process]\nworkers = 1";

/// A backend that reads each request and ends the connection without an answer.
fn breaker() -> Recorder {
    Recorder::start(Script::every([Step::ReadRequest, Step::Reset])).expect("a backend")
}

fn sound() -> Recorder {
    Recorder::start(Script::answer(response("sound"))).expect("a backend")
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address")
}

fn request(outgrow: &Outgrow, method: &str, headers: &[(&str, &str)]) -> Response {
    http::request(method, &outgrow.url("public", "/"), headers, b"").expect("an answer")
}

fn came(backends: &[&Recorder]) -> usize {
    backends
        .iter()
        .map(|backend| backend.requests().len())
        .sum()
}

#[test]
fn a_post_is_never_sent_twice() {
    let backends = [breaker(), breaker(), breaker()];
    let addresses = backends.each_ref().map(Recorder::address);
    let outgrow = Front {
        service: PLAIN,
        more: ONE_WORKER,
        ..Front::default()
    }
    .start(&addresses);
    for (count, headers) in [&[][..], &[("Idempotency-Key", "k")]]
        .into_iter()
        .enumerate()
    {
        let answer = request(&outgrow, "POST", headers);
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert_eq!(came(&backends.each_ref()), count + 1);
    }
    let record = records(&outgrow, 2).remove(1);
    assert!(record.contains(" reason=upstream_reset"), "{record}");
    assert!(!record.contains(" retries="), "{record}");
}

#[test]
fn an_idempotent_request_is_tried_once_more_elsewhere() {
    let backends = [breaker(), breaker(), breaker()];
    let addresses = backends.each_ref().map(Recorder::address);
    let outgrow = Front {
        service: PLAIN,
        more: ONE_WORKER,
        ..Front::default()
    }
    .start(&addresses);
    assert_eq!(request(&outgrow, "GET", &[]).status, 502);
    assert_eq!(came(&backends.each_ref()), 2, "once more, not more often");
    let most = backends
        .iter()
        .map(|backend| backend.requests().len())
        .max();
    assert_eq!(most, Some(1), "elsewhere");
    assert!(records(&outgrow, 1)[0].contains(" retries=1"));
}

#[test]
fn a_retry_saves_idempotent_requests() {
    let (broken, sound) = (breaker(), sound());
    let outgrow = Front {
        service: PLAIN,
        more: ONE_WORKER,
        route: "idempotency_key = true",
        ..Front::default()
    }
    .start(&[broken.address(), sound.address()]);
    for _ in 0..4 {
        assert_eq!(request(&outgrow, "GET", &[]).text(), "sound");
        assert_eq!(request(&outgrow, "PUT", &[]).text(), "sound");
        let answer = request(&outgrow, "POST", &[("Idempotency-Key", "k")]);
        assert_eq!(answer.text(), "sound");
    }
    assert!(!broken.requests().is_empty(), "the broken one was tried");
    let before = came(&[&broken]);
    let failed = (0..4)
        .filter(|_| request(&outgrow, "POST", &[]).status == 502)
        .count();
    assert_eq!(
        failed,
        came(&[&broken]) - before,
        "a POST without a key fails where it breaks"
    );
    assert!(failed > 0, "the broken one was tried by POST");
}

#[test]
fn a_body_is_sent_again_whole() {
    let (broken, sound) = (breaker(), sound());
    let outgrow = Front {
        service: PLAIN,
        more: ONE_WORKER,
        ..Front::default()
    }
    .start(&[broken.address(), sound.address()]);
    let body = "a body of some length".repeat(100);
    for _ in 0..2 {
        let answer = http::request("PUT", &outgrow.url("public", "/"), &[], body.as_bytes());
        assert_eq!(answer.expect("an answer").status, 200);
    }
    assert!(came(&[&broken]) >= 1, "the broken one was tried");
    assert_eq!(sound.requests().len(), 2);
    for request in sound.requests() {
        assert!(
            request.ends_with(body.as_bytes()),
            "{}",
            request.escape_ascii()
        );
    }
}

#[test]
fn a_refused_connection_costs_nobody_anything() {
    let sound = sound();
    let outgrow = Front {
        service: PLAIN,
        more: ONE_WORKER,
        ..Front::default()
    }
    .start(&[nobody(), sound.address()]);
    for _ in 0..10 {
        // It was never sent, so even a POST goes elsewhere.
        assert_eq!(request(&outgrow, "POST", &[]).text(), "sound");
    }
    let retried = records(&outgrow, 10);
    assert!(
        retried.iter().any(|record| record.contains(" retries=1")),
        "{retried:?}"
    );
}

#[test]
fn a_connection_closed_while_idle_is_noticed() {
    let closes = vec![
        Step::ReadRequest,
        Step::Send(response("first")),
        Step::Close,
    ];
    let goes_on = vec![
        Step::ReadRequest,
        Step::Send(response("again")),
        Step::Again,
    ];
    let backend = Recorder::start(Script::in_turn([closes, goes_on])).expect("a backend");
    let outgrow = Front::default().before(&backend);
    let mut client = connect(&outgrow);
    ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "first");
    let closed = |all: &[outgrow_testkit::backend::Connection]| all[0].finished;
    assert!(
        backend.wait(SOON, closed),
        "the backend closed and outgrow too"
    );
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    let answer = ask(&mut client, post, "again");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(backend.connections().len(), 2);
}

#[test]
fn one_endpoint_down_fails_no_request() {
    let shops = [(); 3].map(|()| Beside::start().expect("a shop"));
    let proxies = shops
        .each_ref()
        .map(|shop| Proxy::start(shop.address).expect("a proxy"));
    let addresses = proxies.each_ref().map(Proxy::address);
    let outgrow = Front {
        route: "idempotency_key = true",
        ..Front::default()
    }
    .start(&addresses);
    let plan = Plan {
        shoppers: 6,
        pace: Pace::Think(Duration::from_millis(4)),
        // Nothing that is under way for long: a reset in the midst of a body is no retry.
        mix: vec![(Kind::Product, 6), (Kind::Checkout, 3), (Kind::Whoami, 1)],
        ..Plan::new(outgrow.address("public").expect("an address"))
    };
    let shoppers = Shoppers::start(plan).expect("shoppers");
    let more = |count: u64| {
        let before = shoppers.totals().all().requests;
        let enough =
            |_: &Outgrow| (shoppers.totals().all().requests >= before + count).then_some(());
        outgrow.wait("requests", SOON, enough).expect("requests");
    };
    more(100);
    for fault in [Fault::Refuse, Fault::None, Fault::Reset] {
        proxies[1].set(fault).expect("a fault");
        more(150);
    }
    let totals = shoppers.stop();
    let all = totals.all();
    assert_eq!(
        (all.failed, all.truncated),
        (0, 0),
        "{}",
        totals.complaints(20)
    );
}
