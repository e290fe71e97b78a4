//! A TCP proxy that does harm on demand. The fault can be switched while
//! connections are open; it holds for open and for new ones.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::{Domain, SockRef, Socket, Type};

/// What the proxy does to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: bytes go through both ways.
    None,
    /// Each piece waits so long, both ways.
    Delay(Duration),
    /// Connections are accepted and stay open, but no byte goes through. When
    /// the fault is taken back, they go on.
    Stall,
    /// After so many bytes from the server (counted for each connection from
    /// its beginning), both sides are closed in order.
    CutAfter(u64),
    /// After so many bytes from the server, both sides are reset.
    ResetAfter(u64),
    /// Open and new connections are reset at once.
    Reset,
    /// Nobody listens: new connections are refused. Open ones go on.
    Refuse,
}

/// The proxy.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    stopping: bool,
    listening: bool,
    accepted: u64,
    /// Both sides of every connection that is open.
    pairs: Vec<Option<(TcpStream, TcpStream)>>,
    workers: Vec<JoinHandle<()>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, limit);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Proxy {
    /// Listens on a free port and connects to `server`, without a fault.
    ///
    /// # Errors
    /// When the system has no port or thread.
    pub fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server,
            state: Mutex::new(State {
                fault: Fault::None,
                stopping: false,
                listening: true,
                accepted: 0,
                pairs: Vec::new(),
                workers: Vec::new(),
            }),
            changed: Condvar::new(),
        });
        let inner = Arc::clone(&shared);
        let acceptor = thread::Builder::new()
            .name("fault-proxy".into())
            .spawn(move || accept(listener, address, &inner))?;
        Ok(Self {
            address,
            shared,
            acceptor: Some(acceptor),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that it has accepted.
    pub fn accepted(&self) -> u64 {
        self.shared.lock().accepted
    }

    /// Switches the fault. When this returns, the fault holds; for
    /// [`Fault::Refuse`] nobody listens any more, and when it is taken back
    /// somebody listens again.
    ///
    /// # Errors
    /// When the port could not be listened on again within 10 seconds.
    pub fn set(&self, fault: Fault) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.fault = fault;
        self.shared.changed.notify_all();
        if fault == Fault::Reset {
            state.end_all(true);
        }
        let wanted = fault != Fault::Refuse;
        if state.listening && !wanted {
            drop(state);
            // Wakes the acceptor, whatever becomes of the connection.
            let _woken = TcpStream::connect(self.address);
            state = self.shared.lock();
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while state.listening != wanted {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::other("the fault proxy's port is taken"));
            }
            state = self.shared.wait(state, left);
        }
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.stopping = true;
            state.end_all(false);
            self.shared.changed.notify_all();
        }
        // Wakes the acceptor, whatever becomes of the connection.
        let _woken = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _panicked = acceptor.join();
        }
        let workers = {
            let mut state = self.shared.lock();
            state.end_all(false);
            std::mem::take(&mut state.workers)
        };
        for worker in workers {
            let _panicked = worker.join();
        }
    }
}

impl State {
    fn end_all(&mut self, reset: bool) {
        for (one, other) in self.pairs.iter_mut().filter_map(Option::take) {
            end(&one, reset);
            end(&other, reset);
        }
    }
}

