//! The few things that keeper and shim both need to wait for events with
//! poll(2): timeouts, signals as readable descriptors, room to write.

use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use signal_hook::consts::{SIGHUP, SIGUSR2};

/// A poll timeout. A part of a millisecond is rounded up, so that a deadline
/// has passed when the poll returns.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// Becomes readable when one of the signals arrives.
pub(crate) fn signal_pipe(signals: &[i32]) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for signal in signals {
        signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?;
    }
    Ok(read)
}

/// Signals that are for the keeper do nothing here, whoever is sent them by
/// name (`killall -HUP outgrow`). They are caught rather than ignored: that,
/// and no more, ends with an exec.
pub(crate) fn pass_over_the_keepers() -> io::Result<()> {
    for signal in [SIGHUP, SIGUSR2] {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    Ok(())
}

/// Empties a signal pipe; how many signals there were (several of one kind may
/// count once).
pub(crate) fn drain(mut pipe: &UnixStream) -> usize {
    let mut buffer = [0; 64];
    let mut count = 0;
    while let Ok(read @ 1..) = pipe.read(&mut buffer) {
        count += read;
    }
    count
}

/// Whether a write would not block now.
pub(crate) fn writable(descriptor: BorrowedFd<'_>) -> bool {
    let mut poll = [PollFd::from_borrowed_fd(descriptor, PollFlags::OUT)];
    matches!(
        rustix::event::poll(&mut poll, Some(&timespec(Duration::ZERO))),
        Ok(1)
    )
}
