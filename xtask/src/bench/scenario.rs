//! What is measured: the scenarios of the edge bench and of those of layer 4, TLS and HTTP/2, by the names that `--scenarios` takes.
//!
//! The bytes of an exchange are the load generator's (`bench/load`). Deliberately not here: how it is
//! measured.

/// One row of the bench.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// The load generator's exchange.
    pub(crate) exchange: &'static str,
    /// Client connections, each with one request under way.
    pub(crate) connections: usize,
    /// Workers of every contestant.
    pub(crate) workers: usize,
    /// One request per connection.
    pub(crate) closes: bool,
    /// TLS 1.3 to the client.
    pub(crate) is_secure: bool,
    /// At layer 4: nobody between looks at HTTP.
    pub(crate) is_forwarded: bool,
    /// Streams of HTTP/2 on each connection, each with one request under way; 0: HTTP/1.1.
    pub(crate) streams: usize,
}

const PLAIN: Scenario = Scenario {
    name: "",
    exchange: "get1k",
    connections: 64,
    workers: 1,
    closes: false,
    is_secure: false,
    is_forwarded: false,
    streams: 0,
};

/// All of them; the list.
pub(crate) const ALL: [Scenario; 9] = [
    Scenario {
        name: "get-1k-64",
        ..PLAIN
    },
    Scenario {
        name: "get-1k-8",
        connections: 8,
        ..PLAIN
    },
    Scenario {
        name: "get-100k",
        exchange: "get100k",
        connections: 32,
        ..PLAIN
    },
    Scenario {
        name: "get-1m",
        exchange: "get1m",
        connections: 16,
        ..PLAIN
    },
    Scenario {
        name: "post-10k",
        exchange: "post10k",
        ..PLAIN
    },
    Scenario {
        name: "chunked-10k",
        exchange: "chunked10k",
        ..PLAIN
    },
    Scenario {
        name: "new-connection",
        closes: true,
        ..PLAIN
    },
    Scenario {
        name: "tls-keepalive",
        is_secure: true,
        ..PLAIN
    },
    Scenario {
        name: "two-workers",
        workers: 2,
        ..PLAIN
    },
];

/// Those of layer 4: the same bytes, which are passed on unseen.
pub(crate) const LAYER_FOUR: [Scenario; 5] = [
    Scenario {
        name: "tcp-1k-64",
        is_forwarded: true,
        ..PLAIN
    },
    Scenario {
        name: "tcp-1k-8",
        connections: 8,
        is_forwarded: true,
        ..PLAIN
    },
    Scenario {
        name: "tcp-100k",
        exchange: "get100k",
        connections: 32,
        is_forwarded: true,
        ..PLAIN
    },
    Scenario {
        name: "tcp-1m",
        exchange: "get1m",
        connections: 16,
        is_forwarded: true,
        ..PLAIN
    },
    Scenario {
        name: "tcp-new-connection",
        closes: true,
        is_forwarded: true,
        ..PLAIN
    },
];

/// Those of TLS: every connection with a handshake of its own, which nothing is resumed of, and
/// requests on connections that stay.
pub(crate) const TLS: [Scenario; 2] = [
    Scenario {
        name: "tls-handshake",
        closes: true,
        is_secure: true,
        ..PLAIN
    },
    Scenario {
        name: "tls-keepalive",
        is_secure: true,
        ..PLAIN
    },
];

/// Those of HTTP/2.
pub(crate) const HTTP2: [Scenario; 2] = [
    Scenario {
        name: "h2-1k-100",
        connections: 4,
        is_secure: true,
        streams: 100,
        ..PLAIN
    },
    Scenario {
        name: "h2-1k-1",
        connections: 64,
        is_secure: true,
        streams: 1,
        ..PLAIN
    },
];
