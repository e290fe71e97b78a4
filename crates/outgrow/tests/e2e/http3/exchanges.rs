//! Requests and responses: small, large, many, and from other addresses in between.

use std::process::Command;

use super::{House, Told, asked, config, handed, records, text};
use crate::apps::{From, install};
use crate::shop::SOON;

const KEPT: &str = include_str!("kept.py");

#[test]
fn a_request_goes_there_and_back() {
    let Some(house) = House::start("", "") else {
        return;
    };
    let said = house.one(&[
        "get",
        "/hello?a=b",
        "cookie=a=1",
        "cookie=b=2",
        "te=trailers",
    ]);
    assert_eq!(said["status"], 200, "{said}");
    let asked = asked(&said);
    assert_eq!(asked["path"], "/hello?a=b");
    let fields = &asked["fields"];
    assert_eq!(fields["host"], "shop.example");
    assert_eq!(fields["cookie"], "a=1; b=2");
    assert_eq!(fields["x-forwarded-proto"], "https");
    assert_eq!(fields["x-forwarded-for"], "127.0.0.1");
    assert_eq!(fields["via"], "3 outgrow");
    let told = |_: &_| {
        let line = "\"GET shop.example/hello?a=b HTTP/3\" 200 in=0";
        records(&house.outgrow).contains(line).then_some(())
    };
    house
        .outgrow
        .wait("the record says it", SOON, told)
        .expect("it does");
}

#[test]
fn large_bodies_go_both_ways() {
    let Some(house) = House::start("", "") else {
        return;
    };
    let sent = house.one(&["post", "10000000"]);
    assert_eq!(sent["status"], 200, "{sent}");
    let asked_for = asked(&sent);
    assert_eq!(asked_for["length"], 10_000_000);
    assert_eq!(asked_for["sha256"], sent["sent"]);
    let got = house.one(&["get", "/bytes/10000000"]);
    assert_eq!(
        (&got["status"], &got["length"]),
        (&200.into(), &10_000_000.into())
    );
    assert_eq!(text(&got["fields"], "content-length"), "10000000");
    // Without a length, in pieces.
    let streamed = house.one(&["stream", "300000"]);
    assert_eq!(asked(&streamed)["length"], 300_000, "{streamed}");
    assert_eq!(asked(&streamed)["sha256"], streamed["sent"]);
}

/// Those that wait for each other's windows leave the one that they wait for the window of the connection.
#[test]
fn compressed_bodies_of_one_connection_go_beside_each_other() {
    let route = "[route.inflated]\npath = \"/inflated\"\nservice = \"app\"\ndecompress = {}\n";
    let Some(house) = House::start(route, "") else {
        return;
    };
    let said = house.one(&["compressed", "8", "1000000"]);
    let told = said["told"].as_array().expect("a list");
    assert_eq!(told.len(), 8, "{said}");
    for one in told {
        assert_eq!(*one, serde_json::json!(["200", true, null]), "{said}");
    }
    let all = records(&house.outgrow);
    assert_eq!(
        all.matches("POST shop.example/inflated HTTP/3").count(),
        8,
        "{all}"
    );
}

#[test]
fn many_streams_share_a_connection() {
    let Some(house) = House::start("", "") else {
        return;
    };
    assert_eq!(house.one(&["many", "100"])["ok"], 100);
    // More than may be open at a time wait for their turn.
    assert_eq!(house.one(&["many", "400"])["ok"], 400);
}

#[test]
fn a_client_goes_on_from_other_addresses() {
    let Some(house) = House::start("", "") else {
        return;
    };
    let said = house.one(&["migrate", "16"]);
    let told = said["told"].as_array().expect("a list");
    assert_eq!(told.len(), 16);
    for one in told {
        assert_eq!(
            (&one[0], &one[1]),
            (&"200".into(), &1_600_000.into()),
            "{said}"
        );
    }
    // With three sockets some of sixteen ports lead to another worker's, which hands on.
    assert!(handed(&house, "to_worker") > 0.0);
}

