//! `[route.NAME.decompress]`: which bodies of requests are decompressed, and within which bounds.

use outgrow_core::settings::{ByteSize, TableReader};

use super::codings::check_codings;

outgrow_core::settings! {
    /// Decompresses the bodies of requests (`Content-Encoding`) before they are sent to the service, for
    /// endpoints that take plain bodies only. `decompress = {}` switches it on with what is here. A body
    /// with another coding, or with several, is refused: 415, with `codings` in `Accept-Encoding` (RFC 9110
    /// section 15.5.16). What is not what it says is 400. The endpoint gets neither `Content-Encoding`, nor
    /// a length, nor digests of other bytes. A `body_limit` is one of both: of what is sent, and of what
    /// becomes of it. A body may be several streams of `gzip` or `zstd`, but with at most 1,024 more of them that
    /// are empty than others. gRPC compresses by itself and stays as it is.
    ///
    /// What decompressors hold is as their clients say: 64 KiB for `gzip` and `deflate`, up to `max_window` and
    /// half a megabyte more for `zstd` and `br`. A quarter of `process.memory` is there for those that need more
    /// than 512 KiB, and as much for all others; of each a client has a quarter of what is left when it has it, so
    /// alone a fifth, but for its only body there as much as is left. More of a client's bodies wait for those, eight
    /// of them in each, for 5 s in all, and have a connection to the service meanwhile; after that, and where eight
    /// wait, they are 503, with the reason `memory_limit`. Of the fifth of 64 MiB (`process.memory` of 256 MiB), one
    /// with a window of 8 MiB is taken at a time, two with 4 MiB, five with 2 MiB, of `gzip` two hundred. A service
    /// that few clients send much to at a time does well with more memory or a `max_window` of `2MiB`. Those who find
    /// no room because of others get 503 at once: where anybody may send, some addresses together can keep others from
    /// large windows, so lower `max_window` there, or leave `zstd` and `br` out. A client is an address (of IPv6 a
    /// /64), behind `trusted_proxies` the one that `X-Forwarded-For` says: all who come through a balancer that says
    /// nothing are one, and so are all of a Unix socket. The work is done by threads of its own, half as many as there
    /// are workers; of a client's bodies eight wait for them at a time, and the others are not read meanwhile. Time in
    /// which a body waits for room or for the threads is not held against its client; after as long as `body_idle`
    /// without a piece that was done it is 503 `decompression_timeout`.
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
        /// is what has to be held while it comes. A power of two. A body that needs more is 400. The 8 MiB are what every
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

impl DecompressSettings {
    /// The least `process.memory` in bytes with which a body may have a window of `max_window`: a client has at
    /// most half of a quarter of it for one. 0 where no coding has windows to speak of.
    pub fn least_memory(&self) -> u64 {
        /// What a decompressor holds beside its window, rounded up.
        const BESIDE_BYTES: u64 = 512 * 1_024;
        let has_windows = |coding| matches!(coding, RequestCoding::Zstd | RequestCoding::Br);
        match self.codings.iter().copied().any(has_windows) {
            true => 8 * (self.max_window.bytes() + BESIDE_BYTES),
            false => 0,
        }
    }
}

fn check_decompress(settings: &DecompressSettings, table: &mut TableReader<'_, '_>) {
    check_codings(&settings.codings, ("codings", Some("decompress")), table);
    let window = settings.max_window.bytes();
    if !window.is_power_of_two() {
        let message = format!("{} is no power of two, as windows are", settings.max_window);
        let next = ByteSize(window.next_power_of_two());
        table.problem("max_window", message, format!("use {next}"));
    }
}
