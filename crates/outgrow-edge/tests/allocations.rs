//! In steady state a request costs no allocation: a gate on the worker's thread, with records,
//! metrics, request ids and forwarded fields on. In a binary of its own, since it replaces the
//! allocator.
//!
//! `OUTGROW_TRACE=1` prints where the allocations come from.
#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

#[path = "edge/house.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod house;

use house::{House, Options};
use outgrow_core::settings::MapKey;
use outgrow_edge::settings::{KeyName, RewriteSettings, RouteSettings};

/// The thread whose allocations are counted; 0 for none.
static WATCHED: AtomicI32 = AtomicI32::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static TRACING: AtomicBool = AtomicBool::new(false);
static TRACES: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

thread_local! {
    static THREAD: Cell<i32> = const { Cell::new(0) };
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count() {
    let watched = WATCHED.load(Ordering::Relaxed);
    if watched == 0 || WITHIN.get() {
        return;
    }
    if THREAD.get() == 0 {
        THREAD.set(rustix::thread::gettid().as_raw_nonzero().get());
    }
    if THREAD.get() != watched {
        return;
    }
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    if TRACING.load(Ordering::Relaxed) {
        WITHIN.set(true);
        let trace = Backtrace::force_capture().to_string();
        if let Ok(mut traces) = TRACES.lock() {
            *traces.entry(ours(&trace)).or_default() += 1;
        }
        WITHIN.set(false);
    }
}

/// The lines of a trace that are of this house.
fn ours(trace: &str) -> String {
    let lines = trace
        .lines()
        .filter(|line| line.contains("crates/outgrow-"));
    lines
        .skip_while(|line| line.contains("allocations.rs"))
        .take(4)
        .collect::<Vec<_>>()
        .join("\n")
}

// SAFETY: everything is passed on to the system's allocator unchanged; counting allocates only
// where it does not count.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps this function's own contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// The number of the worker's thread.
fn worker_thread() -> i32 {
    let tasks = std::fs::read_dir("/proc/self/task")
        .expect("Linux")
        .flatten();
    let mut workers = tasks.filter(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        name.trim() == "worker-0"
    });
    let worker = workers.next().expect("the edge has one worker");
    worker
        .file_name()
        .to_string_lossy()
        .parse()
        .expect("a number")
}

