//! What becomes of connections when the configuration, a certificate, or the data process changes.

use std::time::Duration;

use serde_json::Value;

use super::{House, Load, certificate, config, handed};
use crate::shop::SOON;

/// How long there is load before and after something changes.
const WHILE: Duration = Duration::from_secs(2);

/// Nothing has failed, and something has gone on.
fn check(load: &Value) {
    assert_eq!(load["failed"], Value::Array(Vec::new()), "{load}");
    assert!(load["ok"].as_u64() > Some(50), "{load}");
}

#[test]
fn a_new_certificate_is_for_new_connections() {
    let Some(mut house) = House::start("", "") else {
        return;
    };
    let load = Load::start(&house, 3);
    std::thread::sleep(WHILE);
    let old = house.folder.path().join("old.pem");
    std::fs::copy(house.folder.path().join("cert.pem"), &old).expect("copied");
    certificate(&house.folder);
    let config = config(&house.folder, house.app.address, Some(""), "");
    house.outgrow.reload(&config).expect("reloaded");
    // Who believes the new one only is served.
    let said = house.one(&["get", "/new"]);
    assert_eq!(said["status"], 200, "{said}");
    std::thread::sleep(WHILE);
    // And who has been there goes on.
    let load = load.stop();
    check(&load);
    assert_eq!(load["connections"], 3, "{load}");
}

#[test]
fn http3_goes_and_comes_again() {
    let Some(mut house) = House::start("", "") else {
        return;
    };
    let load = Load::start(&house, 2);
    std::thread::sleep(WHILE);
    let address = house.app.address;
    let without = config(&house.folder, address, None, "");
    house.outgrow.reload(&without).expect("reloaded");
    let refused = house.command(&["get", "/"]).output().expect("python3 runs");
    assert!(!refused.status.success(), "{refused:?}");
    std::thread::sleep(WHILE);
    let with = config(&house.folder, address, Some("max_streams = 10"), "");
    house.outgrow.reload(&with).expect("reloaded");
    assert_eq!(house.one(&["get", "/again"])["status"], 200);
    assert_eq!(house.one(&["many", "40"])["ok"], 40);
    let load = load.stop();
    check(&load);
    assert_eq!(load["connections"], 2, "{load}");
}

#[test]
fn an_upgrade_under_load_drops_nothing() {
    let Some(mut house) = House::start("", "") else {
        return;
    };
    let load = Load::start(&house, 8);
    std::thread::sleep(WHILE);
    // With more workers, so that the kernel spreads anew; then with fewer than there are sockets.
    for workers in [5, 2] {
        let config = config(&house.folder, house.app.address, Some(""), "");
        let config = config.replace("workers = 3", &format!("workers = {workers}"));
        house.outgrow.write_config(&config).expect("written");
        house.outgrow.upgrade(None).expect("upgraded");
        std::thread::sleep(WHILE);
        let said = house.one(&["migrate", "6"]);
        let told = said["told"].as_array().expect("a list");
        assert!(told.iter().all(|one| one[0] == "200"), "{said}");
    }
    let load = load.stop();
    check(&load);
    // Each was told to come anew, to the next process.
    assert!(load["connections"].as_u64() >= Some(16), "{load}");
}

#[test]
fn an_answer_outlives_an_upgrade() {
    let Some(house) = House::start("", "") else {
        return;
    };
    let mut command = house.command(&["get", "/slow/3"]);
    command.stdout(std::process::Stdio::piped());
    let child = command.spawn().expect("python3 runs");
    std::thread::sleep(Duration::from_secs(1));
    house.outgrow.upgrade(None).expect("upgraded");
    let output = child.wait_with_output().expect("it ends");
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["status"], 200, "{said}");
    // What it sent meanwhile came to the next process's sockets, which are the same.
    assert!(handed(&house, "to_process") > 0.0);
    assert_eq!(house.one(&["get", "/next"])["status"], 200);
}

#[test]
fn clients_of_a_process_that_died_learn_it_at_once() {
    let Some(house) = House::start("", "") else {
        return;
    };
    let load = Load::start(&house, 3);
    std::thread::sleep(WHILE);
    let pids = house.outgrow.pids();
    house.outgrow.kill9(pids.data[0]).expect("killed");
    house
        .outgrow
        .wait("another one serves", SOON, |outgrow| {
            outgrow.is_ready().then_some(())
        })
        .expect("it does");
    std::thread::sleep(WHILE);
    let load = load.stop();
    // What was under way is lost; then each comes again, long before it would have given up.
    assert!(load["connections"].as_u64() >= Some(6), "{load}");
    let failed = load["failed"].as_array().expect("a list");
    let is_reset = |one: &Value| one == "stateless reset";
    assert!(failed.len() <= 3 && failed.iter().all(is_reset), "{load}");
}
