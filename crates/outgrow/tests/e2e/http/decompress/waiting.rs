//! Bodies of one client that wait for each other: for how long, for whom, and at whose expense.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use outgrow_testkit::backend::Gate;
use outgrow_testkit::{child::TestChild, http, ports, wait};

use super::*;

/// A body with a window of 8 MiB, of which a client has one at a time.
fn whole(outgrow: &Outgrow) -> PathBuf {
    let path = outgrow.folder().join("whole.zst");
    fs::write(&path, [&opened(23)[..], &[b'a'; 100], &[1, 0, 0]].concat()).expect("written");
    path
}

/// An outgrow before an application, and somebody who has all the room that a client may have.
fn busy() -> (Recorder, Outgrow, Client) {
    let backend = echo();
    let outgrow = front("").before(&backend);
    let held = hold(&outgrow, 23, "");
    is_used(&outgrow, &|bytes| bytes > 8 << 20);
    (backend, outgrow, held)
}

/// Waits until a metric of the service has this value.
pub(super) fn is_counted(outgrow: &Outgrow, name: &str, expected: u64) {
    let is_so = outgrow.wait(name, SOON, |outgrow| {
        let metrics = outgrow.admin_get("/metrics").ok()?.text();
        let values = metrics.lines().filter(|line| line.starts_with(name));
        let values = values.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        (values.sum::<u64>() == expected).then_some(())
    });
    assert!(is_so.is_ok(), "{name} {expected}");
}

/// The wait is nobody's fault but ours, and has an end, whoever else has more patience.
#[test]
fn the_wait_for_room_ends_as_our_own_fault() {
    let (_backend, outgrow, _held) = busy();
    let begun = Instant::now();
    let told = ended(begin(&outgrow, "/late", "zstd", &whole(&outgrow), &[]));
    assert!(
        told.contains("reason: memory_limit\n") && told.ends_with("503"),
        "{told}"
    );
    let took = begun.elapsed();
    assert!(
        took > Duration::from_secs(4) && took < Duration::from_secs(15),
        "{took:?}"
    );
    let record = record(&outgrow, "/late");
    assert!(record.contains("\"reason\":\"memory_limit\""), "{record}");
}

/// A few of one client's wait, and one more is refused at once.
#[test]
fn few_of_one_client_wait() {
    let (_backend, outgrow, held) = busy();
    let whole = whole(&outgrow);
    let sent: Vec<_> = (0..9)
        .map(|_| begin(&outgrow, "/", "zstd", &whole, &["-o", "/dev/null"]))
        .collect();
    let refused = records(&outgrow, 1);
    drop(held);
    assert!(refused[0].contains("\"status\":503,"), "{refused:?}");
    let mut statuses: Vec<_> = sent.into_iter().map(ended).collect();
    statuses.sort();
    assert_eq!(statuses[..8], ["200"; 8]);
    assert_eq!(statuses[8], "503");
}

/// Brotli of 1 MiB that does not repeat itself, and of 8 MiB more after it; where the second part begins.
const GROWS: &str = r"
const zlib = require('node:zlib'), crypto = require('node:crypto'), fs = require('node:fs');
const noise = crypto.createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16));
const { BROTLI_PARAM_LGWIN, BROTLI_PARAM_QUALITY, BROTLI_OPERATION_FLUSH } = zlib.constants;
const params = { [BROTLI_PARAM_LGWIN]: 23, [BROTLI_PARAM_QUALITY]: 2 };
const stream = zlib.createBrotliCompress({ params });
const parts = [];
stream.on('data', (part) => parts.push(part));
stream.on('end', () => fs.writeFileSync(process.argv[1], Buffer.concat(parts)));
stream.write(noise.update(Buffer.alloc(1 << 20)));
stream.flush(BROTLI_OPERATION_FLUSH, () => setImmediate(() => {
  console.log(parts.reduce((sum, part) => sum + part.length, 0));
  stream.end(noise.update(Buffer.alloc(8 << 20)));
}));
";

