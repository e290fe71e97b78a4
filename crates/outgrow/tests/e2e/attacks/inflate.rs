//! Decompression: bodies that become much more than was sent, and bodies that have room held and do not end, over
//! HTTP/1.1 and HTTP/2, in all codings by turns.

use std::{
    io::Write,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::{
    field::{Tally, Target, Watch},
    frames::{Connection, DATA, END_HEADERS, END_STREAM, HEADERS, TABLE, block, frame, setting},
    http1::each_of_its_kind,
    line::{Crowd, Line},
};

/// Where bodies are decompressed.
const PATH: &str = "/inflated";
/// What a bomb becomes.
const BYTES: usize = 20_000_000;
/// Bombs in a second, of each version.
const BOMBS: f64 = 25.0;
/// Bodies that are held open, of each version, and how many are begun in a second.
const HELD: (usize, f64) = (300, 300.0);
/// Streams on each connection.
const STREAMS: usize = 60;
/// Bytes that a frame may have (RFC 9113 section 4.2).
const FRAME: usize = 16_384;

/// Codings, and how what is told of a bomb in them begins, over HTTP/1.1 and over HTTP/2.
const KINDS: [[&str; 3]; 3] = [
    ["gzip", "gzip in 1: ", "gzip in 2: "],
    ["br", "br in 1: ", "br in 2: "],
    ["zstd", "zstd in 1: ", "zstd in 2: "],
];

/// Whether bombs in each coding and each version, of which all are as many, are refused for their size, and no other
/// answer is that of an error.
pub(super) fn are_refused(tally: &Tally) -> bool {
    KINDS.iter().all(|[_, one, two]| {
        let enough = |kind: &str, told: &str| {
            let sent = tally.times(&format!("{kind}sent"));
            sent > 2 && tally.times(&format!("{kind}{told}")) > sent / 4
        };
        enough(one, "HTTP/1.1 413")
            && enough(two, "413")
            && tally.times(&format!("{one}HTTP/1.1 5")) == 0
    })
}

/// Whether a part of the bodies is held, which is a client's part of the room, and many of both versions are refused:
/// their endpoint answers none of them.
pub(super) fn are_shared_out(tally: &Tally) -> bool {
    let refused = [tally.times("HTTP/1.1 503"), tally.times("answers")];
    let held = tally.times("open") + (tally.sent / 2).saturating_sub(refused[1]);
    held > tally.sent / 10 && refused.iter().all(|count| *count > tally.sent / 20)
}

/// A coding, and the bytes of a body in it.
type Body = (&'static str, Vec<u8>);

/// What a tool makes of many zeros.
fn made_by(program: &str, arguments: &[&str]) -> Vec<u8> {
    let mut tool = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip and node run: apt-get install gzip nodejs");
    let mut input = tool.stdin.take().expect("an input");
    let zeros = thread::spawn(move || input.write_all(&vec![0; BYTES]));
    let output = tool.wait_with_output().expect("it ends");
    zeros.join().expect("it is well").expect("written");
    let bomb = output.stdout;
    assert!(output.status.success(), "{program}: {}", output.status);
    assert!(
        (1_000..200_000).contains(&bomb.len()),
        "{program}: {} bytes",
        bomb.len()
    );
    bomb
}

/// zstd: blocks that say a byte many times, within a window of 128 KiB.
fn zstd_bomb() -> Vec<u8> {
    const BLOCK: usize = 128 * 1024;
    let mut body = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (17 - 10) << 3];
    let blocks = BYTES / BLOCK;
    for number in 1..=blocks {
        let head = (BLOCK << 3 | 1 << 1) as u32 | u32::from(number == blocks);
        body.extend_from_slice(&head.to_le_bytes()[..3]);
        body.push(0);
    }
    body
}

fn bombs_of_all() -> [Body; 3] {
    let brotli = "const zlib = require('zlib');
        const params = { [zlib.constants.BROTLI_PARAM_QUALITY]: 1 };
        process.stdout.write(zlib.brotliCompressSync(require('fs').readFileSync(0), { params }))";
    [
        ("gzip", made_by("gzip", &["-9", "-c"])),
        ("br", made_by("node", &["-e", brotli])),
        ("zstd", zstd_bomb()),
    ]
}

/// The beginning of a body that goes on with plain bytes: 64 KiB of them in gzip and Brotli, and with the largest
/// window that there may be (8 MiB) in zstd.
fn begun() -> [Body; 3] {
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0, 0xff, 0xff, 0, 0];
    // A window of 22 bits; 65,536 bytes as they are (RFC 7932 section 9).
    let brotli = 1_u32 | 5 << 1 | 0xffff << 7 | 1 << 23;
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0, (23 - 10) << 3, 0, 0, 8];
    [
        ("gzip", gzip.to_vec()),
        ("br", brotli.to_le_bytes()[..3].to_vec()),
        ("zstd", zstd.to_vec()),
    ]
}

/// A head of HTTP/1.1, of a body of which so many bytes are to come.
fn head(coding: &str, length: usize) -> Vec<u8> {
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Encoding: {coding}\r\nContent-Length: {length}\r\n\r\n"
    );
    head.into_bytes()
}

