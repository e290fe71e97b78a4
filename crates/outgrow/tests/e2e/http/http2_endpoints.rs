//! HTTP/2 to endpoints: a server in Node, which knows nothing of us.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use outgrow_testkit::backend::{Recorder, Script, response};
use outgrow_testkit::{
    authority::Authority, child::TestChild, folder::Folder, http, outgrow::Outgrow, ports, wait,
};

use super::{Front, field, records};
use crate::shop::SOON;

/// Says with each answer which connection it was, and how many requests were under way on it.
const SERVER: &str = r"
const http2 = require('node:http2'), fs = require('node:fs');
const [port, streams, key, certificate] = process.argv.slice(2);
const settings = { maxConcurrentStreams: Number(streams) };
const server = key
  ? http2.createSecureServer({ key: fs.readFileSync(key), cert: fs.readFileSync(certificate), settings })
  : http2.createServer({ settings });
let sessions = 0, most = 0;
server.on('session', (session) => { session.number = ++sessions; session.open = 0; });
server.on('stream', (stream, headers) => {
  const session = stream.session;
  most = Math.max(most, ++session.open);
  stream.on('close', () => session.open--);
  stream.on('error', () => {});
  const path = headers[':path'];
  if (path === '/echo') {
    stream.respond({ ':status': 200, 'x-expect': headers['expect'] || 'none' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-end': 'here' }));
    stream.pipe(stream);
  } else if (path === '/slow') {
    setTimeout(() => { stream.respond({ ':status': 200 }); stream.end('slow'); }, 200);
  } else if (path === '/empty') {
    stream.respond({ ':status': 204 }, { endStream: true });
  } else if (path === '/hints') {
    stream.additionalHeaders({ ':status': 103, link: '</a.css>; rel=preload' });
    stream.respond({ ':status': 200, 'content-length': 4 });
    stream.end('done');
  } else if (path === '/reset') {
    stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
  } else if (path === '/refuse') {
    stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
  } else if (path === '/cut') {
    stream.respond({ ':status': 200 });
    stream.write('half', () => stream.destroy(new Error('cut off')));
  } else if (path.endsWith('/large')) {
    stream.respond({ ':status': 200, 'content-length': 100000 });
    stream.end(Buffer.alloc(100000, 'x'));
  } else if (path === '/leave') {
    stream.respond({ ':status': 200 });
    session.goaway(0);
    setTimeout(() => stream.end('left'), 100);
  } else {
    const said = `session ${session.number} of ${sessions} most ${most} ${headers[':scheme']} ${headers[':authority']} te=${headers['te']} via=${headers['via']}`;
    stream.respond({ ':status': 200, 'content-length': said.length });
    stream.end(headers[':method'] === 'HEAD' ? undefined : said);
  }
});
server.listen(Number(port), '127.0.0.1');
";

struct Server {
    _child: TestChild,
    address: SocketAddr,
}

impl Server {
    fn start(folder: &Folder, streams: u32, tls: &[String]) -> Self {
        let address = ports::free(1).expect("a free port")[0];
        let program = folder.write("server.js", SERVER).expect("written");
        let child = TestChild::start(
            Command::new("node")
                .arg(program)
                .arg(address.port().to_string())
                .arg(streams.to_string())
                .args(tls)
                .stdin(Stdio::null()),
        )
        .expect("node runs");
        let accepts = || TcpStream::connect(address).ok();
        wait::until("the server accepts", SOON, accepts).expect("it does");
        Self {
            _child: child,
            address,
        }
    }
}

const TWO: &str = "http_version = \"2\"";

fn front<'a>(service: &'a str, route: &'a str) -> Front<'a> {
    Front {
        service,
        route,
        more: "[process]\nworkers = 1",
        ..Front::default()
    }
}

fn get(outgrow: &Outgrow, path: &str) -> http::Response {
    let answer = http::request("GET", &outgrow.url("public", path), &[], b"");
    answer.expect("answered")
}

fn text(outgrow: &Outgrow, path: &str) -> String {
    let answer = get(outgrow, path);
    assert_eq!(answer.status, 200, "{path}");
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// What curl says of a request, with the head.
fn curl(outgrow: &Outgrow, path: &str, more: &[&str]) -> String {
    let answer = Command::new("curl")
        .args([
            "--silent",
            "--include",
            "--max-time",
            "20",
            "--noproxy",
            "*",
        ])
        .args(more)
        .arg(outgrow.url("public", path))
        .output()
        .expect("curl is missing: apt-get install curl");
    String::from_utf8_lossy(&answer.stdout).into_owned()
}

#[test]
fn requests_of_all_clients_share_a_connection() {
    let folder = Folder::new("http2-endpoints").unwrap();
    let server = Server::start(&folder, 100, &[]);
    let checked = format!("{TWO}\ncheck = {{ path = \"/\", interval = \"100ms\" }}");
    let outgrow = front(&checked, "").start(&[server.address]);
    let up = |outgrow: &Outgrow| (get(outgrow, "/").status == 200).then_some(());
    outgrow.wait("the check passes", SOON, up).expect("it does");
    let mut first = String::new();
    thread::scope(|scope| {
        let slow: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| text(&outgrow, "/slow")))
            .collect();
        for one in slow {
            assert_eq!(one.join().expect("it ends"), "slow");
        }
    });
    for _ in 0..3 {
        let said = text(&outgrow, "/");
        let (session, rest) = said.split_once(" of ").expect("a session");
        let most = rest
            .split(' ')
            .nth(2)
            .and_then(|most| most.parse::<u32>().ok());
        assert!(most.is_some_and(|most| most >= 15), "{said}");
        assert!(
            said.contains(&format!(" http {}", outgrow.address("public").unwrap())),
            "{said}"
        );
        if first.is_empty() {
            session.clone_into(&mut first);
        }
        assert_eq!(session, first, "{said}");
    }
    let lines = records(&outgrow, 20);
    assert!(
        lines.iter().any(|line| line.contains("reused=1")),
        "{lines:?}"
    );
}

#[test]
fn bodies_trailers_and_interim_answers_pass() {
    let folder = Folder::new("http2-endpoints").unwrap();
    let server = Server::start(&folder, 100, &[]);
    let outgrow = front(TWO, "").start(&[server.address]);
    let body: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let file = folder.path().join("body");
    fs::write(&file, &body).unwrap();
    let url = outgrow.url("public", "/echo");
    let echoed = http::request("POST", &url, &[], &body).expect("answered");
    assert!(
        echoed.status == 200 && echoed.body == body,
        "{} bytes",
        echoed.body.len()
    );
    let data = format!("@{}", file.display());
    for more in [
        &["--http2-prior-knowledge", "--data-binary", &data][..],
        &["--data-binary", &data, "-H", "Transfer-Encoding: chunked"],
        &[
            "--data-binary",
            &data,
            "-H",
            "Expect: 100-continue",
            "--expect100-timeout",
            "20",
        ],
    ] {
        let out = folder.path().join("out");
        let to = out.display().to_string();
        let head = curl(
            &outgrow,
            "/echo",
            &[more, &["--dump-header", "-", "--output", &to]].concat(),
        );
        assert!(head.contains(" 200"), "{more:?}: {head}");
        let got = fs::read(&out).unwrap();
        let found = got.windows(body.len()).any(|part| part == body);
        assert!(found, "{more:?}: {} bytes", got.len());
    }
    let small = curl(&outgrow, "/echo", &["--data", "x", "-H", "TE: trailers"]);
    assert_eq!(field(&small, "x-expect"), Some("none"), "{small}");
    let trailers = curl(
        &outgrow,
        "/echo",
        &["--http2-prior-knowledge", "--data", "x"],
    );
    assert!(
        trailers.ends_with("x-end: here\r\n") || trailers.contains("x-end: here"),
        "{trailers}"
    );
    let hints = curl(&outgrow, "/hints", &[]);
    assert!(
        hints.starts_with("HTTP/1.1 103") && hints.ends_with("done"),
        "{hints}"
    );
    // What is no WebSocket is not asked for.
    let upgrade = ["-H", "Connection: upgrade", "-H", "Upgrade: other/1"];
    let upgrade = curl(&outgrow, "/", &upgrade);
    assert!(upgrade.starts_with("HTTP/1.1 200"), "{upgrade}");
    let empty = curl(&outgrow, "/empty", &[]);
    assert!(
        empty.starts_with("HTTP/1.1 204") && field(&empty, "content-length").is_none(),
        "{empty}"
    );
    let head = curl(&outgrow, "/", &["--head"]);
    assert!(
        head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    assert!(field(&head, "content-length").is_some(), "{head}");
    // After all of that the connection is the first one still.
    assert!(
        text(&outgrow, "/").starts_with("session 2 of 2 "),
        "one is the test's own"
    );
}

#[test]
fn connections_are_opened_where_an_endpoint_takes_few_streams() {
    let folder = Folder::new("http2-endpoints").unwrap();
    let server = Server::start(&folder, 2, &[]);
    let outgrow = front(TWO, "").start(&[server.address]);
    thread::scope(|scope| {
        let slow: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| text(&outgrow, "/slow")))
            .collect();
        for one in slow {
            assert_eq!(one.join().expect("it ends"), "slow");
        }
    });
    let said = text(&outgrow, "/");
    assert!(said.contains(" most 2 "), "{said}");
    let sessions = said
        .split(' ')
        .nth(3)
        .and_then(|count| count.parse::<u32>().ok());
    assert!(
        sessions.is_some_and(|count| (5..=8).contains(&count)),
        "4 and the test's own: {said}"
    );
}

