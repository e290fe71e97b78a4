//! The syscall gate: what one kept-alive request may cost the data process, counted by `strace`.
//!
//! Limits: two receives, two sends (request in, request out, response in, response out) and 0.8
//! `epoll_wait`, with one worker and 64 connections. All threads of the data process are counted.
//! `read` and `write` are not: they only wake a thread up now and then, by the time and not by the
//! request (sockets are never read or written by them; the least count below would show it).
//!
//! `strace` stops the process at every call, so more connections become ready between two looks
//! and each `epoll_wait` brings more of them than without it: that limit holds under the tracer
//! only and shows the batching, not what an idle machine does. The other two do not depend on
//! speed. Not here: allocations (`allocations` of the edge room), CPU time (`cargo xtask bench`).

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Barrier},
    thread::{self, JoinHandle},
    time::Duration,
};

use outgrow_testkit::{
    backend::{self, Recorder, Script},
    outgrow::Outgrow,
    processes::{self, Signal},
    raw::Client,
    wait,
};

const SOON: Duration = Duration::from_secs(30);
/// Requests of each connection before the counting: connections are open and pools filled then.
const WARM_UP: usize = 3;
/// The end of every response's body.
const BODY_END: &[u8] = b"the end of the body";
const GET: &[u8] = b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n";
/// What is over the round number: that a connection may be opened or closed meanwhile.
const RECEIVES: f64 = 2.02;
const SENDS: f64 = 2.02;
const WAITS: f64 = 0.8;

/// Clients with one connection each, all through with their warm-up and waiting for the word.
struct Clients {
    begin: Arc<Barrier>,
    threads: Vec<JoinHandle<Client>>,
    requests: usize,
}

impl Clients {
    fn start(address: SocketAddr, connections: usize, requests: usize) -> Self {
        let warm = Arc::new(Barrier::new(connections + 1));
        let begin = Arc::new(Barrier::new(connections + 1));
        let each = requests.div_ceil(connections);
        let client = |_| {
            let (warm, begin) = (Arc::clone(&warm), Arc::clone(&begin));
            thread::spawn(move || {
                let mut client = Client::connect(address).expect("a connection");
                (0..WARM_UP).for_each(|_| ask(&mut client));
                warm.wait();
                begin.wait();
                (0..each).for_each(|_| ask(&mut client));
                client
            })
        };
        let threads = (0..connections).map(client).collect();
        warm.wait();
        Self {
            begin,
            threads,
            requests: each * connections,
        }
    }

    /// Sends the counted requests; all are answered when this returns. The connections are given
    /// back, still open, since their ends would be received too.
    fn run(self) -> (usize, Vec<Client>) {
        self.begin.wait();
        let threads = self.threads.into_iter();
        let joined = threads.map(|one| one.join().expect("every request is answered with 200"));
        (self.requests, joined.collect())
    }
}

fn ask(client: &mut Client) {
    client.send(GET).expect("sent");
    let came = client.receive_until(BODY_END, SOON).expect("received");
    let response = client.take_received();
    assert!(
        came && response.starts_with(b"HTTP/1.1 200 "),
        "{}",
        response.escape_ascii()
    );
}

/// A tracer at all threads of one process.
struct Tracer {
    child: Child,
    said: BufReader<ChildStderr>,
    summary: PathBuf,
}

