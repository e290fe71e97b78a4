//! Connections to endpoints, against frames by hand: what an endpoint says, and how a request's fate
//! is told.

use std::future::poll_fn;
use std::sync::Arc;

use outgrow_core::{Cause, Fault, Sent};
use outgrow_http::Upstream;
use outgrow_http::h2::{ClientStream, Session, SessionSettings, open};
use outgrow_message::{Blocks, BodyLength, BodySource, Ledger, Method, RequestHead, ResponseHead};
use outgrow_net::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::frames::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, SETTINGS, block, frame,
};

const ACK: u8 = 1;
const REFUSED_STREAM: u32 = 7;
const INTERNAL_ERROR: u32 = 2;

/// An endpoint that says what it is told to, and a session to it.
struct Endpoint {
    io: UnixStream,
    session: Session,
    blocks: Arc<Blocks>,
}

async fn refused(bytes: &[u8]) -> Fault {
    let (ours, mut theirs) = UnixStream::pair().expect("pair");
    theirs.write_all(bytes).await.expect("written");
    theirs.shutdown().await.expect("shut");
    let blocks = Blocks::new(Ledger::new(16 << 20));
    let opened = open(Stream::Unix(ours), blocks, SessionSettings::default()).await;
    opened.map(|_| ()).expect_err("nothing that speaks HTTP/2")
}

impl Endpoint {
    /// Its settings allow so many streams.
    async fn start(streams: u32) -> Self {
        let (ours, mut io) = UnixStream::pair().expect("pair");
        let mut setting = vec![0, 3];
        setting.extend(streams.to_be_bytes());
        io.write_all(&frame(SETTINGS, 0, 0, &setting))
            .await
            .expect("written");
        let blocks = Blocks::new(Ledger::new(16 << 20));
        let given = Arc::clone(&blocks);
        let opened = open(Stream::Unix(ours), given, SessionSettings::default()).await;
        let (session, driver) = opened.expect("opened");
        tokio::spawn(driver);
        // Ours are in force from here on.
        io.write_all(&frame(SETTINGS, ACK, 0, &[]))
            .await
            .expect("written");
        Self {
            io,
            session,
            blocks,
        }
    }

    fn begin(&self, head: &RequestHead) -> ClientStream {
        let begun = self.session.begin(head, b"localhost", false, &self.blocks);
        begun.expect("begun")
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.expect("written");
    }