/// A body that has room, and needs more in its middle, waits for it beside as many as may wait: they bring new bodies,
/// and it would be lost.
#[test]
fn a_window_that_grows_waits_beside_as_many_as_may() {
    let (_backend, outgrow, held) = busy();
    let file = outgrow.folder().join("grows.br");
    let made = Command::new("node").args(["-e", GROWS]).arg(&file).output();
    let made = made.expect("node runs").stdout;
    let first: usize = String::from_utf8_lossy(&made)
        .trim()
        .parse()
        .expect("a length");
    let bytes = fs::read(&file).expect("a file");
    assert!((1 << 20..bytes.len() / 2).contains(&first), "{first}");
    let before = used(&outgrow).expect("bytes in use");
    let mut grows = connect(&outgrow);
    let head = format!(
        "POST /grows HTTP/1.1\r\nHost: a\r\nContent-Encoding: br\r\nContent-Length: {}\r\n\r\n",
        bytes.len()
    );
    grows
        .send(&[head.as_bytes(), &bytes[..first]].concat())
        .expect("sent");
    // Its window is a large one by now.
    is_used(&outgrow, &|bytes| bytes > before + (1 << 20));
    let whole = whole(&outgrow);
    let more = ["-o", "/dev/null"];
    let waiting: Vec<_> = (0..8)
        .map(|_| begin(&outgrow, "/waits", "zstd", &whole, &more))
        .collect();
    is_counted(&outgrow, "outgrow_endpoint_active_requests", 10);
    let ninth = ended(begin(&outgrow, "/ninth", "zstd", &whole, &more));
    assert_eq!(ninth, "503", "eight wait");
    let waits = used(&outgrow).expect("bytes in use");
    let rest = bytes[first..].to_vec();
    let sent = std::thread::spawn(move || {
        let sent = grows.send(&rest);
        (grows, sent)
    });
    // Its window, of 8 MiB, does not grow before somebody lets go of something.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        let now = used(&outgrow).expect("bytes in use");
        assert!(now < waits + (4 << 20), "{waits} {now}");
    }
    drop(held);
    for child in waiting {
        assert_eq!(ended(child), "200");
    }
    let (mut grows, sent) = sent.join().expect("it is well");
    sent.expect("sent");
    let came = grows.receive_until(b"\r\n\r\n", SOON).expect("received");
    let text = String::from_utf8_lossy(grows.received());
    assert!(
        came && text.starts_with("HTTP/1.1 200 "),
        "{}",
        text.get(..300).unwrap_or(&text)
    );
    assert!(text.contains("\r\nContent-Length: 9437184\r\n"));
}

/// Several of one connection: those that wait do not fill its window, which the one needs that they wait for.
#[test]
fn bodies_of_one_connection_do_not_stall_each_other() {
    let backend = echo();
    let outgrow = front("").before(&backend);
    let path = outgrow.folder().join("large.zst");
    let mut body = opened(23)[..6].to_vec();
    for block in 0..8_u32 {
        let head = (128 * 1_024) << 3 | u32::from(block == 7);
        body.extend_from_slice(&head.to_le_bytes()[..3]);
        body.extend_from_slice(&[b'a' + block as u8; 128 * 1_024]);
    }
    fs::write(&path, body).expect("written");
    let output = Command::new("nghttp")
        .args([
            "-nv",
            "-m",
            "4",
            "-t",
            "20",
            "-H",
            "content-encoding: zstd",
            "-d",
        ])
        .arg(&path)
        .arg(outgrow.url("public", "/"))
        .output()
        .expect("nghttp runs: apt-get install nghttp2-client");
    let text = String::from_utf8_lossy(&output.stdout);
    let statuses: Vec<&str> = text
        .lines()
        .filter_map(|line| Some(line.split_once(") :status: ")?.1.trim()))
        .collect();
    assert_eq!(statuses, ["200"; 4]);
}

/// What an endpoint does with a body that has come, however long that takes, is nothing that others wait for.
#[test]
fn a_body_that_was_sent_has_no_room() {
    let gate = Gate::new();
    let steps = [
        Step::ReadRequest,
        Step::Wait(gate.clone()),
        Step::Send(response("ok")),
        Step::Again,
    ];
    let backend = Recorder::start(Script::every(steps)).expect("a backend");
    let outgrow = front("").before(&backend);
    let whole = whole(&outgrow);
    let sent: Vec<_> = (0..3)
        .map(|_| begin(&outgrow, "/", "zstd", &whole, &["-o", "/dev/null"]))
        .collect();
    let have_come = backend.wait(SOON, |all| {
        let is_whole = |received: &[u8]| received.ends_with(b"0\r\n\r\n");
        all.iter().filter(|one| is_whole(&one.received)).count() == 3
    });
    assert!(have_come, "all are there before one is answered");
    gate.open();
    for child in sent {
        assert_eq!(ended(child), "200");
    }
}

