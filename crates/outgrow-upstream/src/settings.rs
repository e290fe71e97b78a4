//! The upstream room's part of `[service.NAME]`: endpoints, balancing, limits, timeouts, checks.
//!
//! The same table has the instance fields, which are the fleet's (`outgrow_fleet::settings`); the
//! binary reads both from it. That a service has endpoints or a command is checked there.

use std::time::Duration;

use outgrow_core::settings::{
    Address, Kind, Node, Percent, Reader, Setting, TableReader, Value, read_table,
};
use outgrow_net::proxy_header::Version;

pub use balance::{Balance, HashSettings, LoadReportSettings, SlowStartCurve, Weights};
pub use check::{CheckKind, CheckMethod, CheckSettings, Role};
pub use outlier::{
    FailurePercentageSettings, OutlierSettings, SlowResponsesSettings, SuccessRateSettings,
};
pub use status::{StatusSet, StatusSetError};

mod balance;
mod check;
mod outlier;
mod status;

const MILLI: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

outgrow_core::settings! {
    /// The thing you scale: a named set of endpoints. It has either `endpoints` or a `command`.
    #[check = check_service]
    pub struct ServiceSettings {
        /// Where the service answers: addresses, or tables with an address and a weight. An
        /// endpoint that stays in the list keeps its health, its connections and its counters
        /// across reloads.
        pub endpoints: Vec<Endpoint> = Vec::new();
        /// The version of HTTP that is spoken to the endpoints: for routes, mirrors and checks of kind
        /// `"http"`. What cannot go over HTTP/2, an upgrade to WebSocket, is still sent by HTTP/1.1.
        pub http_version: HttpVersion = HttpVersion::One;
        /// How an endpoint is picked.
        pub balance: Balance = Balance::PowerOfTwo;
        /// How the hashing ways of `balance` keep requests together.
        pub hash: HashSettings = HashSettings::default();
        /// How long an endpoint that is new or healthy again gets less than its share, growing
        /// from a tenth to all of it (`slow_start_curve`); `"0s"`: it gets its share at once.
        pub slow_start: Duration = Duration::ZERO, in Duration::ZERO..=HOUR;
        /// How the share grows during a slow start.
        pub slow_start_curve: SlowStartCurve = SlowStartCurve::default();
        /// Where the weights of the endpoints come from.
        pub weights: Weights = Weights::Configured;
        /// How the load that endpoints report becomes their weight; for `weights = "reported"`.
        pub load_report: LoadReportSettings = LoadReportSettings::default();
        /// Percent of the endpoints that must be healthy. Below it health is not believed and all
        /// endpoints are used, because a check that fails everywhere says more about the check;
        /// the state shows it. 0: never.
        pub panic_threshold: Percent = Percent::new(50);
        /// Connections in use at a time to one endpoint, all workers together. At the limit
        /// requests wait in the queue. A WebSocket or another upgraded connection is in use as
        /// long as it is open: a service with many of them needs a higher limit.
        pub max_connections: u32 = 1_024, in 1..=1_000_000;
        /// Requests of the service that may wait because every endpoint is at its limit. Above
        /// it: 503 at once. 0: nothing waits.
        pub queue: u32 = 1_024, in 0..=1_000_000;
        /// Idle connections kept for each endpoint by each worker. Above it the one that has been
        /// idle longest is closed. 0: no connection is used twice.
        pub idle_connections: u32 = 256, in 0..=100_000;
        /// How long an idle connection is kept. A server that says `Keep-Alive: timeout=N`
        /// shortens it.
        pub idle_timeout: Duration = Duration::from_secs(30), in MILLI..=DAY;
        /// How long the service may take.
        pub timeouts: ServiceTimeouts = ServiceTimeouts::default();
        /// The active check. Left out: instances are checked by connecting to them, endpoints of
        /// the list are not checked.
        pub check: Option<CheckSettings> = None;
        /// Whether endpoints are told whose connection it is, by a PROXY header before everything
        /// else: for the connections of `[tcp.NAME]` and for checks, which speak for themselves. What
        /// a client's proxy has told (ALPN, unique id, TLS and its own fields) goes on in version 2, with
        /// the server name of the client's TLS where it was looked at. Not for routes, whose
        /// connections are shared by clients (they have `X-Forwarded-For`), and not for
        /// `[postgres]`.
        pub proxy_protocol: SendProxy = SendProxy::Off;
        /// When an endpoint that fails requests is left out for a while.
        pub outlier: OutlierSettings = OutlierSettings::default();
    }
}

