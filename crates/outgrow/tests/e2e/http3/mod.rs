//! HTTP/3 with a client that knows nothing of us (aioquic from PyPI), over real sockets of several
//! workers.

mod early;
mod exchanges;
mod guarded;
mod lives;
mod websockets;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{ChildStdout, Command, Stdio};

use outgrow_testkit::{child::TestChild, folder::Folder, outgrow::Outgrow, ports, wait};
use serde_json::Value;

use crate::apps::{From, install};
use crate::shop::SOON;

const APP: &str = include_str!("app.py");
const CLIENT: &str = include_str!("client.py");

/// The client's library; none where that is allowed.
fn library() -> Option<PathBuf> {
    install("aioquic", From::PyPi, &["aioquic==1.7.2"])
}

/// An application, an outgrow before it, and what clients need.
struct House {
    library: PathBuf,
    folder: Folder,
    app: App,
    outgrow: Outgrow,
}

/// A process that is ended with the test.
struct App {
    _child: TestChild,
    address: SocketAddr,
}

impl App {
    fn start(folder: &Folder) -> Self {
        let address = ports::free(1).expect("a free port")[0];
        let program = folder.write("app.py", APP).expect("written");
        let mut command = Command::new("python3");
        command.arg(program).arg(address.port().to_string());
        let child = TestChild::start(command.stdin(Stdio::null())).expect("python3 runs");
        let app = Self {
            _child: child,
            address,
        };
        wait::until("the application listens", SOON, || {
            TcpStream::connect(address).ok()
        })
        .expect("it does");
        app
    }
}

