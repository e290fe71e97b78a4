//! Idle connections of an endpoint: one list per worker, the most recently used first, and
//! takeover from another worker before a new connection is made.
//!
//! What was said on a connection is not known here: who gives one back vouches that the next
//! request may start on it.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_net::Link;
use outgrow_net::stream::Detached;

use crate::connect::Place;
use crate::endpoint::EndpointId;
use crate::sessions::Sessions;

#[cfg(test)]
mod tests;

/// A server that says how long it keeps a connection is not trusted to the last moment: this much
/// earlier (but at most half of the time) it is not used any more.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// A connection to an endpoint. Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    /// The bytes.
    pub link: Link,
    /// Requests that were sent on it before.
    pub requests: u64,
    /// When it was made.
    pub created: Ticks,
    /// The number of the seal that encrypted it; 0 for none.
    pub(crate) seal: u64,
    /// The endpoint that it leads to.
    pub(crate) endpoint: EndpointId,
    /// And where that is.
    pub(crate) place: Place,
}

impl Connection {
    /// The endpoint that it leads to.
    pub fn endpoint(&self) -> EndpointId {
        self.endpoint
    }

    /// What it was made by.
    pub fn origin(&self) -> Origin {
        Origin {
            seal: self.seal,
            address: self.place.address(),
        }
    }

    /// How long what is sent from now on may stay unacknowledged; zero: as long as the system tries.
    pub fn limit_silence(&self, unacknowledged: Duration) {
        crate::connect::limit_silence(self.link.stream(), unacknowledged);
    }
}

/// What a connection was made by: it is used as long as that is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The number of the seal that encrypted it; 0 for none.
    pub seal: u64,
    /// Which of the addresses of the endpoint's name; none where it is no name.
    pub(crate) address: Option<SocketAddr>,
}

/// Which idle connections are good enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Any that is open as far as is known.
    Any,
    /// Only one that was used less than this ago: for a request that cannot be sent again when
    /// the server closes the connection at this moment.
    UsedWithin(Duration),
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Ticks,
    until: Ticks,
}

/// One worker's list, the longest idle in front. On cache lines of its own, since each worker
/// writes to its list with every request.
#[derive(Debug, Default)]
#[repr(align(128))]
struct List(Mutex<VecDeque<Idle>>);

