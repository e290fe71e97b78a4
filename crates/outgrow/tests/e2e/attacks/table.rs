//! The attacks and what each may cost. What a connection may hold is in the settings that the reasons
//! name; what they come to is measured from there, with a part for what the allocator keeps.

use super::{
    Attack, Limits, field::Tally, http1, http2, http2_slow, inflate, proxy, short, tls, udp,
};

/// The connection is ended with a GOAWAY of this code.
fn goaway(tally: &Tally, code: u32) -> bool {
    tally.times(&format!("GOAWAY {code}")) > 0
}

/// What came is too little to end a connection for.
fn is_borne(_: &Tally) -> bool {
    true
}

/// Most of the connections are still there.
fn is_held(tally: &Tally) -> bool {
    tally.times("open") > tally.connections / 2
}

/// The answers have begun, and are waited with.
fn is_answering(tally: &Tally) -> bool {
    is_held(tally) && tally.times("answers") > tally.sent / 2
}

/// What asks for an answer gets it.
fn is_acknowledged(tally: &Tally) -> bool {
    tally.times("acknowledged") > 100
}

/// `ENHANCE_YOUR_CALM`.
const CALM: u32 = 11;

macro_rules! attacks {
    ($($test:ident: $attack:expr,)*) => {
        /// All of them.
        pub(super) const ATTACKS: &[Attack] = &[$($attack),*];

        $(#[test]
        fn $test() {
            short(&$attack);
        })*
    };
}

