//! The access record, and the numbers that go with it.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::mpsc::channel;

use outgrow_testkit::{
    backend::{Recorder, Script, response},
    folder::Folder,
    http,
    outgrow::Outgrow,
    processes::Signal,
};
use serde_json::Value;

use super::{Front, field, only_request, records};
use crate::shop::SOON;

#[test]
fn a_json_record_says_what_happened() {
    let backend = Recorder::start(Script::answer(response("hello"))).expect("a backend");
    let outgrow = Front {
        json: true,
        ..Front::default()
    }
    .before(&backend);
    let url = outgrow.url("public", "/a\u{fc}");
    let headers = [("Host", "shop.example"), ("User-Agent", "e2e \"1\"")];
    let answer = http::request("POST", &url, &headers, b"body");
    // A target is ASCII.
    assert_eq!(answer.expect("an answer").status, 400);
    let url = outgrow.url("public", "/a/b?q=1");
    let answer = http::request("POST", &url, &headers, b"body");
    assert_eq!(answer.expect("an answer").status, 200);
    // Each worker writes its own batches, so the order of two connections is not certain.
    let lines = records(&outgrow, 2);
    let parsed = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let (refused, served): (Vec<Value>, Vec<Value>) =
        parsed.partition(|record| record["status"] == 400);
    assert_eq!((refused.len(), served.len()), (1, 1), "{lines:?}");
    assert_eq!(refused[0]["reason"], "bad_target");
    let record = &served[0];
    let request = only_request(&backend);
    for (name, expected) in [
        ("id", Value::from(field(&request, "X-Request-Id"))),
        ("client", "127.0.0.1".into()),
        ("method", "POST".into()),
        ("host", "shop.example".into()),
        ("path", "/a/b".into()),
        ("query", "q=1".into()),
        ("protocol", "HTTP/1.1".into()),
        ("route", "app".into()),
        ("service", "app".into()),
        ("endpoint", backend.address().to_string().into()),
        ("user_agent", "e2e \"1\"".into()),
        ("status", 200.into()),
        ("request_bytes", 4.into()),
        ("response_bytes", 5.into()),
        ("retries", 0.into()),
        ("reused", 0.into()),
    ] {
        assert_eq!(record[name], expected, "{name} in {record}");
    }
    let duration = record["duration_us"].as_u64().expect("a duration");
    assert!(
        record["first_byte_us"].as_u64().expect("a time") <= duration,
        "{record}"
    );
    assert!(
        record["time"]
            .as_str()
            .is_some_and(|time| time.ends_with('Z')),
        "{record}"
    );
}

#[test]
fn a_text_record_is_one_line() {
    let backend = Recorder::start(Script::answer(response("hello"))).expect("a backend");
    let outgrow = Front::default().before(&backend);
    http::get(&outgrow.url("public", "/a?b")).expect("an answer");
    let public = outgrow.address("public").expect("an address");
    let record = records(&outgrow, 1).remove(0);
    let expected = format!("Z 127.0.0.1 \"GET {public}/a?b HTTP/1.1\" 200 in=0 out=5 us=");
    assert!(record.contains(&expected), "{record}");
    let endpoint = format!(
        " route=app service=app endpoint={} reused=0 id=",
        backend.address()
    );
    assert!(record.contains(&endpoint), "{record}");
}

#[test]
fn the_record_can_be_rotated() {
    let backend = Recorder::start(Script::answer(response("hello"))).expect("a backend");
    let outgrow = Front::default().before(&backend);
    let url = outgrow.url("public", "/");
    http::get(&url).expect("an answer");
    records(&outgrow, 1);
    let path = outgrow.folder().join("access.log");
    let rotated = outgrow.folder().join("access.log.1");
    std::fs::rename(&path, &rotated).expect("renamed");
    assert_eq!(
        outgrow.admin_post("/reload", "").expect("an answer").status,
        200
    );
    http::get(&url).expect("an answer");
    assert_eq!(records(&outgrow, 1).len(), 1);
    assert_eq!(
        std::fs::read_to_string(rotated)
            .expect("a file")
            .lines()
            .count(),
        1
    );
}

#[test]
fn requests_are_counted() {
    let backend = Recorder::start(Script::answer(response("hello"))).expect("a backend");
    let outgrow = Front::default().before(&backend);
    for _ in 0..3 {
        http::get(&outgrow.url("public", "/")).expect("an answer");
    }
    // A request is counted after its answer is out.
    let counted = |outgrow: &Outgrow| {
        let metrics = outgrow.admin_get("/metrics").ok()?.text();
        let line = "outgrow_requests_total{route=\"app\",class=\"2xx\"} 3";
        metrics.lines().any(|one| one == line).then_some(())
    };
    outgrow
        .wait("three requests in the metrics", SOON, counted)
        .expect("counted");
    let state = crate::shop::state(&outgrow);
    assert_eq!(state["routes"][0]["requests"], 3, "{state:#}");
    assert_eq!(
        state["services"][0]["endpoints"][0]["requests"], 3,
        "{state:#}"
    );
}

/// Somebody reads the records slowly: those of the last requests are still written.
#[test]
fn the_last_records_are_written_before_the_end() {
    let folder = Folder::new("records").expect("a folder");
    let path = folder.path().join("pipe");
    let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo");
    assert!(made.success());
    let both = OpenOptions::new().read(true).write(true).open(&path);
    let mut pipe = both.expect("a pipe");
    // As much as a pipe holds.
    let full = vec![b'x'; 65_536];
    pipe.write_all(&full).expect("room in the pipe");
    let backend = Recorder::start(Script::answer(response("hello"))).expect("a backend");
    let config = Front::default().config(&[backend.address()]);
    let config = config.replace("access.log", &path.display().to_string());
    let mut outgrow = Outgrow::start(&config).expect("outgrow starts");
    let answer = http::get(&outgrow.url("public", "/the/last")).expect("an answer");
    assert_eq!(answer.status, 200);
    outgrow.signal(Signal::TERM).expect("told to stop");
    let draining = |outgrow: &Outgrow| outgrow.stderr().contains("draining").then_some(());
    outgrow.wait("it ends", SOON, draining).expect("it ends");
    let (sender, records) = channel();
    std::thread::spawn(move || {
        pipe.read_exact(&mut vec![0; full.len()])
            .expect("what filled it");
        let mut piece = vec![0; 4_096];
        while let Ok(length) = pipe.read(&mut piece) {
            let _ = sender.send(String::from_utf8_lossy(&piece[..length]).into_owned());
        }
    });
    let record = records.recv_timeout(SOON).expect("a record");
    assert!(record.contains("/the/last"), "{record}");
    outgrow.wait_exit(SOON).expect("everything has ended");
}
