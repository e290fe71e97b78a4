//! What no client should say.

use outgrow_core::Cause;

use super::client::*;
use super::server::Server;

const FRAME_UNEXPECTED: u64 = 0x105;
const FRAME_ERROR: u64 = 0x106;
const EXCESSIVE_LOAD: u64 = 0x107;

/// What becomes of a request's stream with these bytes on it, on a connection of its own.
async fn check(name: &str, bytes: Vec<u8>, ends: bool, expected: Outcome) {
    let server = Server::start(true);
    let connection = connect(&server).await;
    let _control = one_way(&connection, CONTROL).await;
    let outcome = ask(&connection, &bytes, ends).await;
    match (&outcome, &expected) {
        (Outcome::Answer(status, _), Outcome::Answer(wanted, _)) => {
            assert_eq!(status, wanted, "{name}");
        }
        _ => assert_eq!(outcome, expected, "{name}"),
    }
    if matches!(expected, Outcome::Answer(..)) {
        // The connection goes on.
        let next = ask(&connection, &request("GET", "/", &[]), true).await;
        assert!(matches!(next, Outcome::Answer(200, _)), "{name}: {next:?}");
    }
}

fn status(status: u16) -> Outcome {
    Outcome::Answer(status, String::new())
}

#[tokio::test]
async fn frames_where_they_must_not_be() {
    let get = || request("GET", "/", &[]);
    let post = || request("POST", "/", &[]);
    let trailers = || headers(&[("x-t", "1")]);
    let unexpected = || Outcome::Closed(FRAME_UNEXPECTED);
    for (name, bytes) in [
        ("DATA first", data(b"x")),
        (
            "DATA after trailers",
            [post(), data(b"x"), trailers(), data(b"y")].concat(),
        ),
        (
            "HEADERS after trailers",
            [post(), trailers(), trailers()].concat(),
        ),
        ("SETTINGS", [get(), frame(4, b"")].concat()),
        ("GOAWAY", [get(), frame(7, &[0])].concat()),
        ("PUSH_PROMISE", [get(), frame(5, &[0, 0, 0])].concat()),
        ("MAX_PUSH_ID first", frame(0xd, &[0])),
        ("PRIORITY of HTTP/2", frame(2, &[0; 5])),
        ("PING of HTTP/2", [get(), frame(6, &[0; 8])].concat()),
    ] {
        check(name, bytes, true, unexpected()).await;
    }
}

#[tokio::test]
async fn what_is_cut_off_or_too_long() {
    let post = || request("POST", "/", &[]);
    let broken = || Outcome::Closed(FRAME_ERROR);
    let cut = |mut bytes: Vec<u8>| {
        bytes.pop();
        bytes
    };
    check("a head cut off", cut(post()), true, broken()).await;
    check(
        "data cut off",
        cut([post(), data(b"xyz")].concat()),
        true,
        broken(),
    )
    .await;
    check(
        "a frame's head cut off",
        [post(), vec![0x40]].concat(),
        true,
        broken(),
    )
    .await;
    check(
        "an unknown frame cut off",
        [post(), frame_head(0x21, 5)].concat(),
        true,
        broken(),
    )
    .await;
    check("nothing", Vec::new(), true, status(400)).await;
    // Nobody waits for what is never going to be taken.
    let much = frame_head(0x21, 10_000_000_000);
    check(
        "an endless frame",
        much.clone(),
        false,
        Outcome::Closed(EXCESSIVE_LOAD),
    )
    .await;
    check(
        "an endless frame later",
        [post(), much].concat(),
        false,
        Outcome::Closed(EXCESSIVE_LOAD),
    )
    .await;
    check(
        "an endless head",
        frame_head(1, 10_000_000_000),
        false,
        status(431),
    )
    .await;
    check(
        "a long head",
        request("GET", "/", &[("x-a", &"v".repeat(2_100))]),
        true,
        status(431),
    )
    .await;
    let many = vec![("x-a", "v"); 21];
    check("many fields", request("GET", "/", &many), true, status(431)).await;
    check(
        "a long target",
        request("GET", &format!("/{}", "x".repeat(300)), &[]),
        true,
        status(414),
    )
    .await;
}

