//! `[tcp.NAME]` and `[udp.NAME]`: addresses at which connections and datagrams are passed on as they
//! are.
//!
//! The doc comments of the fields are the manual's text. That a service exists, and that no two
//! listeners have one address, is checked in the binary, which knows all tables.

mod server_name;
mod udp;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use outgrow_core::settings::{Address, Name, Network, OneOrMany, TableReader};
use outgrow_net::proxy_header::AcceptProxy;

pub use udp::UdpSettings;

pub use server_name::{AlpnName, AlpnNameError, ServerNamePattern, ServerNamePatternError};

const MILLI: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

outgrow_core::settings! {
    /// An address that accepts TCP connections and passes them on to a service, byte for byte:
    /// databases, caches, mail, TLS that is ended elsewhere. Balancing, checks, ejection, limits and
    /// the queue are those of the service, where a connection counts as a request; of its
    /// `timeouts`, `connect`, `queue` and `unacknowledged` count, of its `hash_by` only the
    /// address. A connection that an endpoint did not take is tried at another one, as nothing of
    /// it was sent. A connection that is ended in the middle, by whomever, ends with a reset at the
    /// other side: what was cut off never looks complete.
    #[check = check_tcp]
    pub struct TcpSettings {
        /// Where to listen: `host:port` or `unix:/path`, as for `[listener.NAME]`.
        pub address: Address = Address::tcp("0.0.0.0", 6379), required = true;
        /// The service that connections go to; with `route`, those that no route matches. Left
        /// out with `route`: those are ended with a TLS alert.
        pub service: Option<Name> = None;
        /// Where connections go by what their TLS ClientHello says, which is looked at and passed
        /// on as it is: nothing is decrypted. With a route every connection must begin with TLS.
        pub route: BTreeMap<Name, TcpRouteSettings> = BTreeMap::new();
        /// Whether proxies say whose connection they pass on (the PROXY protocol, version 1 or 2).
        pub proxy_protocol: AcceptProxy = AcceptProxy::Off;
        /// The networks of those proxies.
        pub trusted_proxies: Vec<Network> = Vec::new();
        /// Connections open at a time, all workers together. One above it is reset at once.
        pub max_connections: u32 = 100_000, in 1..=10_000_000;
        /// Connections open at a time from one address (for IPv6: one network of /64); 0: no
        /// limit. One above it is reset.
        pub max_connections_per_address: u32 = 0, in 0..=10_000_000;
        /// How many endpoints are tried for a connection that none has taken.
        pub tries: u32 = 3, in 1..=100;
        /// What becomes of open connections when a check finds that their endpoint is down, or is
        /// not the primary any more where the check asks for a `role`.
        pub endpoint_down: EndpointDown = EndpointDown::Keep;
        /// After this long without a word the system asks a client's machine for a sign of life,
        /// and a few times more, before it counts as gone; `"0s"`: it is not asked.
        pub keep_alive: Duration = Duration::from_secs(60), in Duration::ZERO..=DAY;
        /// How long things may take.
        pub timeouts: TcpTimeouts = TcpTimeouts::default();
    }
}

outgrow_core::settings! {
    /// How long things may take. Rounded up to 32 ms.
    pub struct TcpTimeouts {
        /// Silence in both directions after which a connection is ended.
        pub idle: Duration = HOUR, in MILLI..=DAY * 7;
        /// The same once one side has ended its direction.
        pub half_closed: Option<Duration> = None, in Some(MILLI)..=Some(DAY * 7),
            shown = "as idle";
        /// How long a connection may be open in all; `"0s"`: no limit.
        pub lifetime: Duration = Duration::ZERO, in Duration::ZERO..=DAY * 365;
        /// Until a PROXY header, where there must be one, has come, and until a ClientHello, where
        /// it is looked at, has.
        pub hello: Duration = Duration::from_secs(5), in MILLI..=HOUR;
    }
}

