//! A backend that records exactly which bytes each connection received and
//! answers by a [`Script`]. It never interprets more of HTTP than where a
//! request ends, and only for the steps that ask for it.

mod script;
mod serve;

use std::{
    io,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

pub use crate::raw::End;
pub use script::{Gate, Reply, Script, Step, response, response_chunked};

/// What one connection received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Every byte, in order.
    pub received: Vec<u8>,
    /// How the client ended it; [`End::Open`] while it has not, or when this
    /// side ended it first.
    pub end: End,
    /// Requests that were read whole by [`Step::ReadRequest`].
    pub requests: Vec<Vec<u8>>,
    /// The script has come to its end and this side has closed.
    pub finished: bool,
}

impl Connection {
    /// The bytes as text, for comparing and for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }
}

/// The recording backend.
#[derive(Debug)]
pub struct Recorder {
    address: SocketAddr,
    record: Arc<Record>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Record {
    state: Mutex<State>,
    changed: Condvar,
    stopping: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    connections: Vec<Connection>,
    /// For closing on drop; emptied when a connection's thread ends.
    streams: Vec<Option<TcpStream>>,
    workers: Vec<JoinHandle<()>>,
}

impl Record {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked has recorded whole bytes all the same.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.notify_all();
        changed
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

impl Recorder {
    /// Listens on a free port; every connection runs the script.
    ///
    /// # Errors
    /// When the system has no port or thread.
    pub fn start(script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let record = Arc::new(Record::default());
        let shared = Arc::clone(&record);
        let acceptor = thread::Builder::new()
            .name("recorder".into())
            .spawn(move || accept(&listener, &script, &shared))?;
        Ok(Self {
            address,
            record,
            acceptor: Some(acceptor),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All connections so far, in the order in which they came.
    pub fn connections(&self) -> Vec<Connection> {
        self.record.lock().connections.clone()
    }

    /// Every request read by [`Step::ReadRequest`] on any connection.
    pub fn requests(&self) -> Vec<Vec<u8>> {
        let state = self.record.lock();
        let all = state.connections.iter().flat_map(|one| one.requests.iter());
        all.cloned().collect()
    }

    /// All bytes that ever came, connection after connection.
    pub fn received(&self) -> Vec<u8> {
        let state = self.record.lock();
        let all = state.connections.iter().map(|one| one.received.as_slice());
        all.collect::<Vec<_>>().concat()
    }

    /// Waits until what came satisfies `enough`, at most `limit`. True when it does.
    pub fn wait(&self, limit: Duration, mut enough: impl FnMut(&[Connection]) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.record.lock();
        while !enough(&state.connections) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.record.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Waits until so many connections were made.
    pub fn wait_connections(&self, count: usize, limit: Duration) -> bool {
        self.wait(limit, |connections| connections.len() >= count)
    }

    /// Waits until so many requests were read, on all connections together.
    pub fn wait_requests(&self, count: usize, limit: Duration) -> bool {
        self.wait(limit, |connections| {
            let all: usize = connections.iter().map(|one| one.requests.len()).sum();
            all >= count
        })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.record.stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor, whatever becomes of the connection.
        let _woken = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _panicked = acceptor.join();
        }
        let workers = self.record.change(|state| {
            for stream in state.streams.iter().flatten() {
                let _gone = stream.shutdown(Shutdown::Both);
            }
            std::mem::take(&mut state.workers)
        });
        for worker in workers {
            let _panicked = worker.join();
        }
    }
}

fn accept(listener: &TcpListener, script: &Script, record: &Arc<Record>) {
    loop {
        let Ok((stream, _)) = listener.accept() else {
            return;
        };
        if record.stopping() {
            return;
        }
        let Ok(kept) = stream.try_clone() else {
            continue;
        };
        let place = record.change(|state| {
            state.connections.push(Connection {
                received: Vec::new(),
                end: End::Open,
                requests: Vec::new(),
                finished: false,
            });
            state.streams.push(Some(kept));
            state.connections.len() - 1
        });
        let steps = script.steps(place);
        let shared = Arc::clone(record);
        let worker = thread::Builder::new()
            .name(format!("recorder-{place}"))
            .spawn(move || serve::serve(&shared, place, stream, &steps));
        if let Ok(worker) = worker {
            record.change(|state| state.workers.push(worker));
        }
    }
}

#[cfg(test)]
mod tests;
