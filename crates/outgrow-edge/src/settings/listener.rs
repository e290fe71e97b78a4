//! `[listener.NAME]`: an address that accepts connections, with its limits and timeouts.

use std::collections::BTreeMap;
use std::time::Duration;

use outgrow_core::settings::{Address, ByteSize, Network, TableReader};
use outgrow_net::proxy_header::AcceptProxy;

use super::http3::Http3Settings;
use super::tls::ListenerTls;
use super::{ErrorPageSettings, ErrorStatus};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const MILLI: Duration = Duration::from_millis(1);

outgrow_core::settings! {
    /// An address that accepts connections. Every listener serves every route.
    #[check = check_listener]
    pub struct ListenerSettings {
        /// Where to listen: `host:port` or `unix:/path`. `0.0.0.0` is every IPv4 address of the
        /// machine, `[::]` every address; a port of 0 is any free one. An address that is in use
        /// makes the start fail; at a reload the running configuration stays.
        pub address: Address = Address::tcp("0.0.0.0", 8080), required = true;
        /// What is spoken here. With TLS the client chooses from these (ALPN); without, HTTP/2 is
        /// recognised by its preface (prior knowledge).
        pub protocols: Vec<Protocol> = vec![Protocol::Http11, Protocol::Http2];
        /// Addresses and networks whose `Forwarded`, `X-Forwarded-*` and `X-Request-Id` are
        /// believed; `X-Forwarded-For` and `Forwarded` are appended to, and the access record
        /// names the last client that is none of them; an element of `X-Forwarded-For` that is no
        /// address alone (one with a port) is not read. From everybody else these fields and
        /// `X-Real-IP` are removed; `X-Forwarded-For`, `-Proto`, `-Host` and `X-Request-Id` are
        /// written anew. A client of a Unix socket is believed when the list is not empty.
        pub trusted_proxies: Vec<Network> = Vec::new();
        /// Whether proxies say whose connection they pass on before its first byte, that of TLS included
        /// (the PROXY protocol, version 1 or 2). Then the client's address is the one that the proxy
        /// says, for all that goes by it, `trusted_proxies` included.
        pub proxy_protocol: AcceptProxy = AcceptProxy::Off;
        /// Connections open at a time, all workers together. Above it a client gets 503 at once
        /// and is closed; one that speaks TLS is just closed.
        pub max_connections: u32 = 100_000, in 1..=10_000_000;
        /// Size of the request line and the header fields together. Above it: 431.
        pub head_limit: ByteSize = ByteSize::kib(16), in ByteSize::kib(1)..=ByteSize::kib(128);
        /// Number of header fields. Above it: 431.
        pub headers_limit: u32 = 100, in 1..=10_000;
        /// Size of the request target (path and query). Above it: 414.
        pub target_limit: ByteSize = ByteSize::kib(8), in ByteSize(64)..=ByteSize::kib(128);
        /// Size of a request's body; 0 is no limit. Above it: 413. A route can set a lower one.
        pub body_limit: ByteSize = ByteSize(0);
        /// How long a client may take.
        pub timeouts: ListenerTimeouts = ListenerTimeouts::default();
        /// Pages for errors by status, instead of our short texts: `"404"`, or `"4xx"` and `"5xx"` for
        /// all others of a kind. Routes may have their own.
        pub error_pages: BTreeMap<ErrorStatus, ErrorPageSettings> = BTreeMap::new();
        /// Present: only TLS is spoken here.
        pub tls: Option<ListenerTls> = None;
        /// Present: HTTP/3 is spoken here as well, over UDP.
        pub http3: Option<Http3Settings> = None;
        /// Answers every request with 308 to the same URL with `https://`, before routing. For the
        /// listener at port 80 beside one with `tls`.
        pub redirect_to_https: bool = false;
        /// The port in the URLs of `redirect_to_https`, as clients reach it.
        pub https_port: u16 = 443, in 1..=65_535;
    }
}