    /// Reads until a frame of this kind came; its stream.
    async fn until(&mut self, kind: u8) -> u32 {
        loop {
            let mut head = [0; 9];
            self.io.read_exact(&mut head).await.expect("a frame");
            if head == *b"PRI * HTT" {
                let mut rest = [0; 15];
                self.io.read_exact(&mut rest).await.expect("the preface");
                continue;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            self.io.read_exact(&mut payload).await.expect("a payload");
            if head[3] == kind {
                return u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            }
        }
    }
}

fn request(method: Method, text: &str) -> RequestHead {
    let mut head = RequestHead::default();
    head.clear();
    head.method = method;
    head.method_text = head.fields.push_bytes(text.as_bytes());
    head.raw_path = head.fields.push_bytes(b"/");
    head.normalise_path().expect("normal");
    head
}

fn get() -> RequestHead {
    request(Method::Get, "GET")
}

async fn answer(
    stream: &mut ClientStream,
    request: &RequestHead,
) -> Result<(ResponseHead, Vec<u8>), Fault> {
    let mut head = ResponseHead::default();
    poll_fn(|cx| stream.poll_head(cx, request, &mut head)).await?;
    let mut body = Vec::new();
    while poll_fn(|cx| stream.poll_data(cx)).await? {
        body.extend_from_slice(stream.data());
        let count = stream.data().len();
        stream.consume(count);
    }
    Ok((head, body))
}

fn fate(fault: Fault) -> (Cause, Sent) {
    (fault.cause, fault.sent)
}

#[tokio::test]
async fn what_is_no_http2_is_told_before_anything_is_sent() {
    let answer = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    for (bytes, cause) in [
        (&answer[..], Cause::UpstreamBadResponse),
        (b"", Cause::UpstreamClosed),
        (&frame(GOAWAY, 0, 0, &[0; 8]), Cause::UpstreamClosed),
    ] {
        assert_eq!(fate(refused(bytes).await), (cause, Sent::None), "{bytes:?}");
    }
}

#[tokio::test]
async fn a_session_has_room_as_its_endpoint_says() {
    let mut endpoint = Endpoint::start(2).await;
    assert_eq!(endpoint.session.room(), 2);
    let head = get();
    let (mut one, two) = (endpoint.begin(&head), endpoint.begin(&head));
    assert_eq!(
        (endpoint.session.room(), endpoint.session.open_streams()),
        (0, 2)
    );
    let number = endpoint.until(HEADERS).await;
    let fields = block(&[(":status", "200"), ("content-length", "2")]);
    endpoint
        .say(&frame(HEADERS, END_HEADERS, number, &fields))
        .await;
    endpoint.say(&frame(DATA, END_STREAM, number, b"ok")).await;
    let (answered, body) = answer(&mut one, &head).await.expect("answered");
    assert_eq!(
        (answered.status, answered.length),
        (200, BodyLength::Known(2))
    );
    assert_eq!(body, b"ok");
    drop((one, two));
    assert_eq!(endpoint.session.room(), 2);
    assert_eq!(
        endpoint.until(RST_STREAM).await,
        3,
        "the one that was given up"
    );
    // It may say so later, too.
    endpoint
        .say(&frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]))
        .await;
    while endpoint.session.room() != 9 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_was_not_looked_at_may_go_elsewhere() {
    let mut endpoint = Endpoint::start(10).await;
    let head = request(Method::Post, "POST");
    let (mut one, mut two, mut three) = (
        endpoint.begin(&head),
        endpoint.begin(&head),
        endpoint.begin(&head),
    );
    let first = endpoint.until(HEADERS).await;
    // The last stream that it looks at is the first one.
    let mut last = first.to_be_bytes().to_vec();
    last.extend(0_u32.to_be_bytes());
    endpoint.say(&frame(GOAWAY, 0, 0, &last)).await;
    let fault = answer(&mut two, &head)
        .await
        .map(|_| ())
        .expect_err("not looked at");
    assert_eq!(fate(fault), (Cause::UpstreamClosed, Sent::None));
    let fault = answer(&mut three, &head)
        .await
        .map(|_| ())
        .expect_err("not looked at");
    assert_eq!(fate(fault), (Cause::UpstreamClosed, Sent::None));
    assert!(endpoint.session.is_over());
    let late = endpoint.session.begin(&head, b"x", false, &endpoint.blocks);
    assert_eq!(
        late.map(|_| ()).map_err(fate),
        Err((Cause::UpstreamClosed, Sent::None))
    );
    // The first one goes on.
    let fields = block(&[(":status", "204")]);
    let ends = END_HEADERS | END_STREAM;
    endpoint.say(&frame(HEADERS, ends, first, &fields)).await;
    assert_eq!(
        answer(&mut one, &head).await.expect("answered").0.status,
        204
    );
}

#[tokio::test]
async fn a_reset_says_whether_it_was_looked_at() {
    for (reason, expected) in [
        (REFUSED_STREAM, (Cause::UpstreamReset, Sent::None)),
        (INTERNAL_ERROR, (Cause::UpstreamReset, Sent::Maybe)),
    ] {
        let mut endpoint = Endpoint::start(10).await;
        let head = get();
        let mut stream = endpoint.begin(&head);
        let number = endpoint.until(HEADERS).await;
        endpoint
            .say(&frame(RST_STREAM, 0, number, &reason.to_be_bytes()))
            .await;
        let fault = answer(&mut stream, &head)
            .await
            .map(|_| ())
            .expect_err("reset");
        assert_eq!(fate(fault), expected);
        assert!(!endpoint.session.is_over(), "others go on");
    }
    let mut endpoint = Endpoint::start(10).await;
    let head = get();
    let mut stream = endpoint.begin(&head);
    endpoint.until(HEADERS).await;
    drop(endpoint.io);
    let fault = answer(&mut stream, &head)
        .await
        .map(|_| ())
        .expect_err("lost");
    assert_eq!(fate(fault), (Cause::UpstreamReset, Sent::Maybe));
}