outgrow_core::choice! {
    /// The version of HTTP that endpoints are spoken to with.
    pub enum HttpVersion {
        /// HTTP/1.1: one request after the other on a connection.
        One = "1.1",
        /// HTTP/2: many requests at a time on a connection, as gRPC needs. Without TLS the endpoints
        /// must know it beforehand (h2c with prior knowledge); with TLS they must agree to it (ALPN
        /// `h2`).
        Two = "2",
    }
}

outgrow_core::choice! {
    /// The header with which endpoints are told whose connection it is.
    pub enum SendProxy {
        /// None.
        Off = "off",
        /// Version 1: a line of text with the addresses.
        One = "v1",
        /// Version 2: binary, with further fields.
        Two = "v2",
    }
}

impl SendProxy {
    /// The version, where there is one.
    pub fn version(self) -> Option<Version> {
        match self {
            Self::Off => None,
            Self::One => Some(Version::One),
            Self::Two => Some(Version::Two),
        }
    }
}

outgrow_core::settings! {
    /// How long the service may take. Rounded up to 32 ms.
    pub struct ServiceTimeouts {
        /// Until a connection to an endpoint stands. After it another endpoint is tried once;
        /// then 504.
        pub connect: Duration = Duration::from_secs(2), in MILLI..=HOUR;
        /// How long a request waits in the queue. After it: 503.
        pub queue: Duration = Duration::from_secs(5), in MILLI..=HOUR;
        /// From the last byte of the request until the head of the response. After it: 504.
        pub first_byte: Duration = Duration::from_secs(30), in MILLI..=DAY;
        /// Between two pieces of the response. After it the response is cut off and recorded as
        /// truncated.
        pub stream_idle: Duration = Duration::from_secs(60), in MILLI..=DAY;
        /// The whole exchange; `"0s"`: no limit. After it: 504, or the response is cut off.
        /// Upgraded connections (WebSocket) are not counted.
        pub request: Duration = Duration::ZERO, in Duration::ZERO..=DAY;
        /// Silence of both sides of an upgraded connection after which it ends; longer than any
        /// heartbeat in use. Of a WebSocket the client is told (a Close frame, 1001) and has 5 s to
        /// answer; pings count as signs of life. One side that has ended gives the other 30 s.
        pub tunnel_idle: Duration = Duration::from_secs(3_600), in MILLI..=DAY;
        /// How long what was sent to an endpoint may stay without an acknowledgement by its
        /// machine. After it the connection has failed, and a request that may be repeated goes to
        /// another endpoint: a machine that lost its power or its network says nothing at all. A
        /// slow application does not count, its machine acknowledges; but its machine takes only so
        /// much of what it does not read. So while a request's body of more than 16 KiB, or of
        /// unknown length, is under way this limit is off and the others have to do, and on an
        /// upgraded connection it is at least `stream_idle`. Where nothing is sent, as in
        /// the middle of a response, the machine is asked for a sign after this time, and has failed
        /// after twice of it, in whole seconds. On a connection of `[tcp.NAME]` only the latter counts,
        /// where its `timeouts.idle` is 15 minutes or more (`"1h"` by default); what was sent is tried
        /// for as long as the system does, about 15 minutes, or for a shorter `timeouts.idle`. Not for
        /// Unix sockets. `"0s"`: for as long as the system tries, and it is not asked.
        pub unacknowledged: Duration = Duration::from_secs(5), in Duration::ZERO..=HOUR;
    }
}

