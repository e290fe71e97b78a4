//! The listening sockets: TCP on each address, and a Unix socket in its folder.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use outgrow_postgres::pgbouncer::ini::{Settings, words};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::log::Log;

/// The sockets of the process.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    /// TCP, with the key that each has at the tier.
    pub(super) tcp: Vec<(String, OwnedFd)>,
    /// The Unix socket with its path.
    pub(super) unix: Option<(PathBuf, OwnedFd)>,
    /// The way to the process that was there before, whose clients are to be taken.
    pub(super) before: Option<OwnedFd>,
}

/// Makes all sockets that the settings want, or takes those of `taken`, by their names.
///
/// # Errors
/// Why there is none at all, or why the Unix socket cannot be had.
pub(super) fn bind(
    settings: &Settings,
    taken: &mut BTreeMap<String, OwnedFd>,
    log: &Log,
) -> Result<Sockets, String> {
    let mut sockets = Sockets::default();
    let port = u16::try_from(settings.listen_port).unwrap_or(0);
    for address in words(&settings.listen_addr) {
        for address in addresses(address, port)? {
            if let Some(socket) = taken.remove(&address.to_string()) {
                sockets.tcp.push((address.to_string(), socket));
                continue;
            }
            match tcp(address, settings) {
                Ok(socket) => {
                    log.info(format_args!("listening on {address}"));
                    sockets.tcp.push((address.to_string(), socket));
                }
                Err(error) => log.warning(format_args!("cannot listen on {address}: {error}")),
            }
        }
    }
    let folder = settings.unix_socket_dir.as_str();
    if !folder.is_empty() {
        let path = Path::new(folder).join(format!(".s.PGSQL.{port}"));
        let socket = match taken.remove(&path.to_string_lossy().into_owned()) {
            Some(socket) => socket,
            None => unix(&path, settings)?,
        };
        log.info(format_args!("listening on unix:{}", path.display()));
        sockets.unix = Some((path, socket));
    }
    if sockets.tcp.is_empty() && sockets.unix.is_none() {
        return Err("nowhere to listen on".to_owned());
    }
    Ok(sockets)
}

fn addresses(name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if name == "*" {
        let every: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        return Ok(every.map(|address| SocketAddr::new(address, port)).to_vec());
    }
    let found = (name, port).to_socket_addrs();
    let found = found.map_err(|error| format!("getaddrinfo('{name}') failed: {error}"))?;
    Ok(found.collect())
}

fn tcp(address: SocketAddr, settings: &Settings) -> io::Result<OwnedFd> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if settings.so_reuseport {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    if settings.tcp_keepalive {
        // What is accepted inherits it.
        socket.set_keepalive(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(settings.listen_backlog)?;
    Ok(socket.into())
}

fn unix(path: &Path, settings: &Settings) -> Result<OwnedFd, String> {
    if UnixStream::connect(path).is_ok() {
        return Err("unix socket is in use, cannot continue".to_owned());
    }
    // One that nobody listens on is left over.
    let _ = std::fs::remove_file(path);
    let problem = |error: io::Error| format!("cannot listen on unix:{}: {error}", path.display());
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(problem)?;
    let address = SockAddr::unix(path).map_err(problem)?;
    socket.set_nonblocking(true).map_err(problem)?;
    socket.bind(&address).map_err(problem)?;
    let mode = u32::try_from(settings.unix_socket_mode).unwrap_or(0o777);
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).map_err(problem)?;
    socket.listen(settings.listen_backlog).map_err(problem)?;
    Ok(socket.into())
}
