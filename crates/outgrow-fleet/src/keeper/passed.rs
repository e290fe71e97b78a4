//! Listening sockets that the keeper was started with (systemd's socket
//! activation, sd_listen_fds(3)): `LISTEN_FDS` descriptors from 3 on.
//!
//! A listener gets those that are bound to its address, else those that have
//! its name (`FileDescriptorName=`, `LISTEN_FDNAMES`). They are used as they
//! are and never multiplied: who has bound them is another user, so the kernel
//! lets no socket of ours share the port. One worker accepts from each and
//! hands on to the others. They stay for the keeper's whole life, upgrades
//! included, since they listen as long as who passed them holds them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::net::{SocketAddrAny, SocketType, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags};
use serde::{Deserialize, Serialize};

use super::listeners::UDP;

/// The first descriptor that is passed.
const FIRST: i32 = 3;
/// The most that are taken.
const LIMIT: i32 = 256;

/// Why what was passed cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum PassedError {
    #[error("LISTEN_FDS={0} is no number of sockets (1 to {LIMIT})")]
    Count(String),
    #[error(
        "the socket that was passed as descriptor {number} cannot be taken over: {source}{hint}"
    )]
    Io {
        number: i32,
        source: io::Error,
        hint: &'static str,
    },
    #[error(
        "what was passed as descriptor {number} is no socket that listens: Accept=no is needed, \
         and ListenStream= or ListenDatagram="
    )]
    NotListening { number: i32 },
}

/// One socket.
#[derive(Debug)]
pub(super) struct Passed {
    /// As whoever passed it calls it; may be empty.
    pub(super) name: String,
    /// Where it is bound, as in `Bound`.
    pub(super) address: String,
    socket: OwnedFd,
}

/// What a successor is told; the descriptors go beside it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedPassed {
    name: String,
    address: String,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct PassedSockets {
    all: Vec<Passed>,
}