/// A certificate for `shop.example`, written over what was there.
fn certificate(folder: &Folder) {
    let names = vec!["shop.example".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    folder.write("cert.pem", made.cert.pem()).expect("written");
    let key = made.signing_key.serialize_pem();
    folder.write("key.pem", key).expect("written");
}

impl House {
    /// With these lines in the listener's tables `http3` and `tls`; none without the client's library.
    fn start(http3: &str, tls: &str) -> Option<Self> {
        let library = library()?;
        let folder = Folder::new("http3").expect("a folder");
        certificate(&folder);
        let app = App::start(&folder);
        let config = config(&folder, app.address, Some(http3), tls);
        let outgrow = Outgrow::start(&config).expect("outgrow starts");
        Some(Self {
            library,
            folder,
            app,
            outgrow,
        })
    }

    fn port(&self) -> u16 {
        self.outgrow.address("public").expect("an address").port()
    }

    fn command(&self, words: &[&str]) -> Command {
        let program = self.folder.write("client.py", CLIENT).expect("written");
        let mut command = Command::new("python3");
        command
            .env("PYTHONPATH", &self.library)
            .arg(program)
            .arg(self.port().to_string())
            .arg(self.folder.path().join("cert.pem"))
            .args(words);
        command
    }

    /// What a client says that does this.
    fn client(&self, words: &[&str]) -> Vec<Value> {
        said_by(&mut self.command(words), words)
    }

    /// The one thing that a client says.
    fn one(&self, words: &[&str]) -> Value {
        let mut said = self.client(words);
        assert_eq!(said.len(), 1, "{said:?}");
        said.remove(0)
    }
}

fn said_by(command: &mut Command, words: &[&str]) -> Vec<Value> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.expect("python3 runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
    lines(&output.stdout)
}

fn lines(text: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// The configuration of a house.
fn config(folder: &Folder, app: SocketAddr, http3: Option<&str>, tls: &str) -> String {
    let path = folder.path().display().to_string();
    let http3 = http3.map_or(String::new(), |http3| {
        format!("[listener.public.http3]\n{http3}")
    });
    format!(
        r#"
[process]
workers = 3

[access]
to = "access.log"

[listener.public]
address = "%public%"
[listener.public.tls]
certificates = [ {{ certificate = "{path}/cert.pem", key = "{path}/key.pem" }} ]
{tls}
{http3}

[service.app]
endpoints = ["{app}"]

[route.app]
service = "app"
"#
    )
}

/// A client that says a line when it has begun, and goes on until it is told to end.
struct Told {
    child: TestChild,
    said: BufReader<ChildStdout>,
}

impl Told {
    fn start(house: &House, words: &[&str]) -> Self {
        Self::by(&mut house.command(words))
    }

    fn by(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = TestChild::start(command).expect("python3 runs");
        let said = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, said }
    }

    /// Tells it a line.
    fn say(&mut self, line: &str) {
        let mut stdin = self.child.stdin.as_ref().expect("a pipe");
        writeln!(stdin, "{line}").expect("written");
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("read");
        serde_json::from_str(&line).expect("JSON")
    }

    /// The last thing that it says, once it was told to end.
    fn end(mut self) -> Value {
        drop(self.child.stdin.take());
        let mut rest = Vec::new();
        self.said.read_to_end(&mut rest).expect("read");
        self.child.wait().expect("it ends");
        lines(&rest).pop().expect("what became of it")
    }
}

/// Clients that ask without a break.
struct Load {
    child: TestChild,
    said: BufReader<ChildStdout>,
    /// What was said last of how many requests have been answered, on how many connections.
    so_far: Value,
}

impl Load {
    fn start(house: &House, clients: u32) -> Self {
        let mut command = house.command(&["load", &clients.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = TestChild::start(&mut command).expect("python3 runs");
        let said = BufReader::new(child.stdout.take().expect("it is a pipe"));
        Self {
            child,
            said,
            so_far: Value::Null,
        }
    }

    /// Waits until this is so of what was said last.
    fn until(&mut self, what: &str, mut is_so: impl FnMut(&Value) -> bool) {
        let mut line = String::new();
        while !is_so(&self.so_far) {
            line.clear();
            let count = self.said.read_line(&mut line).expect("read");
            assert!(count > 0, "the clients end before {what}: {}", self.so_far);
            self.so_far = serde_json::from_str(&line).expect("JSON");
        }
    }

    /// Waits until so many more requests have been answered.
    fn more(&mut self, count: u64) {
        let ok = |so_far: &Value| so_far["ok"].as_u64().unwrap_or_default();
        // Some of what was said lies in the pipe still.
        let enough = ok(&self.so_far) + count;
        self.until("they have asked", |so_far| ok(so_far) >= enough);
    }

    /// What became of it.
    fn stop(mut self) -> Value {
        let mut stdin = self.child.stdin.take().expect("it is a pipe");
        stdin.write_all(b"\n").expect("written");
        let mut rest = Vec::new();
        self.said.read_to_end(&mut rest).expect("read");
        self.child.wait().expect("it ends");
        lines(&rest).pop().expect("what became of it")
    }
}

fn records(outgrow: &Outgrow) -> String {
    std::fs::read_to_string(outgrow.folder().join("access.log")).unwrap_or_default()
}

/// Text of a field of what a client says.
fn text<'v>(said: &'v Value, name: &str) -> &'v str {
    said[name].as_str().unwrap_or_default()
}

/// What the application was asked, by its answer.
fn asked(said: &Value) -> Value {
    serde_json::from_str(text(said, "body")).expect("JSON of the application")
}

/// The value of a metric, its labels included in the name.
fn metric(outgrow: &Outgrow, name: &str) -> f64 {
    metric_so_far(outgrow, name).unwrap_or_else(|| panic!("{name}is no metric"))
}

/// The same of one that is there with the first of what it counts.
fn metric_so_far(outgrow: &Outgrow, name: &str) -> Option<f64> {
    let metrics = outgrow.admin_get("/metrics").expect("metrics");
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    let count = metrics.lines().find_map(|line| line.strip_prefix(name));
    count.map(|count| count.trim().parse().expect("a number"))
}

/// How many groups of datagrams went this way.
fn handed(house: &House, way: &str) -> f64 {
    let name = format!("outgrow_quic_datagrams_total{{way=\"{way}\"}} ");
    metric(&house.outgrow, &name)
}

/// Waits until the application has a request.
fn under_way(house: &House) {
    let address = house.app.address;
    let name =
        format!("outgrow_endpoint_active_requests{{service=\"app\",endpoint=\"{address}\"}} ");
    let has_one = |outgrow: &_| (metric_so_far(outgrow, &name) > Some(0.0)).then_some(());
    let has_one = house.outgrow.wait("a request is under way", SOON, has_one);
    has_one.expect("it is");
}
