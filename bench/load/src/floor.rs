//! The floor program: the syscalls of a proxy and nothing else.
//!
//! One read and one write in each direction and one wait: it relays as many bytes as the exchange is
//! known to have, looks at none of them and keeps upstream connections in a pool. What a proxy costs
//! above this is what its user space costs. Deliberately not here: parsing, timers, limits, errors
//! that are answered: a floor has no features.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use rustls::ServerConfig;

use crate::certificate;
use crate::exchange::{Exchange, asks_to_close};
use crate::poll::{Poller, Ready, listen};
use crate::transport::{Got, Transport};

/// One read takes this much at most; the size that the notes found best for 1 MB bodies.
const SCRATCH_BYTES: usize = 256 << 10;
const LISTENER: usize = 0;

/// How the floor program is run.
#[derive(clap::Args)]
pub(crate) struct Settings {
    /// Address to listen at.
    #[arg(long)]
    listen: SocketAddr,
    /// The backends, used in turn.
    #[arg(long, required = true)]
    backend: Vec<SocketAddr>,
    /// The one exchange that is relayed.
    #[arg(long)]
    exchange: Exchange,
    /// Threads, each with its own listener.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// One request per connection; it is closed after the response.
    #[arg(long)]
    close: bool,
    /// An upstream connection for each of a client's, as of who does not know where a request ends.
    #[arg(long, requires = "close")]
    connects: bool,
    /// TLS with this certificate; needs `--key`.
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    /// The certificate's key.
    #[arg(long)]
    key: Option<PathBuf>,
}

/// The client's connection is closed, not the one to the backend: what says so is made another field.
fn keep_alive(request: &mut [u8]) {
    if let Some(at) = asks_to_close(request) {
        request[at] = b'X';
    }
}

/// One worker: a listener, its clients and its own pool.
struct Worker<'a> {
    settings: &'a Settings,
    server: Option<Arc<ServerConfig>>,
    listener: TcpListener,
    poller: Poller,
    sides: Vec<Option<Side>>,
    free: Vec<usize>,
    idle: Vec<usize>,
    next_backend: usize,
    request_bytes: usize,
    response_bytes: usize,
}

/// One connection, of a client or to a backend.
struct Side {
    transport: Transport,
    is_client: bool,
    /// The connection on the other side of the relay, while there is one.
    other: Option<usize>,
    /// Bytes that are still to be read from here before the exchange is over.
    left_bytes: usize,
    /// Bytes that this connection did not take yet.
    spill: Vec<u8>,
}

/// Runs the workers until the process is ended.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<()> {
    let server = match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => Some(certificate::server(certificate, key)?),
        _ => None,
    };
    let worker = || Worker::new(settings, server.clone())?.run();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (1..settings.workers).map(|_| scope.spawn(worker)).collect();
        worker()?;
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("a worker does not panic"))
    })
}

impl<'a> Worker<'a> {
    fn new(settings: &'a Settings, server: Option<Arc<ServerConfig>>) -> anyhow::Result<Self> {
        let listener = listen(settings.listen)
            .with_context(|| format!("cannot listen at {}", settings.listen))?;
        Ok(Self {
            settings,
            server,
            listener,
            poller: Poller::new()?,
            // The listener's token is 0, so no connection may have it.
            sides: vec![None],
            free: Vec::new(),
            idle: Vec::new(),
            next_backend: 0,
            request_bytes: settings.exchange.request(settings.close).len(),
            response_bytes: settings.exchange.response().len(),
        })
    }

