//! HTTP/1.1: slowness, and much of what is small.

use std::{
    io::Write,
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};

use super::{
    field::{Tally, Target, Watch},
    line::{Crowd, Line},
};

/// A turn in which a tenth of a crowd says something.
const TURN: Duration = Duration::from_millis(100);

/// A crowd whose members say `more` once a second each.
fn dribble(
    address: SocketAddr,
    watch: &Watch<'_>,
    count: (usize, f64),
    first: &[u8],
    more: &[u8],
) -> Tally {
    let mut crowd = Crowd::gather(address, watch, count, first);
    let share = crowd.lines.len().div_ceil(10).max(1);
    let mut sent = crowd.lines.len() as u64;
    watch.turns(TURN, |turn| {
        let from = turn as usize % 10 * share;
        for line in crowd.lines.iter_mut().skip(from).take(share) {
            line.say(more);
            sent += 1;
        }
    });
    crowd.tally(sent)
}

/// Heads that come byte by byte.
pub(super) fn slow_heads(target: &Target, watch: &Watch<'_>) -> Tally {
    dribble(
        target.address("public"),
        watch,
        (2_000, 1_000.0),
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ",
        b"a",
    )
}

/// Bodies that come byte by byte, where they may do so for half a second.
pub(super) fn slow_bodies(target: &Target, watch: &Watch<'_>) -> Tally {
    let head = b"POST /attacked HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    let address = target.address("impatient");
    dribble(address, watch, (500, 250.0), head, b"a")
}

/// Answers that are asked for and taken in small bites.
pub(super) fn slow_readers(target: &Target, watch: &Watch<'_>) -> Tally {
    let request = b"GET /attacked HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut crowd = Crowd::gather(target.address("public"), watch, (100, 50.0), request);
    let sent = crowd.lines.len() as u64;
    watch.turns(TURN, |_| {
        for line in &mut crowd.lines {
            line.hear(512);
            line.heard.clear();
        }
    });
    let mut tally = Tally {
        sent,
        connections: sent,
        ..Tally::default()
    };
    for line in &crowd.lines {
        line.count(&mut tally);
        tally.tell(format!("{:?}", line.end).to_lowercase());
    }
    tally
}

/// Requests one behind the other, of which no answer is taken.
pub(super) fn pipelines(target: &Target, watch: &Watch<'_>) -> Tally {
    let address = target.address("public");
    let mut crowd = Crowd::gather(address, watch, (20, 100.0), b"");
    let (mut sent, mut said) = (0, 0);
    let request = b"GET /fixed HTTP/1.1\r\nHost: a\r\n\r\n";
    while let Some(due) = watch.due(20_000.0, sent) {
        let share = due.div_ceil(crowd.lines.len() as u64).min(100);
        for line in &mut crowd.lines {
            // As long as it is taken; what is not waits here.
            let more = if line.is_taken() { share as usize } else { 0 };
            line.say(&request.repeat(more));
            // Those that are not taken were due all the same.
            sent += share;
            said += more as u64;
        }
    }
    crowd.tally(said)
}

/// Each connection is ended by outgrow or by us, and the next one begins.
pub(super) fn one_after_another(
    address: SocketAddr,
    watch: &Watch<'_>,
    per_second: f64,
    mut bytes: impl FnMut(u64) -> Vec<u8>,
) -> Tally {
    each_of_its_kind(address, watch, per_second, |number| ("", bytes(number)))
}

