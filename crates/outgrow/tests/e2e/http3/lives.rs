//! What becomes of connections when the configuration, a certificate, or the data process changes.

use std::net::UdpSocket;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{House, Load, Told, certificate, config, handed, under_way};
use crate::shop::SOON;

/// How many requests are answered before and after something changes.
const SOME: u64 = 100;

/// Longer than the clients need to say how far they are.
const LOOK: Duration = Duration::from_millis(300);

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
    let mut load = Load::start(&house, 3);
    load.more(SOME);
    let old = house.folder.path().join("old.pem");
    std::fs::copy(house.folder.path().join("cert.pem"), &old).expect("copied");
    certificate(&house.folder);
    let config = config(&house.folder, house.app.address, Some(""), "");
    house.outgrow.reload(&config).expect("reloaded");
    // Who believes the new one only is served.
    let said = house.one(&["get", "/new"]);
    assert_eq!(said["status"], 200, "{said}");
    load.more(SOME);
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
    let mut kept = Told::start(&house, &["kept", "/kept"]);
    assert_eq!(kept.next()["status"], 200);
    let mut uploads = Uploads::start(&house, 2);
    under_way(&house);
    let address = house.app.address;
    let without = config(&house.folder, address, None, "");
    house.outgrow.reload(&without).expect("reloaded");
    let refused = house.command(&["get", "/"]).output().expect("python3 runs");
    assert!(!refused.status.success(), "{refused:?}");
    // Who is there is to come anew, elsewhere, and what is under way goes on.
    assert_eq!(kept.end()["ended"], "0x100 ");
    uploads.more(300_000);
    let with = config(&house.folder, address, Some("max_streams = 10"), "");
    house.outgrow.reload(&with).expect("reloaded");
    assert_eq!(house.one(&["get", "/again"])["status"], 200);
    assert_eq!(house.one(&["many", "40"])["ok"], 40);
    uploads.end(2);
}

#[test]
fn an_upgrade_under_load_drops_nothing() {
    let Some(mut house) = House::start("", "") else {
        return;
    };
    let mut load = Load::start(&house, 8);
    load.more(SOME);
    // With more workers, so that the kernel spreads anew; then with fewer than there are sockets.
    for (at, workers) in [5, 2].into_iter().enumerate() {
        let config = config(&house.folder, house.app.address, Some(""), "");
        let config = config.replace("workers = 3", &format!("workers = {workers}"));
        house.outgrow.write_config(&config).expect("written");
        house.outgrow.upgrade(None).expect("upgraded");
        // Each is told to come anew, to the next process.
        let connections = 8 * (at as u64 + 2);
        load.until("they have come anew", |so_far| {
            so_far["connections"].as_u64() >= Some(connections)
        });
        let said = house.one(&["migrate", "6"]);
        let told = said["told"].as_array().expect("a list");
        assert!(told.iter().all(|one| one[0] == "200"), "{said}");
    }
    check(&load.stop());
}

#[test]
fn an_answer_outlives_an_upgrade() {
    let Some(house) = House::start("", "") else {
        return;
    };
    let mut command = house.command(&["get", "/slow/3"]);
    command.stdout(Stdio::piped());
    let child = command.spawn().expect("python3 runs");
    under_way(&house);
    house.outgrow.upgrade(None).expect("upgraded");
    let output = child.wait_with_output().expect("it ends");
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["status"], 200, "{said}");
    // What it sent meanwhile came to the next process's sockets, which are the same.
    assert!(handed(&house, "to_process") > 0.0);
    assert_eq!(house.one(&["get", "/next"])["status"], 200);
}

/// The process that leaves has sockets of a listener that was gone, and that the next one has again: who
/// comes anew is the next one's.
#[test]
fn a_listener_may_come_again_with_an_upgrade() {
    let Some(mut house) = House::start("", "") else {
        return;
    };
    let uploads = Uploads::start(&house, 8);
    under_way(&house);
    let address = house.app.address;
    let without = config(&house.folder, address, None, "");
    house.outgrow.reload(&without).expect("reloaded");
    let with = config(&house.folder, address, Some(""), "");
    house.outgrow.write_config(&with).expect("written");
    house.outgrow.upgrade(None).expect("upgraded");
    let said = house.one(&["connects", "200"]);
    assert_eq!(said["ok"], 200, "{said}");
    uploads.end(8);
}

