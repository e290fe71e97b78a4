//! Tests of the listener over real sockets, asked by the client of the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use outgrow_core::settings::{Address, Secret};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::client::{ClientProblem, Verb, request};
use crate::exposition::parse::parse;
use crate::fake::FakeSource;

/// A listener that runs.
struct Running {
    source: Arc<FakeSource>,
    plan: Arc<Snapshot<AdminPlan>>,
    at: SocketAddr,
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

fn plan(token: &str) -> AdminPlan {
    AdminPlan {
        token: Secret::new(token),
        is_loopback: true,
        host: None,
    }
}

async fn start() -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    start_with(vec![AdminSocket::Tcp(listener)], at)
}

fn start_with(sockets: Vec<AdminSocket>, at: SocketAddr) -> Running {
    let source = Arc::new(FakeSource::default());
    let plan = Arc::new(Snapshot::new(plan("")));
    let (end, ended) = oneshot::channel();
    let until = async move {
        let _ = ended.await;
    };
    let shown = Arc::clone(&source) as Arc<dyn Source>;
    let task = tokio::spawn(serve(sockets, Arc::clone(&plan), shown, until));
    Running {
        source,
        plan,
        at,
        end,
        task,
    }
}

/// Asks as the command line does, from a thread of its own.
async fn ask(
    address: Address,
    token: &'static str,
    verb: Verb,
    path: &'static str,
    body: &'static [u8],
) -> Result<(u16, Vec<u8>), ClientProblem> {
    let asked = tokio::task::spawn_blocking(move || {
        request(&address, &Secret::new(token), verb, path, body)
    });
    asked.await.unwrap()
}

impl Running {
    fn address(&self) -> Address {
        Address::tcp("127.0.0.1", self.at.port())
    }

    async fn get(&self, path: &'static str) -> (u16, String) {
        let (status, body) = ask(self.address(), "", Verb::Get, path, b"").await.unwrap();
        (status, String::from_utf8(body).unwrap())
    }

    async fn post(&self, path: &'static str, body: &'static [u8]) -> (u16, Value) {
        let answer = ask(self.address(), "", Verb::Post, path, body).await;
        let (status, body) = answer.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.at).await.unwrap()
    }
}

/// Whether the other side has closed.
async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 16]).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn everything_over_tcp() {
    let running = start().await;
    running.source.stopped.notify_one();
    assert_eq!(running.get("/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(running.get("/readyz").await, (200, "ok\n".to_owned()));
    let (status, metrics) = running.get("/metrics").await;
    assert_eq!((status, parse(&metrics).unwrap().len()), (200, 3));
    let (status, state) = running.get("/state").await;
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!((status, state["services"].is_array()), (200, true));
    assert_eq!(running.get("/").await.0, 200);
    assert_eq!(running.get("/nothing").await.0, 404);
    assert_eq!(running.get("/stop").await.0, 405);
    assert_eq!(running.post("/reload", b"").await.0, 422);
    let (status, report) = running.post("/upgrade", b"{\"binary\": \"/new\"}").await;
    assert_eq!((status, report["details"]["pid"].as_u64()), (200, Some(7)));
    assert_eq!(running.post("/stop", b"").await.0, 202);
    let done = running.source.done();
    assert_eq!(done, ["reload", "upgrade Some(\"/new\")", "stop"]);
}

#[tokio::test]
async fn the_token_goes_along() {
    let running = start().await;
    running.plan.publish(Arc::new(plan("s3cret")));
    let check = async |token: &'static str, path: &'static str, expected: u16| {
        let answer = ask(running.address(), token, Verb::Get, path, b"").await;
        assert_eq!(answer.unwrap().0, expected, "{token} {path}");
    };
    check("", "/state", 401).await;
    check("wrong", "/state", 401).await;
    check("s3cret", "/state", 200).await;
    check("", "/livez", 200).await;
}

/// A path in the folder of temporary files that no other test has.
fn socket_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::SeqCst);
    let name = format!("outgrow-admin-{}-{number}.sock", std::process::id());
    std::env::temp_dir().join(name)
}

