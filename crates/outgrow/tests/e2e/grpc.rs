//! gRPC with a server and a client of the gRPC project (grpcio from PyPI): the shapes of its interop
//! tests, health, statuses, retries, and gRPC-Web.

use std::{
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use outgrow_testkit::{child::TestChild, folder::Folder, http, outgrow::Outgrow, ports, wait};

use crate::apps::{From, install};
use crate::shop::SOON;

/// A server whose messages are plain bytes, so that nothing has to be generated.
const SERVER: &str = r#"
import sys, time
from concurrent import futures
import grpc

state = {"serving": True, "unavailable": sys.argv[2:] == ["unavailable"]}

def empty(request, context):
    context.set_trailing_metadata([("x-server", sys.argv[1])])
    return b""
def large(request, context):
    return b"r" * 314159
def who(request, context):
    if state["unavailable"]:
        context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
    return sys.argv[1].encode()
def sum_up(requests, context):
    return str(sum(len(one) for one in requests)).encode()
def stream(request, context):
    for size in (31415, 9, 2653, 58979):
        yield b"s" * size
def ping_pong(requests, context):
    for one in requests:
        yield one
def metadata(request, context):
    given = dict(context.invocation_metadata())
    context.send_initial_metadata([("x-initial", given["x-initial"])])
    context.set_trailing_metadata([("x-trailing-bin", given["x-trailing-bin"])])
    return b""
def fail(request, context):
    context.abort(grpc.StatusCode.UNKNOWN, request.decode())
def sleep(request, context):
    time.sleep(5)
    return b""
def until_cancelled(requests, context):
    for one in requests:
        yield one
def health(request, context):
    return b"\x08\x01" if state["serving"] else b"\x08\x02"

unary, out, into, both = (grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler,
    grpc.stream_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler)
server = grpc.server(futures.ThreadPoolExecutor(16))
server.add_generic_rpc_handlers((
    grpc.method_handlers_generic_handler("test.Service", {
        "Empty": unary(empty), "Large": unary(large), "Who": unary(who), "Sum": into(sum_up),
        "Stream": out(stream), "PingPong": both(ping_pong), "Metadata": unary(metadata),
        "Fail": unary(fail), "Sleep": unary(sleep), "Cancel": both(until_cancelled)}),
    grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": unary(health)})))
server.add_insecure_port("127.0.0.1:" + sys.argv[1])
server.start()
server.wait_for_termination()
"#;

/// The shapes; each that went as it should is a line.
const CLIENT: &str = r#"
import sys, threading, time
import grpc

channel = grpc.insecure_channel(sys.argv[1])
def unary(name): return channel.unary_unary("/test.Service/" + name)
def ok(name): print(name, "ok", flush=True)
def check(name, right):
    assert right, name
    ok(name)

answer, call = unary("Empty").with_call(b"", timeout=20)
check("empty_unary", answer == b"" and dict(call.trailing_metadata())["x-server"])
check("large_unary", unary("Large")(b"q" * 271828, timeout=20) == b"r" * 314159)
check("client_streaming", channel.stream_unary("/test.Service/Sum")(
    (b"c" * size for size in (27182, 8, 1828, 45904)), timeout=20) == b"74922")
check("server_streaming", [len(one) for one in channel.unary_stream("/test.Service/Stream")(b"", timeout=20)]
    == [31415, 9, 2653, 58979])

both = channel.stream_stream("/test.Service/PingPong")
turn, sent = threading.Semaphore(1), []
def requests():
    for size in (27182, 8, 1828, 45904):
        assert turn.acquire(timeout=20)
        sent.append(size)
        yield b"p" * size
got = []
for one in both(requests(), timeout=20):
    got.append(len(one))
    assert len(sent) == len(got)
    turn.release()
check("ping_pong", got == [27182, 8, 1828, 45904])
check("empty_stream", list(both(iter(()), timeout=20)) == [])

_, call = unary("Metadata").with_call(b"", timeout=20,
    metadata=[("x-initial", "first"), ("x-trailing-bin", b"\x0a\x0b\x0a\x0b")])
check("custom_metadata", dict(call.initial_metadata())["x-initial"] == "first"
    and dict(call.trailing_metadata())["x-trailing-bin"] == b"\x0a\x0b\x0a\x0b")

def status(name, request, expected, text=None, timeout=20, service="test.Service"):
    try:
        channel.unary_unary(f"/{service}/{name}")(request, timeout=timeout)
    except grpc.RpcError as error:
        assert error.code() == expected, (name, error)
        assert text is None or error.details() == text, (name, error.details())
        return
    assert False, name
special = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"
status("Fail", b"test status message", grpc.StatusCode.UNKNOWN, "test status message")
ok("status_code_and_message")
status("Fail", special.encode(), grpc.StatusCode.UNKNOWN, special)
ok("special_status_message")
status("Nothing", b"", grpc.StatusCode.UNIMPLEMENTED)
ok("unimplemented_method")
status("Nothing", b"", grpc.StatusCode.UNIMPLEMENTED, service="test.Other")
ok("unimplemented_service")
began = time.monotonic()
status("Sleep", b"", grpc.StatusCode.DEADLINE_EXCEEDED, timeout=0.3)
check("timeout_on_sleeping_server", time.monotonic() - began < 3)

call = channel.stream_unary("/test.Service/Sum").future(iter(lambda: time.sleep(0.05) or b"x", None))
time.sleep(0.2)
call.cancel()
check("cancel_after_begin", call.code() == grpc.StatusCode.CANCELLED)
hold = threading.Event()
def first_only():
    yield b"one"
    hold.wait(20)
call = channel.stream_stream("/test.Service/Cancel")(first_only())
assert next(call) == b"one"
call.cancel()
hold.set()
check("cancel_after_first_response", call.code() == grpc.StatusCode.CANCELLED)
"#;

/// One call; what came of it is a line.
const ONE: &str = r#"
import sys, grpc
channel = grpc.insecure_channel(sys.argv[1])
for _ in range(int(sys.argv[3])):
    try:
        answer = channel.unary_unary("/test.Service/" + sys.argv[2])(b"", timeout=20,
            metadata=[tuple(one.split("=")) for one in sys.argv[4:]])
        print("OK", answer.decode())
    except grpc.RpcError as error:
        print(error.code().name, error.details())
"#;

struct Server {
    _child: TestChild,
    address: SocketAddr,
}

fn library() -> Option<PathBuf> {
    install("grpcio", From::PyPi, &["grpcio==1.85.3"])
}

fn python(library: &Path, program: &Path) -> Command {
    let mut python = Command::new("python3");
    python
        .arg(program)
        .env("PYTHONPATH", library)
        .env_remove("http_proxy")
        .env("GRPC_VERBOSITY", "NONE")
        .stdin(Stdio::null());
    python
}

impl Server {
    fn start(library: &Path, folder: &Folder, how: &[&str]) -> Self {
        let address = ports::free(1).expect("a free port")[0];
        let program = folder.write("server.py", SERVER).expect("written");
        let child = TestChild::start(
            python(library, &program)
                .arg(address.port().to_string())
                .args(how),
        )
        .expect("python3 runs");
        let accepts = || TcpStream::connect(address).ok();
        wait::until("the server accepts", SOON, accepts).expect("it does");
        Self {
            _child: child,
            address,
        }
    }

    fn name(&self) -> String {
        self.address.port().to_string()
    }
}

fn start(endpoints: &[SocketAddr], service: &str, route: &str) -> Outgrow {
    let endpoints: Vec<String> = endpoints.iter().map(|one| format!("\"{one}\"")).collect();
    let config = format!(
        "[access]\nto = \"access.log\"\n[process]\nworkers = 1\n[listener.public]\naddress = \
         \"%public%\"\n[route.app]\nservice = \"app\"\n{route}\n[service.app]\nendpoints = [{}]\n\
         http_version = \"2\"\n{service}\n",
        endpoints.join(", ")
    );
    Outgrow::start(&config).expect("outgrow starts")
}

fn run(library: &Path, program: &Path, arguments: &[String]) -> String {
    let output = python(library, program)
        .args(arguments)
        .output()
        .expect("python3 runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    text
}

fn calls(
    outgrow: &Outgrow,
    library: &Path,
    name: &str,
    count: u32,
    metadata: &[&str],
) -> Vec<String> {
    let program = outgrow.folder().join("one.py");
    std::fs::write(&program, ONE).expect("written");
    let mut arguments = vec![address(outgrow), name.to_owned(), count.to_string()];
    arguments.extend(metadata.iter().map(|one| (*one).to_owned()));
    let text = run(library, &program, &arguments);
    text.lines().map(str::to_owned).collect()
}

fn address(outgrow: &Outgrow) -> String {
    outgrow.address("public").expect("a listener").to_string()
}

fn records(outgrow: &Outgrow) -> String {
    std::fs::read_to_string(outgrow.folder().join("access.log")).unwrap_or_default()
}

#[test]
fn the_shapes_of_the_interop_tests_pass() {
    let Some(library) = library() else { return };
    let folder = Folder::new("grpc").unwrap();
    let server = Server::start(&library, &folder, &[]);
    let service = "check = { kind = \"grpc\", interval = \"100ms\" }";
    let outgrow = start(&[server.address], service, "");
    let healthy = |outgrow: &Outgrow| {
        let state = outgrow.admin_get("/state").ok()?;
        String::from_utf8_lossy(&state.body)
            .contains("\"up\"")
            .then_some(())
    };
    outgrow
        .wait("the check passes", SOON, healthy)
        .expect("it does");
    let program = folder.write("client.py", CLIENT).expect("written");
    let said = run(&library, &program, &[address(&outgrow)]);
    let shapes: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_suffix(" ok"))
        .collect();
    assert_eq!(
        shapes,
        [
            "empty_unary",
            "large_unary",
            "client_streaming",
            "server_streaming",
            "ping_pong",
            "empty_stream",
            "custom_metadata",
            "status_code_and_message",
            "special_status_message",
            "unimplemented_method",
            "unimplemented_service",
            "timeout_on_sleeping_server",
            "cancel_after_begin",
            "cancel_after_first_response",
        ]
    );
    let told = |outgrow: &Outgrow| {
        let lines = records(outgrow);
        ["grpc_status=0", "grpc_status=2", "grpc_status=12"]
            .iter()
            .all(|one| lines.contains(one))
            .then_some(())
    };
    outgrow
        .wait("the records say the statuses", SOON, told)
        .expect("they do");
}

#[test]
fn what_goes_wrong_here_is_told_as_a_status() {
    let Some(library) = library() else { return };
    let address = ports::free(1).expect("a free port")[0];
    let outgrow = start(&[address], "", "path = \"/test.Service\"");
    let nobody = calls(&outgrow, &library, "Empty", 1, &[]);
    assert_eq!(
        nobody,
        ["UNAVAILABLE The service could not be reached. (outgrow: connect_refused)"]
    );
    let outgrow = start(&[address], "", "path = \"/other.Service\"");
    let lost = calls(&outgrow, &library, "Empty", 1, &[]);
    assert!(lost[0].starts_with("UNIMPLEMENTED "), "{lost:?}");
}

#[test]
fn a_call_that_may_be_repeated_finds_a_server_that_is_available() {
    let Some(library) = library() else { return };
    let folder = Folder::new("grpc").unwrap();
    let busy = Server::start(&library, &folder, &["unavailable"]);
    let free = Server::start(&library, &folder, &[]);
    let both = [busy.address, free.address];
    let service = "balance = \"round_robin\"\noutlier = { consecutive_failures = 0 }";
    let outgrow = start(&both, service, "idempotency_key = true");
    let kept = calls(&outgrow, &library, "Who", 6, &["idempotency-key=one"]);
    let expected = format!("OK {}", free.name());
    assert!(kept.iter().all(|one| *one == expected), "{kept:?}");
    // Without the key a call is made once.
    let once = calls(&outgrow, &library, "Who", 6, &[]);
    assert!(
        once.iter().any(|one| one == "UNAVAILABLE not now"),
        "{once:?}"
    );
    // Ejected by its statuses.
    let service =
        "balance = \"round_robin\"\noutlier = { consecutive_failures = 2 }\npanic_threshold = 0";
    let outgrow = start(&both, service, "");
    calls(&outgrow, &library, "Who", 8, &[]);
    let after = calls(&outgrow, &library, "Who", 6, &[]);
    assert!(after.iter().all(|one| *one == expected), "{after:?}");
}

#[test]
fn clients_that_wait_no_time_have_no_server_ejected() {
    let Some(library) = library() else { return };
    let folder = Folder::new("grpc").unwrap();
    let server = Server::start(&library, &folder, &[]);
    let service = "outlier = { consecutive_failures = 2 }\npanic_threshold = 0";
    let outgrow = start(&[server.address], service, "");
    for _ in 0..6 {
        let answer = http::request(
            "POST",
            &outgrow.url("public", "/test.Service/Sleep"),
            &[
                ("Content-Type", "application/grpc"),
                ("TE", "trailers"),
                ("grpc-timeout", "20m"),
            ],
            b"\0\0\0\0\0",
        );
        let answer = answer.expect("answered");
        assert_eq!(answer.header("grpc-status"), Some("4"), "{answer:?}");
    }
    let after = calls(&outgrow, &library, "Who", 2, &[]);
    let expected = format!("OK {}", server.name());
    assert!(after.iter().all(|one| *one == expected), "{after:?}");
}

/// The frames of a body of gRPC-Web: flag and message.
fn frames(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [flag, a, b, c, d, rest @ ..] = body {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        frames.push((*flag, rest[..length].to_vec()));
        body = &rest[length..];
    }
    assert!(body.is_empty(), "{body:?}");
    frames
}

#[test]
fn browsers_call_by_grpc_web() {
    let Some(library) = library() else { return };
    let folder = Folder::new("grpc").unwrap();
    let server = Server::start(&library, &folder, &[]);
    let outgrow = start(&[server.address], "", "grpc_web = true");
    let call = |name: &str, content_type: &str, body: &[u8]| {
        let url = outgrow.url("public", &format!("/test.Service/{name}"));
        let headers = [("Content-Type", content_type), ("X-Grpc-Web", "1")];
        http::request("POST", &url, &headers, body).expect("answered")
    };
    let answer = call("Who", "application/grpc-web+proto", b"\0\0\0\0\0");
    // The server says nothing of the encoding.
    assert_eq!(answer.header("content-type"), Some("application/grpc-web"));
    let frames_of = frames(&answer.body);
    assert_eq!(frames_of[0], (0, server.name().into_bytes()));
    let trailers = String::from_utf8_lossy(&frames_of[1].1).into_owned();
    assert!(
        frames_of[1].0 == 0x80 && trailers.contains("grpc-status: 0\r\n"),
        "{trailers}"
    );
    // A status without a message stands in the head, or in the frame of trailers.
    let failed = call("Nothing", "application/grpc-web", b"\0\0\0\0\0");
    let in_frame = frames(&failed.body).iter().any(|(flag, text)| {
        *flag == 0x80 && String::from_utf8_lossy(text).contains("grpc-status: 12")
    });
    assert!(
        in_frame || failed.header("grpc-status") == Some("12"),
        "{failed:?}"
    );
    // In text, the request in two segments of its own padding.
    let answer = call("Who", "application/grpc-web-text", b"AAAAAA==AA==");
    assert_eq!(answer.status, 200);
    let refused = call("Who", "application/grpc-web-text", b"AAAAAAA");
    assert_eq!(refused.header("grpc-status"), Some("13"), "{refused:?}");
    let answer = call("Who", "application/grpc-web-text", b"AAAAAAA=");
    assert_eq!(
        answer.header("content-type"),
        Some("application/grpc-web-text")
    );
    let text = String::from_utf8(answer.body.clone()).expect("base64");
    let decoded = Command::new("python3")
        .args(["-c", "import base64,sys,re\nout=b''\nfor one in re.findall('[^=]+=*', sys.argv[1]): out += base64.b64decode(one)\nsys.stdout.buffer.write(out)", &text])
        .output()
        .expect("python3 runs");
    assert_eq!(
        frames(&decoded.stdout)[0],
        (0, server.name().into_bytes()),
        "{text}"
    );
}