outgrow_core::settings! {
    /// One address of a service, when it has more than an address.
    pub struct EndpointTable {
        /// `host:port` or `unix:/path`. A name is looked up again every 10 s; connections to
        /// addresses that it has no more are not used again: after 30 s where none of those before is in
        /// the answer, else after 10 minutes, as many names are told in part.
        pub address: Address = Address::tcp("127.0.0.1", 3000), required = true;
        /// Its share compared with the other endpoints.
        pub weight: u32 = 1, in 1..=1_000;
        /// Endpoints of a higher number are used only as far as those below it are not healthy: a
        /// priority whose endpoints are 72 % healthy still takes all the load (1.4 times its
        /// health), one that is 50 % healthy takes 70 %.
        pub priority: u32 = 0, in 0..=100;
        /// Whether it is used only when no other endpoint can be: the same as the last priority.
        pub backup: bool = false;
        /// Whether it drains: it gets no new users, and those who stay at it by a sticky cookie
        /// leave it one after the other (`drain` of `sticky`). Its requests in flight go on.
        pub drain: bool = false;
        /// The zone that it is in. Within a priority, endpoints of our own zone (`zone` of
        /// `[process]`) are used first, by the same rule. Empty: no zone, never our own.
        pub zone: String = String::new();
        /// Connections in use at a time, all workers together; 0: as many as `max_connections` of
        /// the service says.
        pub max_connections: u32 = 0, in 0..=1_000_000;
    }
}

/// One address of a service: `"127.0.0.1:3000"` or `{ address = "127.0.0.1:3000", weight = 3 }`.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint(pub EndpointTable);

impl Endpoint {
    /// The endpoint at an address, everything else being the default.
    pub fn at(address: Address) -> Self {
        Self(EndpointTable {
            address,
            ..EndpointTable::default()
        })
    }

    /// The priority that counts: a backup has the last one.
    pub fn priority(&self) -> u32 {
        if self.0.backup {
            u32::MAX
        } else {
            self.0.priority
        }
    }
}

impl std::ops::Deref for Endpoint {
    type Target = EndpointTable;

    fn deref(&self) -> &EndpointTable {
        &self.0
    }
}

impl Setting for Endpoint {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let table = match &node.value {
            Value::Table(_) => read_table::<EndpointTable>(node, reader)?,
            Value::String { .. } => Self::at(Address::read(node, reader)?).0,
            _ => {
                reader.wrong_type(node, "an address or a table", "\"127.0.0.1:3000\"");
                return None;
            }
        };
        if matches!(table.address, Address::Tcp { port: 0, .. }) {
            let text = table.address.to_string();
            let hint = "port 0 means any free port, which is for listening only".to_owned();
            reader.wrong_value(node, &text, "cannot be connected to", hint);
            return None;
        }
        Some(Self(table))
    }

    fn kind() -> Kind {
        Kind::Any(vec![Address::kind(), EndpointTable::kind()])
    }

    fn text(&self) -> Option<String> {
        let usual = EndpointTable::default();
        let mut keys = Vec::new();
        let mut add = |key: &str, value: Option<String>, is_usual: bool| {
            if !is_usual && let Some(value) = value {
                keys.push(format!("{key} = {value}"));
            }
        };
        add("weight", self.weight.text(), self.weight == usual.weight);
        add(
            "priority",
            self.0.priority.text(),
            self.0.priority == usual.priority,
        );
        add("drain", self.drain.text(), !self.drain);
        add("backup", self.backup.text(), !self.backup);
        add("zone", self.zone.text(), self.zone.is_empty());
        add(
            "max_connections",
            self.max_connections.text(),
            self.max_connections == 0,
        );
        let address = self.address.text()?;
        if keys.is_empty() {
            return Some(address);
        }
        Some(format!("{{ address = {address}, {} }}", keys.join(", ")))
    }
}

fn check_service(service: &ServiceSettings, table: &mut TableReader<'_, '_>) {
    for (index, endpoint) in service.endpoints.iter().enumerate() {
        let earlier = &service.endpoints[..index];
        if earlier
            .iter()
            .any(|other| other.address == endpoint.address)
        {
            let message = format!("{} is in the list twice", endpoint.address);
            let hint = "remove one of them, or give one a weight";
            table.problem("endpoints", message, hint);
        }
    }
    balance::check_weights(service, table);
}

#[cfg(test)]
mod tests;