/// The next process does not read what comes for connections that are left: the one that has them does.
#[test]
fn an_upgrade_may_take_http3_away() {
    let Some(mut house) = House::start("", "") else {
        return;
    };
    let uploads = Uploads::start(&house, 8);
    under_way(&house);
    let without = config(&house.folder, house.app.address, None, "");
    house.outgrow.write_config(&without).expect("written");
    house.outgrow.upgrade(None).expect("upgraded");
    let address = house.outgrow.address("public").expect("an address");
    let bound = UdpSocket::bind(address);
    assert!(bound.is_err(), "it is in use: {bound:?}");
    uploads.end(8);
    // With the process that had them its sockets go.
    let free = |_: &_| UdpSocket::bind(address).ok();
    let free = house.outgrow.wait("nobody has the port", 2 * SOON, free);
    free.expect("it is given up");
}

/// What the next process reads it may stop to read, and read again: connections of the one that leaves go
/// on, and who comes anew is served by the next one.
#[test]
fn http3_goes_and_comes_again_after_an_upgrade() {
    let Some(mut house) = House::start("", "") else {
        return;
    };
    let mut uploads = Uploads::start(&house, 8);
    under_way(&house);
    house.outgrow.upgrade(None).expect("upgraded");
    assert_eq!(house.one(&["get", "/next"])["status"], 200);
    let address = house.app.address;
    let without = config(&house.folder, address, None, "");
    house.outgrow.reload(&without).expect("reloaded");
    // Longer than it takes until the next one has let go, and a packet that is lost is sent again.
    uploads.more(300_000);
    let with = config(&house.folder, address, Some(""), "");
    house.outgrow.reload(&with).expect("reloaded");
    let said = house.one(&["connects", "200"]);
    assert_eq!(said["ok"], 200, "{said}");
    uploads.end(8);
}

/// Who was asked by the process that leaves to show its address could come to nobody else with that.
#[test]
fn who_shows_its_address_during_an_upgrade_is_served() {
    let Some(house) = House::start("verify_from = 0", "") else {
        return;
    };
    let uploads = Uploads::start(&house, 1);
    under_way(&house);
    let mut held = Told::start(&house, &["hold", "/shown"]);
    let said = held.next();
    assert_eq!((&said["step"], &said["kind"]), (&"held".into(), &3.into()));
    house.outgrow.upgrade(None).expect("upgraded");
    let said = held.end();
    assert_eq!(said["status"], 200, "{said}");
    uploads.end(1);
}

/// Bodies that go on.
struct Uploads(Told);

impl Uploads {
    fn start(house: &House, count: usize) -> Self {
        let mut told = Told::start(house, &["uploads", &count.to_string()]);
        assert_eq!(told.next()["step"], "begun");
        Self(told)
    }

    /// Waits until so much more of each has arrived.
    fn more(&mut self, bytes: u64) {
        let mut arrived = || self.0.next()["arrived"].as_u64().expect("a number");
        let mut now = 0;
        // What was said before lies in the pipe still: it is taken first.
        let since = Instant::now();
        while since.elapsed() < LOOK {
            now = arrived();
        }
        let since = Instant::now();
        while arrived() < now + bytes {
            assert!(since.elapsed() < SOON, "nothing arrives any more");
        }
    }

    /// They end, and all of each has arrived.
    fn end(self, count: usize) {
        let said = self.0.end();
        let sizes = said["sizes"].as_array().expect("a list");
        assert_eq!(sizes.len(), count, "{said}");
        assert!(sizes.iter().all(|one| one[0] == one[1]), "{said}");
    }
}

/// What is for connections comes to all sockets of the group, also to those that are more than there are
/// workers.
#[test]
fn sockets_beyond_the_workers_are_read_to_the_end() {
    let Some(mut house) = House::start("", "") else {
        return;
    };
    let config = |http3| {
        let config = config(&house.folder, house.app.address, http3, "");
        config.replace("workers = 3", "workers = 1")
    };
    let (with, without) = (config(Some("")), config(None));
    house.outgrow.write_config(&with).expect("written");
    house.outgrow.upgrade(None).expect("upgraded");
    let uploads = Uploads::start(&house, 8);
    under_way(&house);
    house.outgrow.reload(&without).expect("reloaded");
    uploads.end(8);
}

#[test]
fn clients_of_a_process_that_died_learn_it_at_once() {
    let Some(house) = House::start("", "") else {
        return;
    };
    let mut load = Load::start(&house, 3);
    load.more(SOME);
    let pids = house.outgrow.pids();
    house.outgrow.kill9(pids.data[0]).expect("killed");
    house
        .outgrow
        .wait("another one serves", SOON, |outgrow| {
            outgrow.is_ready().then_some(())
        })
        .expect("it does");
    load.more(SOME);
    let load = load.stop();
    // What was under way is lost; then each comes again, long before it would have given up.
    assert!(load["connections"].as_u64() >= Some(6), "{load}");
    let failed = load["failed"].as_array().expect("a list");
    let is_reset = |one: &Value| one == "stateless reset";
    assert!(failed.len() <= 3 && failed.iter().all(is_reset), "{load}");
}