/// Who has left while it waited is not waited with: neither its stream nor its connection.
#[test]
fn who_leaves_while_it_waits_is_gone() {
    let (_backend, outgrow, _held) = busy();
    let whole = whole(&outgrow);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let path = format!("/{version}");
        let more = ["--max-time", "0.5", version];
        assert_eq!(ended(begin(&outgrow, &path, "zstd", &whole, &more)), "000");
        let record = record(&outgrow, &path);
        assert!(record.contains("\"reason\":\"client_gone\""), "{record}");
    }
}

/// Breaks the first attempt at `/first` when it is told so, at its other port; all else is answered with the
/// length of its body.
const BREAKS: &str = r"
const http = require('node:http'), http2 = require('node:http2');
const [port, control, version] = process.argv.slice(1);
let first = null;
const handler = (request, response) => {
  request.on('error', () => {});
  if (request.url === '/first' && !first) {
    first = request;
    request.resume();
    return;
  }
  let count = 0;
  request.on('data', (data) => count += data.length);
  request.on('end', () => {
    const text = String(count);
    response.writeHead(200, { 'content-length': text.length });
    response.end(text);
  });
};
const server = version === '2' ? http2.createServer(handler) : http.createServer(handler);
server.listen(Number(port), '127.0.0.1');
http.createServer((request, response) => {
  if (version === '2') first.stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
  else first.socket.resetAndDestroy();
  response.end('broken');
}).listen(Number(control), '127.0.0.1');
";

/// An endpoint that breaks off.
struct Breaks {
    _child: TestChild,
    address: SocketAddr,
    control: SocketAddr,
}

impl Breaks {
    fn start(version: &str) -> Self {
        let ports = ports::free(2).expect("free ports");
        let [address, control] = [ports[0], ports[1]];
        let child = TestChild::start(
            Command::new("node")
                .args(["-e", BREAKS])
                .args([address, control].map(|one| one.port().to_string()))
                .arg(version)
                .stdin(Stdio::null()),
        )
        .expect("node runs");
        for address in [address, control] {
            let accepts = || TcpStream::connect(address).ok();
            wait::until("the server accepts", SOON, accepts).expect("it does");
        }
        Self {
            _child: child,
            address,
            control,
        }
    }
}

/// One that has its room, and loses its attempt, waits for a permit behind those that wait for its room.
#[test]
fn who_is_tried_again_is_not_waited_for() {
    for version in ["1.1", "2"] {
        let endpoint = Breaks::start(version);
        let service = format!("http_version = \"{version}\"\nmax_connections = 2");
        let front = Front {
            service: Box::leak(service.into_boxed_str()),
            ..front("")
        };
        let outgrow = front.start(&[endpoint.address]);
        let whole = whole(&outgrow);
        let bytes = fs::read(&whole).expect("a file");
        let mut first = connect(&outgrow);
        let head = format!(
            "PUT /first HTTP/1.1\r\nHost: a\r\nContent-Encoding: zstd\r\nContent-Length: {}\r\n\r\n",
            bytes.len()
        );
        first
            .send(&[head.as_bytes(), &bytes[..50]].concat())
            .expect("sent");
        is_used(&outgrow, &|bytes| bytes > 8 << 20);
        let more = ["-o", "/dev/null"];
        let second = begin(&outgrow, "/second", "zstd", &whole, &more);
        is_counted(&outgrow, "outgrow_endpoint_active_requests", 2);
        let third = begin(&outgrow, "/third", "zstd", &whole, &more);
        is_counted(&outgrow, "outgrow_service_queue_length", 1);
        let begun = Instant::now();
        let url = format!("http://{}/", endpoint.control);
        assert_eq!(http::get(&url).expect("an answer").text(), "broken");
        assert_eq!(ended(second), "200", "{version}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{version}");
        // The first one has a permit again by now, and the third may have to wait for its room.
        first.send(&bytes[50..]).expect("sent");
        assert_eq!(ended(third), "200", "{version}");
        let came = first.receive_until(b"\r\n\r\n100", SOON).expect("received");
        let text = String::from_utf8_lossy(first.received());
        assert!(
            came && text.starts_with("HTTP/1.1 200"),
            "{version}: {text}"
        );
    }
}
