//! The listening sockets. The keeper makes them and holds them, so that no
//! connection in their queues is lost when a data process ends; it never
//! accepts from them. Closed only on `Release` and when everything ends.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::net::SocketType;
use serde::{Deserialize, Serialize};

use super::binding::{BindError, explain, listen, overlap, parse, socket, tcp};
use super::passed::{PassedSockets, SavedPassed};
use crate::protocol::ListenerEntry;

/// What stands before an address for datagrams.
pub(super) const UDP: &str = "udp:";
/// The most sockets of one listener.
pub(super) const SOCKETS_LIMIT: u32 = 256;

/// One bound listener.
#[derive(Debug)]
pub(super) struct Bound {
    /// As it was asked for.
    asked: String,
    /// As it is: the port is known.
    pub(super) address: String,
    pub(super) sockets: Vec<OwnedFd>,
    path: Option<PathBuf>,
    /// Which of the passed sockets these are; empty for our own.
    passed: Vec<u32>,
}

impl Bound {
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.sockets.iter().map(AsFd::as_fd).collect()
    }

    /// The same sockets, as asked for in other words.
    fn with_name(&self, asked: &str) -> io::Result<Self> {
        let sockets = self.sockets.iter().map(OwnedFd::try_clone);
        Ok(Self {
            asked: asked.to_owned(),
            address: self.address.clone(),
            sockets: sockets.collect::<io::Result<_>>()?,
            path: None,
            passed: self.passed.clone(),
        })
    }
}

/// What a data process asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) key: &'a str,
    /// What the listener is called, for sockets that were passed; may be empty.
    pub(super) name: &'a str,
    pub(super) address: &'a str,
    pub(super) sockets: u32,
    /// A Unix path is for this user only.
    pub(super) private: bool,
}

/// What a successor is told about a listener; the descriptors go beside it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedListener {
    key: String,
    asked: String,
    address: String,
    sockets: usize,
    path: Option<PathBuf>,
    #[serde(default)]
    passed: Vec<u32>,
}

/// All bound listeners by key.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    entries: BTreeMap<String, Bound>,
    passed: PassedSockets,
}

impl Listeners {
    /// With sockets that the keeper was started with.
    pub(super) fn with_passed(passed: PassedSockets) -> Self {
        Self {
            passed,
            ..Self::default()
        }
    }

    /// The passed sockets that no listener has, for people.
    pub(super) fn unused(&self) -> Vec<String> {
        let used = self.entries.values().flat_map(|bound| &bound.passed);
        self.passed.unused(&used.copied().collect::<Vec<u32>>())
    }

    /// Whether the key is bound.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Binds, or gives what is bound already; more sockets are added when more
    /// are asked for than there are, and none is ever taken away.
    pub(super) fn bind(&mut self, wanted: &Wanted<'_>) -> Result<&Bound, BindError> {
        let Wanted {
            key,
            address,
            sockets,
            ..
        } = *wanted;
        if !(1..=SOCKETS_LIMIT).contains(&sockets) {
            return Err(BindError::Count { sockets });
        }
        let mut bound = match self.entries.remove(key) {
            Some(bound) if bound.asked == address => bound,
            Some(bound) => {
                let other = bound.asked.clone();
                self.entries.insert(key.to_owned(), bound);
                return Err(BindError::OtherAddress {
                    key: key.to_owned(),
                    bound: other,
                    wanted: address.to_owned(),
                });
            }
            None => self.first(wanted)?,
        };
        let added = grow(&mut bound, sockets as usize);
        // What there was before stays whatever happened.
        let bound = self.entries.entry(key.to_owned()).or_insert(bound);
        added?;
        Ok(bound)
    }