attacks! {
    rapid_resets: Attack {
        name: "h2-rapid-reset",
        what: "2,000 requests a second, each reset at once",
        run: http2::rapid_resets,
        limits: Limits { memory: 16, processor: 60.0, reason: "each is sent to an endpoint, whose connection is lost; premature_resets of a connection" },
        answer: |tally| goaway(tally, CALM),
    },
    made_resets: Attack {
        name: "h2-made-reset",
        what: "2,000 requests a second, each made wrong so that outgrow resets it",
        run: http2::made_resets,
        limits: Limits { memory: 16, processor: 60.0, reason: "as rapid resets; MALFORMED_STREAMS of a connection" },
        answer: |tally| goaway(tally, CALM) && tally.times("RST_STREAM") > 100,
    },
    continuations: Attack {
        name: "h2-continuation",
        what: "2,000 CONTINUATION frames a second of heads that never end",
        run: http2::continuations,
        limits: Limits { memory: 8, processor: 10.0, reason: "heads end at head_limit, and their pieces are counted" },
        answer: |tally| tally.times("GOAWAY") > 0,
    },
    hpack_bombs: Attack {
        name: "h2-hpack-bomb",
        what: "100 heads a second of 16 KB that mean 64 MB",
        run: http2::hpack_bombs,
        limits: Limits { memory: 8, processor: 15.0, reason: "head_limit counts what is meant; the table has 4 KiB" },
        answer: |tally| tally.times("GOAWAY") > 0 || tally.times("RST_STREAM") > 0,
    },
    pings: Attack {
        name: "h2-ping",
        what: "100,000 PING frames a second",
        run: http2::pings,
        limits: Limits { memory: 4, processor: 30.0, reason: "one answer waits at a time" },
        answer: is_acknowledged,
    },
    pings_unread: Attack {
        name: "h2-ping-unread",
        what: "the same, and no answer is read",
        run: http2::pings_unread,
        limits: Limits { memory: 4, processor: 30.0, reason: "what is not taken stops reading" },
        answer: is_borne,
    },
    settings: Attack {
        name: "h2-settings",
        what: "50,000 SETTINGS frames a second",
        run: http2::settings,
        limits: Limits { memory: 4, processor: 30.0, reason: "one answer waits at a time" },
        answer: is_acknowledged,
    },
    empty_data: Attack {
        name: "h2-empty-data",
        what: "100,000 empty DATA frames a second",
        run: http2::empty_data,
        limits: Limits { memory: 4, processor: 30.0, reason: "they are not kept" },
        answer: is_borne,
    },
    meaningless: Attack {
        name: "h2-meaningless",
        what: "100,000 frames a second that mean nothing",
        run: http2::meaningless,
        limits: Limits { memory: 4, processor: 30.0, reason: "they are not kept" },
        answer: is_borne,
    },
    zero_window: Attack {
        name: "h2-zero-window",
        what: "10 connections ask for 1,000 answers of 20 MB and take nothing",
        run: http2_slow::zero_window,
        limits: Limits { memory: 64, processor: 20.0, reason: "for each stream the first block of its answer (16 KiB), an exchange, a connection to the endpoint and its task" },
        answer: is_answering,
    },
    slow_read: Attack {
        name: "h2-slow-read",
        what: "the same, each taking a byte a second",
        run: http2_slow::slow_read,
        limits: Limits { memory: 64, processor: 20.0, reason: "as zero window" },
        answer: is_answering,
    },
    zero_window_beside: Attack {
        name: "h2-zero-window-beside",
        what: "10 connections ask for 1,000 small answers of the service that others use, which has 128 permits, and take nothing",
        run: http2_slow::zero_window_beside,
        limits: Limits { memory: 64, processor: 60.0, reason: "for each stream a block with its answer (16 KiB), an exchange and its task; each is answered by the endpoint" },
        answer: is_answering,
    },
    slow_read_beside: Attack {
        name: "h2-slow-read-beside",
        what: "the same, each taking a byte a second",
        run: http2_slow::slow_read_beside,
        limits: Limits { memory: 64, processor: 60.0, reason: "as zero window beside" },
        answer: is_answering,
    },
    slow_posts: Attack {
        name: "h2-slow-post",
        what: "10 connections with 1,000 bodies, a byte a second each",
        run: http2_slow::slow_posts,
        limits: Limits { memory: 64, processor: 20.0, reason: "a task, an exchange and a connection to the endpoint for each stream, until timeouts.body_idle" },
        answer: |tally| tally.times("answers") > tally.sent / 2,
    },
    slow_heads: Attack {
        name: "h1-slowloris",
        what: "2,000 heads, a byte a second each",
        run: http1::slow_heads,
        limits: Limits { memory: 64, processor: 30.0, reason: "a block (16 KiB) for each head, until timeouts.head" },
        answer: is_held,
    },
    slow_bodies: Attack {
        name: "h1-slow-post",
        what: "500 bodies, a byte a second each",
        run: http1::slow_bodies,
        limits: Limits { memory: 32, processor: 20.0, reason: "an exchange and a connection to the endpoint for each, until timeouts.body_idle" },
        answer: |tally| tally.times("HTTP/1.1 408") > tally.connections / 2,
    },
    slow_readers: Attack {
        name: "h1-slow-read",
        what: "100 answers of 20 MB, taken at 5 KB a second",
        run: http1::slow_readers,
        limits: Limits { memory: 32, processor: 20.0, reason: "a block of up to 256 KiB of each answer, an exchange and a connection to the endpoint" },
        answer: is_held,
    },
    pipelines: Attack {
        name: "h1-pipeline",
        what: "20,000 requests a second on 20 connections that read nothing",
        run: http1::pipelines,
        limits: Limits { memory: 16, processor: 30.0, reason: "the next request is read when the answer was taken" },
        answer: |tally| tally.times("HTTP/1.1 200") > 0,
    },
    huge_heads: Attack {
        name: "h1-huge-head",
        what: "200 heads of 60 KB a second",
        run: http1::huge_heads,
        limits: Limits { memory: 16, processor: 30.0, reason: "head_limit (16 KiB), then 431 and the end" },
        answer: |tally| tally.times("HTTP/1.1 431") > 0,
    },
    chunk_extensions: Attack {
        name: "h1-chunk-extension",
        what: "100 bodies a second of chunks with 4 KB of extensions for each byte",
        run: http1::chunk_extensions,
        limits: Limits { memory: 16, processor: 30.0, reason: "a chunk's line has a limit; nothing of it is kept" },
        answer: is_borne,
    },
    tiny_chunks: Attack {
        name: "h1-tiny-chunks",
        what: "100,000 chunks of a byte a second",
        run: http1::tiny_chunks,
        limits: Limits { memory: 8, processor: 40.0, reason: "read and written in blocks" },
        answer: is_borne,
    },
    bombs: Attack {
        name: "h1-bomb",
        what: "50 bodies a second of 20 KB that mean 20 MB",
        run: http1::bombs,
        limits: Limits { memory: 16, processor: 60.0, reason: "a block of what it becomes at a time, 1 MiB until the ratio ends it" },
        answer: |tally| tally.times("HTTP/1.1 413") > 0 && tally.times("HTTP/1.1 5") == 0,
    },
    inflated_bombs: Attack {
        name: "inflate-bomb",
        what: "50 bodies a second of gzip, Brotli and zstd that mean 20 MB, over HTTP/1.1 and HTTP/2",
        run: inflate::bombs,
        limits: Limits { memory: 32, processor: 60.0, reason: "as the bomb; each has a window of what it said, of one client's part of the room" },
        answer: inflate::are_refused,
    },
    inflated_held: Attack {
        name: "inflate-held",
        what: "600 bodies of gzip, Brotli and zstd with windows up to 8 MiB, over HTTP/1.1 and HTTP/2, a byte a second each",
        run: inflate::held,
        limits: Limits { memory: 96, processor: 30.0, reason: "one client's part of both rooms (a fifth of a quarter of 256 MiB each), and a block, an exchange and a connection to the endpoint for each body" },
        answer: inflate::are_shared_out,
    },
    connections: Attack {
        name: "connections",
        what: "2,000 connections a second, left at once",
        run: http1::connections,
        limits: Limits { memory: 8, processor: 40.0, reason: "an accept and a close for each" },
        answer: is_borne,
    },
    huge_hellos: Attack {
        name: "tls-huge-hello",
        what: "100 ClientHellos a second that say they have 16 MiB, of which 100 KB come",
        run: tls::huge_hellos,
        limits: Limits { memory: 8, processor: 15.0, reason: "64 KiB where TLS ends, 16 KiB where it passes" },
        answer: |tally| tally.connections > 0 && tally.times("open") == 0,
    },
    half_hellos: Attack {
        name: "tls-half-hello",
        what: "500 ClientHellos of 64 KB whose end never comes",
        run: tls::half_hellos,
        limits: Limits { memory: 96, processor: 20.0, reason: "64 KiB for each until timeouts.head, and what a buffer grows by" },
        answer: is_held,
    },
    handshakes: Attack {
        name: "tls-handshakes",
        what: "200 handshakes a second that go no further",
        run: tls::handshakes,
        limits: Limits { memory: 32, processor: 30.0, reason: "keys and a signature for each: what a handshake costs" },
        answer: is_borne,
    },
    key_updates: Attack {
        name: "tls-key-update",
        what: "2,000 KeyUpdate messages a second",
        run: tls::key_updates,
        limits: Limits { memory: 8, processor: 30.0, reason: "the TLS library ends what asks for more than some" },
        answer: |tally| tally.times("closed") > 0,
    },
    untrusted_headers: Attack {
        name: "proxy-untrusted",
        what: "600 connections a second with a PROXY header of nobody's",
        run: proxy::untrusted,
        limits: Limits { memory: 8, processor: 40.0, reason: "refused before anything else is read" },
        answer: |tally| tally.times("HTTP/1.1 200") == 0 && tally.times("HTTP/1.1 400") > 0 && tally.times("reset") > 0,
    },
    endless_headers: Attack {
        name: "proxy-endless",
        what: "1,000 PROXY headers that never end, half of them with 60 KB",
        run: proxy::endless,
        limits: Limits { memory: 32, processor: 30.0, reason: "a header stays in the socket until it is whole, or time is over" },
        answer: |tally| tally.times("HTTP/1.1 200") == 0,
    },
    udp_sources: Attack {
        name: "udp-sources",
        what: "2,000 datagrams a second, each from another source",
        run: udp::sources,
        limits: Limits { memory: 64, processor: 60.0, reason: "max_sessions (10,000), a socket for each; no more comes back than the endpoint answers" },
        answer: |tally| tally.bytes_in > 0 && tally.bytes_in <= tally.bytes_out / 2,
    },
    quic_noise: Attack {
        name: "quic-noise",
        what: "4,000 datagrams a second that could begin a connection of QUIC's",
        run: udp::quic_noise,
        limits: Limits { memory: 8, processor: 30.0, reason: "what comes from an address that is not verified brings at most three times as much (RFC 9000 section 8.1)" },
        answer: |tally| tally.bytes_in <= 3 * tally.bytes_out,
    },
}
