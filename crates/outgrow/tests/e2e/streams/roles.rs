//! Redis as it is run: connections go to the primary, and leave it when it is one no more.

use std::time::Duration;

use outgrow_testkit::{
    databases,
    outgrow::Outgrow,
    raw::{Client, End},
};

use super::{connect, nobody, records};
use crate::shop::SOON;

/// Sends a command, and gives the first line of the answer.
fn redis(client: &mut Client, command: &str) -> String {
    client
        .send(format!("{command}\r\n").as_bytes())
        .expect("sent");
    assert!(
        client.receive_until(b"\r\n", SOON).expect("received"),
        "{command}"
    );
    String::from_utf8_lossy(&client.take_received())
        .trim()
        .to_owned()
}

fn at(address: std::net::SocketAddr) -> Client {
    Client::connect(address).expect("connected")
}

#[test]
fn connections_follow_the_primary() {
    if !databases::has_redis() {
        return;
    }
    let one = databases::redis(&[]).expect("Redis starts");
    let other = databases::redis(&[]).expect("Redis starts");
    let (first, second) = (one.address(), other.address());
    let follow = format!("REPLICAOF 127.0.0.1 {}", first.port());
    assert_eq!(redis(&mut at(second), &follow), "+OK");
    let text = format!(
        r#"
[access]
to = "access.log"
[tcp.public]
address = "%public%"
service = "cache"
endpoint_down = "reset"
[service.cache]
endpoints = ["{second}", "{first}", "{}"]
check = {{ kind = "redis", role = "primary", interval = "100ms", fast_interval = "50ms", rise = 1, fall = 2 }}
"#,
        nobody()
    );
    let outgrow = Outgrow::start(&text).expect("outgrow starts");
    // Never the replica, although most are down by then, nor before it was asked.
    for _ in 0..6 {
        let mut client = connect(&outgrow);
        assert_eq!(redis(&mut client, "SET key value"), "+OK");
    }
    let mut old = connect(&outgrow);
    assert_eq!(redis(&mut old, "SET key old"), "+OK");
    // The roles change.
    assert_eq!(redis(&mut at(second), "REPLICAOF NO ONE"), "+OK");
    let follow = format!("REPLICAOF 127.0.0.1 {}", second.port());
    assert_eq!(redis(&mut at(first), &follow), "+OK");
    assert_eq!(old.receive_to_end(SOON).expect("received").end, End::Reset);
    let written = outgrow.wait("a primary", SOON, |outgrow| {
        let mut client = Client::connect(outgrow.address("public")?).ok()?;
        client.send(b"SET key new\r\n").ok()?;
        let came = client
            .receive_until(b"+OK\r\n", Duration::from_secs(1))
            .ok()?;
        came.then_some(())
    });
    written.expect("a primary");
    assert_eq!(redis(&mut at(second), "GET key"), "$3\r\nnew");
    // Each worker hands its records over by itself.
    let recorded = outgrow.wait("the old one's record", SOON, |outgrow| {
        let lines = records(outgrow, 8);
        let is_cut_off = |line: &String| line.contains("reason=endpoint_down");
        lines.iter().any(is_cut_off).then_some(())
    });
    recorded.expect("the old one's record");
}