    fn run(mut self) -> anyhow::Result<()> {
        self.poller.add_listener(&self.listener, LISTENER)?;
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut ready = Vec::new();
        loop {
            self.poller.wait(&mut ready, None)?;
            for event in &ready {
                if event.token == LISTENER {
                    self.accept()?;
                } else if self.relay(*event, &mut scratch).is_err() {
                    self.end(event.token);
                }
            }
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        let Ok((stream, _)) = self.listener.accept() else {
            return Ok(());
        };
        let transport = Transport::accepted(stream, self.server.as_ref())?;
        self.add(transport, true)?;
        Ok(())
    }

    fn add(&mut self, transport: Transport, is_client: bool) -> anyhow::Result<usize> {
        let token = self.free.pop().unwrap_or_else(|| {
            self.sides.push(None);
            self.sides.len() - 1
        });
        self.poller.add_connection(&transport, token)?;
        self.sides[token] = Some(Side {
            transport,
            is_client,
            other: None,
            left_bytes: if is_client { self.request_bytes } else { 0 },
            spill: Vec::new(),
        });
        Ok(token)
    }

    /// Moves what can be moved from the connection that is ready, after what it owes is sent.
    fn relay(&mut self, event: Ready, scratch: &mut [u8]) -> anyhow::Result<()> {
        let token = event.token;
        if !self.flush(token)? {
            return Ok(());
        }
        // Its other side may have waited for the room that is there now.
        if let Some(other) = self.side(token).and_then(|side| side.other) {
            self.pull(other, scratch, false)?;
        }
        self.pull(token, scratch, event.hangup)
    }

    fn pull(&mut self, token: usize, scratch: &mut [u8], hangup: bool) -> anyhow::Result<()> {
        loop {
            let Some(side) = self.side(token) else {
                return Ok(());
            };
            let (is_client, other) = (side.is_client, side.other);
            if side.left_bytes == 0 && !hangup {
                return Ok(());
            }
            let blocked = other
                .and_then(|other| self.side(other))
                .is_some_and(|other| !other.spill.is_empty());
            if blocked {
                return Ok(());
            }
            let side = self.side(token).context("the connection is gone")?;
            let (count, drained) = match side.transport.read(scratch)? {
                Got::Later => return Ok(()),
                Got::End => {
                    self.end(token);
                    return Ok(());
                }
                Got::Bytes { count, drained } => (count, drained),
            };
            side.left_bytes = side
                .left_bytes
                .checked_sub(count)
                .context("more bytes than the exchange has")?;
            let over = side.left_bytes == 0;
            let settings = self.settings;
            if is_client && settings.close && !settings.connects {
                keep_alive(&mut scratch[..count]);
            }
            let other = match other {
                Some(other) => other,
                None => self.pair(token)?,
            };
            self.push(other, &scratch[..count])?;
            if over && !is_client {
                self.finish(other, token);
                return Ok(());
            }
            if drained && !hangup {
                return Ok(());
            }
        }
    }

    /// Gives the client an upstream connection, from the pool when there is one.
    fn pair(&mut self, client: usize) -> anyhow::Result<usize> {
        let upstream = match self.idle.pop() {
            Some(upstream) => upstream,
            None => {
                let backends = &self.settings.backend;
                let address = backends[self.next_backend % backends.len()];
                self.next_backend += 1;
                self.add(Transport::connect(address, None)?, false)?
            }
        };
        let response_bytes = self.response_bytes;
        let side = self.side(upstream).context("a pooled connection is gone")?;
        side.other = Some(client);
        side.left_bytes = response_bytes;
        self.side(client).context("the client is gone")?.other = Some(upstream);
        Ok(upstream)
    }

    /// The exchange is over: the upstream goes back to the pool, the client starts anew or is closed.
    fn finish(&mut self, client: usize, upstream: usize) {
        if self.settings.connects {
            self.remove(upstream);
        } else if let Some(side) = self.side(upstream) {
            side.other = None;
            self.idle.push(upstream);
        }
        let (close, request_bytes) = (self.settings.close, self.request_bytes);
        let Some(side) = self.side(client) else {
            return;
        };
        side.other = None;
        side.left_bytes = if close { 0 } else { request_bytes };
        if close && side.spill.is_empty() {
            self.remove(client);
        }
    }

    fn push(&mut self, token: usize, bytes: &[u8]) -> anyhow::Result<()> {
        let side = self.side(token).context("the other side is gone")?;
        let mut sent = 0;
        while sent < bytes.len() {
            match side.transport.write(&bytes[sent..])? {
                0 => break,
                count => sent += count,
            }
        }
        side.spill.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    /// Sends what the connection owes; false when it still owes something.
    fn flush(&mut self, token: usize) -> anyhow::Result<bool> {
        let close = self.settings.close;
        let Some(side) = self.side(token) else {
            return Ok(false);
        };
        side.transport.flush()?;
        if side.spill.is_empty() {
            return Ok(true);
        }
        let count = side.transport.write(&side.spill)?;
        side.spill.drain(..count);
        let empty = side.spill.is_empty();
        if empty && close && side.is_client && side.other.is_none() {
            self.remove(token);
            return Ok(false);
        }
        Ok(empty)
    }

    /// Ends a connection and the one it was relayed to; a half exchange is of no use.
    fn end(&mut self, token: usize) {
        if let Some(other) = self.side(token).and_then(|side| side.other) {
            self.remove(other);
        }
        self.remove(token);
    }

    fn remove(&mut self, token: usize) {
        if let Some(side) = self.sides[token].take() {
            if !side.is_client {
                self.idle.retain(|&idle| idle != token);
            }
            self.free.push(token);
        }
    }

    fn side(&mut self, token: usize) -> Option<&mut Side> {
        self.sides[token].as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_clients_connection_is_closed() {
        let mut request = Exchange::ALL[0].request(true);
        let length = request.len();
        assert!(asks_to_close(&request).is_some());
        keep_alive(&mut request);
        assert_eq!(asks_to_close(&request), None);
        assert_eq!(request.len(), length);
        let untouched = Exchange::ALL[0].request(false);
        let mut request = untouched.clone();
        keep_alive(&mut request);
        assert_eq!(request, untouched);
    }
}
