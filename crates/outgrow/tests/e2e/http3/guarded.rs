//! Who may come, and what those cost who mean ill.

use outgrow_testkit::{authority::Authority, processes::Signal};

use super::{House, Load, asked, config, metric, said_by, text, under_way};
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

/// What a client could make us hold has a share, and its address a part of that.
#[test]
fn requests_that_are_left_open_are_refused_and_counted() {
    let Some(mut house) = House::start("", "") else {
        return;
    };
    let small = config(&house.folder, house.app.address, Some(""), "");
    let small = small.replace("[process]", "[process]\nmemory = \"16MiB\"");
    house.outgrow.reload(&small).expect("reloaded");
    let said = house.one(&["unfinished", "60"]);
    assert_eq!(said["whole"], "200", "{said}");
    let refused = said["refused"].as_f64().expect("a number");
    assert!((20.0..56.0).contains(&refused), "{said}");
    let counted = metric(&house.outgrow, "outgrow_buffer_unforeseen_total ");
    assert!((counted - refused).abs() < 0.5, "{counted}, {said}");
    // It is gone, and QUIC forgets it soon.
    let nothing = |outgrow: &_| {
        let foreseen = metric(outgrow, "outgrow_buffer_foreseen_bytes ");
        (foreseen == 0.0).then_some(())
    };
    let back = house.outgrow.wait("all is given back", SOON, nothing);
    back.expect("it is");
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