#[tokio::test]
async fn sections_that_cannot_be_read() {
    let failed = || Outcome::Closed(0x200);
    for (name, section) in [
        ("empty", &b""[..]),
        ("a dynamic table", b"\x02\x00\x80"),
        ("an index beyond", b"\x00\x00\xff\x50"),
        ("a text cut off", b"\x00\x00\x51\x0b/"),
        ("a code that ends within", b"\x00\x00\x51\x81\x00"),
    ] {
        check(name, frame(1, section), true, failed()).await;
    }
}

#[tokio::test]
async fn malformed_requests_are_answered() {
    let get = |fields: &[(&str, &str)]| request("GET", "/", fields);
    for (name, bytes) in [
        (
            "a late pseudo-header field",
            get(&[("x-a", "1"), (":path", "/b")]),
        ),
        ("a repeated one", get(&[(":path", "/b")])),
        ("upper case", get(&[("X-A", "1")])),
        ("of the connection", get(&[("connection", "close")])),
        ("smuggled", get(&[("x-a", "1\r\nhost: b")])),
        (
            "two lengths",
            request(
                "POST",
                "/",
                &[("content-length", "1"), ("content-length", "1")],
            ),
        ),
        ("another host", get(&[("host", "b")])),
        (
            "no path",
            headers(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", "a"),
            ]),
        ),
        (
            "an extended CONNECT",
            request("CONNECT", "/", &[(":protocol", "websocket")]),
        ),
        (
            "a pseudo-header field in trailers",
            [request("POST", "/", &[]), headers(&[(":path", "/")])].concat(),
        ),
    ] {
        check(name, bytes, true, status(400)).await;
    }
    let connect = headers(&[(":method", "CONNECT"), (":authority", "a:443")]);
    check("CONNECT", connect, true, status(501)).await;
}

/// A client that goes on sending what is malformed is told why nobody takes it (RFC 9114 section 4.1.2).
#[tokio::test]
async fn who_goes_on_after_the_answer_is_told_why() {
    const MESSAGE_ERROR: u64 = 0x10e;
    const NO_ERROR: u64 = 0x100;
    let post = |fields: &[(&str, &str)]| request("POST", "/", fields);
    for (name, bytes, expected, code) in [
        ("a field", post(&[("X-A", "1")]), 400, MESSAGE_ERROR),
        ("another host", post(&[("host", "b")]), 400, MESSAGE_ERROR),
        (
            "a longer body",
            [post(&[("content-length", "1")]), data(b"abc")].concat(),
            400,
            MESSAGE_ERROR,
        ),
        (
            "trailers",
            [post(&[]), headers(&[(":path", "/")])].concat(),
            400,
            MESSAGE_ERROR,
        ),
        (
            "a long head",
            post(&[("x-a", &"v".repeat(2_100))]),
            431,
            NO_ERROR,
        ),
    ] {
        let server = Server::start(true);
        let connection = connect(&server).await;
        let _control = one_way(&connection, CONTROL).await;
        let (mut send, receive) = connection.open_bi().await.expect("opened");
        send.write_all(&bytes).await.expect("written");
        let told = outcome(&connection, receive).await;
        let is_answered = matches!(told, Outcome::Answer(status, _) if status == expected);
        assert!(is_answered, "{name}: {told:?}");
        let stopped = send.stopped().await.expect("connected");
        assert_eq!(stopped.map(|code| code.into_inner()), Some(code), "{name}");
    }
}

#[tokio::test]
async fn bodies_of_another_length_than_they_say() {
    let post = || request("POST", "/", &[("content-length", "5")]);
    check("none", post(), true, status(400)).await;
    check(
        "shorter",
        [post(), data(b"abc")].concat(),
        true,
        status(400),
    )
    .await;
    check(
        "longer",
        [post(), data(b"abcdef")].concat(),
        true,
        status(400),
    )
    .await;
    check(
        "longer later",
        [post(), data(b"abc"), data(b"def")].concat(),
        true,
        status(400),
    )
    .await;
    check(
        "as long",
        [post(), data(b"abc"), data(b"de")].concat(),
        true,
        status(200),
    )
    .await;
}