#[test]
fn what_an_endpoint_has_not_looked_at_goes_elsewhere() {
    let folder = Folder::new("http2-endpoints").unwrap();
    let (one, two) = (
        Server::start(&folder, 100, &[]),
        Server::start(&folder, 100, &[]),
    );
    let outgrow = front(TWO, "").start(&[one.address]);
    let post = |path: &str| {
        let answer = http::request("POST", &outgrow.url("public", path), &[], b"body");
        answer.expect("answered").status
    };
    // Refused everywhere: it was tried again, although it is a POST, and in the end it is a 502.
    assert_eq!(post("/refuse"), 502);
    // It may have been executed: once.
    assert_eq!(post("/reset"), 502);
    let lines = records(&outgrow, 2);
    assert!(!lines[1].contains("retries="), "{lines:?}");
    assert_eq!(
        text(&outgrow, "/leave"),
        "left",
        "what is under way goes on"
    );
    assert!(
        text(&outgrow, "/").starts_with("session 3 of 3"),
        "a new connection follows"
    );
    // Cut off: never taken for whole.
    let cut = curl(&outgrow, "/cut", &["--write-out", "%{exitcode}"]);
    assert!(cut.ends_with("18") || cut.ends_with("56"), "{cut}");
    // A server that goes away is not noticed by requests that may be repeated.
    let mut outgrow = outgrow;
    let both = front(TWO, "").config(&[one.address, two.address]);
    outgrow.reload(&both).expect("reloaded");
    for _ in 0..8 {
        text(&outgrow, "/");
    }
    drop(one);
    for _ in 0..8 {
        text(&outgrow, "/");
    }
}

