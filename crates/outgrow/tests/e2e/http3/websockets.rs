//! WebSockets (RFC 9220): what passes, and how they end.

use outgrow_testkit::outgrow::Outgrow;
use outgrow_testkit::processes::Signal;

use super::{House, Told, asked, config, metric_so_far, text};
use crate::shop::SOON;

/// What was said, as it comes back.
const HELLO: &str = "\u{81}\u{5}hello";

/// WebSockets that are open.
fn open(outgrow: &Outgrow) -> f64 {
    // It is there with the first of them.
    let open = metric_so_far(outgrow, "outgrow_upgraded_connections_open{route=\"app\"} ");
    open.unwrap_or_default()
}

/// A WebSocket on which something was said, and then nothing.
fn silent(house: &House, how: &str) -> Told {
    let mut client = Told::start(house, &["silent", how]);
    let heard = client.next();
    assert_eq!(
        (text(&heard, "body"), &heard["status"]),
        (HELLO, &200.into())
    );
    assert!(open(&house.outgrow) > 0.0);
    client
}

#[test]
fn a_websocket_is_opened_said_and_closed() {
    let Some(house) = House::start("", "") else {
        return;
    };
    let said = house.one(&["websocket", "/websocket"]);
    assert_eq!(
        (&said["offered"], &said["status"]),
        (&1.into(), &200.into())
    );
    // Text and Close, as they were said.
    assert_eq!(
        text(&said, "body"),
        "\u{81}\u{5}hello\u{88}\u{2}\u{3}\u{e8}",
        "{said}"
    );
    assert_eq!(said["failed"], serde_json::Value::Null, "{said}");
    let fields = said["fields"].as_object().expect("fields");
    assert!(!fields.contains_key("sec-websocket-accept"), "{said}");
    // Who knows no WebSocket opens none.
    let said = house.one(&["websocket", "/other"]);
    assert_eq!(said["status"], 502, "{said}");
}

/// A client that takes nothing more (STOP_SENDING) or ends it (RESET_STREAM), while neither side says a word:
/// the endpoint and its permit are not kept for `tunnel_idle`. One that could still say something has half a
/// minute.
#[test]
fn who_goes_silently_is_noticed() {
    let Some(house) = House::start("", "") else {
        return;
    };
    for how in ["unwanted", "reset"] {
        let mut client = silent(&house, how);
        client.say("go");
        assert_eq!(client.next()["step"], "silent");
        let is_over = |outgrow: &_| (open(outgrow) == 0.0).then_some(());
        let ended = house.outgrow.wait("the WebSocket ends", 3 * SOON, is_over);
        ended.unwrap_or_else(|error| panic!("{how}: {error}"));
        // It was the stream that ended: the connection is there.
        let said = client.end();
        assert_eq!(said["ended"], serde_json::Value::Null, "{said}");
    }
}

/// What a client says last reaches its endpoint, whether or not the client wants an answer: 200 KiB, after so
/// many seconds of silence, with so many bytes at once.
fn is_heard_to_the_end(path: &str, silence: &str, first: &str) {
    let Some(house) = House::start("", "") else {
        return;
    };
    let sent = house.one(&["last_words", path, "204800", silence, first]);
    assert_eq!(sent["step"], "sent");
    let all = |_: &_| {
        let heard = asked(&house.one(&["get", "/heard"]))["heard"].as_u64();
        (heard == sent["length"].as_u64()).then_some(())
    };
    let all = house.outgrow.wait("all of it is there", SOON, all);
    all.expect("it is");
    let is_over = |outgrow: &_| (open(outgrow) == 0.0).then_some(());
    let ended = house.outgrow.wait("the WebSocket ends", SOON, is_over);
    ended.expect("it does");
}

/// However slow the endpoint is.
#[test]
fn who_wants_no_answer_is_heard_to_the_end() {
    is_heard_to_the_end("/slow-websocket", "0", "1000");
}

/// The endpoint says something after the first word, before the last, and after it has passed.
#[test]
fn who_wants_no_answer_is_heard_although_it_is_answered() {
    is_heard_to_the_end("/slow-echo", "0", "1000");
}

/// More than the half minute that it has from then on, and not a word at once.
#[test]
fn who_wants_no_answer_after_a_silence_is_heard_to_the_end() {
    is_heard_to_the_end("/slow-websocket", "31", "0");
}

/// A client that has ended its direction still hears.
#[test]
fn a_websocket_may_be_half_closed() {
    let Some(house) = House::start("", "") else {
        return;
    };
    let mut client = silent(&house, "half");
    client.say("go");
    let said = client.next();
    assert_eq!(text(&said, "body"), format!("{HELLO}\u{81}\u{3}bye"));
    assert_eq!(said["failed"], serde_json::Value::Null, "{said}");
    client.end();
}

#[test]
fn a_stop_tells_websockets_to_come_again() {
    let Some(mut house) = House::start("", "") else {
        return;
    };
    let quick = config(&house.folder, house.app.address, Some(""), "");
    let quick = quick.replace("[process]", "[process]\ndrain_timeout = \"2s\"");
    house.outgrow.reload(&quick).expect("reloaded");
    let mut client = silent(&house, "told");
    client.say("go");
    house.outgrow.signal(Signal::TERM).expect("told to stop");
    let said = client.next();
    let body = text(&said, "body");
    // Close, 1012, in the endpoint's direction, and then the end in order.
    let close = body.strip_prefix(&format!("{HELLO}\u{88}"));
    let code = close.and_then(|close| close.get(1..));
    assert!(
        code.is_some_and(|code| code.starts_with("\u{3}\u{f4}")),
        "{said}"
    );
    assert_eq!(said["failed"], serde_json::Value::Null, "{said}");
    client.end();
    let ended = house.outgrow.wait_exit(SOON).expect("it ends");
    assert!(ended.success(), "{ended:?}");
}