/// Answers every request on every connection with `response`.
fn backend(response: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = [0; 16 * 1024];
                let mut filled = 0;
                while let Ok(count @ 1..) = stream.read(&mut buffer[filled..]) {
                    filled += count;
                    if buffer[..filled].ends_with(b"\r\n\r\n") || buffer[..filled].ends_with(b"end")
                    {
                        filled = 0;
                        if stream.write_all(response).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

fn ask(client: &mut TcpStream, request: &[u8], answer_ends: &[u8], times: usize) {
    let mut buffer = [0; 64 * 1024];
    for _ in 0..times {
        client.write_all(request).expect("the edge reads");
        let mut filled = 0;
        while !buffer[..filled].ends_with(answer_ends) {
            let count = client.read(&mut buffer[filled..]).expect("an answer");
            assert!(count > 0, "{}", String::from_utf8_lossy(&buffer[..filled]));
            filled += count;
        }
    }
}

/// Allocations of the worker in the best of some rounds of 1,000 requests: once a second it does
/// other things as well. And where they come from, if that is asked for.
fn allocations(
    options: &Options,
    request: &[u8],
    response: &'static [u8],
    answer_ends: &[u8],
) -> (u64, String) {
    let house = House::start(&[backend(response)], options).expect("an edge");
    let mut client = TcpStream::connect(house.address).expect("the edge accepts");
    client.set_nodelay(true).expect("a socket");
    ask(&mut client, request, answer_ends, 1_000);
    TRACING.store(
        std::env::var_os("OUTGROW_TRACE").is_some(),
        Ordering::Relaxed,
    );
    WATCHED.store(worker_thread(), Ordering::Relaxed);
    let rounds = (0..5).map(|_| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        ask(&mut client, request, answer_ends, 1_000);
        ALLOCATIONS.load(Ordering::Relaxed) - before
    });
    let least = rounds.min().expect("there were rounds");
    // That the count counts: what a new connection is served by is allocated.
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let mut another = TcpStream::connect(house.address).expect("the edge accepts");
    ask(&mut another, request, answer_ends, 1);
    let counted = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert!(
        counted > 0,
        "a new connection's allocations are not counted"
    );
    WATCHED.store(0, Ordering::Relaxed);
    let traces = std::mem::take(&mut *TRACES.lock().expect("nobody panicked"));
    let traces = traces
        .iter()
        .map(|(trace, count)| format!("\n{count} times at\n{trace}"));
    (least, traces.collect())
}

/// A route with a parameter, conditions, a split by cookie, and a rewrite.
fn special_route() -> RouteSettings {
    let mut route = RouteSettings {
        path: "/some/{name}".parse().expect("a path"),
        split_by: "cookie:session".parse().expect("a key"),
        rewrite: Some(RewriteSettings {
            path: "/other/{name}/{rest}".parse().ok(),
            host: "{name}.example".parse().ok(),
        }),
        ..RouteSettings::default()
    };
    let pattern = |text: &str| text.parse().expect("a pattern");
    let key = |text: &str| KeyName::from_key(text).expect("a key");
    route.method.0.push("GET".parse().expect("a method"));
    route
        .header
        .insert("Accept".parse().expect("a name"), pattern("text/html*"));
    route.query.insert(key("and"), pattern("*ery"));
    route.cookie.insert(key("session"), pattern("*"));
    route
}

#[test]
fn a_request_costs_no_allocation_in_steady_state() {
    const GET: &[u8] = b"GET /some/path?and=query HTTP/1.1\r\nHost: www.example.com\r\n\
        User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html,*/*;q=0.8\r\n\
        Accept-Encoding: gzip, deflate\r\nCookie: session=0123456789abcdef\r\n\r\n";
    const POST: &[u8] =
        b"POST /x HTTP/1.1\r\nHost: www.example.com\r\nContent-Length: 8\r\n\r\nbody end";
    const PUT: &[u8] = b"PUT /a/../%62 HTTP/1.1\r\nHost: www.example.com\r\nContent-Length: 8\r\n\
        Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\r\nbody end";
    const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nServer: x\r\n\
        Content-Length: 8\r\nKeep-Alive: timeout=60\r\n\r\nhello ok";
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        6\r\nhello \r\n2\r\nok\r\n0\r\n\r\n";
    const BEHIND_A_PROXY: &[u8] = b"GET /x HTTP/1.1\r\nHost: www.example.com\r\n\
        X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\nX-Forwarded-Proto: https\r\n\
        Forwarded: for=192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\nVia: 1.1 cdn\r\n\r\n";
    let mut wrong = Vec::new();
    let usual = Options::default();
    let behind = Options {
        trusted: vec!["127.0.0.0/8".parse().expect("a network")],
        ..Options::default()
    };
    let special = Options {
        route: special_route(),
        ..Options::default()
    };
    for (name, options, request, response, ends) in [
        ("a GET", &usual, GET, PLAIN, &b"hello ok"[..]),
        ("a GET of chunks", &usual, GET, CHUNKED, b"\r\n0\r\n\r\n"),
        (
            "a GET behind a proxy",
            &behind,
            BEHIND_A_PROXY,
            PLAIN,
            b"hello ok",
        ),
        ("a POST", &usual, POST, PLAIN, b"hello ok"),
        (
            "a PUT that may be repeated",
            &usual,
            PUT,
            PLAIN,
            b"hello ok",
        ),
        (
            "a GET with all that a route can ask",
            &special,
            GET,
            PLAIN,
            b"hello ok",
        ),
    ] {
        let (count, traces) = allocations(options, request, response, ends);
        if count > 0 {
            wrong.push(format!(
                "{name}: {count} allocations in 1,000 requests{traces}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
