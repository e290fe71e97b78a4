//! Who may come, and what those cost who mean ill.

use outgrow_testkit::{authority::Authority, processes::Signal};

use super::{House, Load, Told, asked, config, metric, said_by, text, under_way};
use crate::shop::SOON;

#[test]
fn addresses_are_verified_where_it_is_wanted() {
    let Some(house) = House::start("", "") else {
        return;
    };
    assert_eq!(house.one(&["get", "/"])["retried"], false);
    let Some(house) = House::start("verify_from = 0", "") else {
        return;
    };
    let said = house.one(&["get", "/"]);
    assert_eq!(
        (&said["retried"], &said["status"]),
        (&true.into(), &200.into())
    );
}

#[test]
fn clients_show_certificates() {
    let authority = Authority::new().expect("an authority");
    let ca = authority.ca_file().expect("written");
    let clients = format!("[listener.public.tls.clients]\nca = \"{}\"", ca.display());
    let Some(house) = House::start("", &clients) else {
        return;
    };
    let words = ["get", "/"];
    let without = house.one(&words);
    // certificate_required, as QUIC says an alert of TLS.
    let failed = text(&without, "failed");
    assert!(failed.starts_with("connection 0x174"), "{without}");
    let issued = authority.issue(&["app.example"]).expect("issued");
    let (certificate, key) = authority.files("app", &issued).expect("written");
    let mut command = house.command(&words);
    command
        .env("CLIENT_CERT", certificate)
        .env("CLIENT_KEY", key);
    let said = said_by(&mut command, &words).remove(0);
    assert_eq!(said["status"], 200, "{said}");
    let names = &asked(&said)["fields"]["x-client-cert-san"];
    assert_eq!(names, "DNS:app.example", "{said}");
}

#[test]
fn names_that_no_certificate_has_are_refused() {
    let Some(house) = House::start("", "unknown_name = \"refuse\"") else {
        return;
    };
    assert_eq!(house.one(&["get", "/"])["status"], 200);
    let mut command = house.command(&["get", "/"]);
    let refused = command.env("SERVER_NAME", "other.example").output();
    let refused = refused.expect("python3 runs");
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && errors.contains("ConnectionError"),
        "{errors}"
    );
}

/// A house with little memory; none without the client's library.
fn small(http3: &str) -> Option<House> {
    let mut house = House::start(http3, "")?;
    let small = config(&house.folder, house.app.address, Some(http3), "");
    let small = small.replace("[process]", "[process]\nmemory = \"16MiB\"");
    house.outgrow.reload(&small).expect("reloaded");
    Some(house)
}

/// What one address may make it hold of that.
const SMALL_PART: f64 = (16 << 20) as f64 / 12.0;

/// What a client could make us hold has a share, and its address a part of that.
#[test]
fn requests_that_are_left_open_are_refused_and_counted() {
    let Some(house) = small("") else {
        return;
    };
    let mut client = Told::start(&house, &["unfinished", "60"]);
    let said = client.next();
    assert_eq!(said["whole"], "200", "{said}");
    let refused = said["refused"].as_f64().expect("a number");
    assert!((20.0..56.0).contains(&refused), "{said}");
    let counted = metric(&house.outgrow, "outgrow_buffer_unforeseen_total ");
    assert!((counted - refused).abs() < 0.5, "{counted}, {said}");
    let foreseen = metric(&house.outgrow, "outgrow_buffer_foreseen_bytes ");
    assert!((1.0..=SMALL_PART).contains(&foreseen), "{foreseen}");
    client.end();
    // It is gone, and QUIC forgets it soon.
    let nothing = |outgrow: &_| {
        let foreseen = metric(outgrow, "outgrow_buffer_foreseen_bytes ");
        (foreseen == 0.0).then_some(())
    };
    let back = house.outgrow.wait("all is given back", SOON, nothing);
    back.expect("it is");
}

/// One address takes its part and no other's, also where something may come before the handshake is complete.
#[test]
fn an_address_takes_nothing_from_another() {
    for http3 in ["", "early_data = true"] {
        let Some(house) = small(http3) else {
            return;
        };
        let begin = |_| Told::start(&house, &["unfinished", "60", "127.0.0.1"]);
        let mut clients: Vec<_> = (0..6).map(begin).collect();
        let refused = |client: &mut Told| client.next()["refused"].as_u64().expect("a number");
        let all: Vec<_> = clients.iter_mut().map(refused).collect();
        assert!(all.iter().max() >= Some(&56), "{all:?}: it has its part");
        let mut other = Told::start(&house, &["unfinished", "10", "127.0.0.2"]);
        let said = other.next();
        assert_eq!(
            (&said["refused"], &said["whole"]),
            (&0.into(), &"200".into())
        );
        other.end();
        for client in clients {
            client.end();
        }
    }
}

/// Many clients share an address, and each of their connections stays when it has asked.
#[test]
fn connections_that_are_idle_take_nothing_from_their_address() {
    let Some(house) = small("early_data = true") else {
        return;
    };
    assert_eq!(house.one(&["posts", "30"])["ok"], 30);
}

#[test]
fn resets_without_end_cost_others_little() {
    let Some(house) = House::start("", "") else {
        return;
    };
    let mut load = Load::start(&house, 3);
    load.more(300);
    let alone = load.stop();
    let mut load = Load::start(&house, 3);
    load.more(10);
    let resets = house.one(&["resets", "3"]);
    // Each is closed (H3_EXCESSIVE_LOAD) soon after the two hundredth: what it had sent until it heard.
    let ended = resets["ended"].as_array().expect("a list");
    assert_eq!(ended.len(), 3, "{resets}");
    for one in ended {
        let is_closed = one[0]
            .as_str()
            .is_some_and(|ended| ended.starts_with("0x107"));
        let opened = one[1].as_u64().expect("a number");
        assert!(is_closed && opened < 1_000, "{resets}");
    }
    let beside = load.stop();
    assert_eq!(beside["failed"], serde_json::json!([]), "{beside}");
    let p99 = |load: &serde_json::Value| load["p99"].as_f64().expect("a time");
    // Twice as long at most, and what a machine that does other things as well adds to anything.
    let (alone, beside) = (p99(&alone), p99(&beside));
    assert!(beside < 2.0 * alone + 0.1, "{alone} alone, {beside} beside");
}

#[test]
fn a_stop_lets_requests_end() {
    let Some(house) = House::start("", "") else {
        return;
    };
    let words = ["get", "/slow/2"];
    let mut command = house.command(&words);
    command.stdout(std::process::Stdio::piped());
    let child = command.spawn().expect("python3 runs");
    under_way(&house);
    let mut house = house;
    house.outgrow.signal(Signal::TERM).expect("told to stop");
    let output = child.wait_with_output().expect("it ends");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["status"], 200, "{said}");
    let ended = house.outgrow.wait_exit(SOON).expect("it ends");
    assert!(ended.success(), "{ended:?}");
}
