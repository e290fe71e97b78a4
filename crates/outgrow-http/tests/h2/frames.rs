//! Frames by hand: what no well-behaved client sends.

use std::sync::Arc;

use outgrow_core::{Cause, Random};
use outgrow_http::h1::Limits;
use outgrow_http::h2::{PREFACE, Settings, serve};
use outgrow_message::{Blocks, Ledger};
use outgrow_net::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::support::{Server, answer, read_all};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
const PROTOCOL_ERROR: u32 = 1;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block of literals without indexing and without Huffman (RFC 7541 section 6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "one byte of length");
            bytes.push(text.len() as u8);
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "a.example"),
    (":path", "/"),
];

struct Raw {
    io: UnixStream,
    server: Server,
}

impl Raw {
    async fn start() -> Self {
        let (mut io, theirs) = UnixStream::pair().expect("pair");
        let server = Server::start(theirs, Settings::default());
        io.write_all(PREFACE).await.expect("written");
        io.write_all(&frame(SETTINGS, 0, 0, &[]))
            .await
            .expect("written");
        Self { io, server }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.expect("written");
    }

    /// The payload of the next frame of `kind`; none when the connection ends before.
    async fn until(&mut self, kind: u8) -> Option<(u32, Vec<u8>)> {
        loop {
            let mut head = [0; 9];
            self.io.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            self.io.read_exact(&mut payload).await.ok()?;
            if head[3] == kind {
                let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                return Some((stream, payload));
            }
        }
    }
}

#[tokio::test]
async fn malformed_heads_are_reset_and_never_arrive() {
    let mut raw = Raw::start().await;
    let mut stream = 1;
    let extra: &[&[(&str, &str)]] = &[
        &[("connection", "close")],
        &[("transfer-encoding", "chunked")],
        &[("upgrade", "websocket")],
        &[("keep-alive", "timeout=5")],
        &[("proxy-connection", "close")],
        &[("te", "gzip")],
        &[("content-length", "1"), ("content-length", "2")],
        &[("content-length", "+1")],
        &[("content-length", "5")],
        &[(":path", "/again")],
        &[("x", "1"), (":scheme", "https")],
        &[(":status", "200")],
        &[(":protocol", "websocket")],
    ];
    let heads: Vec<Vec<(&str, &str)>> = extra
        .iter()
        .map(|fields| [&GET[..], fields].concat())
        .chain([
            GET[1..].to_vec(),
            GET[..3].to_vec(),
            [&GET[..1], &GET[2..]].concat(),
            [&GET[..3], &[(":path", "")]].concat(),
            [&GET[..3], &[(":path", "a b")]].concat(),
            [&GET[..2], &[(":authority", "a b"), (":path", "/")]].concat(),
        ])
        .collect();
    for head in heads {
        let bytes = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&head));
        raw.send(&bytes).await;
        let (reset, reason) = raw
            .until(RST_STREAM)
            .await
            .unwrap_or_else(|| panic!("no reset for {head:?}"));
        assert_eq!(
            (reset, &reason[..]),
            (stream, &PROTOCOL_ERROR.to_be_bytes()[..]),
            "{head:?}"
        );
        assert!(raw.server.streams.is_empty(), "{head:?}");
        stream += 2;
    }
    // The connection goes on.
    let bytes = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&GET));
    raw.send(&bytes).await;
    raw.server.next().await;
}

#[tokio::test]
async fn names_that_are_none_end_the_connection_or_the_stream() {
    for name in [":unknown", "X-Upper", "a b", "a\r\nb", "", "é"] {
        let mut raw = Raw::start().await;
        let head = [&GET[..], &[(name, "1")]].concat();
        let bytes = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&head));
        raw.send(&bytes).await;
        raw.io.shutdown().await.expect("shut down");
        let goaway = raw.until(GOAWAY).await;
        assert!(
            raw.server.streams.recv().await.is_none(),
            "{name:?} {goaway:?}"
        );
    }
    for value in ["a\r\nb", "a\0", "\x7f"] {
        let mut raw = Raw::start().await;
        let head = [&GET[..], &[("x", value)]].concat();
        let bytes = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&head));
        raw.send(&bytes).await;
        raw.io.shutdown().await.expect("shut down");
        assert!(raw.server.streams.recv().await.is_none(), "{value:?}");
    }
}