#[tokio::test]
async fn the_other_streams() {
    const CREATION: u64 = 0x103;
    for (name, streams, expected) in [
        ("two control streams", vec![CONTROL, CONTROL], CREATION),
        ("a push", vec![CONTROL, &[0x01]], CREATION),
        ("no settings", vec![&[0x00, 0x07, 0x01, 0x00][..]], 0x10a),
        (
            "settings twice",
            vec![&[0x00, 0x04, 0x00, 0x04, 0x00]],
            FRAME_UNEXPECTED,
        ),
        (
            "a setting of HTTP/2",
            vec![&[0x00, 0x04, 0x02, 0x03, 0x00]],
            0x109,
        ),
        (
            "a setting twice",
            vec![&[0x00, 0x04, 0x04, 0x06, 0x00, 0x06, 0x00]],
            0x109,
        ),
        (
            "settings cut short",
            vec![&[0x00, 0x04, 0x01, 0x06]],
            FRAME_ERROR,
        ),
        (
            "a request's frame",
            vec![&[0x00, 0x04, 0x00, 0x00, 0x00]],
            FRAME_UNEXPECTED,
        ),
        (
            "a frame of HTTP/2",
            vec![&[0x00, 0x04, 0x00, 0x06, 0x00]],
            FRAME_UNEXPECTED,
        ),
        (
            "GOAWAY that grows",
            vec![&[0x00, 0x04, 0x00, 0x07, 0x01, 0x01, 0x07, 0x01, 0x02]],
            0x108,
        ),
        (
            "a push that is not there",
            vec![&[0x00, 0x04, 0x00, 0x03, 0x01, 0x00]],
            0x108,
        ),
        (
            "an endless frame",
            vec![&[0x00, 0x04, 0x00, 0x21, 0xc0, 0, 0, 1, 0, 0, 0, 0]],
            EXCESSIVE_LOAD,
        ),
        (
            "a dynamic table",
            vec![CONTROL, &[0x02, 0x3f, 0xe1, 0x1f]],
            0x201,
        ),
        (
            "an acknowledgement of nothing",
            vec![CONTROL, &[0x03, 0x80]],
            0x202,
        ),
    ] {
        let server = Server::start(true);
        let connection = connect(&server).await;
        let mut open = Vec::new();
        for bytes in streams {
            open.push(one_way(&connection, bytes).await);
        }
        assert_eq!(
            closed(&connection).await,
            Outcome::Closed(expected),
            "{name}"
        );
    }
    // A control stream that ends takes its connection with it.
    let server = Server::start(true);
    let connection = connect(&server).await;
    one_way(&connection, CONTROL)
        .await
        .finish()
        .expect("finished");
    assert_eq!(closed(&connection).await, Outcome::Closed(0x104));
}

/// Who does not want our control stream closes what the connection needs (RFC 9114 section 6.2.1).
#[tokio::test]
async fn our_control_stream_has_to_be_taken() {
    let server = Server::start(true);
    let connection = connect(&server).await;
    let _control = one_way(&connection, CONTROL).await;
    let mut ours = connection.accept_uni().await.expect("opened");
    ours.stop(0x100_u32.into()).expect("stopped");
    assert_eq!(closed(&connection).await, Outcome::Closed(0x104));
}

#[tokio::test]
async fn streams_that_are_reset_at_once() {
    let mut server = Server::start(false);
    let connection = connect(&server).await;
    let _control = one_way(&connection, CONTROL).await;
    let get = request("POST", "/", &[]);
    for _ in 0..2_000 {
        let Ok((mut send, mut receive)) = connection.open_bi().await else {
            break;
        };
        let _ = send.write_all(&get).await;
        cancel(&mut send);
        let _ = receive.stop(0x10c_u32.into());
    }
    assert_eq!(closed(&connection).await, Outcome::Closed(EXCESSIVE_LOAD));
    assert_eq!(server.ends.recv().await, Some(Some(Cause::ResetFlood)));
}

#[tokio::test]
async fn streams_without_a_meaning_are_bounded() {
    let server = Server::start(true);
    let connection = connect(&server).await;
    let _control = one_way(&connection, CONTROL).await;
    for _ in 0..200 {
        let Ok(mut stream) = connection.open_uni().await else {
            break;
        };
        let _ = stream.write_all(&[0x21]).await;
        let _ = stream.finish();
    }
    assert_eq!(closed(&connection).await, Outcome::Closed(EXCESSIVE_LOAD));
}
