//! In steady state a piece that is passed on costs no allocation, both ways, copied or spliced: a gate
//! on the worker's thread. In a binary of its own, since it replaces the allocator.
#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use outgrow_core::settings::Address;
use outgrow_core::{Clock, Snapshot};
use outgrow_message::Ledger;
use outgrow_net::proxy_header::AcceptProxy;
use outgrow_stream::hello::Routes;
use outgrow_stream::settings::{EndpointDown, TcpTimeouts};
use outgrow_stream::{ListenerPlan, ListenerSlot, Shared, Streams, Target};
use outgrow_upstream::Registry;
use outgrow_upstream::settings::{Endpoint, ServiceSettings};

/// The thread whose allocations are counted; 0 for none.
static WATCHED: AtomicI32 = AtomicI32::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static THREAD: Cell<i32> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count() {
    let watched = WATCHED.load(Ordering::Relaxed);
    if watched == 0 {
        return;
    }
    if THREAD.get() == 0 {
        THREAD.set(rustix::thread::gettid().as_raw_nonzero().get());
    }
    if THREAD.get() == watched {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is passed on to the system's allocator unchanged; counting allocates nothing.
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
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let mut workers = tasks.flatten().filter(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        name.trim() == "stream-0"
    });
    let worker = workers.next().expect("there is one worker");
    let number = worker.file_name().to_string_lossy().parse();
    number.expect("a number")
}

/// Says everything back.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut bytes = vec![0; 1 << 20];
                while let Ok(read @ 1..) = stream.read(&mut bytes) {
                    if stream.write_all(&bytes[..read]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A tier with one worker before a server, and a connection through it.
fn through(runtime: &tokio::runtime::Runtime, server: SocketAddr) -> (Streams, TcpStream) {
    let clock = Clock::start();
    let registry = Registry::new(1);
    let address = Address::tcp("127.0.0.1", server.port());
    let settings = ServiceSettings {
        endpoints: vec![Endpoint::at(address)],
        ..ServiceSettings::default()
    };
    registry.apply(
        &BTreeMap::from([("app".to_owned(), settings.clone())]),
        clock.now(),
    );
    let service = registry.service("app").expect("it was applied");
    let shared = Shared::new(clock, Ledger::new(64 << 20), 1);
    let plan = ListenerPlan {
        name: "test".to_owned(),
        routes: Routes::new(
            Vec::new(),
            Some(Arc::new(Target::new("", service, &settings, 1))),
        ),
        proxy_protocol: AcceptProxy::Off,
        trusted: Vec::new(),
        max_connections: 100,
        max_of_address: 0,
        tries: 1,
        endpoint_down: EndpointDown::Keep,
        keep_alive: std::time::Duration::ZERO,
        timeouts: TcpTimeouts::default(),
        metrics: shared.metrics.listener("test"),
    };
    let slot = ListenerSlot::Tcp(Arc::new(Snapshot::new(plan)));
    let streams = Streams::start(shared).expect("a thread");
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let public = listener.local_addr().expect("an address");
    runtime.block_on(streams.listen("test", vec![listener.into()], &slot));
    let client = TcpStream::connect(public).expect("connected");
    client.set_nodelay(true).expect("set");
    (streams, client)
}

/// Sends pieces and waits for each to come back.
fn exchange(client: &mut TcpStream, length: usize, times: usize) {
    let piece = vec![7; length];
    let mut back = vec![0; length];
    let mut reader = client.try_clone().expect("cloned");
    for _ in 0..times {
        std::thread::scope(|scope| {
            let sent = scope.spawn(|| client.write_all(&piece));
            reader.read_exact(&mut back).expect("received");
            sent.join().expect("no panic").expect("sent");
        });
    }
}

fn counted(work: impl FnOnce()) -> u64 {
    ALLOCATIONS.store(0, Ordering::SeqCst);
    WATCHED.store(worker_thread(), Ordering::SeqCst);
    work();
    WATCHED.store(0, Ordering::SeqCst);
    ALLOCATIONS.load(Ordering::SeqCst)
}

#[test]
fn a_piece_costs_no_allocation() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let (streams, mut client) = through(&runtime, echo());
    exchange(&mut client, 100, 200);
    // By then the timer has moved for the last time for long: the time for connecting is over, and the
    // endpoint's machine is watched. A slot of the wheel that had no timer before makes its list.
    std::thread::sleep(std::time::Duration::from_millis(2_200));
    exchange(&mut client, 100, 200);
    let small = counted(|| exchange(&mut client, 100, 1_000));
    assert_eq!(small, 0, "small pieces");
    // Until they go through pipes, which were made by then.
    exchange(&mut client, 1 << 20, 40);
    let large = counted(|| exchange(&mut client, 1 << 20, 40));
    // A block of a size that was not needed before, or a longer list of what waits, is no matter.
    assert!(large <= 8, "{large} allocations for 80 MiB");
    drop(client);
    runtime.block_on(streams.end());
}
