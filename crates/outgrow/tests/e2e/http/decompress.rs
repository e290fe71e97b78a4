//! Compressed requests: made by gzip, zstd and node (Brotli, deflate), sent by curl, nghttp and node.

mod stopped;
mod waiting;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use outgrow_testkit::backend::{Recorder, Script, Step, response};
use outgrow_testkit::outgrow::Outgrow;
use outgrow_testkit::raw::Client;

use super::compress::{Got, curl};
use super::{Front, connect, field, records};
use crate::limits::{peak_memory, resident_memory};
use crate::shop::{self, SOON};

const CODINGS: [&str; 4] = ["gzip", "zstd", "br", "deflate"];

/// What the tools make of a file.
fn coded(coding: &str, plain: &Path) -> PathBuf {
    let path = plain.with_extension(coding);
    let mut command = match coding {
        "gzip" => Command::new("gzip"),
        "zstd" => Command::new("zstd"),
        _ => Command::new("node"),
    };
    let by_node = |make: &str| {
        let script =
            format!("process.stdout.write(require('zlib').{make}(require('fs').readFileSync(0)))");
        vec!["-e".to_owned(), script]
    };
    let command = match coding {
        "gzip" | "zstd" => command.arg("-c"),
        "br" => command.args(by_node("brotliCompressSync")),
        _ => command.args(by_node("deflateSync")),
    };
    let output = command
        .stdin(Stdio::from(fs::File::open(plain).expect("a file")))
        .output()
        .expect("it runs; gzip, zstd and node: apt-get install gzip zstd nodejs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{coding}: {told}");
    fs::write(&path, output.stdout).expect("written");
    path
}

/// The content of a message in chunks.
fn content(message: &[u8]) -> Vec<u8> {
    let end = message.windows(4).position(|four| four == b"\r\n\r\n");
    let mut rest = &message[end.expect("a head") + 4..];
    let mut content = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n");
        let (length, after) = rest.split_at(line.expect("a chunk's line"));
        let length = std::str::from_utf8(length).expect("text");
        let length = usize::from_str_radix(length, 16).expect("a length");
        if length == 0 {
            return content;
        }
        content.extend(&after[2..2 + length]);
        rest = &after[length + 4..];
    }
}

/// Answers with what it got, in plain, and says of it what it was told.
fn echo() -> Recorder {
    let reply = |request: &[u8]| {
        let text = String::from_utf8_lossy(request);
        let told: Vec<String> = ["Content-Encoding", "Content-Length", "Content-Digest"]
            .iter()
            .filter_map(|name| Some(format!("{name}={}", field(&text, name)?)))
            .collect();
        let body = content(request);
        let head = format!(
            "HTTP/1.1 200 OK\r\nX-Told: {}\r\nContent-Length: {}\r\n\r\n",
            told.join(","),
            body.len()
        );
        [head.as_bytes(), &body].concat()
    };
    Recorder::start(Script::reply(reply)).expect("a backend")
}

fn front(settings: &str) -> Front<'static> {
    let route = format!("decompress = {{ {settings} }}");
    Front {
        route: Box::leak(route.into_boxed_str()),
        json: true,
        ..Front::default()
    }
}

/// Sends a file with curl.
fn send(outgrow: &Outgrow, path: &str, coding: &str, file: &Path, more: &[&str]) -> Got {
    let coding = format!("Content-Encoding: {coding}");
    let data = format!("@{}", file.display());
    let usual = ["-H", &coding, "-H", "Content-Digest: sha-256=:eA==:"];
    let arguments = [&usual[..], &["--data-binary", &data], more].concat();
    curl(outgrow, path, &arguments)
}

