//! Tests of one connection over a pipe, on a clock that stands still until everybody waits.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::Ordering;

use outgrow_core::settings::Secret;
use outgrow_message::Ledger;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::exposition::parse::parse;
use crate::fake::FakeSource;
use crate::peer::own_user;
use crate::slots::Slots;

mod access;

/// A pipe as a transport.
struct Pipe(DuplexStream);

impl Transport for Pipe {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut target = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut target))?;
        Poll::Ready(Ok(target.filled().len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        Pin::new(&mut self.0).poll_write(cx, first.map_or(&[], |slice| slice))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A listener of one connection, and the client's end of it.
struct Scene {
    source: Arc<FakeSource>,
    plan: Arc<Snapshot<AdminPlan>>,
    client: DuplexStream,
    slots: Arc<Slots>,
    task: JoinHandle<()>,
}

fn local() -> AdminPlan {
    AdminPlan {
        token: Secret::default(),
        is_loopback: true,
        host: Some("127.0.0.1".to_owned()),
    }
}

fn guarded() -> AdminPlan {
    AdminPlan {
        token: Secret::new("s3cret"),
        ..local()
    }
}

impl Scene {
    fn new(plan: AdminPlan) -> Self {
        Self::of(plan, FakeSource::default(), Peer::Fake { user: own_user() })
    }

    fn of(plan: AdminPlan, source: FakeSource, peer: Peer) -> Self {
        let source = Arc::new(source);
        let plan = Arc::new(Snapshot::new(plan));
        let shared = Shared {
            plan: Arc::clone(&plan),
            source: Arc::clone(&source) as Arc<dyn Source>,
            blocks: Blocks::new(Ledger::new(4 * 1024 * 1024)),
        };
        let (client, io) = tokio::io::duplex(32 * 1024);
        let slots = Slots::new();
        let task = tokio::spawn(serve(shared, Pipe(io), peer, slots.take()));
        Self {
            source,
            plan,
            client,
            slots,
            task,
        }
    }

    async fn send(&mut self, text: &str) {
        self.client.write_all(text.as_bytes()).await.unwrap();
    }

    /// Everything until the connection is closed.
    async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        self.client.read_to_end(&mut bytes).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }
}

/// Sends `request` and a Connection: close, gives all that comes back.
async fn ask_with(plan: AdminPlan, line: &str, fields: &str, body: &str) -> (String, Vec<String>) {
    let mut scene = Scene::new(plan);
    scene.source.stopped.notify_one();
    let length = match body {
        "" => String::new(),
        body => format!("Content-Length: {}\r\n", body.len()),
    };
    let host = if fields.contains("Host:") {
        ""
    } else {
        "Host: localhost\r\n"
    };
    scene
        .send(&format!(
            "{line} HTTP/1.1\r\n{host}{fields}{length}Connection: close\r\n\r\n{body}"
        ))
        .await;
    let answer = scene.rest().await;
    scene.task.await.unwrap();
    (answer, scene.source.done())
}

fn status_of(answer: &str) -> u16 {
    let status = answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    status.and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |parts| parts.1)
}

