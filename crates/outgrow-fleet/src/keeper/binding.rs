//! Sockets that are made and bound: of which kind, with which options, and in plain words why one
//! could not be. Which there are is in `listeners`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::listeners::SOCKETS_LIMIT;

/// How many connections may wait in the queue of one socket.
const BACKLOG: i32 = 4096;

/// Why an address could not be bound.
#[derive(Debug, thiserror::Error)]
pub(super) enum BindError {
    #[error(
        "`{0}` is not an address to listen on: use IP:PORT such as 0.0.0.0:8080, localhost:PORT, \
         *:PORT, [::1]:PORT, unix:/path, or udp: before the first three"
    )]
    Address(String),
    #[error("{address} is taken by another process{hint}: stop it, or choose another address")]
    Taken { address: String, hint: &'static str },
    #[error(
        "{0} may not be bound by this user: ports below 1024 need a start as root with \
         `--user NAME`, CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=), or another port"
    )]
    Permission(String),
    #[error("{0} is no address of this machine: use one that `ip address` shows, or 0.0.0.0")]
    NotHere(String),
    #[error("the file {0} exists and is not a socket: remove it, or choose another path")]
    NotASocket(String),
    #[error("the listener {key} is bound to {bound} already: release it before it gets {wanted}")]
    OtherAddress {
        key: String,
        bound: String,
        wanted: String,
    },
    #[error("{sockets} sockets were asked for: 1 to {SOCKETS_LIMIT} are possible")]
    Count { sockets: u32 },
    #[error("{address} could not be bound: {source}")]
    Io { address: String, source: io::Error },
}

/// Whether one socket at both would be refused as taken.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    // [::] takes the addresses of IPv4 as well.
    let covers = |wide: SocketAddr, other: SocketAddr| {
        wide.ip().is_unspecified() && (wide.is_ipv6() || other.is_ipv4())
    };
    one.port() == other.port()
        && (one.ip() == other.ip() || covers(one, other) || covers(other, one))
}

/// Names are not resolved: that could block, and what a name means could change.
pub(super) fn parse(address: &str) -> Result<SocketAddr, BindError> {
    if let Ok(parsed) = address.parse() {
        return Ok(parsed);
    }
    let wrong = || BindError::Address(address.to_owned());
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let host = match host {
        "" | "*" => Ipv4Addr::UNSPECIFIED,
        "localhost" => Ipv4Addr::LOCALHOST,
        _ => return Err(wrong()),
    };
    Ok(SocketAddr::new(IpAddr::V4(host), port))
}

pub(super) fn tcp(address: SocketAddr, share: bool) -> Result<OwnedFd, Errno> {
    socket(address, SocketType::STREAM, share)
}

/// A bound socket.
pub(super) fn socket(address: SocketAddr, kind: SocketType, share: bool) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    // For datagrams it would let another user's socket share the port.
    sockopt::set_socket_reuseaddr(&socket, kind == SocketType::STREAM)?;
    sockopt::set_socket_reuseport(&socket, share)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // [::] means every address, whatever the machine's default is.
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

pub(super) fn listen(socket: &OwnedFd) -> Result<(), Errno> {
    rustix::net::listen(socket, BACKLOG)
}

pub(super) fn explain(address: &str, error: Errno) -> BindError {
    let name = address.to_owned();
    match error {
        Errno::ADDRINUSE => BindError::Taken {
            address: name,
            hint: " (`ss -ltnp` shows which)",
        },
        Errno::ACCESS | Errno::PERM => BindError::Permission(name),
        Errno::ADDRNOTAVAIL => BindError::NotHere(name),
        other => BindError::Io {
            address: name,
            source: other.into(),
        },
    }
}