/// The same for one whose answer may come before everything is sent, over HTTP/2 with nghttp: curl 7.88
/// loses such an answer.
fn refused(outgrow: &Outgrow, path: &str, coding: &str, file: &Path, is_http2: bool) -> Got {
    let coding = format!("content-encoding: {coding}");
    let url = outgrow.url("public", path);
    let output = match is_http2 {
        true => Command::new("nghttp")
            .args(["-v", "-H", &coding, "-d"])
            .arg(file)
            .arg(url)
            .output()
            .expect("nghttp runs: apt-get install nghttp2-client"),
        false => Command::new("curl")
            .args(["-s", "-i", "--max-time", "30", "--http1.1", "-H", &coding])
            .arg("--data-binary")
            .arg(format!("@{}", file.display()))
            .arg(url)
            .output()
            .expect("curl runs"),
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !is_http2 {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        return Got {
            head: format!("{head}\r\n\r\n"),
            body: body.as_bytes().to_vec(),
        };
    }
    // Each field in a line, `[  0.003] recv (stream_id=13) :status: 413`; the body is somewhere between.
    let fields = text.lines().filter_map(|line| {
        let (_, field) = line.split_once("] recv (stream_id=")?;
        field.split_once(") ").map(|(_, field)| field)
    });
    let mut head = String::new();
    for field in fields {
        match field.strip_prefix(":status: ") {
            Some(status) => head.push_str(&format!("HTTP/2 {status} \r\n")),
            None => head.push_str(&format!("{field}\r\n")),
        }
    }
    Got {
        head: format!("{head}\r\n"),
        body: output.stdout,
    }
}

fn plain(outgrow: &Outgrow, name: &str, length: usize) -> (PathBuf, Vec<u8>) {
    let mut text = String::new();
    let mut item = 0_u64;
    while text.len() < length {
        item += 1;
        text.push_str(&format!(
            "{{\"item\":{item},\"of\":{}}}\n",
            item * 7_919 % 9_973
        ));
    }
    text.truncate(length);
    let path = outgrow.folder().join(name);
    fs::write(&path, &text).expect("written");
    (path, text.into_bytes())
}

/// The record of the request with this path.
fn record(outgrow: &Outgrow, path: &str) -> String {
    let name = format!("\"path\":\"{path}\"");
    let found = outgrow.wait("a record", SOON, |_| {
        let is_it = |line: &String| line.contains(&name);
        records(outgrow, 1).into_iter().find(is_it)
    });
    found.expect("a record")
}

#[test]
fn endpoints_get_plain_bodies() {
    let backend = echo();
    let outgrow = front("").before(&backend);
    for length in [1, 5_000, 300_000, 1_000_000] {
        let (file, plain) = plain(&outgrow, &format!("plain-{length}"), length);
        for coding in CODINGS {
            let coded = coded(coding, &file);
            let sent = fs::metadata(&coded).expect("a file").len();
            let forms: [(&str, &[&str]); 3] = [
                ("h1", &["--http1.1"]),
                ("chunks", &["--http1.1", "-H", "Transfer-Encoding: chunked"]),
                ("h2", &["--http2-prior-knowledge"]),
            ];
            for (form, arguments) in forms {
                let path = format!("/{length}/{coding}/{form}");
                let got = send(&outgrow, &path, coding, &coded, arguments);
                assert_eq!(got.status(), 200, "{path}: {}", got.head);
                assert!(got.body == plain, "{path}: {} bytes", got.body.len());
                assert_eq!(got.field("X-Told"), Some(""), "{path}");
                let record = record(&outgrow, &path);
                for part in [
                    format!("\"request_coding\":\"{coding}\""),
                    format!("\"request_bytes\":{sent},"),
                    format!("\"request_plain_bytes\":{length},"),
                ] {
                    assert!(record.contains(&part), "{part} in {record}");
                }
            }
        }
    }
    let metrics = outgrow.admin_get("/metrics").expect("metrics").text();
    for coding in CODINGS {
        let labels = format!("{{route=\"app\",coding=\"{coding}\"}}");
        let requests = format!("outgrow_decompressed_requests_total{labels} 12\n");
        assert!(metrics.contains(&requests), "{requests} in {metrics}");
        let bytes = format!("outgrow_decompressed_plain_bytes_total{labels} 3915003\n");
        assert!(metrics.contains(&bytes), "{bytes} in {metrics}");
    }
}

#[test]
fn what_is_refused_and_why() {
    let backend = echo();
    let settings = "codings = [\"gzip\", \"zstd\"], max_size = \"1MiB\"";
    let outgrow = front(settings).before(&backend);
    let (file, _) = plain(&outgrow, "plain", 60_000);
    let (large, _) = plain(&outgrow, "large", (1 << 20) + 1);
    let gzip = coded("gzip", &file);
    let half = outgrow.folder().join("half");
    let whole = fs::read(&gzip).expect("a file");
    fs::write(&half, &whole[..whole.len() / 2]).expect("written");
    let table = [
        ("/br", "br", &gzip, 415, "unsupported_coding"),
        ("/two", "gzip, gzip", &gzip, 415, "unsupported_coding"),
        ("/own", "x-own", &gzip, 415, "unsupported_coding"),
        ("/plain", "gzip", &file, 400, "bad_coding"),
        ("/half", "gzip", &half, 400, "bad_coding"),
        ("/other", "zstd", &gzip, 400, "bad_coding"),
        (
            "/large",
            "gzip",
            &coded("gzip", &large),
            413,
            "body_too_large",
        ),
    ];
    for (path, coding, file, status, reason) in table {
        for is_http2 in [false, true] {
            let path = format!("{path}/{is_http2}");
            let got = refused(&outgrow, &path, coding, file, is_http2);
            assert_eq!(got.status(), status, "{path}: {}", got.head);
            let body = String::from_utf8_lossy(&got.body).into_owned();
            assert!(body.contains(&format!("reason: {reason}\n")), "{body}");
            let taken = (status == 415).then_some("gzip, zstd");
            assert_eq!(got.field("Accept-Encoding"), taken, "{path}");
            let record = record(&outgrow, &path);
            assert!(
                record.contains(&format!("\"reason\":\"{reason}\"")),
                "{record}"
            );
            let is_told = record.contains("\"detail\":\"");
            assert!(is_told, "{record}");
        }
    }
    let metrics = outgrow.admin_get("/metrics").expect("metrics").text();
    let counted = "outgrow_faults_total{reason=\"bad_coding\"} 6\n";
    assert!(metrics.contains(counted), "{metrics}");
}

/// 400 MB of nothing in 400 KB: it costs what a small request costs.
#[test]
fn a_bomb_ends_early() {
    let backend = Recorder::start(Script::silence()).expect("a backend");
    let outgrow = front("max_size = \"1GiB\"").before(&backend);
    let zeros = outgrow.folder().join("zeros");
    let file = fs::File::create(&zeros).expect("a file");
    file.set_len(400_000_000).expect("a sparse file");
    let pid = shop::data_pid(&outgrow);
    let before = resident_memory(pid);
    for coding in ["gzip", "zstd"] {
        let bomb = coded(coding, &zeros);
        for is_http2 in [false, true] {
            let path = format!("/{coding}/{is_http2}");
            let got = refused(&outgrow, &path, coding, &bomb, is_http2);
            assert_eq!(got.status(), 413, "{path}: {}", got.head);
            let record = record(&outgrow, &path);
            let reason = "\"reason\":\"decompression_ratio\"";
            assert!(record.contains(reason), "{record}");
        }
    }
    let got: usize = backend.received().len();
    assert!(got < 80 << 20, "{got} bytes went on");
    let more = peak_memory(pid).saturating_sub(before);
    assert!(more < 24 << 20, "{more} bytes of memory");
}

/// A frame of zstd with so many bits of window, of which a block is on its way.
fn opened(window_bits: u8) -> [u8; 9] {
    let window = (window_bits - 10) << 3;
    [0x28, 0xb5, 0x2f, 0xfd, 0, window, 0x20, 3, 0]
}

/// A request that has so large a window held.
fn hold(outgrow: &Outgrow, window_bits: u8, field: &str) -> Client {
    let head = format!(
        "POST /held HTTP/1.1\r\nHost: a\r\nContent-Encoding: zstd\r\nContent-Length: 109\r\n{field}\r\n"
    );
    let mut client = connect(outgrow);
    client
        .send(&[head.as_bytes(), &opened(window_bits)].concat())
        .expect("sent");
    client
}

/// The bytes that are in use.
fn used(outgrow: &Outgrow) -> Option<u64> {
    let metrics = outgrow.admin_get("/metrics").ok()?.text();
    let line = |line: &str| line.strip_prefix("outgrow_buffer_bytes ")?.parse().ok();
    metrics.lines().find_map(line)
}

/// Waits until they are as many as is expected.
fn is_used(outgrow: &Outgrow, expected: &dyn Fn(u64) -> bool) {
    let is_so = outgrow.wait("bytes in use", SOON, |outgrow| {
        used(outgrow).filter(|&bytes| expected(bytes))
    });
    assert!(is_so.is_ok());
}

/// Sends a file in the background, which waits for somebody.
fn begin(outgrow: &Outgrow, path: &str, coding: &str, file: &Path, more: &[&str]) -> Child {
    Command::new("curl")
        .args(["-s", "-w", "%{http_code}", "--http1.1"])
        .args(["-H", &format!("Content-Encoding: {coding}")])
        .args(["--data-binary", &format!("@{}", file.display())])
        .args(more)
        .arg(outgrow.url("public", path))
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl runs")
}

/// What came of that.
fn ended(child: Child) -> String {
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a body in zstd is not answered for half a second.
fn waits(outgrow: &Outgrow, file: &Path, more: &[&str]) -> bool {
    let more = [&["--max-time", "0.5"], more].concat();
    ended(begin(outgrow, "/", "zstd", file, &more)) == "000"
}

/// One address may send as many at a time as it likes: those for which it has no part left wait for its own.
#[test]
fn bodies_of_one_client_wait_for_each_other() {
    let backend = echo();
    let outgrow = front("").before(&backend);
    let (file, _) = plain(&outgrow, "plain", 3_000_000);
    let zstd = coded("zstd", &file);
    let br = coded("br", &file);
    let mut held: Vec<_> = (0..6).map(|_| hold(&outgrow, 21, "")).collect();
    is_used(&outgrow, &|bytes| bytes > 12 << 20);
    assert!(waits(&outgrow, &zstd, &[]), "it has its part");
    let sent: Vec<_> = (0..6)
        .map(|number| match number % 2 {
            0 => begin(&outgrow, "/", "zstd", &zstd, &["-o", "/dev/null"]),
            _ => begin(&outgrow, "/", "br", &br, &["-o", "/dev/null"]),
        })
        .collect();
    held.clear();
    for child in sent {
        assert_eq!(ended(child), "200");
    }
    let metrics = outgrow.admin_get("/metrics").expect("metrics").text();
    let refused = metrics
        .lines()
        .find(|line| line.starts_with("outgrow_faults_total{reason=\"memory_limit\"}"));
    assert_eq!(refused, None, "nobody was refused");
}

/// Behind a proxy that is believed a client is who it says, with its whole network of IPv6; what is no address
/// alone is the proxy's own.
#[test]
fn a_client_is_whom_a_trusted_proxy_names() {
    let backend = echo();
    let front = Front {
        listener: "trusted_proxies = [\"127.0.0.1\"]",
        ..front("")
    };
    let outgrow = front.before(&backend);
    let whole = outgrow.folder().join("whole.zst");
    fs::write(&whole, [&opened(23)[..], &[b'a'; 100], &[1, 0, 0]].concat()).expect("written");
    let status = |client: &str| {
        let field = format!("X-Forwarded-For: {client}");
        send(&outgrow, "/", "zstd", &whole, &["-H", &field]).status()
    };
    let waits = |client: &str| {
        let field = format!("X-Forwarded-For: {client}");
        waits(&outgrow, &whole, &["-H", &field])
    };
    let groups: [(&[&str], &str); 3] = [
        (&["2001:db8::1", "2001:db8::2:0:0:3"], "2001:db8:0:1::1"),
        (&["198.51.100.1"], "198.51.100.2"),
        // These are 127.0.0.1.
        (&["198.51.100.3:80", "198.51.100.4:81", ""], "198.51.100.3"),
    ];
    for (same, other) in groups {
        let held = hold(&outgrow, 23, &format!("X-Forwarded-For: {}\r\n", same[0]));
        is_used(&outgrow, &|bytes| bytes > 8 << 20);
        for client in same {
            assert!(waits(client), "{client:?} beside {:?}", same[0]);
        }
        assert_eq!(status(other), 200, "{other:?} beside {:?}", same[0]);
        drop(held);
        is_used(&outgrow, &|bytes| bytes < 8 << 20);
        assert_eq!(status(same[0]), 200);
        is_used(&outgrow, &|bytes| bytes < 8 << 20);
    }
}

/// One client has as many large windows held as it gets, of every size: what needs little is taken all the
/// same, and so is what needs much from somebody else.
#[test]
fn held_windows_keep_nobody_out() {
    const CONNECTIONS: usize = 12;
    let backend = echo();
    let outgrow = front("").before(&backend);
    let mut held = Vec::new();
    // The small ones first, so that there are as many as may be.
    for window_bits in [20, 21, 22, 23] {
        for _ in 0..CONNECTIONS {
            held.push(hold(&outgrow, window_bits, ""));
        }
        // Before any larger one comes, on whichever worker.
        is_used(&outgrow, &|bytes| bytes > 11 << 20);
    }
    let (file, plain) = plain(&outgrow, "plain", 3_000_000);
    for (coding, address) in [
        ("gzip", "127.0.0.1"),
        ("gzip", "127.0.0.2"),
        ("zstd", "127.0.0.2"),
    ] {
        let coded = coded(coding, &file);
        let got = send(&outgrow, "/", coding, &coded, &["--interface", address]);
        assert_eq!(got.status(), 200, "{coding} from {address}: {}", got.head);
        assert!(got.body == plain);
    }
    let coded = coded("zstd", &file);
    // It waits, or as many do as may.
    let told = ended(begin(&outgrow, "/", "zstd", &coded, &["--max-time", "0.5"]));
    assert!(!told.ends_with("200"), "its own part is in use: {told}");
    // A fifth of 64 MiB, and what all of them hold of small things.
    let bytes = used(&outgrow).expect("a number");
    assert!(bytes < 20 << 20, "{bytes}");
    drop(held);
    let got = send(&outgrow, "/", "zstd", &coded, &[]);
    assert_eq!(got.status(), 200, "{}", got.head);
}

/// A body that comes piece by piece is there piece by piece.
#[test]
fn a_stream_is_not_held_back() {
    let backend = Recorder::start(Script::every([Step::ReadBytes(1), Step::Silence]));
    let backend = backend.expect("a backend");
    let outgrow = front("").before(&backend);
    let script = "import sys, zlib\nmade = zlib.compressobj(6, zlib.DEFLATED, 31)\n\
        sys.stdout.buffer.write(made.compress(b'first words') + made.flush(zlib.Z_SYNC_FLUSH))";
    let output = Command::new("python3").args(["-c", script]).output();
    let piece = output.expect("python3 runs").stdout;
    assert!(piece.len() > 10, "{piece:?}");
    let mut client = connect(&outgrow);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(head.as_bytes()).expect("sent");
    let length = format!("{:x}\r\n", piece.len());
    client
        .send(&[length.as_bytes(), &piece, b"\r\n"].concat())
        .expect("sent");
    let has_words = |received: &[u8]| received.windows(11).any(|some| some == b"first words");
    let came = backend.wait(SOON, |all| all.iter().any(|one| has_words(&one.received)));
    assert!(came, "{}", String::from_utf8_lossy(&backend.received()));
}

/// node compresses while it sends, and the request is sent again to another endpoint from its beginning.
#[test]
fn a_streaming_client_and_another_try() {
    let gone = Recorder::start(Script::every([Step::ReadBytes(20), Step::Reset]));
    let gone = gone.expect("a backend");
    let backend = echo();
    let front = Front {
        route: "decompress = {}",
        ..Front::default()
    };
    let outgrow = front.start(&[gone.address(), backend.address()]);
    let script = r"
const http = require('http'), zlib = require('zlib');
const url = process.argv[1];
const ask = (left) => {
  const made = zlib.createBrotliCompress();
  const headers = { 'Content-Encoding': 'br' };
  const request = http.request(url, { method: 'PUT', headers }, (answer) => {
    let body = '';
    answer.on('data', (part) => body += part);
    answer.on('end', () => {
      console.log(answer.statusCode, body.length);
      if (left > 1) ask(left - 1);
    });
  });
  made.pipe(request);
  made.write('a'.repeat(1000));
  made.flush(() => made.end('b'.repeat(1000)));
};
ask(10);
";
    let output = Command::new("node")
        .args(["-e", script, &outgrow.url("public", "/")])
        .output()
        .expect("node runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(told, "200 2000\n".repeat(10), "{output:?}");
    assert!(!gone.connections().is_empty(), "nobody was there first");
}

/// Where it is not asked for, and where there is nothing to do.
#[test]
fn bodies_stay_as_they_are_otherwise() {
    let backend = Recorder::start(Script::answer(response("ok"))).expect("a backend");
    for route in ["", "decompress = {}"] {
        let front = Front {
            route,
            ..Front::default()
        };
        let outgrow = front.before(&backend);
        let (file, _) = plain(&outgrow, "plain", 3_000);
        let coded = coded("gzip", &file);
        let sent = match route {
            "" => send(&outgrow, "/", "gzip", &coded, &[]),
            _ => send(&outgrow, "/", "identity", &coded, &[]),
        };
        assert_eq!(sent.status(), 200);
        let requests = backend.requests();
        let request = requests.last().expect("a request");
        let bytes = fs::read(&coded).expect("a file");
        assert!(request.ends_with(&bytes), "{route}");
        let text = String::from_utf8_lossy(request).into_owned();
        let length = bytes.len().to_string();
        assert_eq!(field(&text, "Content-Length"), Some(length.as_str()));
        assert_eq!(field(&text, "Content-Digest"), Some("sha-256=:eA==:"));
    }
}
