//! `[route.NAME.decompress]`: which bodies of requests are decompressed, and within which bounds.

use outgrow_core::settings::{ByteSize, TableReader};

outgrow_core::settings! {
    /// Decompresses the bodies of requests (`Content-Encoding`) before they are sent to the service, for
    /// endpoints that take plain bodies only. `decompress = {}` switches it on with what is here. A body
    /// with another coding, or with several, is refused: 415, with `codings` in `Accept-Encoding` (RFC 9110
    /// section 15.5.16). What is not what it says is 400. The endpoint gets neither `Content-Encoding`, nor
    /// a length, nor digests of other bytes. A `body_limit` is one of both: of what is sent, and of what
    /// becomes of it. gRPC compresses by itself and stays as it is. What decompressors hold is as their
    /// clients say: 64 KiB for `gzip` and `deflate`, up to `max_window` and a little more for `zstd` and
    /// `br`. A quarter of `process.memory` is there for those that need more than 512 KiB, and as much for
    /// all others; of each a client (an address; of IPv6 a /64) has as much as is left when it has it, so one
    /// client alone a half. Those who find no room get 503: where anybody may send, a few addresses together
    /// can keep others from large windows, so lower `max_window` there, or leave `zstd` and `br` out.
    #[check = check_decompress]
    pub struct DecompressSettings {
        /// The codings that are taken.
        pub codings: Vec<RequestCoding> = vec![
            RequestCoding::Zstd,
            RequestCoding::Br,
            RequestCoding::Gzip,
            RequestCoding::Deflate,
        ];
        /// The most that a body may become. Above it: 413.
        pub max_size: ByteSize = ByteSize::mib(64), in ByteSize::kib(1)..=ByteSize::gib(1024);
        /// How many times as many bytes a body may become as were sent, from 1 MiB on. Above it, as soon
        /// as that is seen: 413, with the reason `decompression_ratio`. Text comes to 3 to 30, logs and
        /// tables that repeat themselves to 100; what is meant to do harm to 1,000 and more.
        pub max_ratio: u32 = 200, in 1..=1_000_000;
        /// The largest window that a body may need, of `zstd` and `br`: how far back it repeats itself, which
        /// is what has to be held while it comes. A body that needs more is 400. The 8 MiB are what every
        /// decoder of `zstd` should take (RFC 8878 section 3.1.1.1.2), and the most that HTTP has for it (RFC 9659),
        /// so more is for `br` alone, whose largest is 16 MiB (RFC 7932 section 9.1). Level 3 of zstd wants
        /// 2 MiB, most libraries of Brotli 4 MiB, and both no more than the body has.
        pub max_window: ByteSize = ByteSize::mib(8), in ByteSize::kib(64)..=ByteSize::mib(16);
    }
}

outgrow_core::choice! {
    /// How the body of a request is compressed.
    pub enum RequestCoding {
        /// Zstandard (RFC 8878), with a window of 8 MiB at most (RFC 9659).
        Zstd = "zstd",
        /// Brotli (RFC 7932).
        Br = "br",
        /// gzip (RFC 1952); `x-gzip` is the same.
        Gzip = "gzip",
        /// The zlib format (RFC 1950), which is what HTTP calls so; not DEFLATE by itself.
        Deflate = "deflate",
    }
}

impl RequestCoding {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Zstd, Self::Br, Self::Gzip, Self::Deflate];
}

fn check_decompress(settings: &DecompressSettings, table: &mut TableReader<'_, '_>) {
    let mut codings = settings.codings.clone();
    codings.sort_unstable();
    codings.dedup();
    if codings.is_empty() {
        let hint = "leave `decompress` out to decompress nothing";
        table.problem("codings", "without a coding nothing is decompressed", hint);
    } else if codings.len() < settings.codings.len() {
        table.problem(
            "codings",
            "a coding is in the list twice",
            "remove one of them",
        );
    }
}