impl PassedSockets {
    /// Takes what the environment says is there, before anything else opens a
    /// file. The descriptors themselves are closed: no child is to have them.
    pub(super) fn take() -> Result<Self, PassedError> {
        let variable = |name: &str| std::env::var(name).ok();
        let Some(count) = variable("LISTEN_FDS") else {
            return Ok(Self::default());
        };
        if variable("LISTEN_PID") != Some(std::process::id().to_string()) {
            // Of a parent; they are not for us.
            return Ok(Self::default());
        }
        let number = count
            .parse::<i32>()
            .ok()
            .filter(|n| (0..=LIMIT).contains(n));
        let number = number.ok_or(PassedError::Count(count))?;
        let names = variable("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut all = Vec::new();
        for number in FIRST..FIRST + number {
            let name = names.next().unwrap_or_default().to_owned();
            all.push(take_one(number, name)?);
        }
        Ok(Self { all })
    }

    /// The numbers of those that a listener is to have.
    pub(super) fn of(&self, name: &str, address: &str, parsed: Option<SocketAddr>) -> Vec<u32> {
        let is_datagrams = |address: &str| address.starts_with(UDP);
        let mut of_address = Vec::new();
        let mut of_name = Vec::new();
        for (number, passed) in (0..).zip(&self.all) {
            if is_datagrams(address) != is_datagrams(&passed.address) {
                continue;
            }
            if passed.is_at(address, parsed) {
                of_address.push(number);
            } else if !name.is_empty() && passed.name == name {
                of_name.push(number);
            }
        }
        if of_address.is_empty() {
            of_name
        } else {
            of_address
        }
    }

    /// One by its number, with a copy of its socket.
    pub(super) fn copy(&self, number: u32) -> io::Result<(&str, OwnedFd)> {
        let passed = self.all.get(number as usize);
        let passed = passed.ok_or(io::ErrorKind::NotFound)?;
        Ok((&passed.address, passed.socket.try_clone()?))
    }

    /// Those that are not among `used`, for people.
    pub(super) fn unused(&self, used: &[u32]) -> Vec<String> {
        (0..)
            .zip(&self.all)
            .filter(|(number, _)| !used.contains(number))
            .map(|(_, passed)| format!("{} ({})", passed.address, passed.name))
            .collect()
    }

    /// Closes ours; whoever passed them has theirs.
    pub(super) fn close(&mut self) {
        self.all.clear();
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all.iter().map(|passed| passed.socket.as_fd())
    }

    /// For the successor; in the order of [`Self::descriptors`].
    pub(super) fn save(&self) -> Vec<SavedPassed> {
        self.all
            .iter()
            .map(|passed| SavedPassed {
                name: passed.name.clone(),
                address: passed.address.clone(),
            })
            .collect()
    }

    /// Takes over what a predecessor saved; `None` if descriptors are missing.
    pub(super) fn restore(
        saved: Vec<SavedPassed>,
        descriptors: &mut impl Iterator<Item = OwnedFd>,
    ) -> Option<Self> {
        let mut all = Vec::new();
        for SavedPassed { name, address } in saved {
            let socket = descriptors.next()?;
            all.push(Passed {
                name,
                address,
                socket,
            });
        }
        Some(Self { all })
    }
}

impl Passed {
    fn is_at(&self, address: &str, parsed: Option<SocketAddr>) -> bool {
        if self.address == address {
            return true;
        }
        let own = self.address.strip_prefix(UDP).unwrap_or(&self.address);
        let (Some(wanted), Ok(own)) = (parsed, own.parse::<SocketAddr>()) else {
            return false;
        };
        // `ListenStream=80` is [::]:80, which takes the connections of 0.0.0.0:80.
        let covers = own.is_ipv6()
            && own.ip().is_unspecified()
            && own.port() == wanted.port()
            && wanted.ip() == Ipv4Addr::UNSPECIFIED
            && !sockopt::ipv6_v6only(&self.socket).unwrap_or(true);
        wanted == own || covers
    }
}

fn take_one(number: i32, name: String) -> Result<Passed, PassedError> {
    let failed = |hint| {
        move |error: rustix::io::Errno| PassedError::Io {
            number,
            source: error.into(),
            hint,
        }
    };
    // A copy without a borrowed number: the kernel says whether it is there.
    let own = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
        .map_err(failed(""))?;
    let hint = " (the system call pidfd_getfd must be allowed)";
    let socket = rustix::process::pidfd_getfd(own, number, PidfdGetfdFlags::empty())
        .map_err(failed(hint))?;
    let _ = nix::unistd::close(number);
    let not_listening = |_| PassedError::NotListening { number };
    let address = rustix::net::getsockname(&socket).map_err(not_listening)?;
    let address = describe(&address).ok_or(PassedError::NotListening { number })?;
    let address = match sockopt::socket_type(&socket).map_err(not_listening)? {
        SocketType::STREAM if sockopt::socket_acceptconn(&socket).unwrap_or(false) => address,
        SocketType::DGRAM if !address.starts_with("unix:") => format!("{UDP}{address}"),
        _ => return Err(PassedError::NotListening { number }),
    };
    let flags = rustix::fs::fcntl_getfl(&socket).map_err(failed(""))?;
    rustix::fs::fcntl_setfl(&socket, flags | OFlags::NONBLOCK).map_err(failed(""))?;
    Ok(Passed {
        name,
        address,
        socket,
    })
}

fn describe(address: &SocketAddrAny) -> Option<String> {
    if let Ok(address) = SocketAddr::try_from(address.clone()) {
        return Some(address.to_string());
    }
    let unix = rustix::net::SocketAddrUnix::try_from(address.clone()).ok()?;
    let path = unix.path()?;
    Some(format!("unix:{}", path.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn passed(names: &[&str], addresses: &[&str]) -> (PassedSockets, Vec<String>) {
        let mut all = Vec::new();
        let mut bound = Vec::new();
        for (name, address) in names.iter().zip(addresses) {
            let socket = TcpListener::bind(address).unwrap();
            let address = socket.local_addr().unwrap().to_string();
            bound.push(address.clone());
            all.push(Passed {
                name: (*name).to_owned(),
                address,
                socket: socket.into(),
            });
        }
        (PassedSockets { all }, bound)
    }

    #[test]
    fn the_address_counts_first_and_then_the_name() {
        let (sockets, bound) = passed(&["public", "other"], &["127.0.0.1:0", "127.0.0.1:0"]);
        let check = |name: &str, address: &str, expected: &[u32]| {
            let parsed = address.parse().ok();
            assert_eq!(
                sockets.of(name, address, parsed),
                expected,
                "{name} {address}"
            );
        };
        check("public", &bound[1], &[1]);
        check("public", "127.0.0.1:1", &[0]);
        check("nobody", "127.0.0.1:1", &[]);
        check("", "127.0.0.1:1", &[]);
        check("public", "udp:127.0.0.1:1", &[]);
        assert_eq!(sockets.unused(&[1]), [format!("{} (public)", bound[0])]);
    }

    #[test]
    fn every_address_of_ipv6_is_every_address_of_ipv4() {
        let (sockets, bound) = passed(&[""], &["[::]:0"]);
        let port = bound[0].rsplit_once(':').unwrap().1;
        let wanted = format!("0.0.0.0:{port}");
        assert_eq!(sockets.of("", &wanted, wanted.parse().ok()), [0]);
        let wanted = format!("127.0.0.1:{port}");
        assert!(sockets.of("", &wanted, wanted.parse().ok()).is_empty());
    }
}