impl Tracer {
    /// Returns when every thread is traced, or why that cannot be.
    fn attach(process: u32, outgrow: &Outgrow) -> Result<Self, String> {
        let summary = outgrow.folder().join("strace.txt");
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-c", "-o"])
            .arg(&summary)
            .args(["-p", &process.to_string()]);
        let mut child = strace
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                format!("strace cannot be started ({error}): apt-get install strace")
            })?;
        let stderr = child.stderr.take().expect("standard error is a pipe");
        let mut said = BufReader::new(stderr);
        let mut line = String::new();
        said.read_line(&mut line).expect("strace's words");
        // `Process N attached`, with ` with M threads` behind it when there are several; strace says
        // it once and only when it has them all.
        if !line.contains(" attached") {
            let _ended = child.wait();
            return Err(format!(
                "this machine does not permit tracing ({}): run as root or with \
                 kernel.yama.ptrace_scope=0, in a container with --cap-add=SYS_PTRACE",
                line.trim()
            ));
        }
        Ok(Self {
            child,
            said,
            summary,
        })
    }

    /// Detaches and gives strace's table.
    fn finish(mut self) -> String {
        processes::signal(self.child.id(), Signal::INT).expect("strace is there");
        // Until its end, so that it never waits for somebody to read.
        let _said = std::io::read_to_string(&mut self.said);
        let ended = || self.child.try_wait().expect("a child");
        let _status: ExitStatus = wait::until("strace ends", SOON, ended).expect("it ends");
        fs::read_to_string(&self.summary).expect("strace's table")
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It has ended already when all went well.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Calls per request.
#[derive(Debug)]
struct Cost {
    receives: f64,
    sends: f64,
    waits: f64,
}

/// How often the calls with these names are in strace's table.
fn calls(table: &str, names: &[&str]) -> usize {
    let count = |line: &str| {
        // `% time, seconds, usecs/call, calls, errors (may be empty), name`
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = words.last().filter(|name| names.contains(name))?;
        let calls = words.get(3)?.parse::<usize>();
        Some(calls.unwrap_or_else(|_| panic!("no number of calls of {name}: {line}")))
    };
    table.lines().filter_map(count).sum()
}

fn cost(table: &str, requests: usize) -> Cost {
    let each = |names: &[&str]| calls(table, names) as f64 / requests as f64;
    Cost {
        receives: each(&["recvfrom", "recvmsg", "recvmmsg", "readv"]),
        sends: each(&["sendto", "sendmsg", "sendmmsg", "writev"]),
        waits: each(&["epoll_wait", "epoll_pwait", "epoll_pwait2"]),
    }
}

/// Counts the calls of `requests` requests over `connections`.
fn measure(connections: usize, requests: usize) -> Result<(Cost, String), String> {
    let response =
        backend::response([b"1 KB, near enough ".repeat(56).as_slice(), BODY_END].concat());
    let backend = Recorder::start(Script::answer(response)).expect("a backend");
    let config = format!(
        r#"
[process]
workers = 1

[access]
to = "off"

[listener.public]
address = "%public%"

[service.app]
endpoints = ["{}"]

[route.app]
service = "app"
"#,
        backend.address()
    );
    let outgrow = Outgrow::start(&config).expect("outgrow starts");
    let public = outgrow.address("public").expect("an address");
    let clients = Clients::start(public, connections, requests);
    let data = outgrow.pids().data;
    let [process] = data[..] else {
        panic!("one data process, not {data:?}")
    };
    let tracer = Tracer::attach(process, &outgrow);
    // Also without a tracer: nobody may be left waiting.
    let (requests, open) = clients.run();
    let table = tracer?.finish();
    drop(open);
    assert_eq!(
        backend.requests().len(),
        requests + WARM_UP * connections,
        "all came through"
    );
    outgrow.stop().expect("a clean stop");
    let cost = cost(&table, requests);
    eprintln!("{connections} connections, {requests} requests: {cost:?}");
    Ok((cost, table))
}

#[test]
fn a_kept_alive_request_costs_two_receives_two_sends_and_a_shared_wait() {
    let (cost, table) = match measure(64, 5_000) {
        Ok(measured) => measured,
        Err(missing) if std::env::var_os("OUTGROW_ALLOW_MISSING").is_some() => {
            eprintln!("not tested: {missing}");
            return;
        }
        Err(missing) => {
            panic!("{missing}; or set OUTGROW_ALLOW_MISSING=1 to go without this test")
        }
    };
    // A table that was misread would be within all limits.
    assert!(
        cost.receives > 1.5 && cost.sends > 1.5 && cost.waits > 0.0,
        "{cost:?}\n{table}"
    );
    assert!(cost.receives <= RECEIVES, "{cost:?}\n{table}");
    assert!(cost.sends <= SENDS, "{cost:?}\n{table}");
    assert!(cost.waits <= WAITS, "{cost:?}\n{table}");

    // For information: few connections leave little to batch.
    measure(8, 800).expect("tracing was possible before");
}

#[test]
fn the_table_is_read_with_and_without_errors() {
    let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 50.00    0.000010          10       200        50 recvfrom
 30.00    0.000010          10       150           sendto
 20.00    0.000010          10        40           epoll_wait
------ ----------- ----------- --------- --------- ----------------
100.00    0.000030          10       390        50 total
";
    assert_eq!(calls(table, &["recvfrom", "sendto"]), 350);
    assert_eq!(calls(table, &["epoll_wait"]), 40);
    assert_eq!(calls(table, &["recvmsg"]), 0);
}
