//! What is written, and in how many pieces.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use outgrow_http::Downstream;
use outgrow_http::h1::Limits;
use outgrow_http::h2::{Settings, serve};
use outgrow_message::{Blocks, BodyLength, Ledger, RequestHead};
use outgrow_net::{Stream, Transport};
use tokio::net::UnixStream;

use crate::frames::{DATA, END_STREAM, HEADERS};
use crate::support::{push_all, request, response_head};

type Writes = Arc<Mutex<Vec<Vec<u8>>>>;

/// A transport that takes note of each write.
#[derive(Debug)]
struct Noted {
    io: Stream,
    writes: Writes,
}

impl Transport for Noted {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.io.poll_read(cx, buffer)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Transport::poll_write_vectored(&mut self.io, cx, slices);
        if let Poll::Ready(Ok(count)) = &written {
            let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            bytes.truncate(*count);
            self.writes.lock().expect("no panic").push(bytes);
        }
        written
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Transport::poll_flush(&mut self.io, cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Transport::poll_shutdown(&mut self.io, cx)
    }
}

/// Kind and flags of each frame.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u8)> {
    let mut found = Vec::new();
    while let [a, b, c, kind, flags, ..] = *bytes {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        found.push((kind, flags));
        bytes = &bytes[9 + length..];
    }
    found
}

/// The responses of streams that are answered at once go out in one write, each with its end in its
/// last DATA frame.
#[tokio::test]
async fn answers_of_many_streams_are_one_write() {
    const STREAMS: usize = 20;
    let (ours, theirs) = UnixStream::pair().expect("pair");
    let writes = Writes::default();
    let noted = Noted {
        io: Stream::Unix(theirs),
        writes: Arc::clone(&writes),
    };
    let client = tokio::spawn(async move {
        let (mut client, connection) = h2::client::handshake(ours).await.expect("handshake");
        tokio::spawn(connection);
        let mut answers = Vec::new();
        for _ in 0..STREAMS {
            client = client.ready().await.expect("ready");
            let sent = request("GET", "https://a.example/");
            answers.push(client.send_request(sent, true).expect("sent").0);
        }
        let mut lengths = Vec::new();
        for answer in answers {
            let mut body = answer.await.expect("answered").into_body();
            let mut whole = Vec::<Bytes>::new();
            while let Some(data) = body.data().await {
                whole.push(data.expect("data"));
            }
            lengths.push(whole.iter().map(Bytes::len).sum::<usize>());
        }
        lengths
    });
    let blocks = Blocks::new(Ledger::new(16 << 20));
    let settings = Settings::default();
    let served = serve(noted, Vec::new(), blocks, Limits::default(), settings);
    let mut connection = served.await.expect("the preface");
    let mut open = Vec::new();
    while open.len() < STREAMS {
        open.push(connection.accept().await.expect("a stream"));
    }
    writes.lock().expect("no panic").clear();
    for (_, stream) in &mut open {
        let head = RequestHead::default();
        let length = BodyLength::Known(1_000);
        let answer = response_head(200, &[]);
        stream.respond(&answer, length, head.method).expect("head");
        push_all(stream, &[7; 1_000]).await.expect("pushed");
        stream.finish(None).expect("finished");
    }
    let polled = poll_fn(|cx| Poll::Ready(connection.poll_accept(cx).is_pending())).await;
    assert!(polled, "nothing more comes");
    let written = std::mem::take(&mut *writes.lock().expect("no panic"));
    assert_eq!(written.len(), 1, "of {STREAMS} answers");
    let frames = frames(&written[0]);
    let count = |kind: u8, flags: u8| {
        let same = |frame: &&(u8, u8)| frame.0 == kind && frame.1 & END_STREAM == flags;
        frames.iter().filter(same).count()
    };
    assert_eq!(count(HEADERS, 0), STREAMS);
    assert_eq!((count(DATA, 0), count(DATA, END_STREAM)), (0, STREAMS));
    drop(open);
    // The client leaves when it has them all.
    while connection.accept().await.is_some() {}
    assert_eq!(client.await.expect("ended"), [1_000; STREAMS]);
}
