//! Bodies whose decompression stands still: it is our own fault, and told as that.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use outgrow_testkit::processes::{self, Signal};

use super::*;

/// Bodies that are on their way at a time.
const BODIES: usize = 16;

/// An endpoint that takes everything and says nothing.
fn sink() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut bytes = vec![0; 256 * 1024];
                while stream.read(&mut bytes).is_ok_and(|count| count > 0) {}
            });
        }
    });
    address
}

/// A body that comes with its head, so that its client is never waited for, and becomes 512 MiB: blocks of zstd
/// that say a byte 131,072 times.
fn endless() -> Vec<u8> {
    let mut body = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (17 - 10) << 3];
    for number in 1..=4_096_u32 {
        let head = (128 * 1_024) << 3 | 1 << 1 | u32::from(number == 4_096);
        body.extend_from_slice(&head.to_le_bytes()[..3]);
        body.push(b'a');
    }
    body
}

/// The process stands still for longer than `body_idle` while bodies are decompressed, as when its machine has no time
/// for it. What has waited for its thread for so long ends, and neither the client nor the endpoint is to blame.
#[test]
fn bodies_that_get_no_thread_in_time_end_as_our_own_fault() {
    let front = Front {
        listener: "timeouts = { body_idle = \"1s\" }",
        ..front("max_size = \"1GiB\", max_ratio = 1000000")
    };
    let outgrow = front.start(&[sink()]);
    let body = endless();
    let request = format!(
        "POST /stopped HTTP/1.1\r\nHost: a\r\nContent-Encoding: zstd\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut clients: Vec<Client> = (0..BODIES).map(|_| connect(&outgrow)).collect();
    for client in &mut clients {
        let sent = client.send(&[request.as_bytes(), &body].concat());
        sent.expect("sent");
    }
    waiting::is_counted(&outgrow, "outgrow_endpoint_active_requests", BODIES as u64);
    let pid = shop::data_pid(&outgrow);
    let counted = "outgrow_faults_total{reason=\"decompression_timeout\"} ";
    let metrics = || outgrow.admin_get("/metrics").expect("metrics").text();
    // Who is polled before the clock is looked at, and has had a piece done by then, goes on: so several times,
    // where none has ended.
    let mut rounds = 0;
    while !metrics().contains(counted) {
        assert!(rounds < 10, "nobody was told in {rounds} rounds");
        rounds += 1;
        processes::signal(pid, Signal::STOP).expect("it is there");
        thread::sleep(Duration::from_millis(1_500));
        processes::signal(pid, Signal::CONT).expect("it is there");
        thread::sleep(Duration::from_millis(200));
    }
    let mut told = 0;
    for client in &mut clients {
        if client
            .receive_until(b"\nrequest: ", Duration::from_millis(200))
            .expect("received")
        {
            let text = String::from_utf8_lossy(client.received()).into_owned();
            assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
            assert!(text.contains("reason: decompression_timeout\n"), "{text}");
            told += 1;
        }
    }
    assert!(told > 0, "none of {BODIES}");
    let record = record(&outgrow, "/stopped");
    assert!(
        record.contains("\"reason\":\"decompression_timeout\""),
        "{record}"
    );
    let metrics = metrics();
    for reason in ["body_timeout", "body_too_slow", "stream_idle_timeout"] {
        let counted = format!("outgrow_faults_total{{reason=\"{reason}\"}}");
        assert!(!metrics.contains(&counted), "{metrics}");
    }
}