    /// The first socket of a key; all of another key at the same address.
    fn first(&self, wanted: &Wanted<'_>) -> Result<Bound, BindError> {
        let address = wanted.address;
        if let Some(bound) = self.first_passed(wanted)? {
            return Ok(bound);
        }
        if let Some(path) = address.strip_prefix("unix:") {
            return bind_path(address, Path::new(path), wanted.private);
        }
        if let Some(datagrams) = address.strip_prefix(UDP) {
            return self.first_of_datagrams(address, datagrams);
        }
        let socket_address = parse(address)?;
        let io_error = |source| BindError::Io {
            address: address.to_owned(),
            source,
        };
        let mut is_ours = false;
        for (bound, other) in self.tcp() {
            if other == socket_address {
                // Another name for the same: no connection in a queue is lost.
                return bound.with_name(address).map_err(io_error);
            }
            is_ours |= overlap(other, socket_address);
        }
        // With SO_REUSEPORT alone two Outgrows of one user would share the port
        // unnoticed. A socket without it finds out whether somebody listens.
        // Where we do so ourselves, at a wider or a narrower address, it would
        // find us; the kernel lets both be until the other one is released.
        if socket_address.port() != 0 && !is_ours {
            tcp(socket_address, false).map_err(|error| explain(address, error))?;
        }
        let socket = tcp(socket_address, true).map_err(|error| explain(address, error))?;
        listen(&socket).map_err(|error| explain(address, error))?;
        let actual = rustix::net::getsockname(&socket)
            .ok()
            .and_then(|actual| SocketAddr::try_from(actual).ok())
            .unwrap_or(socket_address);
        Ok(Bound {
            asked: address.to_owned(),
            address: actual.to_string(),
            sockets: vec![socket],
            path: None,
            passed: Vec::new(),
        })
    }

    /// The sockets that were passed for a listener.
    fn first_passed(&self, wanted: &Wanted<'_>) -> Result<Option<Bound>, BindError> {
        let address = wanted.address;
        let parsed = parse(address.strip_prefix(UDP).unwrap_or(address)).ok();
        let numbers = self.passed.of(wanted.name, address, parsed);
        let mut bound: Option<Bound> = None;
        for number in &numbers {
            let (actual, socket) = self.passed.copy(*number).map_err(|source| BindError::Io {
                address: address.to_owned(),
                source,
            })?;
            let bound = bound.get_or_insert_with(|| Bound {
                asked: address.to_owned(),
                address: actual.to_owned(),
                sockets: Vec::new(),
                path: None,
                passed: numbers.clone(),
            });
            bound.sockets.push(socket);
        }
        Ok(bound)
    }

    /// The first socket for datagrams, as [`Self::first`].
    fn first_of_datagrams(&self, asked: &str, address: &str) -> Result<Bound, BindError> {
        let socket_address = parse(address)?;
        let bound = |other: &&Bound| other.address.strip_prefix(UDP) == Some(address);
        if let Some(other) = self.entries.values().find(bound) {
            return other.with_name(asked).map_err(|source| BindError::Io {
                address: asked.to_owned(),
                source,
            });
        }
        let explain = |error| explain(asked, error);
        let is_ours = self.entries.values().any(|other| {
            let other = other.address.strip_prefix(UDP);
            let other = other.and_then(|other| other.parse().ok());
            other.is_some_and(|other| overlap(other, socket_address))
        });
        // As with connections: nobody else's socket is shared unnoticed.
        if socket_address.port() != 0 && !is_ours {
            socket(socket_address, SocketType::DGRAM, false).map_err(explain)?;
        }
        let socket = socket(socket_address, SocketType::DGRAM, true).map_err(explain)?;
        let actual = rustix::net::getsockname(&socket)
            .ok()
            .and_then(|actual| SocketAddr::try_from(actual).ok())
            .unwrap_or(socket_address);
        Ok(Bound {
            asked: asked.to_owned(),
            address: format!("{UDP}{actual}"),
            sockets: vec![socket],
            path: None,
            passed: Vec::new(),
        })
    }

    /// What is bound to IP addresses.
    fn tcp(&self) -> impl Iterator<Item = (&Bound, SocketAddr)> {
        let address = |bound: &Bound| bound.address.parse().ok();
        self.entries
            .values()
            .filter_map(move |bound| Some((bound, address(bound)?)))
    }

    /// Closes the sockets of a key.
    pub(super) fn release(&mut self, key: &str) -> bool {
        let Some(bound) = self.entries.remove(key) else {
            return false;
        };
        remove_path(&bound);
        true
    }

    /// Closes our sockets; what data processes hold of them goes on. The file of
    /// a Unix socket stays until it is released: who drains is still found by it.
    pub(super) fn close_sockets(&mut self) {
        self.passed.close();
        self.entries.retain(|_, bound| {
            bound.sockets.clear();
            bound.path.is_some()
        });
    }

    /// Closes everything; what data processes hold of it goes on.
    pub(super) fn close_all(&mut self) {
        self.passed.close();
        for bound in std::mem::take(&mut self.entries).into_values() {
            remove_path(&bound);
        }
    }

