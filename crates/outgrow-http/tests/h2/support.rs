//! What the tests share: a server that hands streams to a function, a client, raw frames.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use outgrow_core::Fault;
use outgrow_http::h1::{Limits, Reject};
use outgrow_http::h2::{Connection, H2Stream, Settings, serve};
use outgrow_http::{Downstream, status};
use outgrow_message::{Blocks, BodyLength, BodySource, Ledger, RequestHead, ResponseHead};
use outgrow_net::Stream;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// One request as the server saw it.
pub(crate) struct Arrived {
    pub(crate) head: RequestHead,
    pub(crate) checked: Result<(), Reject>,
    pub(crate) stream: H2Stream,
}

/// A server whose streams come out of `streams`; its connection is polled by a task.
pub(crate) struct Server {
    pub(crate) streams: mpsc::UnboundedReceiver<Arrived>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) blocks: Arc<Blocks>,
    pub(crate) drain: mpsc::UnboundedSender<()>,
    pub(crate) ended: tokio::task::JoinHandle<Option<Fault>>,
}

impl Server {
    pub(crate) fn start(io: UnixStream, settings: Settings) -> Self {
        let ledger = Ledger::new(64 << 20);
        let blocks = Blocks::new(Arc::clone(&ledger));
        let given = Arc::clone(&blocks);
        let (sender, streams) = mpsc::unbounded_channel();
        let (drain, asked) = mpsc::unbounded_channel();
        let ended = tokio::spawn(async move {
            let io = Stream::Unix(io);
            match serve(io, Vec::new(), given, Limits::default(), settings).await {
                Ok(connection) => pump(connection, sender, asked).await,
                Err(fault) => Some(fault),
            }
        });
        Self {
            streams,
            ledger,
            blocks,
            drain,
            ended,
        }
    }

    /// The next stream, whose head must be good.
    pub(crate) async fn next(&mut self) -> (RequestHead, H2Stream) {
        let arrived = self.streams.recv().await.expect("a stream");
        assert_eq!(arrived.checked, Ok(()));
        (arrived.head, arrived.stream)
    }
}

async fn pump(
    mut connection: Connection<Stream>,
    sender: mpsc::UnboundedSender<Arrived>,
    mut asked: mpsc::UnboundedReceiver<()>,
) -> Option<Fault> {
    loop {
        let next = tokio::select! {
            next = connection.accept() => next,
            Some(()) = asked.recv() => {
                connection.drain();
                continue;
            }
        };
        let Some((parts, stream)) = next else {
            return connection.fault();
        };
        let mut head = RequestHead::default();
        let checked = parts.fill(&mut head);
        let arrived = Arrived {
            head,
            checked,
            stream,
        };
        if sender.send(arrived).is_err() {
            return None;
        }
    }
}

/// A client of a new server.
pub(crate) async fn connect(
    settings: Settings,
    client: &h2::client::Builder,
) -> (SendRequest<Bytes>, Server) {
    let (ours, theirs) = UnixStream::pair().expect("pair");
    let server = Server::start(theirs, settings);
    let (sender, connection) = client.handshake(ours).await.expect("handshake");
    tokio::spawn(connection);
    (sender.ready().await.expect("ready"), server)
}

pub(crate) async fn usual() -> (SendRequest<Bytes>, Server) {
    connect(Settings::default(), &h2::client::Builder::new()).await
}

pub(crate) fn request(method: &str, uri: &str) -> http::Request<()> {
    http::Request::builder()
        .method(method)
        .uri(uri)
        .version(http::Version::HTTP_2)
        .body(())
        .expect("request")
}

pub(crate) fn response_head(status: u16, fields: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead::default();
    head.clear();
    head.status = status;
    for (name, value) in fields {
        head.fields.push(name.as_bytes(), value.as_bytes());
    }
    head
}

pub(crate) async fn push_all(stream: &mut H2Stream, mut data: &[u8]) -> Result<(), Fault> {
    while !data.is_empty() {
        let count = poll_fn(|cx| stream.poll_push(cx, data)).await?;
        data = &data[count..];
    }
    Ok(())
}

/// Answers in full with a body.
pub(crate) async fn answer(head: &RequestHead, stream: &mut H2Stream, status: u16, body: &[u8]) {
    let response = response_head(status, &[("Server", "test")]);
    let length = BodyLength::Known(body.len() as u64);
    stream
        .respond(&response, length, head.method)
        .expect("head");
    if !body.is_empty() {
        push_all(stream, body).await.expect("body");
    }
    stream.finish(None).expect("end");
}

/// The status that the edge would answer a refused request with.
pub(crate) fn refusal(reject: Reject) -> u16 {
    let fault = Fault::client(outgrow_core::Phase::RequestHead, reject.cause);
    status::of(fault).expect("a status")
}

/// All of a request's body.
pub(crate) async fn read_all(stream: &mut H2Stream) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while poll_fn(|cx| stream.poll_data(cx)).await? {
        body.extend_from_slice(stream.data());
        let count = stream.data().len();
        stream.consume(count);
    }
    Ok(body)
}

/// All of a response's body, with the window given back, and its trailers.
pub(crate) async fn collect(
    mut body: h2::RecvStream,
) -> Result<(Vec<u8>, Option<http::HeaderMap>), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        bytes.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    Ok((bytes, body.trailers().await?))
}
