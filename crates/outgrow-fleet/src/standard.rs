//! The process's own standard output or error, written to without ever waiting
//! for whoever reads it: a log reader that has stopped must stop neither the
//! keeper nor a shim.
//!
//! That poll(2) says "room" is not enough. It promises one page of a pipe and
//! not even that of a terminal, and another process may take the room first.
//! The descriptor itself must stay blocking, for its flags are shared with
//! whoever gave it to us. So a pipe or a terminal is opened once more, for us
//! alone, and a socket is asked not to wait.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::events::writable;

/// What a pipe takes in one piece or not at all (`PIPE_BUF`).
pub(crate) const ATOMIC_LIMIT: usize = 4096;

/// Standard output or error.
#[derive(Debug)]
pub(crate) struct Standard {
    descriptor: BorrowedFd<'static>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// Opened again: it never blocks.
    Own(File),
    Socket,
    /// A file, which never blocks; or something that cannot be opened again,
    /// such as another user's pipe: small pieces when there is room.
    Shared,
}

impl Standard {
    pub(crate) fn output() -> Self {
        Self::new(rustix::stdio::stdout(), "/proc/self/fd/1")
    }

    pub(crate) fn error() -> Self {
        Self::new(rustix::stdio::stderr(), "/proc/self/fd/2")
    }

    fn new(descriptor: BorrowedFd<'static>, path: &str) -> Self {
        let kind = std::fs::metadata(path).map(|metadata| metadata.file_type());
        let way = match kind {
            Ok(kind) if kind.is_socket() => Way::Socket,
            Ok(kind) if kind.is_fifo() || kind.is_char_device() => {
                let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC).bits();
                OpenOptions::new()
                    .write(true)
                    .custom_flags(flags.cast_signed())
                    .open(path)
                    .map_or(Way::Shared, Way::Own)
            }
            _ => Way::Shared,
        };
        Self { descriptor, way }
    }

    /// What to wait for.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.way {
            Way::Own(file) => file.as_fd(),
            Way::Socket | Way::Shared => self.descriptor,
        }
    }

    /// Writes what there is room for, at most [`ATOMIC_LIMIT`] bytes; a pipe
    /// takes those in one piece. `AGAIN`: there is no room.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let piece = &bytes[..bytes.len().min(ATOMIC_LIMIT)];
        match &self.way {
            Way::Own(file) => rustix::io::write(file, piece),
            Way::Socket => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                rustix::net::send(self.descriptor, piece, flags)
            }
            Way::Shared if writable(self.descriptor) => rustix::io::write(self.descriptor, piece),
            Way::Shared => Err(Errno::AGAIN),
        }
    }
}
