//! Tests of the end: what is a failure and what is said about it.

use outgrow_shop::shoppers::{KindCounts, Reason};

use super::*;
use crate::cli::demo::script::Cue;

fn totals(failed: u64, truncated: u64) -> Totals {
    let mut counts = KindCounts {
        requests: 1_000,
        failed,
        truncated,
        ..KindCounts::default()
    };
    counts.ok = counts.requests - failed - truncated;
    for millis in 1..=counts.ok {
        counts.latency.record(Duration::from_millis(millis));
    }
    let mut totals = Totals {
        elapsed: Duration::from_secs(10),
        ..Totals::default()
    };
    totals.kinds.insert("home".to_owned(), counts);
    totals
}

fn summary(totals: Totals) -> Summary {
    let mut account = Account::default();
    let played = |what: &str| Played {
        what: what.to_owned(),
        result: "ready again after 412 ms".to_owned(),
        took: Duration::from_millis(412),
    };
    let cue = |step| Cue {
        at: Duration::from_secs(3),
        step,
    };
    account.begin(cue(Step::Kill), Duration::from_secs(3), Counts::default());
    account.end(Ok(played("kill -9 of shop.1 (pid 7)")));
    Summary {
        instances: 3,
        shoppers: 32,
        counts: Counts::new(&totals, 5),
        totals,
        account,
        interrupted: false,
        problems: Vec::new(),
        logs: None,
    }
}

#[test]
fn a_good_end() {
    let mut totals = totals(0, 2);
    totals.web_sockets.reset = 3;
    let summary = summary(totals);
    assert_eq!(summary.verdicts(), Vec::<String>::new());
    let text = summary.text();
    for part in [
        "requests    1,000 (100 a second)",
        "truncated   2 ",
        "retried     5 ",
        "broken: 3 by killed instances, 0 by reload, 0 by upgrade",
        "3.0 s  kill -9 of shop.1 (pid 7): ready again after 412 ms",
        "No request failed.",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let json: Value = serde_json::from_str(&summary.json()).unwrap();
    assert!(!summary.json().contains('\n'));
    for (name, value) in [
        ("requests", 1_000),
        ("failed", 0),
        ("truncated", 2),
        ("retried", 5),
    ] {
        assert_eq!(json[name], value, "{name}");
    }
    assert_eq!(json["recovery_ms"], json!([412.0]));
    assert!((json["p50_ms"].as_f64().unwrap() - 500.0).abs() < 10.0);
    assert!((json["p99_ms"].as_f64().unwrap() - 988.0).abs() < 20.0);
}

#[test]
fn what_is_a_failure() {
    let check = |change: fn(&mut Summary), expected: &str| {
        let mut summary = summary(totals(0, 0));
        change(&mut summary);
        let text = summary.text();
        assert!(!summary.verdicts().is_empty(), "{expected}");
        assert!(text.contains(expected), "{expected} is not in\n{text}");
        assert!(!text.contains("No request failed"));
    };
    check(
        |summary| {
            summary.counts.failed = 1;
            summary.totals.reasons.insert(Reason::Status(502), 1);
            let broken = |_| Example {
                at: Duration::from_secs(1),
                kind: "web socket".to_owned(),
                what: "reset".to_owned(),
                detail: String::new(),
            };
            summary.totals.examples.extend((0..20).map(broken));
            summary.totals.examples.push(Example {
                at: Duration::from_millis(3_100),
                kind: "checkout".to_owned(),
                what: "status 502".to_owned(),
                detail: "connect_refused".to_owned(),
            });
            summary.logs = Some("/tmp/logs".into());
        },
        "at 3.100 s checkout: status 502 (connect_refused)",
    );
    check(|summary| summary.counts.requests = 0, "not one request");
    check(
        |summary| summary.counts.resent = 2,
        "2 requests had to be sent again by clients",
    );
    check(
        |summary| summary.counts.sockets_refused = 2,
        "2 WebSockets could not be opened",
    );
    check(
        |summary| {
            let cue = Cue {
                at: Duration::ZERO,
                step: Step::Upgrade,
            };
            summary
                .account
                .begin(cue, Duration::ZERO, Counts::default());
            summary.counts.truncated = 1;
        },
        "1 responses were truncated without a killed instance",
    );
    check(
        |summary| summary.problems.push("outgrow itself ended".to_owned()),
        "itself ended",
    );
    check(
        |summary| summary.account.end(Err("not ready again".to_owned())),
        "not ready again",
    );
    check(
        |summary| {
            let cue = Cue {
                at: Duration::ZERO,
                step: Step::Upgrade,
            };
            summary
                .account
                .begin(cue, Duration::ZERO, Counts::default());
            summary.counts.sockets_broken = 4;
        },
        "4 WebSockets broke without a killed instance",
    );
}
