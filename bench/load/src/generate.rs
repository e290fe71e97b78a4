//! The load: a closed loop of connections, each with one request under way, for a fixed time.
//!
//! Anything that is not the wanted response is an error and is counted; too many end the run.
//! Deliberately not here: rates, think time and request mixes; the bench compares CPU per request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::exchange::Exchange;
use crate::latency::Latency;
use crate::poll::{Poller, Ready};
use crate::response::{Progress, ResponseReader};
use crate::transport::{Got, Transport};

/// One read takes this much at most.
const SCRATCH_BYTES: usize = 256 << 10;
/// After so many errors there is nothing left to measure.
const ERROR_LIMIT: u64 = 100;

/// What is sent, where to, and how.
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) exchange: Exchange,
    pub(crate) connections: usize,
    /// One request per connection; the server closes after it.
    pub(crate) close: bool,
    /// TLS when present.
    pub(crate) client: Option<Arc<ClientConfig>>,
}

struct Connection {
    transport: Transport,
    sent_bytes: usize,
    reader: ResponseReader,
    began: Instant,
    /// The response is complete and only the end of the stream is awaited.
    answered: bool,
}

struct Counts {
    requests: u64,
    latency: Latency,
    errors: u64,
    first_error: Option<String>,
}

impl Load {
    /// Warms up, calls `window` once, measures, and returns what was counted in the window.
    pub(crate) fn run(
        &self,
        warm_up: Duration,
        measured: Duration,
        window: impl FnOnce(),
    ) -> anyhow::Result<serde_json::Value> {
        let request = self.exchange.request(self.close);
        let mut poller = Poller::new()?;
        let mut connections = Vec::with_capacity(self.connections);
        for token in 0..self.connections {
            connections.push(self.connect(&poller, token)?);
        }
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut ready = Vec::new();
        let mut counts = Counts::new();
        let mut window = Some(window);
        let mut until = Instant::now() + warm_up;
        let mut window_began = until;
        loop {
            poller.wait(&mut ready, Some(until))?;
            for event in &ready {
                let connection = &mut connections[event.token];
                let outcome = connection.drive(self, &request, &mut scratch, *event, &mut counts);
                let again = match outcome {
                    Ok(Next::Wait) => false,
                    Ok(Next::Reconnect) => true,
                    Err(reason) => {
                        counts.error(reason);
                        true
                    }
                };
                if again {
                    *connection = self.connect(&poller, event.token)?;
                }
            }
            anyhow::ensure!(
                counts.errors <= ERROR_LIMIT,
                "more than {ERROR_LIMIT} errors, the first: {}",
                counts.first_error.unwrap_or_default()
            );
            if Instant::now() < until {
                continue;
            }
            let Some(window) = window.take() else {
                return Ok(counts.summary(window_began.elapsed()));
            };
            // Errors of the warm-up count too: they are no less wrong.
            counts.requests = 0;
            counts.latency = Latency::new();
            window();
            window_began = Instant::now();
            until = window_began + measured;
        }
    }

    fn connect(&self, poller: &Poller, token: usize) -> io::Result<Connection> {
        let transport = Transport::connect(self.address, self.client.as_ref())?;
        poller.add_connection(&transport, token)?;
        Ok(Connection {
            transport,
            sent_bytes: 0,
            reader: ResponseReader::new(self.exchange.response_body_bytes()),
            began: Instant::now(),
            answered: false,
        })
    }
}

enum Next {
    Wait,
    Reconnect,
}

impl Connection {
    fn drive(
        &mut self,
        load: &Load,
        request: &[u8],
        scratch: &mut [u8],
        event: Ready,
        counts: &mut Counts,
    ) -> Result<Next, String> {
        let failed = |error: io::Error| format!("the connection failed: {error}");
        self.transport.flush().map_err(failed)?;
        let mut read_dry = false;
        loop {
            while !self.answered && self.sent_bytes < request.len() {
                let count = self
                    .transport
                    .write(&request[self.sent_bytes..])
                    .map_err(failed)?;
                if count == 0 {
                    break;
                }
                self.sent_bytes += count;
            }
            if read_dry && !event.hangup {
                return Ok(Next::Wait);
            }
            let count = match self.transport.read(scratch).map_err(failed)? {
                Got::Later => {
                    // A handshake that was completed by this read lets the request go out.
                    if self.sent_bytes == 0 && !self.answered && !read_dry {
                        read_dry = true;
                        continue;
                    }
                    return Ok(Next::Wait);
                }
                Got::End if self.answered => return Ok(Next::Reconnect),
                Got::End if self.reader.is_between() => {
                    return Err("the connection was closed before a response".to_owned());
                }
                Got::End => return Err("the response was truncated".to_owned()),
                Got::Bytes { count, drained } => {
                    read_dry = drained;
                    count
                }
            };
            if self.answered || self.sent_bytes < request.len() {
                return Err("bytes that were not asked for".to_owned());
            }
            if self.reader.feed(&scratch[..count])? == Progress::Done {
                counts.requests += 1;
                let now = Instant::now();
                counts.latency.record(now.duration_since(self.began));
                self.began = now;
                if load.close {
                    self.answered = true;
                    // The end of the stream usually came with the response.
                    read_dry = false;
                } else {
                    self.sent_bytes = 0;
                }
            }
        }
    }
}

impl Counts {
    fn new() -> Self {
        Self {
            requests: 0,
            latency: Latency::new(),
            errors: 0,
            first_error: None,
        }
    }

    fn error(&mut self, reason: String) {
        self.errors += 1;
        self.first_error.get_or_insert(reason);
    }

    fn summary(&self, took: Duration) -> serde_json::Value {
        serde_json::json!({
            "requests": self.requests,
            "seconds": took.as_secs_f64(),
            "errors": self.errors,
            "first_error": self.first_error,
            "p50_us": self.latency.quantile_micros(0.5),
            "p99_us": self.latency.quantile_micros(0.99),
        })
    }
}
