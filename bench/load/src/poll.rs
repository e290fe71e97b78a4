//! Edge-triggered epoll behind three calls, and a listening socket that several threads may share.
//!
//! Deliberately not here: timers and wake-ups from other threads; nothing in this program needs them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// Events taken by one wait at most.
const BATCH: usize = 256;
/// Connections that wait in a listener's queue.
const BACKLOG: i32 = 4096;

/// A readiness queue whose sources are known by the caller's tokens.
pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

/// One source that is ready for something.
#[derive(Clone, Copy)]
pub(crate) struct Ready {
    /// The token the source was added with.
    pub(crate) token: usize,
    /// The other side closed or the connection broke: reads must go on to the end of the stream.
    pub(crate) hangup: bool,
}

impl Poller {
    /// An empty queue.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(BATCH),
        })
    }

    /// Adds a connection, edge-triggered for both directions; dropping its descriptor removes it.
    pub(crate) fn add_connection(&self, source: impl AsFd, token: usize) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        self.add(source, token, flags)
    }

    /// Adds a listener, level-triggered, so that a bounded number of accepts per event is enough.
    pub(crate) fn add_listener(&self, source: impl AsFd, token: usize) -> io::Result<()> {
        self.add(source, token, EventFlags::IN)
    }

    fn add(&self, source: impl AsFd, token: usize, flags: EventFlags) -> io::Result<()> {
        epoll::add(&self.epoll, source, EventData::new_u64(token as u64), flags)?;
        Ok(())
    }

    /// Waits until something is ready or `until` has come, and replaces the content of `ready`.
    pub(crate) fn wait(
        &mut self,
        ready: &mut Vec<Ready>,
        until: Option<Instant>,
    ) -> io::Result<()> {
        ready.clear();
        self.events.clear();
        let timeout = until.map(|until| timespec(until.saturating_duration_since(Instant::now())));
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let broken = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        ready.extend(self.events.iter().map(|event| {
            let (flags, data) = (event.flags, event.data);
            Ready {
                token: data.u64() as usize,
                hangup: flags.intersects(broken),
            }
        }));
        Ok(())
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// A non-blocking listener with SO_REUSEPORT, so that each worker thread has its own.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}