#[tokio::test(start_paused = true)]
async fn each_endpoint_answers() {
    let check = async |line: &str, body: &str, status: u16, expected: &str| {
        let (answer, _) = ask_with(local(), line, "", body).await;
        assert_eq!(status_of(&answer), status, "{line}: {answer}");
        assert!(answer.contains(expected), "{line}: {answer}");
        assert!(answer.contains("\r\nDate: "), "{line}: {answer}");
    };
    check("GET /", "", 200, "POST  /reload").await;
    check("GET /livez", "", 200, "\r\n\r\nok\n").await;
    check("GET /livez?verbose", "", 200, "\r\n\r\nok\n").await;
    check("GET /readyz", "", 200, "\r\n\r\nok\n").await;
    check("GET /leader", "", 200, "\"holder\": \"box\"").await;
    check("GET /metrics", "", 200, "text/plain; version=0.0.4").await;
    check("GET /state", "", 200, "\"services\": []").await;
    check("POST /reload", "", 422, "outgrow.toml:3: unknown key").await;
    check("POST /upgrade", "", 200, "\"pid\": 7").await;
    check("POST /upgrade", "{}", 200, "\"message\": \"upgraded\"").await;
    check("POST /stop", "", 202, "stopping").await;
    check("GET /nothing", "", 404, "GET / says what there is").await;
    check("GET /metrics/", "", 404, "nothing here").await;
    check("POST /metrics", "", 405, "\r\nAllow: GET, HEAD\r\n").await;
    let endpoints = "\"service\": \"shop\"";
    check("GET /services/shop/endpoints", "", 200, endpoints).await;
    for unknown in [
        "/services/x/endpoints",
        "/services/a/shop/endpoints",
        "/services/shop",
    ] {
        check(&format!("GET {unknown}"), "", 404, "there is no").await;
    }
    check(
        "POST /services/shop/endpoints",
        "",
        405,
        "\r\nAllow: GET, HEAD\r\n",
    )
    .await;
    check("DELETE /state", "", 405, "\r\nAllow: GET, HEAD\r\n").await;
    check("GET /reload", "", 405, "\r\nAllow: POST\r\n").await;
    check("OPTIONS *", "", 404, "nothing here").await;
    check("GET /livez", "nobody reads this", 200, "\r\n\r\nok\n").await;
}

#[tokio::test(start_paused = true)]
async fn metrics_are_well_formed() {
    let (answer, _) = ask_with(local(), "GET /metrics", "", "").await;
    let families = parse(body_of(&answer)).unwrap();
    assert_eq!(families.len(), 3);
    let requests = &families["outgrow_requests_total"];
    assert_eq!(requests.kind, "counter");
    assert_eq!(requests.samples[0].labels["status"], "2xx");
    assert_eq!(
        families["outgrow_request_duration_seconds"].kind,
        "histogram"
    );
}

#[tokio::test(start_paused = true)]
async fn not_ready_says_why() {
    let scene = &mut Scene::new(local());
    scene.source.draining.store(true, Ordering::SeqCst);
    scene.send("GET /readyz HTTP/1.0\r\n\r\n").await;
    let answer = scene.rest().await;
    assert_eq!((status_of(&answer), body_of(&answer)), (503, "draining\n"));
}

