//! `[process]`: how the data process itself runs.

use std::time::Duration;

use outgrow_core::settings::ByteSize;

const DAY: Duration = Duration::from_secs(86_400);

outgrow_core::settings! {
    /// How the process itself runs.
    pub struct ProcessSettings {
        /// Threads that carry traffic. Changed by an upgrade, not by a reload.
        pub workers: Option<u16> = None, in Some(1)..=Some(256), shown = "number of cores";
        /// The zone that this process is in: endpoints of the same `zone` are used first.
        pub zone: String = String::new();
        /// Bytes of requests and responses that may be buffered at a time, all workers together.
        /// At the limit connections wait to be read from, and new requests get 503.
        pub memory: ByteSize = ByteSize::mib(256), in ByteSize::mib(8)..=ByteSize::gib(1_024);
        /// On a stop: how long `/readyz` fails before the listeners close, so that whoever sends
        /// traffic here notices first.
        pub drain_delay: Duration = Duration::ZERO, in Duration::ZERO..=DAY;
        /// On a stop: how long requests in flight may take to end. After it their connections are
        /// closed.
        pub drain_timeout: Duration = Duration::from_secs(30), in Duration::ZERO..=DAY;
        /// On an upgrade: how long the old data process may live for long connections. After it
        /// they are closed.
        pub upgrade_drain_timeout: Duration = Duration::from_secs(3_600),
            in Duration::ZERO..=DAY * 7;
    }
}