outgrow_core::settings! {
    /// How long a client may take. Rounded up to 32 ms.
    pub struct ListenerTimeouts {
        /// From the first byte of a request, or the start of the connection, until its head is
        /// complete; the TLS handshake has as long again. After it: 408, and the connection is
        /// closed.
        pub head: Duration = Duration::from_secs(10), in MILLI..=HOUR;
        /// Between two pieces of a request's body. After it: 408 (`body_timeout`) when no response was
        /// started, and the connection is closed.
        pub body_idle: Duration = Duration::from_secs(30), in MILLI..=HOUR;
        /// Bytes of a request's body that a client has to send in each second that it is waited for, beside
        /// `body_idle`, which it may be late at most; 0: it may be as slow as it likes. Below it: 408, with a
        /// reason of its own (`body_too_slow`). So nobody holds a service's connections with bodies that come
        /// byte by byte. Not for gRPC of HTTP/2 and HTTP/3 clients, and of gRPC-Web, to services that are
        /// spoken to in HTTP/2, nor once the endpoint answers. Where clients send as things happen, events or readings of a sensor, say 0 in the route's
        /// `timeouts`.
        pub body_rate: ByteSize = ByteSize(500), in ByteSize(0)..=ByteSize::gib(1);
        /// Idle between two requests on a connection. After it the connection is closed.
        pub keep_alive: Duration = Duration::from_secs(75), in MILLI..=DAY;
        /// How long a client may take nothing of a response. After it the connection is closed
        /// and the response is recorded as truncated.
        pub send_idle: Duration = Duration::from_secs(60), in MILLI..=DAY;
        /// Bytes of a response that a client has to take in each second in which some wait for it, beside
        /// `send_idle`, which it may be late at most; 0: it may be as slow as it likes. Below it the same
        /// happens as after `send_idle`. So nobody holds a service's connections, a file that is open, or the
        /// memory of a response that is here as a whole and needs none of them, by taking it byte by byte. Time
        /// in which nothing waits for the client (events, long polls) does not count. Not for WebSockets, nor
        /// for answers of Outgrow's own but for files, nor for gRPC, as `body_rate` has it, until its answer is
        /// here as a whole.
        pub send_rate: ByteSize = ByteSize(500), in ByteSize(0)..=ByteSize::gib(1);
    }
}

outgrow_core::choice! {
    /// What is spoken at a listener.
    pub enum Protocol {
        /// HTTP/1.1, and 1.0 for those who ask with it.
        Http11 = "http/1.1",
        /// HTTP/2.
        Http2 = "h2",
    }
    elsewhere "h3" = "HTTP/3 has a table of its own: [listener.NAME.http3]"
}

fn check_listener(listener: &ListenerSettings, table: &mut TableReader<'_, '_>) {
    if listener.protocols.is_empty() {
        let hint = "write protocols = [\"http/1.1\", \"h2\"] or leave it out";
        table.problem(
            "protocols",
            "a listener without a protocol serves nobody",
            hint,
        );
    }
    if listener.target_limit > listener.head_limit {
        let message = format!(
            "target_limit ({}) is above head_limit ({}), of which the target is a part",
            listener.target_limit, listener.head_limit
        );
        let key = if table.has("target_limit") {
            "target_limit"
        } else {
            "head_limit"
        };
        table.problem(key, message, "set head_limit higher or target_limit lower");
    }
    if listener.http3.is_some() {
        check_http3(listener, table);
    }
    if listener.redirect_to_https && listener.tls.is_some() {
        let hint = "write it at the listener without tls";
        table.problem("redirect_to_https", "only TLS is spoken here", hint);
    }
    if listener.proxy_protocol != AcceptProxy::Off && listener.trusted_proxies.is_empty() {
        let hint = "write trusted_proxies = [\"10.0.0.0/24\"] with the networks of your proxies";
        table.problem("proxy_protocol", "there is no proxy to believe", hint);
    }
    if listener.trusted_proxies.iter().any(Network::is_everything) {
        let message = "a network of /0 would let every client write its own address";
        let hint = "name the networks of your proxies only";
        table.problem("trusted_proxies", message, hint);
    }
}

/// What HTTP/3 needs of its listener.
fn check_http3(listener: &ListenerSettings, table: &mut TableReader<'_, '_>) {
    let Some(tls) = &listener.tls else {
        let hint = "add tls with certificates, or leave http3 out";
        return table.problem("http3", "HTTP/3 is always encrypted", hint);
    };
    let early = listener
        .http3
        .as_ref()
        .is_some_and(|http3| http3.early_data);
    if early && tls.clients.is_some() {
        let message = "where clients show certificates nothing is taken before they have";
        table.problem("http3", message, "leave early_data out");
    }
    match &listener.address {
        Address::Tcp { port: 0, .. } => {
            let message = "TCP and UDP cannot be had at the same free port";
            table.problem("http3", message, "write the port in address");
        }
        Address::Unix(_) => {
            let hint = "give the listener an address of host and port";
            table.problem("http3", "there is no HTTP/3 at a Unix socket", hint);
        }
        Address::Tcp { .. } => {}
    }
    if listener.proxy_protocol != AcceptProxy::Off {
        let message = "proxies say nothing of who sends datagrams";
        table.problem("http3", message, "leave proxy_protocol out, or http3");
    }
}
