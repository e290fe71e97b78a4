//! Mirroring: what the copy is, and that nobody waits for it.

use std::time::Instant;

use outgrow_testkit::{
    backend::{Gate, Recorder, Script, Step, response},
    http,
    outgrow::Outgrow,
};

use super::{Front, WHILE, field};
use crate::shop::SOON;

fn start(app: &Recorder, shadow: &Recorder, mirror: &str) -> Outgrow {
    let more = format!("[service.shadow]\nendpoints = [\"{}\"]\n", shadow.address());
    Front {
        route: &format!(
            "rewrite = {{ path = \"/v2/{{rest}}\" }}\nmirror = {{ service = \"shadow\", {mirror} }}"
        ),
        more: &more,
        ..Front::default()
    }
    .before(app)
}

/// Waits until the route's counter has this value.
fn becomes(outgrow: &Outgrow, metric: &str, count: u64) {
    let line = format!("{metric}{{route=\"app\"}} {count}");
    let counted = |outgrow: &Outgrow| {
        let metrics = outgrow.admin_get("/metrics").ok()?.text();
        metrics.lines().any(|one| one == line).then_some(())
    };
    outgrow.wait(&line, SOON, counted).expect("the counter");
}

#[test]
fn the_copy_is_the_request_and_its_answer_is_nobodys() {
    let app = Recorder::start(Script::answer(response("real"))).expect("a backend");
    let shadow = Recorder::start(Script::answer(response("shadow"))).expect("a backend");
    let outgrow = start(&app, &shadow, "body_limit = \"8B\"");
    let url = outgrow.url("public", "/x?y=z");
    let answer = http::request("POST", &url, &[("X-Own", "1")], b"12345678");
    assert_eq!(answer.expect("an answer").text(), "real");
    assert!(shadow.wait_requests(1, SOON), "the copy comes");
    let copy = String::from_utf8_lossy(&shadow.requests()[0]).into_owned();
    let real = String::from_utf8_lossy(&app.requests()[0]).into_owned();
    assert_eq!(field(&copy, "X-Outgrow-Mirror"), Some("1"));
    assert_eq!(copy.replace("X-Outgrow-Mirror: 1\r\n", ""), real);
    assert!(real.starts_with("POST /v2/x?y=z HTTP/1.1\r\n"), "{real}");
    assert!(real.ends_with("\r\n\r\n12345678"), "{real}");
    becomes(&outgrow, "outgrow_mirrored_requests_total", 1);
    // Chunks arrive as one body of known length.
    let mut client = super::connect(&outgrow);
    let chunked = "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
    super::ask(&mut client, chunked, "real");
    assert!(shadow.wait_requests(2, SOON), "the copy comes");
    let copy = String::from_utf8_lossy(&shadow.requests()[1]).into_owned();
    assert_eq!(field(&copy, "Content-Length"), Some("3"), "{copy}");
    assert!(copy.ends_with("\r\n\r\nabc"), "{copy}");
    // What is larger is not mirrored, whether it says so or not.
    let answer = http::request("POST", &url, &[], b"123456789").expect("an answer");
    assert_eq!(answer.text(), "real");
    let chunked = chunked.replace("2\r\nab", "8\r\nabcdefgh");
    super::ask(&mut client, &chunked, "real");
    becomes(&outgrow, "outgrow_mirror_dropped_total", 2);
    assert_eq!(shadow.requests().len(), 2);
}

#[test]
fn nobody_waits_for_a_mirror_that_hangs_or_is_gone() {
    let app = Recorder::start(Script::answer(response("real"))).expect("a backend");
    let gate = Gate::new();
    let hangs = [
        Step::ReadRequest,
        Step::Wait(gate.clone()),
        Step::Send(response("late")),
        Step::Again,
    ];
    let shadow = Recorder::start(Script::every(hangs)).expect("a backend");
    // Each worker has one place.
    let outgrow = start(&app, &shadow, "at_once = 1");
    let began = Instant::now();
    let url = outgrow.url("public", "/x");
    let count = 200;
    for _ in 0..count {
        assert_eq!(http::get(&url).expect("an answer").text(), "real");
    }
    assert!(began.elapsed() < WHILE, "{:?}", began.elapsed());
    let metrics = outgrow.admin_get("/metrics").expect("metrics").text();
    let dropped = metrics
        .lines()
        .find_map(|line| line.strip_prefix("outgrow_mirror_dropped_total{route=\"app\"} "));
    let dropped: usize = dropped
        .expect("some were dropped")
        .parse()
        .expect("a number");
    let under_way = count - dropped;
    assert!((1..=64).contains(&under_way), "{under_way} are under way");
    assert!(shadow.wait_requests(under_way, SOON));
    assert_eq!(shadow.requests().len(), under_way);
    gate.open();
    becomes(
        &outgrow,
        "outgrow_mirrored_requests_total",
        under_way as u64,
    );
    drop(shadow);
    assert_eq!(http::get(&url).expect("an answer").text(), "real");
    becomes(&outgrow, "outgrow_mirror_failed_total", 1);
}

#[test]
fn a_share_is_mirrored() {
    let app = Recorder::start(Script::answer(response("real"))).expect("a backend");
    let shadow = Recorder::start(Script::answer(response("shadow"))).expect("a backend");
    let outgrow = start(&app, &shadow, "share = \"50%\"");
    for _ in 0..100 {
        http::get(&outgrow.url("public", "/x")).expect("an answer");
    }
    assert!(
        shadow.wait_requests(25, SOON),
        "{}",
        shadow.requests().len()
    );
    assert!(shadow.requests().len() <= 75, "{}", shadow.requests().len());
}
