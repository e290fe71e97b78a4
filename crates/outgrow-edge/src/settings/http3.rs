//! `[listener.NAME.http3]`: HTTP/3 at the same address, over UDP.

use std::time::Duration;

use outgrow_core::settings::{ByteSize, TableReader};

const DAY: Duration = Duration::from_secs(86_400);

outgrow_core::settings! {
    /// HTTP/3 (QUIC) at the listener's address and port, over UDP, beside what is spoken over TCP, with
    /// the same certificates, limits and timeouts. Clients learn of it by the `Alt-Svc` field of the
    /// answers that they get over TCP; the port must be open for UDP as well.
    #[check = check_http3]
    pub struct Http3Settings {
        /// Requests that a client may have open at a time on one connection.
        pub max_streams: u32 = 128, in 1..=65_536;
        /// What a client may send of one request's body before it is taken. It bounds the speed of an
        /// upload: this much in the time that a packet takes there and back, with 64 KiB and 50 ms
        /// 1.3 MB/s.
        pub stream_window: ByteSize = ByteSize::kib(64), in ByteSize::kib(16)..=ByteSize::kib(32_768);
        /// What a client may send of all bodies of a connection before it is taken, at most; at least
        /// twice `stream_window`. A connection begins with 32 KiB, gets twice `stream_window` with its
        /// first request that does not come as a whole, so that a body that nobody takes leaves room for
        /// other requests, and more as it is used, and for each body that waits, while less than a quarter of
        /// `process.memory` is in use: all of it while a tenth of that is enough for what all clients may send,
        /// and `address_percent` of that for this one's address.
        pub connection_window: ByteSize = ByteSize::kib(1_024), in ByteSize::kib(32)..=ByteSize::kib(65_536);
        /// How much one client address (IPv6: one /64) may have of what `process.memory` lets all clients of
        /// HTTP/3 send before it is taken, in percent. More where many clients come from one address: an
        /// office, or a load balancer that passes datagrams on under its own; 100: no less than all.
        pub address_percent: u32 = 25, in 1..=100;
        /// What is sent of all responses of a connection, and held, before the client has acknowledged it.
        /// It bounds the speed: this much in the time that a packet takes there and back.
        pub send_window: ByteSize = ByteSize::kib(2_048), in ByteSize::kib(64)..=ByteSize::kib(65_536);
        /// Handshakes under way at a time, all workers together. Above it a client is refused, and
        /// may come over TCP.
        pub max_handshakes: u32 = 1_000, in 1..=1_000_000;
        /// From how many handshakes under way on a client has to show first that its address is its
        /// own (Retry), which takes it the time that a packet takes there and back; 0: always.
        pub verify_from: u32 = 100, in 0..=1_000_000;
        /// The same for those of one client address (IPv6: of one /64), whose address has been verified.
        /// From an eighth of it on an address is verified in any case.
        pub max_handshakes_per_address: u32 = 128, in 1..=1_000_000;
        /// Whether requests are taken with the first packets of a client that was here before (0-RTT).
        /// Only GET, HEAD and OPTIONS without a body are acted on before the handshake is complete, and
        /// the endpoint is told (`Early-Data: 1`, RFC 8470), and only of clients that show by a token
        /// that they were at their address within the last hour; all others wait for it. Whoever saw such
        /// packets can send them again: each session is therefore resumed only once, by the process
        /// that began it, so that there is no resumption after a reload, a crash or an upgrade, where
        /// there is without it. What comes before the handshake is complete, without such a token, counts
        /// to one `address_percent` that all such clients have together.
        pub early_data: bool = false;
        /// For how long clients remember that HTTP/3 is here (`Alt-Svc`, RFC 7838); `"0s"`: they
        /// are not told. When this table is taken away, they are told for as long to forget it. Where an endpoint says the field itself, it stays.
        pub alt_svc_max_age: Duration = DAY, in Duration::ZERO..=Duration::from_secs(365 * 86_400);
        /// The port that clients are told, where it is not the listener's.
        pub alt_svc_port: Option<u16> = None, shown = "the listener's";
    }
}

fn check_http3(http3: &Http3Settings, table: &mut TableReader<'_, '_>) {
    // One body that nobody takes is not to keep all other requests from being sent.
    if http3.connection_window.0 < 2 * http3.stream_window.0 {
        let message = "it is below twice stream_window, so one body could take all of it";
        table.problem(
            "connection_window",
            message,
            "set it higher, or stream_window lower",
        );
    }
    if http3.alt_svc_port == Some(0) {
        let hint = "leave it out, or write the port that clients reach";
        table.problem("alt_svc_port", "there is no port 0", hint);
    }
}