/// Endpoints are told where the client was when it came: that alone is verified. Who has moved finishes
/// what is under way, and is asked to come anew.
#[test]
fn an_address_that_a_client_moves_to_is_told_to_nobody() {
    let Some(house) = House::start("", "") else {
        return;
    };
    let said = house.one(&["move"]);
    assert_eq!(said["length"], 1_600_000, "{said}");
    let told = said["told"].as_array().expect("a list");
    assert!((1..20).contains(&told.len()), "{said}");
    assert!(told.iter().all(|address| address == "127.0.0.1"), "{said}");
    // H3_REQUEST_REJECTED, or the connection has ended in order.
    let failed = text(&said, "failed");
    let is_in_order = ["reset 0x10b", "connection 0x100 ", ""].contains(&failed);
    assert!(is_in_order, "{said}");
}

/// Many clients end a GET in a packet of its own, and some never do.
#[test]
fn a_request_does_not_wait_for_its_streams_end() {
    let Some(house) = House::start("", "") else {
        return;
    };
    let said = house.one(&["unended", "/bytes/16"]);
    assert_eq!(
        (&said["status"], &said["length"]),
        (&200.into(), &16.into()),
        "{said}"
    );
    let seconds = said["seconds"].as_f64().expect("a time");
    // Far below `timeouts.head`.
    assert!(seconds < 3.0, "{said}");
}

#[test]
fn clients_over_tcp_are_told() {
    let Some(mut house) = House::start("alt_svc_port = 443\nalt_svc_max_age = \"1h\"", "") else {
        return;
    };
    let answer = over_tcp(&house);
    assert!(
        answer.contains("alt-svc: h3=\":443\"; ma=3600\r\n"),
        "{answer}"
    );
    let mut kept = Kept::open(&house);
    let mut kept_are_told = |what| {
        if let Some(kept) = &mut kept {
            assert_eq!(kept.ask(), [what; 2]);
        }
    };
    let offer = "h3=\":443\"; ma=3600";
    kept_are_told(offer);
    // Who remembers it is told that it has gone, on connections that were there before, and by the next
    // process.
    let without = config(&house.folder, house.app.address, None, "");
    house.outgrow.reload(&without).expect("reloaded");
    let answer = over_tcp(&house);
    assert!(answer.contains("alt-svc: clear\r\n"), "{answer}");
    kept_are_told("clear");
    // Also when the listener goes, and when it comes again.
    let with = "alt_svc_port = 443\nalt_svc_max_age = \"1h\"";
    let with = config(&house.folder, house.app.address, Some(with), "");
    house.outgrow.reload(&with).expect("reloaded");
    kept_are_told(offer);
    let elsewhere = without.replace("%public%", "%elsewhere%");
    house.outgrow.reload(&elsewhere).expect("reloaded");
    kept_are_told("clear");
    house.outgrow.reload(&with).expect("reloaded");
    kept_are_told(offer);
    house.outgrow.reload(&without).expect("reloaded");
    house.outgrow.upgrade(None).expect("upgraded");
    let answer = over_tcp(&house);
    assert!(answer.contains("alt-svc: clear\r\n"), "{answer}");
}

/// A connection of HTTP/1.1 and one of HTTP/2 that are kept.
struct Kept(Told);

impl Kept {
    /// None without the library for HTTP/2.
    fn open(house: &House) -> Option<Self> {
        let library = install("h2-4.4.1", From::PyPi, &["h2==4.4.1"])?;
        let program = house.folder.write("kept.py", KEPT).expect("written");
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", library).arg(program);
        command.arg(house.port().to_string());
        command.arg(house.folder.path().join("cert.pem"));
        Some(Self(Told::by(&mut command)))
    }

    /// What each is told of HTTP/3 now.
    fn ask(&mut self) -> [String; 2] {
        self.0.say("ask");
        let told = self.0.next();
        ["HTTP/1.1", "HTTP/2"].map(|name| text(&told, name).to_owned())
    }
}

/// An answer over TCP, in lower case.
fn over_tcp(house: &House) -> String {
    let port = house.port();
    let output = Command::new("curl")
        .args(["--silent", "--insecure", "--include", "--noproxy", "*"])
        .arg(format!("https://127.0.0.1:{port}/"))
        .output()
        .expect("curl is missing: apt-get install curl");
    String::from_utf8_lossy(&output.stdout).to_lowercase()
}
