//! What comes of comparing endpoints, seen from outside: weights by reported load, ejection of the
//! one that is slow, and advice about a check that is slow.

use std::{net::SocketAddr, time::Duration};

use outgrow_testkit::{
    backend::{Recorder, Script, Step},
    http,
    outgrow::Outgrow,
};
use serde_json::Value;

use crate::shop::{SOON, try_state};

/// A backend that answers every request after `pause`, with this field.
fn backend(pause: Duration, field: &str) -> Recorder {
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{field}\r\nok");
    let script = Script::every([
        Step::ReadRequest,
        Step::Pause(pause),
        Step::Send(answer.into_bytes()),
        Step::Again,
    ]);
    Recorder::start(script).expect("a backend")
}

fn start(backends: &[Recorder], service: &str) -> Outgrow {
    let address = |backend: &Recorder| format!("\"{}\"", backend.address());
    let endpoints: Vec<String> = backends.iter().map(address).collect();
    let endpoints = endpoints.join(", ");
    let config = format!(
        "[listener.public]\naddress = \"%public%\"\n[route.app]\nservice = \"app\"\n\
         [service.app]\nendpoints = [{endpoints}]\n{service}\n"
    );
    Outgrow::start(&config).expect("outgrow starts")
}

fn service(outgrow: &Outgrow) -> Option<Value> {
    try_state(outgrow)?["services"].get(0).cloned()
}

/// The endpoint at the address, as the state shows it.
fn endpoint(outgrow: &Outgrow, address: SocketAddr) -> Option<Value> {
    let address = address.to_string();
    let service = service(outgrow)?;
    let mut endpoints = service["endpoints"].as_array()?.iter();
    endpoints.find(|one| one["address"] == *address).cloned()
}

fn ask(outgrow: &Outgrow, times: usize) {
    for _ in 0..times {
        let answer = http::get(&outgrow.url("public", "/")).expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
        assert_eq!(
            answer.header("endpoint-load-metrics"),
            None,
            "it is not for clients"
        );
    }
}

#[test]
fn who_reports_less_load_gets_more() {
    let field = |used: f64| {
        format!("Endpoint-Load-Metrics: TEXT cpu_utilization={used}, rps_fractional=100, eps=0\r\n")
    };
    let backends = [
        backend(Duration::ZERO, &field(0.2)),
        backend(Duration::ZERO, &field(0.8)),
    ];
    let outgrow = start(
        &backends,
        "balance = \"round_robin\"\nweights = \"reported\"\nload_report = { blackout = \"0s\" }",
    );
    let weigh = |outgrow: &Outgrow| {
        ask(outgrow, 5);
        let weight = |index: usize| {
            endpoint(outgrow, backends[index].address())?["reported_weight"].as_u64()
        };
        ((weight(0)?, weight(1)?) == (1_000, 250)).then_some(())
    };
    outgrow.wait("the weights", SOON, weigh).expect("they come");
    let before = backends[0].requests().len();
    ask(&outgrow, 100);
    let more = backends[0].requests().len() - before;
    assert!((75..=85).contains(&more), "{more} of 100 instead of 80");
}

#[test]
fn who_answers_much_later_is_left_out() {
    let backends = [
        backend(Duration::ZERO, ""),
        backend(Duration::ZERO, ""),
        backend(Duration::from_millis(120), ""),
    ];
    let slow = backends[2].address();
    let outgrow = start(
        &backends,
        "balance = \"round_robin\"\n[service.app.outlier]\ninterval = \"1s\"\n\
         slow_responses = { least_requests = 3 }",
    );
    let eject = |outgrow: &Outgrow| {
        ask(outgrow, 12);
        let why = endpoint(outgrow, slow)?["ejected_because"]
            .as_str()?
            .to_owned();
        Some(why)
    };
    let why = outgrow.wait("the ejection", SOON, eject);
    let why = why.unwrap_or_else(|error| panic!("{error}\n{}", outgrow.stderr()));
    assert!(
        why.starts_with("took 1") && why.contains("much longer than the others"),
        "{why}"
    );
    let before = backends[2].requests().len();
    ask(&outgrow, 20);
    assert_eq!(backends[2].requests().len(), before);
    let metrics = outgrow.admin_get("/metrics").expect("metrics").text();
    let line = format!(
        "outgrow_endpoint_ejections_total{{service=\"app\",endpoint=\"{slow}\",\
         reason=\"slow_responses\"}} 1"
    );
    assert!(metrics.contains(&line), "{metrics}");
    outgrow.wait_told("outlier.slow_responses").expect("told");
}

#[test]
fn a_slow_check_is_told_with_what_to_change() {
    let backends = [backend(Duration::from_millis(110), "")];
    let outgrow = start(
        &backends,
        "[service.app.check]\npath = \"/readyz\"\ninterval = \"10ms\"\nfast_interval = \"10ms\"",
    );
    let advice = |outgrow: &Outgrow| service(outgrow)?["advice"].as_str().map(str::to_owned);
    let advice = outgrow.wait("the advice", SOON, advice);
    let advice = advice.unwrap_or_else(|error| panic!("{error}\n{}", outgrow.stderr()));
    assert!(advice.starts_with("the check takes 1"), "{advice}");
    assert!(advice.contains("/livez"), "{advice}");
    outgrow.wait_told("app: the check takes 1").expect("told");
}