    /// What is bound, in the order of [`Self::descriptors`].
    pub(super) fn entries(&self) -> Vec<ListenerEntry> {
        self.entries
            .iter()
            .map(|(key, bound)| ListenerEntry {
                key: key.clone(),
                address: bound.address.clone(),
                sockets: bound.sockets.len() as u32,
            })
            .collect()
    }

    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.entries.values().flat_map(Bound::descriptors).collect()
    }

    /// For the successor; in the order of [`Self::descriptors`].
    pub(super) fn save(&self) -> Vec<SavedListener> {
        self.entries
            .iter()
            .map(|(key, bound)| SavedListener {
                key: key.clone(),
                asked: bound.asked.clone(),
                address: bound.address.clone(),
                sockets: bound.sockets.len(),
                path: bound.path.clone(),
                passed: bound.passed.clone(),
            })
            .collect()
    }

    /// For the successor, too; in the order of [`Self::passed_descriptors`].
    pub(super) fn save_passed(&self) -> Vec<SavedPassed> {
        self.passed.save()
    }

    pub(super) fn passed_descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.passed.descriptors().collect()
    }

    /// Takes the sockets over that were passed to a predecessor.
    pub(super) fn set_passed(&mut self, passed: PassedSockets) {
        self.passed = passed;
    }

    /// Takes over what a predecessor saved; `None` if descriptors are missing.
    pub(super) fn restore(
        saved: Vec<SavedListener>,
        descriptors: &mut impl Iterator<Item = OwnedFd>,
    ) -> Option<Self> {
        let mut entries = BTreeMap::new();
        for SavedListener {
            key,
            asked,
            address,
            sockets,
            path,
            passed,
        } in saved
        {
            let taken: Vec<OwnedFd> = descriptors.by_ref().take(sockets).collect();
            if taken.len() != sockets {
                return None;
            }
            entries.insert(
                key,
                Bound {
                    asked,
                    address,
                    sockets: taken,
                    path,
                    passed,
                },
            );
        }
        Some(Self {
            entries,
            ..Self::default()
        })
    }
}

fn remove_path(bound: &Bound) {
    if let Some(path) = &bound.path {
        // It may be gone or be somebody else's by now; nothing depends on it.
        let _ = std::fs::remove_file(path);
    }
}

fn grow(bound: &mut Bound, sockets: usize) -> Result<(), BindError> {
    // One is all there can be of a path, and of what was passed.
    if bound.path.is_some() || !bound.passed.is_empty() {
        return Ok(());
    }
    if let Some(address) = bound.address.strip_prefix(UDP) {
        let address = parse(address)?;
        while bound.sockets.len() < sockets {
            let socket = socket(address, SocketType::DGRAM, true);
            let socket = socket.map_err(|error| explain(&bound.asked, error))?;
            bound.sockets.push(socket);
        }
        return Ok(());
    }
    let address = parse(&bound.address)?;
    let mut added = Vec::new();
    while bound.sockets.len() + added.len() < sockets {
        added.push(tcp(address, true).map_err(|error| explain(&bound.asked, error))?);
    }
    for socket in &added {
        listen(socket).map_err(|error| explain(&bound.asked, error))?;
    }
    bound.sockets.append(&mut added);
    Ok(())
}

fn bind_path(address: &str, path: &Path, private: bool) -> Result<Bound, BindError> {
    let io_error = |source| BindError::Io {
        address: address.to_owned(),
        source,
    };
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(BindError::NotASocket(path.display().to_string()));
        }
        // A socket whose process is gone refuses; only then it may be removed.
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(io_error)?;
            }
            _ => {
                return Err(BindError::Taken {
                    address: address.to_owned(),
                    hint: "",
                });
            }
        }
    }
    // There is no other thread whose files this could touch, and no moment at
    // which the socket is there with another mode.
    let before = private.then(|| rustix::process::umask(Mode::from_raw_mode(0o177)));
    let listener = UnixListener::bind(path);
    before.map(rustix::process::umask);
    let listener = listener.map_err(io_error)?;
    listener.set_nonblocking(true).map_err(io_error)?;
    let socket = OwnedFd::from(listener);
    // std's backlog is smaller; to listen again only changes it.
    listen(&socket).map_err(|error| explain(address, error))?;
    Ok(Bound {
        asked: address.to_owned(),
        address: address.to_owned(),
        sockets: vec![socket],
        path: Some(std::path::absolute(path).map_err(io_error)?),
        passed: Vec::new(),
    })
}

#[cfg(test)]
#[path = "listeners_tests.rs"]
mod tests;