#[tokio::test]
async fn descriptors_become_sockets() {
    let path = socket_path();
    let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = tcp.local_addr().unwrap();
    let sockets = vec![
        AdminSocket::from_fd(unix.into()).unwrap(),
        AdminSocket::from_fd(tcp.into()).unwrap(),
    ];
    assert!(matches!(sockets[0], AdminSocket::Unix(_)));
    assert!(matches!(sockets[1], AdminSocket::Tcp(_)));
    let running = start_with(sockets, at);
    assert_eq!(running.get("/livez").await.0, 200);
    let answer = ask(Address::Unix(path.clone()), "", Verb::Get, "/livez", b"").await;
    assert_eq!(answer.unwrap(), (200, b"ok\n".to_vec()));
    std::fs::remove_file(path).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(AdminSocket::from_fd(file.into()).is_err());
}

#[tokio::test]
async fn idle_connections_make_room() {
    let running = start().await;
    let mut streams = Vec::new();
    for _ in 0..3 * CONNECTION_LIMIT {
        let mut stream = running.connect().await;
        let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        streams.push(stream);
    }
    assert_eq!(running.get("/livez").await.0, 200);
    // The oldest was closed, the newest was not: it can still ask.
    let oldest = &mut streams[0];
    let mut rest = Vec::new();
    oldest.read_to_end(&mut rest).await.unwrap();
    let newest = streams.last_mut().unwrap();
    newest
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut rest = String::new();
    newest.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest.matches("HTTP/1.1 200").count(), 1, "{rest}");
}

#[tokio::test]
async fn a_burst_is_answered() {
    let running = start().await;
    let mut streams = Vec::new();
    for _ in 0..4 * CONNECTION_LIMIT {
        let mut stream = running.connect().await;
        let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        streams.push(stream);
    }
    for mut stream in streams {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn busy_connections_keep_their_place() {
    let running = start().await;
    let mut busy = Vec::new();
    for _ in 0..CONNECTION_LIMIT {
        let mut stream = running.connect().await;
        let head = b"POST /reload HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
            Content-Length: 1\r\n\r\n";
        stream.write_all(head).await.unwrap();
        busy.push(stream);
    }
    for stream in &mut busy {
        let mut start = [0; 25];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let mut late = running.connect().await;
    late.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    // Each of them still gets its answer, and with the first that goes there is room.
    for stream in &mut busy {
        stream.write_all(b" ").await.unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 422");
    }
    let mut start = [0; 12];
    late.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
}

#[tokio::test]
async fn heads_that_never_end_do_not_keep_a_probe_out() {
    let running = start().await;
    let mut slow = Vec::new();
    for _ in 0..CONNECTION_LIMIT {
        let mut stream = running.connect().await;
        stream.write_all(b"G").await.unwrap();
        slow.push(stream);
    }
    let asked = tokio::time::Instant::now();
    assert_eq!(running.get("/livez").await.0, 200);
    // Long before they run into a timeout of their own.
    assert!(asked.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_source_that_panics_ends_its_connection_only() {
    let running = start().await;
    running.source.panics.store(true, Ordering::SeqCst);
    let broken = ask(running.address(), "", Verb::Get, "/state", b"").await;
    assert!(
        matches!(broken, Err(ClientProblem::Truncated(_))),
        "{broken:?}"
    );
    running.source.panics.store(false, Ordering::SeqCst);
    assert_eq!(running.get("/state").await.0, 200);
}

#[tokio::test]
async fn the_end_lets_exchanges_end() {
    let running = start().await;
    let mut idle = running.connect().await;
    let mut acting = running.connect().await;
    acting
        .write_all(b"POST /stop HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    running.source.stopping.notified().await;
    running.end.send(()).unwrap();
    assert!(is_closed(&mut idle).await);
    assert!(TcpStream::connect(running.at).await.is_err());
    running.source.stopped.notify_one();
    let mut answer = String::new();
    acting.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    drop((idle, acting));
    running.task.await.unwrap();
}