#[tokio::test(start_paused = true)]
async fn head_tells_the_length_only() {
    for (path, length) in [("/livez", 3), ("/readyz", 3)] {
        let (answer, _) = ask_with(local(), &format!("HEAD {path}"), "", "").await;
        assert_eq!(status_of(&answer), 200);
        assert!(
            answer.contains(&format!("\r\nContent-Length: {length}\r\n")),
            "{answer}"
        );
        assert_eq!(answer.matches("Content-Length").count(), 1);
        assert_eq!(body_of(&answer), "");
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_are_bounded() {
    let head = "POST /upgrade HTTP/1.1\r\nHost: localhost\r\n";
    let mut scene = Scene::new(local());
    scene
        .send(&format!("{head}Content-Length: 65537\r\n\r\n"))
        .await;
    assert_eq!(status_of(&scene.rest().await), 413);

    let mut scene = Scene::new(local());
    let (mut reader, mut writer) = tokio::io::split(scene.client);
    let flood = tokio::spawn(async move {
        let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
        let start = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
        let mut taken = writer.write_all(start.as_bytes()).await;
        // Ends when the listener no longer listens.
        for _ in 0..100 {
            taken = taken.and(writer.write_all(chunk.as_bytes()).await);
        }
        writer
    });
    let mut answer = String::new();
    reader.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status_of(&answer), 413);
    scene.task.await.unwrap();
    flood.await.unwrap();

    scene = Scene::new(local());
    let expect = "Expect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
    scene.send(&format!("{head}{expect}")).await;
    let mut interim = [0; 25];
    scene.client.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    scene.send("{}").await;
    assert_eq!(status_of(&scene.rest().await), 200);
}

#[tokio::test(start_paused = true)]
async fn patience_ends() {
    let check = async |text: &str, seconds: u64, status: u16| {
        let began = Instant::now();
        let mut scene = Scene::new(local());
        scene.send(text).await;
        let answer = scene.rest().await;
        assert_eq!(began.elapsed().as_secs(), seconds, "{text}");
        assert_eq!(status_of(&answer), status, "{text}");
    };
    check("", 5, 0).await;
    check("G", 10, 408).await;
    check("GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ", 10, 408).await;
    check("POST /upgrade HTTP/1.1\r\nHost: a\r\n", 10, 408).await;
    let body = "POST /upgrade HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{";
    check(body, 10, 408).await;
    // Answered at once, then idle.
    check("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 5, 200).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_read_is_left() {
    let source = FakeSource {
        padding: 1024 * 1024,
        ..FakeSource::default()
    };
    let mut scene = Scene::of(local(), source, Peer::Fake { user: own_user() });
    let began = Instant::now();
    scene
        .send("GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    scene.task.await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_comes_whole() {
    let source = FakeSource {
        padding: 3 * 1024 * 1024,
        ..FakeSource::default()
    };
    let mut scene = Scene::of(local(), source, Peer::Fake { user: own_user() });
    scene
        .send("GET /state HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await;
    let answer = scene.rest().await;
    let state: Value = serde_json::from_str(body_of(&answer)).unwrap();
    assert_eq!(state["padding"].as_str().unwrap().len(), 3 * 1024 * 1024);
}

#[tokio::test(start_paused = true)]
async fn garbage_is_refused() {
    for garbage in [
        "\0\0\0\0\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\r\n\r\n",
        "GET\r\n\r\n",
        "GET /livez HTTP/1.1\r\n\r\n",
        "GET /livez HTTP/1.1\nHost: a\n\n",
        "GET /livez HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "POST /reload HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ] {
        let mut scene = Scene::new(local());
        scene.send(garbage).await;
        let answer = scene.rest().await;
        assert_eq!(status_of(&answer), 400, "{garbage:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1);
        assert!(answer.contains("\r\nConnection: close\r\n"));
        assert!(scene.source.done().is_empty());
        scene.task.await.unwrap();
    }
    let mut scene = Scene::new(local());
    let many = "X: y\r\n".repeat(200);
    scene
        .send(&format!("GET /livez HTTP/1.1\r\nHost: a\r\n{many}\r\n"))
        .await;
    assert_eq!(status_of(&scene.rest().await), 431);
}

#[tokio::test(start_paused = true)]
async fn requests_follow_each_other() {
    let mut scene = Scene::new(local());
    let one = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let last = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    scene.send(&format!("{one}{one}{last}")).await;
    let answer = scene.rest().await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_new_plan_holds_for_the_next_request() {
    let mut scene = Scene::new(local());
    let request = "GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n";
    scene.send(request).await;
    let mut first = [0; 12];
    scene.client.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    scene.plan.publish(Arc::new(guarded()));
    scene.send(request).await;
    let rest = scene.rest().await;
    assert!(rest.contains("HTTP/1.1 401 Unauthorized\r\n"), "{rest}");
}

#[tokio::test(start_paused = true)]
async fn an_action_goes_on_when_its_caller_leaves() {
    let Scene {
        source,
        mut client,
        task,
        ..
    } = Scene::new(local());
    client
        .write_all(b"POST /stop HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    source.stopping.notified().await;
    drop(client);
    source.stopped.notify_one();
    task.await.unwrap();
    assert_eq!(source.done(), ["stop"]);
}

#[tokio::test(start_paused = true)]
async fn an_exchange_ends_when_the_listener_does() {
    let mut scene = Scene::new(local());
    scene
        .send("POST /stop HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    scene.source.stopping.notified().await;
    scene.slots.end();
    scene.source.stopped.notify_one();
    let answer = scene.rest().await;
    assert_eq!(status_of(&answer), 202);
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
}