/// Ends a connection, also for whoever is reading from it now.
fn end(stream: &TcpStream, reset: bool) {
    if reset {
        let _gone = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
    // Wakes the reader. A reset is only sent by the last close, after that.
    let how = if reset {
        Shutdown::Read
    } else {
        Shutdown::Both
    };
    let _gone = stream.shutdown(how);
}

fn accept(listener: TcpListener, address: SocketAddr, shared: &Arc<Shared>) {
    let mut listener = Some(listener);
    loop {
        let accepted = listener.as_ref().map(TcpListener::accept);
        let mut state = shared.lock();
        if state.stopping {
            return;
        }
        if state.fault == Fault::Refuse {
            drop(listener.take());
            state.listening = false;
            shared.changed.notify_all();
            // Whoever came last is refused too, as far as that can be.
            if let Some(Ok((client, _))) = accepted {
                end(&client, true);
            }
            while state.fault == Fault::Refuse && !state.stopping {
                state = shared.wait(state, Duration::from_secs(1));
            }
            continue;
        }
        if listener.is_none() {
            listener = listen_again(address).ok();
            state.listening = listener.is_some();
            shared.changed.notify_all();
            if listener.is_none() {
                drop(shared.wait(state, Duration::from_millis(20)));
            }
            continue;
        }
        let Some(Ok((client, _))) = accepted else {
            continue;
        };
        state.accepted += 1;
        let fault = state.fault;
        drop(state);
        if fault == Fault::Reset {
            end(&client, true);
        } else if let Ok(worker) = connect(client, shared) {
            shared.lock().workers.extend(worker);
        }
    }
}

fn listen_again(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

/// Connects to the server and starts a thread for each direction.
fn connect(client: TcpStream, shared: &Arc<Shared>) -> io::Result<Vec<JoinHandle<()>>> {
    let server = match TcpStream::connect_timeout(&shared.server, Duration::from_secs(5)) {
        Ok(server) => server,
        Err(error) => {
            end(&client, true);
            return Err(error);
        }
    };
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let place = {
        let mut state = shared.lock();
        let pair = (client.try_clone()?, server.try_clone()?);
        state.pairs.push(Some(pair));
        state.pairs.len() - 1
    };
    let there = Direction {
        from: client.try_clone()?,
        to: server.try_clone()?,
        from_server: false,
        place,
        shared: Arc::clone(shared),
    };
    let back = Direction {
        from: server,
        to: client,
        from_server: true,
        place,
        shared: Arc::clone(shared),
    };
    let spawn = |direction: Direction| {
        thread::Builder::new()
            .name(format!("fault-proxy-{place}"))
            .spawn(move || direction.carry())
    };
    Ok(vec![spawn(there)?, spawn(back)?])
}

struct Direction {
    from: TcpStream,
    to: TcpStream,
    from_server: bool,
    place: usize,
    shared: Arc<Shared>,
}

/// What to do with a piece.
enum Verdict {
    Pass(usize),
    /// Pass that many, then end it, with a reset or without.
    End(usize, bool),
}

impl Direction {
    fn carry(mut self) {
        let mut block = vec![0_u8; 64 * 1024];
        let mut carried = 0_u64;
        loop {
            let count = match self.from.read(&mut block) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.end_pair(true),
            };
            match self.judge(carried, count) {
                Verdict::Pass(count) => {
                    if self.to.write_all(&block[..count]).is_err() {
                        return self.end_pair(true);
                    }
                    carried += count as u64;
                }
                Verdict::End(count, reset) => {
                    let _gone = self.to.write_all(&block[..count]);
                    return self.end_pair(reset);
                }
            }
        }
        // A half close goes through as one, unless it is only the waking of
        // this thread by a fault that ends the pair itself.
        let state = self.shared.lock();
        if state.pairs[self.place].is_some() {
            let _gone = self.to.shutdown(Shutdown::Write);
        }
    }

    /// Waits as the fault says, then says what becomes of `count` bytes.
    fn judge(&self, carried: u64, count: usize) -> Verdict {
        let came = Instant::now();
        let mut state = self.shared.lock();
        loop {
            if state.stopping {
                return Verdict::End(0, false);
            }
            let left = match state.fault {
                Fault::Stall => Duration::from_secs(1),
                Fault::Delay(delay) => delay.saturating_sub(came.elapsed()),
                Fault::Reset => return Verdict::End(0, true),
                Fault::CutAfter(most) if self.from_server && carried + count as u64 >= most => {
                    return Verdict::End(most.saturating_sub(carried) as usize, false);
                }
                Fault::ResetAfter(most) if self.from_server && carried + count as u64 >= most => {
                    return Verdict::End(most.saturating_sub(carried) as usize, true);
                }
                _ => return Verdict::Pass(count),
            };
            if left.is_zero() {
                return Verdict::Pass(count);
            }
            state = self.shared.wait(state, left);
        }
    }

    /// Ends both sides of this connection.
    fn end_pair(&self, reset: bool) {
        let pair = self.shared.lock().pairs[self.place].take();
        if let Some((one, other)) = pair {
            end(&one, reset);
            end(&other, reset);
        }
    }
}

#[cfg(test)]
mod tests;
