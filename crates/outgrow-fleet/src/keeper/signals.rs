//! The keeper's signals: SIGCHLD, SIGTERM and SIGINT (stop), SIGHUP (reload),
//! SIGUSR2 (upgrade). What they do is in `run`.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR2};

use crate::events::{signal_pipe, timespec};

/// Signals as descriptors.
#[derive(Debug)]
pub(super) struct Signals {
    pub(super) children: UnixStream,
    pub(super) terminate: UnixStream,
    pub(super) interrupt: UnixStream,
    pub(super) hangup: UnixStream,
    pub(super) upgrade: UnixStream,
}

impl Signals {
    /// Also lets in those that the keeper that this one was before has blocked
    /// over the exec.
    pub(super) fn register() -> io::Result<Self> {
        let signals = Self {
            children: signal_pipe(&[SIGCHLD])?,
            terminate: signal_pipe(&[SIGTERM])?,
            interrupt: signal_pipe(&[SIGINT])?,
            hangup: signal_pipe(&[SIGHUP])?,
            upgrade: signal_pipe(&[SIGUSR2])?,
        };
        SigSet::all().thread_unblock()?;
        Ok(signals)
    }

    pub(super) fn all(&self) -> [&UnixStream; 5] {
        [
            &self.children,
            &self.terminate,
            &self.interrupt,
            &self.hangup,
            &self.upgrade,
        ]
    }

    /// Whether one has come that is not taken yet. Deaths do not count: the
    /// dead wait to be reaped, whoever does it.
    pub(super) fn any_waits(&self) -> bool {
        let [_, others @ ..] = self.all();
        let mut polls =
            others.map(|signal| PollFd::from_borrowed_fd(signal.as_fd(), PollFlags::IN));
        let at_once = timespec(Duration::ZERO);
        !matches!(rustix::event::poll(&mut polls, Some(&at_once)), Ok(0))
    }
}
