//! What the shoppers make of answers that are wrong, against a scripted
//! backend: each kind of wrong is counted as itself.

use std::{sync::Arc, time::Duration};

use outgrow_shop::{
    content,
    shoppers::{CustomRequest, Kind, Plan, Reason, Shoppers, Totals},
};
use outgrow_testkit::backend::{Recorder, Script, Step, response, response_chunked};

/// One shopper asks for the page so often.
fn ask(recorder: &Recorder, requests: u64, kind: Kind) -> Totals {
    let mut plan = Plan::new(recorder.address());
    plan.shoppers = 1;
    plan.requests = Some(requests);
    plan.mix = vec![(kind, 1)];
    plan.time_limit = Duration::from_millis(500);
    Shoppers::start(plan).unwrap().wait()
}

fn once(steps: impl Into<Vec<Step>>) -> Totals {
    let mut steps = steps.into();
    steps.insert(0, Step::ReadRequest);
    let recorder = Recorder::start(Script::every(steps)).unwrap();
    ask(&recorder, 1, Kind::Home)
}

fn failed(steps: impl Into<Vec<Step>>, reason: Reason) {
    let totals = once(steps);
    let all = totals.all();
    assert_eq!(
        (all.requests, all.failed, all.failed_idempotent),
        (1, 1, 1),
        "{reason}"
    );
    assert_eq!(
        totals.reasons.get(&reason),
        Some(&1),
        "{}",
        totals.complaints(5)
    );
    assert_eq!(totals.examples.len(), 1);
}

fn truncated(steps: impl Into<Vec<Step>>) {
    let totals = once(steps);
    let all = totals.all();
    assert_eq!(
        (all.requests, all.truncated, all.failed),
        (1, 1, 0),
        "{}",
        totals.complaints(5)
    );
    assert!(totals.reasons.is_empty());
    assert_eq!(totals.examples[0].what, "truncated");
}

#[test]
fn a_body_that_ends_early_is_truncated() {
    let whole = response(content::home());
    let cut = whole[..whole.len() - 1].to_vec();
    truncated([Step::Send(cut.clone()), Step::Close]);
    truncated([Step::Send(cut), Step::Reset]);
    let chunked = response_chunked(&[&content::home()]);
    let no_last_chunk = chunked[..chunked.len() - 5].to_vec();
    truncated([Step::Send(no_last_chunk), Step::Close]);
    let until_close = b"HTTP/1.1 200 OK\r\n\r\n<!doctype html>\n".to_vec();
    truncated([Step::Send(until_close), Step::Close]);
}

#[test]
fn a_wrong_byte_is_a_failure() {
    let mut body = content::home().to_vec();
    body[1000] ^= 1;
    failed([Step::Send(response(&body))], Reason::WrongBody);
    // Cut, but wrong before the cut.
    let cut = response(&body)[..1500].to_vec();
    failed([Step::Send(cut), Step::Close], Reason::WrongBody);
    // Right by its own framing, yet not the page.
    failed(
        [Step::Send(response(&content::home()[..100]))],
        Reason::WrongBody,
    );
    let longer = [content::home().as_ref(), b"x"].concat();
    failed([Step::Send(response(longer))], Reason::WrongBody);
}

#[test]
fn other_failures_have_their_reason() {
    let unavailable = b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nbusy".to_vec();
    failed([Step::Send(unavailable)], Reason::Status(503));
    failed([Step::Reset], Reason::Unanswered);
    failed([Step::Close], Reason::Unanswered);
    failed([Step::Silence], Reason::TimedOut);
    let half_head = b"HTTP/1.1 200 OK\r\nContent-".to_vec();
    failed([Step::Send(half_head), Step::Close], Reason::Malformed);
    let bare = b"HTTP/1.1 200 OK\nContent-Length: 0\n\n".to_vec();
    failed([Step::Send(bare)], Reason::Malformed);
    let recorder = Recorder::start(Script::silence()).unwrap();
    let mut plan = Plan::new(recorder.address());
    drop(recorder);
    plan.requests = Some(1);
    let totals = Shoppers::start(plan).unwrap().wait();
    assert_eq!(totals.reasons.get(&Reason::Connect), Some(&1));
}

#[test]
fn surplus_bytes_are_a_failure() {
    let answer = [response(content::home()).as_slice(), b"HTTP"].concat();
    let recorder = Recorder::start(Script::answer(answer)).unwrap();
    let totals = ask(&recorder, 2, Kind::Home);
    assert_eq!((totals.all().ok, totals.all().failed), (1, 1));
    assert_eq!(totals.reasons.get(&Reason::Surplus), Some(&1));
}

#[test]
fn a_kept_connection_that_is_closed_under_a_request_is_tried_again() {
    let right = response(content::home());
    // The second request is read and then the connection is closed unanswered.
    let racing = [
        Step::ReadRequest,
        Step::Send(right.clone()),
        Step::ReadRequest,
        Step::Reset,
    ];
    let good = vec![Step::ReadRequest, Step::Send(right), Step::Again];
    let script = Script::in_turn([racing.to_vec(), good]);
    let recorder = Recorder::start(script.clone()).unwrap();
    let totals = ask(&recorder, 3, Kind::Home);
    let all = totals.all();
    assert_eq!(
        (all.ok, all.retried, all.failed),
        (3, 1, 0),
        "{}",
        totals.complaints(5)
    );
    assert_eq!((totals.connects, totals.reconnects), (2, 0));

    // The same with a request that may not be repeated.
    let recorder = Recorder::start(script).unwrap();
    let request = CustomRequest {
        name: "order".into(),
        method: "POST".into(),
        target: "/".into(),
        headers: vec![],
        body: Some("x".into()),
        idempotent: false,
        status: 200,
        expected: None,
    };
    let totals = ask(&recorder, 3, Kind::Custom(Arc::new(request)));
    let counts = &totals.kinds["order"];
    assert_eq!((counts.ok, counts.retried, counts.failed), (2, 0, 1));
    assert_eq!(counts.failed_idempotent, 0);
    assert_eq!(totals.reasons.get(&Reason::Unanswered), Some(&1));
}

#[test]
fn a_connection_closed_between_requests_is_only_a_reconnect() {
    let right = response(content::home());
    let script = Script::every([Step::ReadRequest, Step::Send(right), Step::Close]);
    let recorder = Recorder::start(script).unwrap();
    let mut plan = Plan::new(recorder.address());
    plan.shoppers = 1;
    plan.requests = Some(3);
    plan.mix = vec![(Kind::Home, 1)];
    // Time enough for the close to arrive.
    plan.pace = outgrow_shop::shoppers::Pace::Think(Duration::from_millis(100));
    let totals = Shoppers::start(plan).unwrap().wait();
    let all = totals.all();
    assert_eq!(
        (all.ok, all.retried, all.failed),
        (3, 0, 0),
        "{}",
        totals.complaints(5)
    );
    assert_eq!((totals.connects, totals.reconnects), (3, 2));
}
