//! Reload, upgrade and stop under open connections, and what is told of them.

use std::time::Duration;

use outgrow_testkit::raw::End;

use super::{Server, config, connect, echoed, records, start};
use crate::shop::SOON;

#[test]
fn a_reload_keeps_connections() {
    let (a, b) = (Server::echo("a"), Server::echo("b"));
    let mut outgrow = start(&[a.address], "", "");
    let mut old = connect(&outgrow);
    echoed(&mut old, "before");
    // Another endpoint, other times: for those who come now.
    let changed = config(&[b.address], "timeouts = { idle = \"100ms\" }", "", "");
    outgrow.reload(&changed).expect("reloaded");
    std::thread::sleep(Duration::from_millis(300));
    echoed(&mut old, "after");
    let mut new = connect(&outgrow);
    assert!(new.receive_until(b"b", SOON).expect("received"));
    assert_eq!(new.receive_to_end(SOON).expect("received").end, End::Reset);
    // The listener goes, the connection stays.
    let gone = config(&[b.address], "", "", "").replace("%public%", "127.0.0.1:0");
    outgrow.reload(&gone).expect("reloaded");
    echoed(&mut old, "still there");
    let address = outgrow.address("public").expect("one");
    assert!(
        std::net::TcpStream::connect(address).is_err(),
        "nobody listens"
    );
}

#[test]
fn an_upgrade_keeps_connections_for_as_long_as_it_may() {
    let server = Server::echo("");
    let text = config(
        &[server.address],
        "",
        "",
        "[process]\nupgrade_drain_timeout = \"8s\"",
    );
    let outgrow = outgrow_testkit::outgrow::Outgrow::start(&text).expect("outgrow starts");
    let mut old = connect(&outgrow);
    echoed(&mut old, "before");
    outgrow.upgrade(None).expect("upgraded");
    echoed(&mut old, "in the old one");
    let mut new = connect(&outgrow);
    echoed(&mut new, "in the new one");
    let exchange = old.receive_to_end(SOON).expect("received");
    assert_eq!(exchange.end, End::Reset, "not as if it were whole");
    echoed(&mut new, "still in the new one");
    let lines = records(&outgrow, 1);
    assert!(lines[0].contains("reason=drained"), "{lines:?}");
}

#[test]
fn a_stop_waits_for_connections_and_resets_what_is_left() {
    let server = Server::echo("");
    let text = config(
        &[server.address],
        "",
        "",
        "[process]\ndrain_timeout = \"1s\"",
    );
    let mut outgrow = outgrow_testkit::outgrow::Outgrow::start(&text).expect("outgrow starts");
    let mut client = connect(&outgrow);
    echoed(&mut client, "before");
    let mut other = connect(&outgrow);
    echoed(&mut other, "too");
    outgrow.signal(rustix::process::Signal::TERM).expect("told");
    outgrow.wait_told("draining").expect("it drains");
    echoed(&mut client, "while it drains");
    client.finish_sending().expect("ended");
    assert_eq!(
        client.receive_to_end(SOON).expect("received").end,
        End::Closed
    );
    assert_eq!(
        other.receive_to_end(SOON).expect("received").end,
        End::Reset
    );
    let status = outgrow.wait_exit(SOON).expect("it ends");
    assert!(status.success());
    let lines = records(&outgrow, 2);
    assert!(
        lines.iter().any(|line| line.contains("reason=drained")),
        "{lines:?}"
    );
}

#[test]
fn it_is_told_what_there_is() {
    let server = Server::echo("hello");
    let outgrow = start(&[server.address], "", "");
    let mut client = connect(&outgrow);
    echoed(&mut client, "12345");
    let state = outgrow.admin_get("/state").expect("told").text();
    let state: serde_json::Value = serde_json::from_str(&state).expect("JSON");
    let public = &state["tcp"][0];
    assert_eq!(public["name"], "public");
    assert_eq!(
        (&public["open"], &public["accepted"]),
        (&1.into(), &1.into())
    );
    // While it is open.
    assert_eq!(public["received_bytes"], 5);
    client.finish_sending().expect("ended");
    client.receive_to_end(SOON).expect("received");
    let metrics = outgrow.wait("the end", SOON, |outgrow| {
        let text = outgrow.admin_get("/metrics").ok()?.text();
        let ended =
            "outgrow_tcp_connections_ended_total{listener=\"public\",reason=\"finished\"} 1";
        text.contains(ended).then_some(text)
    });
    let metrics = metrics.expect("it is counted");
    for line in [
        "outgrow_tcp_connections_open{listener=\"public\"} 0",
        "outgrow_tcp_received_bytes_total{listener=\"public\"} 5",
        "outgrow_tcp_sent_bytes_total{listener=\"public\"} 10",
        "outgrow_endpoint_requests_total{service=\"app\"",
    ] {
        assert!(metrics.contains(line), "no {line:?}");
    }
    let ready = outgrow.admin_get("/readyz").expect("told");
    assert_eq!(ready.status, 200);
}