#[test]
fn a_client_that_waits_before_its_body_is_told_although_the_first_endpoint_refuses() {
    let folder = Folder::new("http2-endpoints").unwrap();
    let server = Server::start(&folder, 100, &[]);
    let nobody = ports::free(1).expect("a free port")[0];
    let service = format!("{TWO}\nbalance = \"round_robin\"");
    let outgrow = front(&service, "").start(&[nobody, server.address]);
    for _ in 0..4 {
        let waits = ["-H", "Expect: 100-continue", "--expect100-timeout", "20"];
        let echoed = curl(&outgrow, "/echo", &[&waits[..], &["-d", "body"]].concat());
        assert!(
            echoed.contains(" 200") && echoed.contains("body"),
            "{echoed}"
        );
        assert_eq!(echoed.matches("HTTP/1.1 100").count(), 1, "{echoed}");
    }
    let lines = records(&outgrow, 4);
    let sent_again = lines.iter().filter(|line| line.contains("retries=1"));
    assert!(sent_again.count() > 0, "{lines:?}");
}

#[test]
fn encrypted_connections_speak_it_too() {
    let authority = Authority::new().unwrap();
    let folder = Folder::new("http2-endpoints").unwrap();
    let own = authority.issue(&["127.0.0.1"]).unwrap();
    let (certificate, key) = authority.files("server", &own).unwrap();
    let tls = [key, certificate].map(|path| path.display().to_string());
    let server = Server::start(&folder, 100, &tls);
    let ca = authority.ca_file().unwrap();
    let service = format!("{TWO}\n[service.app.tls]\nca = \"{}\"", ca.display());
    let outgrow = front(&service, "").start(&[server.address]);
    let said = text(&outgrow, "/");
    assert!(said.contains(" https "), "{said}");
    assert!(said.starts_with("session 1 "), "{said}");
}