outgrow_core::settings! {
    /// Which connections go to a service of their own. When several routes match, an exact name
    /// wins over a wildcard, a longer wildcard over a shorter one, any of them over no name, and
    /// then a route with `alpn` over one without; two that nothing of this tells apart are refused.
    #[check = check_route]
    pub struct TcpRouteSettings {
        /// The server name (SNI), or a list of them: exact, or `*.example` for every name below
        /// `example` (not `example` itself). With Encrypted ClientHello it is the outer name. Left
        /// out: any, and none.
        pub server_name: OneOrMany<ServerNamePattern> = OneOrMany::default(),
            shown = "any server name";
        /// The application protocol (ALPN), or a list of them: one of which the client offers.
        /// Left out: any, and none.
        pub alpn: OneOrMany<AlpnName> = OneOrMany::default(), shown = "any protocol";
        /// The service that the connections go to.
        pub service: Name = Name::new("web").expect("it is a name"), required = true;
    }
}

outgrow_core::choice! {
    /// What becomes of connections to an endpoint that is down.
    pub enum EndpointDown {
        /// They stay as long as they can.
        Keep = "keep",
        /// They are reset, so that clients connect anew, to another endpoint: for a primary whose
        /// role has moved.
        Reset = "reset",
    }
}

fn check_tcp(tcp: &TcpSettings, table: &mut TableReader<'_, '_>) {
    if tcp.service.is_none() && tcp.route.is_empty() {
        let span = table.span();
        let hint = "add service = \"cache\", or routes by server name";
        let message = "nobody would get the connections";
        table.reader().error_with_hint(span, message, hint);
    }
    if tcp.trusted_proxies.iter().any(Network::is_everything) {
        let message = "a network of /0 would let every client write its own address";
        let hint = "name the networks of your proxies only";
        table.problem("trusted_proxies", message, hint);
    }
    match (tcp.proxy_protocol, tcp.trusted_proxies.is_empty()) {
        (AcceptProxy::Off, false) => {
            let hint = "write proxy_protocol = \"required\", or remove it";
            table.problem(
                "trusted_proxies",
                "nobody is asked whose connection it is",
                hint,
            );
        }
        (AcceptProxy::Optional | AcceptProxy::Required, true) => {
            let hint =
                "write trusted_proxies = [\"10.0.0.0/24\"] with the networks of your proxies";
            table.problem("proxy_protocol", "there is no proxy to believe", hint);
        }
        _ => {}
    }
    check_equal(tcp, table);
}

/// No two routes that a connection could mean alike.
fn check_equal(tcp: &TcpSettings, table: &mut TableReader<'_, '_>) {
    let routes: Vec<_> = tcp.route.iter().collect();
    for (place, (name, route)) in routes.iter().enumerate() {
        let equal = routes[..place].iter().find(|(_, other)| {
            let names = match (route.server_name.is_empty(), other.server_name.is_empty()) {
                (true, true) => true,
                (false, false) => {
                    (route.server_name.iter()).any(|name| other.server_name.contains(name))
                }
                _ => false,
            };
            let protocols = match (route.alpn.is_empty(), other.alpn.is_empty()) {
                (true, true) => true,
                // Whatever is in their lists, a client may offer one of each.
                (false, false) => true,
                _ => false,
            };
            names && protocols
        });
        if let Some((other, _)) = equal {
            let message = format!("route {name} may match the same connections as route {other}");
            let hint = "give them other server names; a client may offer protocols of both";
            table.problem("route", message, hint);
        }
    }
}

fn check_route(route: &TcpRouteSettings, table: &mut TableReader<'_, '_>) {
    if route.server_name.is_empty() && route.alpn.is_empty() {
        let span = table.span();
        let hint = "add server_name = \"shop.example\", or write `service` in [tcp.NAME] for all";
        let message = "this route matches every connection";
        table.reader().error_with_hint(span, message, hint);
    }
}