#[tokio::test]
async fn a_response_that_breaks_the_rules_is_none() {
    let long = block(&[(":status", "200"), ("content-length", "9")]);
    for (name, method, fields, ends, data) in [
        ("shorter than it says", "GET", &long, false, &b"short"[..]),
        ("ends with its head", "GET", &long, true, b""),
        ("101", "GET", &block(&[(":status", "101")]), true, b""),
        (
            "of the connection",
            "GET",
            &block(&[(":status", "200"), ("connection", "close")]),
            true,
            b"",
        ),
        (
            "two lengths",
            "GET",
            &block(&[
                (":status", "200"),
                ("content-length", "1"),
                ("content-length", "2"),
            ]),
            false,
            b"x",
        ),
    ] {
        let mut endpoint = Endpoint::start(10).await;
        let head = request(Method::of(method.as_bytes()), method);
        let mut stream = endpoint.begin(&head);
        let number = endpoint.until(HEADERS).await;
        let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
        endpoint.say(&frame(HEADERS, flags, number, fields)).await;
        if !ends {
            endpoint.say(&frame(DATA, END_STREAM, number, data)).await;
        }
        let fault = answer(&mut stream, &head)
            .await
            .map(|_| ())
            .expect_err(name);
        assert_eq!(
            fate(fault),
            (Cause::UpstreamBadResponse, Sent::Maybe),
            "{name}"
        );
    }
}

#[tokio::test]
async fn what_follows_a_head_that_has_no_body_is_not_waited_for() {
    for (method, status) in [("GET", "304"), ("HEAD", "200"), ("GET", "204")] {
        let mut endpoint = Endpoint::start(10).await;
        let head = request(Method::of(method.as_bytes()), method);
        let mut stream = endpoint.begin(&head);
        let number = endpoint.until(HEADERS).await;
        let fields = match status {
            "204" => block(&[(":status", status)]),
            _ => block(&[(":status", status), ("content-length", "9")]),
        };
        endpoint
            .say(&frame(HEADERS, END_HEADERS, number, &fields))
            .await;
        endpoint.say(&frame(DATA, END_STREAM, number, b"")).await;
        let (answered, body) = answer(&mut stream, &head).await.expect(status);
        assert!(answered.status.to_string() == status && body.is_empty());
    }
}

#[tokio::test]
async fn whoever_does_not_read_keeps_nobody_else_waiting() {
    let mut endpoint = Endpoint::start(100).await;
    let head = get();
    let fields = block(&[(":status", "200")]);
    let mut stalled = Vec::new();
    for _ in 0..20 {
        stalled.push(endpoint.begin(&head));
        let number = endpoint.until(HEADERS).await;
        endpoint
            .say(&frame(HEADERS, END_HEADERS, number, &fields))
            .await;
        for _ in 0..8 {
            endpoint.say(&frame(DATA, 0, number, &[b'x'; 16_000])).await;
        }
    }
    let mut quick = endpoint.begin(&head);
    let number = endpoint.until(HEADERS).await;
    endpoint
        .say(&frame(HEADERS, END_HEADERS, number, &fields))
        .await;
    // Small messages, more than the crate would take by itself.
    for _ in 0..10_000 {
        endpoint.say(&frame(DATA, 0, number, b"message ")).await;
    }
    endpoint.say(&frame(DATA, END_STREAM, number, b"end")).await;
    let (_, body) = answer(&mut quick, &head).await.expect("answered");
    assert_eq!(body.len(), 80_003);
    assert!(!endpoint.session.is_over());
}
