//! What turns a worker's wheel: a timer of the kernel's that fires every [`SLOT`] by itself.
//!
//! With a sleep of the runtime's instead, every wait for sockets would have a time limit, and the
//! kernel would set up a timer and take it down again each time that the worker has nothing to do:
//! tens of thousands of times a second under load, for thirty ticks.

use std::io;
use std::os::fd::OwnedFd;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::wheel::SLOT;

/// Ticks, about [`SLOT`] apart.
#[derive(Debug)]
pub(crate) enum Ticker {
    /// The kernel's.
    Kernel(AsyncFd<OwnedFd>),
    /// The runtime's, when the kernel has none left for this process.
    Runtime,
}

impl Ticker {
    /// One that begins now, on this runtime.
    pub(crate) fn new() -> Self {
        kernel().map_or(Self::Runtime, Self::Kernel)
    }

    /// The next tick; those that nobody waited for are one.
    pub(crate) async fn tick(&self) {
        let Self::Kernel(timer) = self else {
            return tokio::time::sleep(SLOT).await;
        };
        if next(timer).await.is_err() {
            tokio::time::sleep(SLOT).await;
        }
    }
}

/// Waits for the timer to have fired, and takes note of it with one read: it fires again, so that there is
/// no need to find out that nothing is left to be read.
async fn next(timer: &AsyncFd<OwnedFd>) -> io::Result<()> {
    loop {
        let mut guard = timer.readable().await?;
        let mut ticks = [0; 8];
        let read = rustix::io::read(timer, &mut ticks);
        guard.clear_ready();
        match read {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn kernel() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let slot = Timespec {
        tv_sec: 0,
        tv_nsec: SLOT.subsec_nanos().into(),
    };
    let every = Itimerspec {
        it_interval: slot,
        it_value: slot,
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every)?;
    #[expect(
        deprecated,
        reason = "unsound only for types that do not own what they register; an OwnedFd does"
    )]
    AsyncFd::with_interest(timer, Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn it_ticks_on() {
        for ticker in [Ticker::new(), Ticker::Runtime] {
            let began = Instant::now();
            for _ in 0..3 {
                ticker.tick().await;
            }
            assert!(began.elapsed() >= SLOT * 2, "{ticker:?}");
        }
    }

    #[tokio::test]
    async fn the_kernel_has_one() {
        assert!(matches!(Ticker::new(), Ticker::Kernel(_)));
    }
}