#[test]
fn a_server_that_speaks_something_else_is_told() {
    let folder = Folder::new("http2-endpoints").unwrap();
    let address = ports::free(1).expect("a free port")[0];
    folder.write("index.html", "hello").unwrap();
    let child = TestChild::start(
        Command::new("python3")
            .args(["-m", "http.server", "--bind", "127.0.0.1"])
            .arg(address.port().to_string())
            .current_dir(folder.path())
            .stderr(Stdio::null()),
    )
    .expect("python3 runs");
    wait::until("it accepts", SOON, || TcpStream::connect(address).ok()).expect("it does");
    let outgrow = front(TWO, "").start(&[address]);
    let answer = get(&outgrow, "/");
    assert_eq!(answer.status, 502);
    let lines = records(&outgrow, 1);
    assert!(
        lines[0].contains("reason=upstream_bad_response"),
        "{lines:?}"
    );
    drop(child);
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let head = [0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
    [&head[..], payload].concat()
}

/// One byte of window for each of these streams.
fn byte_for(streams: &[u8]) -> Vec<u8> {
    let byte = |&stream: &u8| frame(8, 0, stream, &[0, 0, 0, 1]);
    streams.iter().flat_map(byte).collect()
}

/// Those who take next to nothing have a part of the memory at most, and not for long: others are served
/// meanwhile, with what needs memory too.
#[test]
fn clients_that_take_nothing_leave_memory_to_others() {
    let folder = Folder::new("leave-memory").expect("a folder");
    let server = Server::start(&folder, 100, &[]);
    // What HTTP/1.1 brings is read into blocks.
    let script = Script::answer(response(vec![b'x'; 100_000]));
    let other = Recorder::start(script).expect("a backend");
    let more = format!(
        r#"
[process]
workers = 1
memory = "16MiB"

[service.other]
endpoints = ["{}"]

[route.other]
path = "/other"
service = "other"
"#,
        other.address()
    );
    let front = Front {
        listener: "timeouts = { send_idle = \"4s\" }",
        service: TWO,
        more: &more,
        ..Front::default()
    };
    let outgrow = front.start(&[server.address]);
    let buffered = || {
        let metrics = outgrow.admin_get("/metrics").expect("metrics").text();
        let line = |line: &str| line.strip_prefix("outgrow_buffer_bytes ")?.parse().ok();
        metrics.lines().find_map(line).unwrap_or(0_u64)
    };
    let visit = || {
        let answer = get(&outgrow, "/other/large");
        assert_eq!((answer.status, answer.body.len()), (200, 100_000));
    };
    visit();
    // In blocks of 256 KiB they would be more than there is.
    let streams: Vec<u8> = (0..90).map(|number| 2 * number + 1).collect();
    let (settings, head) = ([0, 4, 0, 0, 0, 0], b"\x82\x86\x04\x06/large\x01\x01a");
    let mut reader = super::connect(&outgrow);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let hello = [&preface[..], &frame(4, 0, 0, &settings)].concat();
    reader.send(&hello).expect("sent");
    for some in streams.chunks(5) {
        let asked = some.iter().flat_map(|&stream| frame(1, 5, stream, head));
        reader.send(&asked.collect::<Vec<_>>()).expect("sent");
        thread::sleep(Duration::from_millis(20));
    }
    let begun = Instant::now();
    let mut most = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        reader.send(&byte_for(&streams)).expect("sent");
        visit();
        most = most.max(buffered());
        thread::sleep(Duration::from_millis(50));
    }
    // What is theirs, and what one visit needs.
    assert!((2 << 20..6 << 20).contains(&most), "{most} bytes");
    // They go on, each with twenty bytes a second.
    let left = || {
        let text = fs::read_to_string(outgrow.folder().join("access.log")).unwrap_or_default();
        text.lines()
            .filter(|line| line.contains("reason=send_timeout"))
            .count()
    };
    while left() < streams.len() {
        assert!(begun.elapsed() < Duration::from_secs(40), "{} left", left());
        reader.send(&byte_for(&streams)).expect("sent");
        thread::sleep(Duration::from_millis(50));
    }
    let empty = |_: &Outgrow| (buffered() < 1 << 20).then_some(());
    outgrow
        .wait("the memory is back", SOON, empty)
        .expect("it is");
    visit();
}

/// What came of an endpoint as a whole needs none of its streams, however little its client takes.
#[test]
fn a_client_that_takes_nothing_holds_no_permit() {
    let folder = Folder::new("takes-nothing").expect("a folder");
    let server = Server::start(&folder, 100, &[]);
    let outgrow = front("http_version = \"2\"\nmax_connections = 2", "").start(&[server.address]);
    let streams = [1, 3, 5, 7, 9, 11];
    let (settings, head) = ([0, 4, 0, 0, 0, 0], b"\x82\x86\x84\x01\x01a");
    let mut reader = super::connect(&outgrow);
    let asked = streams.map(|stream| frame(1, 5, stream, head)).concat();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let asked = [&preface[..], &frame(4, 0, 0, &settings), &asked].concat();
    reader.send(&asked).expect("sent");
    for _ in 0..3 {
        for path in ["/slow", "/"] {
            assert_eq!(get(&outgrow, path).status, 200);
        }
        reader.send(&byte_for(&streams)).expect("sent");
    }
    let wide = streams
        .map(|stream| frame(8, 0, stream, &[0, 0, 16, 0]))
        .concat();
    reader.send(&wide).expect("sent");
    // The last words of each answer.
    let enough = |came: &[u8]| came.windows(4).filter(|at| at == b"via=").count() == streams.len();
    reader.receive_until_true(SOON, enough).expect("received");
    assert!(enough(reader.received()), "{:?}", reader.received());
    let all = records(&outgrow, streams.len() + 6);
    assert!(
        all.iter().all(|record| !record.contains("reason=")),
        "{all:?}"
    );
}