/// A stream of HTTP/2 with these bytes of a body.
fn stream(connection: &mut Connection, (coding, body): &Body, ends: bool) -> Vec<u8> {
    let number = connection.next_stream();
    let mut fields = block(true, PATH);
    // `content-encoding`, of the static table (RFC 7541 appendix A).
    fields.extend([0x0f, 26 - 15, coding.len() as u8]);
    fields.extend(coding.as_bytes());
    let mut bytes = frame(HEADERS, END_HEADERS, number, &fields);
    let pieces = body.len().div_ceil(FRAME);
    for (at, piece) in body.chunks(FRAME).enumerate() {
        let is_last = ends && at + 1 == pieces;
        let flags = if is_last { END_STREAM } else { 0 };
        bytes.extend(frame(DATA, flags, number, piece));
    }
    bytes
}

/// Both at once.
fn both(one: impl FnOnce() -> Tally + Send, other: impl FnOnce() -> Tally + Send) -> Tally {
    thread::scope(|scope| {
        let other = scope.spawn(other);
        let mut tally = one();
        tally.add(&other.join().expect("it is well"));
        tally
    })
}

/// Bodies that become twenty megabytes.
pub(super) fn bombs(target: &Target, watch: &Watch<'_>) -> Tally {
    let bombs = bombs_of_all();
    let address = target.address("public");
    let over_http1 = || {
        let mut sent = [0; 3];
        let mut tally = each_of_its_kind(address, watch, BOMBS, |number| {
            let at = number as usize % 3;
            sent[at] += 1;
            let (coding, body) = &bombs[at];
            (
                KINDS[at][1],
                [head(coding, body.len()), body.clone()].concat(),
            )
        });
        for (kind, count) in KINDS.iter().zip(sent) {
            tally.told.insert(format!("{}sent", kind[1]), count);
        }
        tally
    };
    let over_http2 = || {
        let mut tally = Tally::default();
        // What is not indexed can be read.
        let open = || Connection::open(address, &setting(TABLE, 0));
        let count = |mut connection: Connection, tally: &mut Tally| {
            connection.hear();
            connection.count(tally);
            for stream in connection.too_large {
                tally.tell(format!("{}413", KINDS[stream as usize / 2 % 3][2]));
            }
        };
        let mut current: Option<(Connection, usize)> = None;
        while let Some(due) = watch.due(BOMBS, tally.sent) {
            let Some((mut connection, mut streams)) = current.take() else {
                current = open().map(|connection| (connection, 0));
                tally.connections += u64::from(current.is_some());
                continue;
            };
            for _ in 0..due.min(10) {
                let bytes = stream(&mut connection, &bombs[streams % 3], true);
                connection.line.say(&bytes);
                tally.tell(format!("{}sent", KINDS[streams % 3][2]));
                tally.sent += 1;
                streams += 1;
            }
            connection.hear();
            match !connection.line.is_open() || streams >= STREAMS {
                true => count(connection, &mut tally),
                false => current = Some((connection, streams)),
            }
        }
        if let Some((connection, _)) = current {
            count(connection, &mut tally);
        }
        tally
    };
    both(over_http1, over_http2)
}

/// Bodies that have begun, and go on by a byte a second.
pub(super) fn held(target: &Target, watch: &Watch<'_>) -> Tally {
    const TURN: Duration = Duration::from_millis(100);
    let begun = begun();
    let address = target.address("public");
    let over_http1 = || {
        let mut crowd = Crowd { lines: Vec::new() };
        let mut made = 0;
        while made < HELD.0
            && let Some(due) = watch.due(HELD.1, made as u64)
        {
            for _ in 0..(due as usize).min(HELD.0 - made) {
                let (coding, body) = &begun[made % 3];
                made += 1;
                if let Some(mut line) = Line::open(address) {
                    line.say(&[head(coding, 60_000), body.clone()].concat());
                    crowd.lines.push(line);
                }
            }
        }
        watch.turns(TURN, |turn| {
            for line in crowd.lines.iter_mut().skip(turn as usize % 10).step_by(10) {
                line.say(b"a");
            }
        });
        crowd.tally(made as u64)
    };
    let over_http2 = || {
        let mut connections: Vec<Connection> = Vec::new();
        let mut tally = Tally::default();
        while (tally.sent as usize) < HELD.0
            && watch
                .due(HELD.1 / STREAMS as f64, connections.len() as u64)
                .is_some()
        {
            let Some(mut connection) = Connection::open(address, &[]) else {
                break;
            };
            tally.connections += 1;
            for number in 0..STREAMS {
                let bytes = stream(&mut connection, &begun[number % 3], false);
                connection.line.say(&bytes);
                tally.sent += 1;
            }
            connections.push(connection);
        }
        watch.turns(TURN, |turn| {
            for (at, connection) in connections.iter_mut().enumerate() {
                connection.hear();
                if at as u32 % 10 == turn % 10 {
                    for number in 0..STREAMS as u32 {
                        connection.line.say(&frame(DATA, 0, 2 * number + 1, b"a"));
                    }
                }
            }
        });
        for mut connection in connections {
            connection.hear();
            connection.count(&mut tally);
        }
        tally
    };
    both(over_http1, over_http2)
}