/// The same where what is told of each begins with its kind.
pub(super) fn each_of_its_kind(
    address: SocketAddr,
    watch: &Watch<'_>,
    per_second: f64,
    mut bytes: impl FnMut(u64) -> (&'static str, Vec<u8>),
) -> Tally {
    let mut tally = Tally::default();
    let mut open: Vec<(Line, &str, u64)> = Vec::new();
    let mut turn = 0;
    while let Some(due) = watch.due(per_second, tally.sent) {
        turn += 1;
        for _ in 0..due.min(50) {
            tally.sent += 1;
            if let Some(mut line) = Line::open(address) {
                tally.connections += 1;
                let (kind, bytes) = bytes(tally.sent);
                line.say(&bytes);
                open.push((line, kind, turn));
            }
        }
        open.retain_mut(|(line, kind, since)| {
            line.say(&[]);
            line.hear(64 * 1024);
            // It has had its time.
            let is_over = !line.is_open() || turn > *since + 200;
            if is_over {
                line.count(&mut tally);
                tally.tell(format!("{kind}{}", line.first_words()));
            }
            !is_over
        });
    }
    for (mut line, kind, _) in open {
        line.hear(64 * 1024);
        line.count(&mut tally);
        tally.tell(format!("{kind}{}", line.first_words()));
    }
    tally
}

/// Heads larger than any may be.
pub(super) fn huge_heads(target: &Target, watch: &Watch<'_>) -> Tally {
    let field = format!("X-{}: {}\r\n", "n".repeat(50), "v".repeat(200));
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{}", field.repeat(250));
    one_after_another(target.address("public"), watch, 200.0, |_| {
        head.clone().into_bytes()
    })
}

/// Chunks with long extensions, which mean nothing (RFC 9112 section 7.1.1).
pub(super) fn chunk_extensions(target: &Target, watch: &Watch<'_>) -> Tally {
    let head = "POST /attacked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(4_000));
    let bytes = format!("{head}{}", chunk.repeat(25));
    one_after_another(target.address("public"), watch, 100.0, |_| {
        bytes.clone().into_bytes()
    })
}

/// Chunks of a byte: five bytes around each.
pub(super) fn tiny_chunks(target: &Target, watch: &Watch<'_>) -> Tally {
    let head = b"POST /attacked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut tally = Tally::default();
    let mut current: Option<Line> = None;
    while let Some(due) = watch.due(100_000.0, tally.sent) {
        let Some(line) = &mut current else {
            current = Line::open(target.address("public"));
            if let Some(line) = &mut current {
                line.say(head);
                tally.connections += 1;
            }
            continue;
        };
        let count = due.min(2_000);
        if line.is_taken() {
            line.say(&b"1\r\nx\r\n".repeat(count as usize));
            tally.sent += count;
        } else {
            line.say(&[]);
            std::thread::sleep(Duration::from_millis(1));
        }
        line.hear(4_096);
        if !line.is_open() {
            line.count(&mut tally);
            tally.tell(line.first_words());
            current = None;
        }
    }
    if let Some(line) = current {
        line.count(&mut tally);
        tally.tell(line.first_words());
    }
    tally
}

/// Bodies of 20 KB that become 20 MB.
pub(super) fn bombs(target: &Target, watch: &Watch<'_>) -> Tally {
    let mut gzip = Command::new("gzip")
        .args(["-9", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip runs: apt-get install gzip");
    let mut input = gzip.stdin.take().expect("an input");
    let zeros = std::thread::spawn(move || input.write_all(&vec![0; 20_000_000]));
    let bomb = gzip.wait_with_output().expect("it ends").stdout;
    zeros.join().expect("it is well").expect("written");
    let head = format!(
        "POST /inflated HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        bomb.len()
    );
    let bytes = [head.as_bytes(), &bomb].concat();
    one_after_another(target.address("public"), watch, 50.0, |_| bytes.clone())
}

/// Connections that are left at once, with a reset, so that no port stays taken on this side.
pub(super) fn connections(target: &Target, watch: &Watch<'_>) -> Tally {
    let mut tally = Tally::default();
    while let Some(due) = watch.due(2_000.0, tally.sent) {
        for _ in 0..due.min(100) {
            tally.sent += 1;
            if let Some(line) = Line::open(target.address("public")) {
                tally.connections += 1;
                line.leave();
            }
        }
    }
    tally
}