#[tokio::test]
async fn a_body_of_another_length_than_told_is_a_fault() {
    for (told, sent, end) in [("5", "1234", true), ("5", "123456", false)] {
        let mut raw = Raw::start().await;
        let head = [&GET[..], &[("content-length", told)]].concat();
        raw.send(&frame(HEADERS, END_HEADERS, 1, &block(&head)))
            .await;
        let (head, mut stream) = raw.server.next().await;
        assert_eq!(head.length, outgrow_message::BodyLength::Known(5));
        let flags = if end { END_STREAM } else { 0 };
        raw.send(&frame(DATA, flags, 1, sent.as_bytes())).await;
        let fault = read_all(&mut stream).await.expect_err("malformed");
        assert_eq!(fault.cause, Cause::BadFraming, "{told} {sent}");
        let (reset, reason) = raw.until(RST_STREAM).await.expect("a reset");
        assert_eq!((reset, &reason[..]), (1, &PROTOCOL_ERROR.to_be_bytes()[..]));
    }
}

#[tokio::test]
async fn what_was_read_before_is_not_lost() {
    let (mut io, theirs) = UnixStream::pair().expect("pair");
    let all = [
        PREFACE,
        &frame(SETTINGS, 0, 0, &[]),
        &frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&GET)),
    ]
    .concat();
    for cut in [0, 5, PREFACE.len(), PREFACE.len() + 4, all.len()] {
        let (ours, server) = UnixStream::pair().expect("pair");
        (io, _) = (ours, io);
        io.write_all(&all[cut..]).await.expect("written");
        let blocks = Blocks::new(Ledger::new(1 << 20));
        let arrived = all[..cut].to_vec();
        let io = Stream::Unix(server);
        let mut connection = serve(io, arrived, blocks, Limits::default(), Settings::default())
            .await
            .expect("served");
        let (parts, _stream) = connection.accept().await.expect("a stream");
        let mut head = outgrow_message::RequestHead::default();
        assert_eq!(parts.fill(&mut head), Ok(()), "cut at {cut}");
        assert_eq!((connection.open_streams(), connection.accepted()), (1, 1));
        assert!(!connection.is_idle());
    }
    drop(theirs);
}

#[tokio::test]
async fn something_else_than_the_preface_is_a_fault() {
    for (bytes, cause) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], Cause::BadRequest),
        (&PREFACE[..10], Cause::ClientGone),
    ] {
        let (mut io, theirs) = UnixStream::pair().expect("pair");
        io.write_all(bytes).await.expect("written");
        io.shutdown().await.expect("shut down");
        let blocks = Blocks::new(Ledger::new(1 << 20));
        let served = serve(
            Stream::Unix(theirs),
            Vec::new(),
            Arc::clone(&blocks),
            Limits::default(),
            Settings::default(),
        );
        assert_eq!(served.await.expect_err("refused").cause, cause);
    }
}

#[tokio::test]
async fn random_frames_end_in_order() {
    for seed in 0..300 {
        let mut random = Random::from_seed(seed);
        let mut raw = Raw::start().await;
        let mut bytes = Vec::new();
        for _ in 0..=random.below(20) {
            let kind = random.below(11) as u8;
            let stream = [0, 1, 1, 3, 5, 2, 7][random.below(7)];
            let mut payload = match kind {
                HEADERS => block(&GET),
                _ => vec![0; random.below(40)],
            };
            for _ in 0..random.below(3) {
                if !payload.is_empty() {
                    let at = random.below(payload.len());
                    payload[at] = random.next_u64() as u8;
                }
            }
            let flags = random.next_u64() as u8 & 0x2d;
            bytes.extend(frame(kind, flags, stream, &payload));
        }
        // The other end may have closed already.
        let _ = raw.io.write_all(&bytes).await;
        let _ = raw.io.shutdown().await;
        while let Some(mut arrived) = raw.server.streams.recv().await {
            if arrived.checked.is_ok() {
                let _ = read_all(&mut arrived.stream).await;
            }
            if arrived.stream.id() % 4 == 1 {
                tokio::spawn(async move {
                    answer(&arrived.head, &mut arrived.stream, 200, b"").await;
                });
            }
        }
        raw.server
            .ended
            .await
            .unwrap_or_else(|_| panic!("seed {seed} panicked"));
    }
}
