//! A client that says as much as its line takes, of what costs it little and us much: others of the same
//! worker get their turn.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::LIMIT;
use crate::house::{House, Options};

/// How long others may wait (median). An unoptimised edge on a machine with other things to do needs a
/// few milliseconds; one that reads as long as there is something, several times as much as this.
const MOST: Duration = Duration::from_millis(100);

/// An endpoint that answers GET, and swallows everything else.
fn endpoint() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut bytes = vec![0; 1 << 20];
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    if bytes[..count].starts_with(b"GET ") {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                    }
                }
            });
        }
    });
    address
}

/// How long others wait while somebody says `first`, and then `more` again and again; the median.
fn others_wait(first: &[u8], more: &[u8]) -> Duration {
    let options = Options {
        http2: true,
        records: false,
        ..Options::default()
    };
    let house = House::start(&[endpoint()], &options).expect("an edge");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut stream = TcpStream::connect(house.address).expect("a connection");
            stream.write_all(first).expect("sent");
            let mut reader = stream.try_clone().expect("another end");
            thread::spawn(move || {
                // Answers are taken, so that it goes on.
                while let Ok(1..) = reader.read(&mut [0; 65_536]) {}
            });
            let mut sent = 0_usize;
            while !over.load(Ordering::Relaxed) && stream.write_all(more).is_ok() {
                sent += more.len();
            }
            sent
        });
        // It is under way.
        thread::sleep(Duration::from_millis(300));
        let mut other = TcpStream::connect(house.address).expect("a connection");
        other.set_read_timeout(Some(LIMIT)).expect("set");
        let mut times: Vec<Duration> = (0..15)
            .map(|_| {
                let began = Instant::now();
                other
                    .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    .expect("sent");
                assert!(other.read(&mut [0; 1_024]).expect("an answer") > 0);
                began.elapsed()
            })
            .collect();
        over.store(true, Ordering::Relaxed);
        let sent = flood.join().expect("it is well");
        assert!(sent > 1 << 20, "{sent} bytes are no flood");
        times.sort_unstable();
        times[times.len() / 2]
    })
}

#[test]
fn chunks_of_a_byte() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let waited = others_wait(head, &b"1\r\nx\r\n".repeat(50_000));
    assert!(waited < MOST, "{waited:?}");
}

#[test]
fn frames_that_mean_nothing() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    // SETTINGS, each of which is answered; a kind that nobody knows.
    let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x05\0\0\x40\0".repeat(20_000);
    let unknown = b"\0\0\0\x55\0\0\0\0\0".repeat(40_000);
    for (name, more) in [("settings", settings), ("unknown", unknown)] {
        let waited = others_wait(PREFACE, &more);
        assert!(waited < MOST, "{name}: {waited:?}");
    }
}