impl List {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The idle connections of one endpoint.
#[derive(Debug)]
pub(crate) struct Pool {
    lists: Box<[List]>,
    /// Whether connections are taken back.
    open: AtomicBool,
    /// Most connections per list.
    limit: AtomicUsize,
    idle_timeout_nanos: AtomicU64,
    /// The number of the seal whose connections are taken back; 0: those without one.
    seal: AtomicU64,
    /// How often an address of the endpoint's name went.
    moves: AtomicU64,
    /// Those that requests share.
    pub(crate) sessions: Sessions,
}

impl Pool {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            lists: (0..workers.max(1)).map(|_| List::default()).collect(),
            open: AtomicBool::new(true),
            limit: AtomicUsize::new(0),
            idle_timeout_nanos: AtomicU64::new(0),
            seal: AtomicU64::new(0),
            moves: AtomicU64::new(0),
            sessions: Sessions::new(workers),
        }
    }

    pub(crate) fn configure(&self, limit: usize, idle_timeout: Duration) {
        self.limit.store(limit, Ordering::Relaxed);
        let nanos = u64::try_from(idle_timeout.as_nanos()).unwrap_or(u64::MAX);
        self.idle_timeout_nanos.store(nanos, Ordering::Relaxed);
        self.sessions.configure(idle_timeout);
    }

    /// Takes connections back again.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
        self.sessions.open();
    }

    /// Takes no connection back from now on.
    pub(crate) fn shut(&self) {
        self.open.store(false, Ordering::SeqCst);
        self.sessions.shut();
    }

    /// From now on only connections of this seal are taken back; the others are closed.
    pub(crate) fn set_seal(&self, number: u64) {
        self.sessions.set_seal(number);
        if self.seal.swap(number, Ordering::SeqCst) != number {
            self.clear();
        }
    }

    /// How often an address of the endpoint's name went.
    #[inline]
    pub(crate) fn moves(&self) -> u64 {
        self.moves.load(Ordering::Relaxed)
    }

    /// An address of the endpoint's name went: closes what is idle and leads elsewhere, and lets those
    /// sessions end. What is under way goes on; it is looked at when it comes back.
    pub(crate) fn keep_where(&self, is_here: impl Fn(SocketAddr) -> bool) {
        self.moves.fetch_add(1, Ordering::Relaxed);
        let is_gone =
            |address: Option<SocketAddr>| address.is_some_and(|address| !is_here(address));
        for list in &self.lists {
            let mut gone = Vec::new();
            let mut list = list.lock();
            for idle in std::mem::take(&mut *list) {
                match is_gone(idle.connection.place.address()) {
                    true => gone.push(idle),
                    false => list.push_back(idle),
                }
            }
            drop(list);
            drop(gone);
        }
        self.sessions.remove_where(is_gone);
    }

    /// Closes all idle connections. After [`Pool::shut`] none is left.
    pub(crate) fn clear(&self) {
        for list in &self.lists {
            let idle = std::mem::take(&mut *list.lock());
            drop(idle);
        }
        self.sessions.clear();
    }

    /// An open connection, of `worker`'s own list or else of another worker's.
    #[inline]
    pub(crate) fn checkout(
        &self,
        worker: usize,
        now: Ticks,
        freshness: Freshness,
    ) -> Option<Connection> {
        let own = worker % self.lists.len();
        while let Some(mut idle) = self.pop(own, now, freshness) {
            if is_open(&mut idle.connection.link) {
                return Some(idle.connection);
            }
        }
        if self.seal.load(Ordering::Relaxed) != 0 {
            // They stay with the runtime that made them.
            return None;
        }
        (1..self.lists.len()).find_map(|offset| {
            let other = (own + offset) % self.lists.len();
            while let Some(idle) = self.pop(other, now, freshness) {
                if let Some(connection) = take_over(idle.connection) {
                    return Some(connection);
                }
            }
            None
        })
    }

    #[inline]
    fn pop(&self, list: usize, now: Ticks, freshness: Freshness) -> Option<Idle> {
        let mut list = self.lists[list].lock();
        loop {
            let last = list.back()?;
            if let Freshness::UsedWithin(age) = freshness
                && now.since(last.since) >= age
            {
                return None;
            }
            let idle = list.pop_back()?;
            if now < idle.until {
                return Some(idle);
            }
        }
    }

    /// Keeps the connection for the next request of `worker`, unless the pool is closed.
    #[inline]
    pub(crate) fn release(
        &self,
        worker: usize,
        mut connection: Connection,
        now: Ticks,
        keep_alive: Option<Duration>,
    ) {
        let limit = self.limit.load(Ordering::Relaxed);
        let nanos = self.idle_timeout_nanos.load(Ordering::Relaxed);
        let mut keep = Duration::from_nanos(nanos);
        if let Some(keep_alive) = keep_alive {
            keep = keep.min(keep_alive.saturating_sub(KEEP_ALIVE_MARGIN.min(keep_alive / 2)));
        }
        if limit == 0 || keep.is_zero() {
            return;
        }
        connection.requests += 1;
        let mut list = self.lists[worker % self.lists.len()].lock();
        // Under the lock: a connection that comes back while the pool closes is not left behind.
        let is_of_now = connection.seal == self.seal.load(Ordering::SeqCst);
        if !self.open.load(Ordering::SeqCst) || !is_of_now {
            return;
        }
        let longest_idle = if list.len() >= limit {
            list.pop_front()
        } else {
            None
        };
        list.push_back(Idle {
            connection,
            since: now,
            until: now + keep,
        });
        drop(list);
        drop(longest_idle);
    }

    /// Closes those of `worker`'s connections that are too old or that the server closed.
    pub(crate) fn sweep(&self, worker: usize, now: Ticks) {
        let mut closed = Vec::new();
        let mut list = self.lists[worker % self.lists.len()].lock();
        let limit = self.limit.load(Ordering::Relaxed);
        let mut index = 0;
        while let Some(idle) = list.get_mut(index) {
            if now < idle.until && is_open(&mut idle.connection.link) {
                index += 1;
            } else {
                closed.extend(list.remove(index));
            }
        }
        while list.len() > limit {
            closed.extend(list.pop_front());
        }
        drop(list);
        drop(closed);
        self.sessions.sweep(worker, now);
    }

    /// Idle connections, and those that requests share, of all workers.
    pub(crate) fn count(&self) -> usize {
        let idle: usize = self.lists.iter().map(|list| list.lock().len()).sum();
        idle + self.sessions.count()
    }
}

/// Whether nothing arrived on an idle connection: neither the end nor bytes that nobody asked for.
/// No system call while the runtime saw nothing arrive.
///
/// A runtime that did see something may be wrong (a read that filled its buffer leaves the stream
/// marked readable), so it is read from; should there be a byte, the connection is of no use.
fn is_open(link: &mut Link) -> bool {
    let stream = match link {
        Link::Plain(stream) => stream,
        Link::Sealed(sealed) => return sealed.is_quiet(),
    };
    let mut byte = [0];
    matches!(stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Moves a connection from another worker's runtime to the calling one's; `None` when it was not
/// open any more. The new runtime has not looked at it yet, so it is asked directly.
fn take_over(connection: Connection) -> Option<Connection> {
    let Connection {
        link: Link::Plain(stream),
        seal,
        requests,
        created,
        endpoint,
        place,
    } = connection
    else {
        return None;
    };
    let detached = stream.into_std().ok()?;
    let mut byte = [0];
    let read = match &detached {
        Detached::Tcp(stream) => (&mut &*stream).read(&mut byte),
        Detached::Unix(stream) => (&mut &*stream).read(&mut byte),
    };
    if !matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
        return None;
    }
    Some(Connection {
        link: Link::Plain(detached.attach().ok()?),
        seal,
        requests,
        created,
        endpoint,
        place,
    })
}
