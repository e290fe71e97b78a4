//! The stages of `examples/stages`: each one's file runs as it is written, on boxes that have the
//! addresses that are in it, with the guest book as the application.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use outgrow_shop::shoppers::{CustomRequest, Kind, Pace, Plan, Shoppers};
use outgrow_testkit::boxes::{Boxes, BoxesError};
use outgrow_testkit::databases::{self, Server};
use outgrow_testkit::http;
use outgrow_testkit::outgrow::{Launch, Outgrow};
use serde_json::Value;

use super::{PUBLIC, at, failed, longest_silence};
use crate::apps::{From, install};
use crate::shop;

/// Where in the files the balancer, the database and the two boxes of the application are.
const BALANCER: u8 = 0;
const DATABASE: u8 = 1;
const APPLICATIONS: [u8; 2] = [2, 3];
/// Where the guests are.
const GUESTS: u8 = 4;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/stages")
}

/// Starts outgrow with a stage's file in a box; the application is found where it is.
fn start(boxes: &Boxes, index: u8, file: &str) -> Outgrow {
    let text = fs::read_to_string(folder().join(file)).expect("the stage's file");
    let program = folder().join("app.py");
    let text = text.replace("\"app.py\"", &format!("\"{}\"", program.display()));
    let driver = install("pg8000", From::PyPi, &["pg8000==1.31.2"]).expect("a driver");
    let launch = Launch::config(&text)
        .environment("PYTHONPATH", &driver.display().to_string())
        .environment("DATABASE_PASSWORD", "s3cret");
    boxes.inside(index, || launch.start().expect("outgrow starts"))
}

/// Postgres in its box, with the application's database.
fn database(boxes: &Boxes) -> Server {
    let access = "host app app 192.0.2.0/24 scram-sha-256";
    let server = boxes.inside(DATABASE, || {
        databases::postgres_at(at(boxes, DATABASE, 5_432), access).expect("Postgres starts")
    });
    for statement in [
        "CREATE ROLE app LOGIN PASSWORD 's3cret'",
        "CREATE DATABASE app OWNER app",
    ] {
        server.query(statement).expect("it is done");
    }
    server
}

/// Guests who mostly look, and sometimes write.
fn guests(boxes: &Boxes, address: SocketAddr) -> Shoppers {
    let read = CustomRequest::get("/");
    let written = CustomRequest {
        name: "write".to_owned(),
        method: "POST".to_owned(),
        target: "/book".to_owned(),
        body: Some(b"a line"[..].into()),
        idempotent: false,
        expected: Some(b"written\n"[..].into()),
        ..CustomRequest::get("/book")
    };
    let plan = Plan {
        shoppers: 4,
        pace: Pace::Think(Duration::from_millis(10)),
        mix: vec![
            (Kind::Custom(Arc::new(read)), 4),
            (Kind::Custom(Arc::new(written)), 1),
        ],
        ..Plan::new(address)
    };
    boxes.inside(GUESTS, || Shoppers::start(plan).expect("guests"))
}

fn get(boxes: &Boxes, address: SocketAddr, path: &str) -> String {
    let url = format!("http://{address}{path}");
    let answer = boxes.inside(GUESTS, || http::get(&url).expect("an answer"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

/// What was answered with 200 is in the book, once.
fn check_book(boxes: &Boxes, address: SocketAddr, shoppers: Shoppers) {
    let totals = shoppers.stop();
    assert_eq!(failed(&totals), 0, "{}", totals.complaints(20));
    let written = totals.kinds["write"].ok;
    assert!(written > 0);
    let book = get(boxes, address, "/book");
    assert_eq!(book.lines().count() as u64, written);
    assert!(book.lines().all(|line| line == "a line"), "{book}");
}

/// How many requests each usable endpoint of a service got.
fn spread(boxes: &Boxes, index: u8, outgrow: &Outgrow, service: &str) -> BTreeMap<String, u64> {
    let state = boxes.inside(index, || shop::state(outgrow));
    let services = state["services"].as_array().expect("services");
    let found = services.iter().find(|one| one["name"] == service);
    let endpoints = found.expect("the service")["endpoints"].as_array();
    let each = |one: &Value| {
        assert_eq!(one["usable"], true, "{one}");
        let address = one["address"].as_str().expect("an address").to_owned();
        (address, one["requests"].as_u64().expect("a number"))
    };
    endpoints.expect("endpoints").iter().map(each).collect()
}

#[test]
fn stage_1_is_one_box() -> Result<(), BoxesError> {
    let boxes = Boxes::new(GUESTS + 1)?;
    let outgrow = start(&boxes, BALANCER, "1-one-box.toml");
    let address = at(&boxes, BALANCER, PUBLIC);
    let guests = guests(&boxes, address);
    longest_silence(&guests, 200);
    check_book(&boxes, address, guests);
    assert_eq!(spread(&boxes, BALANCER, &outgrow, "app").len(), 4);
    outgrow.stop().expect("a clean stop");
    Ok(())
}

#[test]
fn stages_2_and_3_part_the_database_and_the_application() -> Result<(), BoxesError> {
    let boxes = Boxes::new(GUESTS + 1)?;
    let _database = database(&boxes);
    // Stage 2: the application's box alone.
    let first = start(&boxes, APPLICATIONS[0], "2-apart.toml");
    let address = at(&boxes, APPLICATIONS[0], PUBLIC);
    let before = guests(&boxes, address);
    longest_silence(&before, 100);
    check_book(&boxes, address, before);
    let watched = spread(&boxes, APPLICATIONS[0], &first, "database");
    assert_eq!(watched.keys().collect::<Vec<_>>(), ["192.0.2.2:5432"]);
    // Stage 3: another box of it, and a balancer.
    let second = start(&boxes, APPLICATIONS[1], "2-apart.toml");
    let balancer = start(&boxes, BALANCER, "3-balancer.toml");
    let address = at(&boxes, BALANCER, PUBLIC);
    let visits: u64 = get(&boxes, address, "/")
        .trim_start_matches("visit ")
        .trim()
        .parse()
        .expect("a count");
    let after = guests(&boxes, address);
    longest_silence(&after, 200);
    let totals = after.stop();
    assert_eq!(failed(&totals), 0, "{}", totals.complaints(20));
    let more = get(&boxes, address, "/");
    let counted = visits + totals.kinds["/"].ok + 1;
    assert_eq!(
        more,
        format!("visit {counted}\n"),
        "every visit counts once"
    );
    let spread = spread(&boxes, BALANCER, &balancer, "app");
    assert_eq!(spread.len(), 2);
    assert!(spread.values().all(|count| *count > 20), "{spread:?}");
    for outgrow in [balancer, first, second] {
        outgrow.stop().expect("a clean stop");
    }
    Ok(())
}
