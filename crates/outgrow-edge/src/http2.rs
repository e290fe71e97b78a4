//! An HTTP/2 connection: each stream goes the same way as an HTTP/1.1 request, as a task of its own.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use outgrow_core::{Cause, Fault, Phase, Side, Ticks};
use outgrow_http::h1::Reject;
use outgrow_http::h2::{self, Connection, H2Stream, RequestParts};
use outgrow_net::{Timer, Transport};

use crate::identity::Peer;
use crate::plan::ListenerPlan;
use crate::settings::ListenerTimeouts;
use crate::tunnel;
use crate::way::Way;
use crate::worker::{Drain, Worker};

/// How long a client may take to answer the GOAWAY of a connection on which nothing is open.
const LINGER: Duration = Duration::from_secs(5);

/// Serves a connection on `io`, of which `arrived` was read already.
pub(crate) async fn serve<T: Transport + 'static>(
    worker: Arc<Worker>,
    listener: Arc<ListenerPlan>,
    io: T,
    arrived: Vec<u8>,
    peer: Peer,
) {
    let blocks = Arc::clone(&worker.blocks);
    let settings = h2::Settings::default();
    let handshake = h2::serve(io, arrived, blocks, listener.limits, settings);
    let connection = match tokio::time::timeout(listener.timeouts.head, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(fault)) => return worker.cells().count_fault(fault.cause),
        Err(_) => return worker.cells().count_fault(Cause::HeadTimeout),
    };
    Streams {
        connection,
        ending: None,
        idle_since: worker.now(),
        moved_at: worker.now(),
        written: 0,
    }
    .run(&worker, &listener, peer)
    .await;
}

struct Streams<T> {
    connection: Connection<T>,
    /// Since when no further stream is taken.
    ending: Option<Ticks>,
    /// When a stream was open last.
    idle_since: Ticks,
    /// When the client took a byte last, or nothing waited for it.
    moved_at: Ticks,
    written: u64,
}

impl<T: Transport> Streams<T> {
    async fn run(mut self, worker: &Arc<Worker>, listener: &Arc<ListenerPlan>, peer: Peer) {
        let clock = worker.shared.clock;
        let mut timer = Timer::new(&worker.wheel);
        loop {
            let stream = poll_fn(|cx| {
                if worker.shared.drain() != Drain::No {
                    self.end(clock.now());
                }
                loop {
                    if let Poll::Ready(stream) = self.connection.poll_accept(cx) {
                        return Poll::Ready(Ok(stream));
                    }
                    let now = clock.now();
                    self.note(now);
                    timer.set(self.deadline(&listener.timeouts));
                    if timer.poll(cx, now).is_pending() {
                        return Poll::Pending;
                    }
                    // Once more after the GOAWAY is queued; what is over then is dropped.
                    if self.is_stuck(&listener.timeouts, now) {
                        return Poll::Ready(Err(Cause::SendTimeout));
                    }
                    if self.ending.is_some() {
                        return Poll::Ready(Ok(None));
                    }
                    self.end(now);
                }
            })
            .await;
            let (parts, stream) = match stream {
                Ok(Some(stream)) => stream,
                Ok(None) => break,
                Err(cause) => return worker.cells().count_fault(cause),
            };
            let (worker, listener) = (Arc::clone(worker), Arc::clone(listener));
            tokio::spawn(one_request(worker, listener, parts, stream, peer.clone()));
        }
        if let Some(fault) = self.connection.fault() {
            worker.cells().count_fault(fault.cause);
        }
    }

    /// Takes note of what has moved since the last look.
    fn note(&mut self, now: Ticks) {
        let written = self.connection.written();
        if written != self.written || !self.connection.is_blocked() {
            self.written = written;
            self.moved_at = now;
        }
        if !self.connection.is_idle() {
            self.idle_since = now;
        }
    }

    /// When the connection has been idle, has been ending or was not read from for too long.
    fn deadline(&self, timeouts: &ListenerTimeouts) -> Ticks {
        let idle = match self.ending {
            None => self.idle_since + timeouts.keep_alive,
            Some(since) => since.max(self.idle_since) + LINGER.min(timeouts.keep_alive),
        };
        match self.connection.is_blocked() {
            true => idle.min(self.moved_at + timeouts.send_idle),
            false => idle,
        }
    }

    /// Whether the client reads nothing of what waits for it.
    fn is_stuck(&self, timeouts: &ListenerTimeouts, now: Ticks) -> bool {
        self.connection.is_blocked() && self.moved_at + timeouts.send_idle <= now
    }

    /// Takes no further stream. HTTP/2 can say so: no race, so both drains are the same.
    fn end(&mut self, now: Ticks) {
        if self.ending.is_none() {
            self.ending = Some(now);
            self.connection.drain();
        }
    }
}

/// Counts a stream's task that panics, as a connection's is; of HTTP/3 as well.
pub(crate) struct Watch(pub(crate) Arc<Worker>);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cells().panics.add_shared(1);
        }
    }
}

async fn one_request(
    worker: Arc<Worker>,
    listener: Arc<ListenerPlan>,
    parts: RequestParts,
    mut stream: H2Stream,
    peer: Peer,
) {
    let _watch = Watch(Arc::clone(&worker));
    let start = worker.now();
    let mut timer = Timer::new(&worker.wheel);
    let mut exchange = worker.take_exchange();
    let filled = parts.fill(&mut exchange.request);
    let chance = || [worker.chance(), worker.chance()];
    tunnel::handshake::put_key(&mut exchange.request, chance);
    let way = Way {
        worker: &worker,
        listener: &listener,
        peer: &peer,
        exchange: &mut exchange,
        timer: &mut timer,
        down: &mut stream,
        detail: "",
    };
    match filled {
        Ok(()) => way.process(start).await,
        Err(reject) => way.refuse(start, fault_of(reject), reject.detail).await,
    }
    worker.give_exchange(exchange);
}

/// Whose fault it is that a head is refused, of HTTP/3 as well.
pub(crate) fn fault_of(reject: Reject) -> Fault {
    let side = match reject.cause {
        Cause::MemoryLimit => Side::Outgrow,
        _ => Side::Client,
    };
    Fault {
        side,
        ..Fault::client(Phase::RequestHead, reject.cause)
    }
}

#[cfg(test)]
mod tests {
    use outgrow_core::Clock;
    use outgrow_message::Ledger;

    use super::*;
    use crate::record::{RecordSink, RecordWriter};
    use crate::worker::Shared;

    #[tokio::test]
    async fn a_stream_that_panics_is_counted() {
        let shared = Shared::new(Clock::start(), Ledger::new(0), 1);
        let records = RecordWriter::start().expect("a thread");
        let worker = Worker::new(0, shared, RecordSink::new(records));
        for (panics, expected) in [(false, 0), (true, 1)] {
            let watch = Watch(Arc::clone(&worker));
            let task = tokio::spawn(async move {
                let _watch = watch;
                assert!(!panics, "on purpose");
            });
            assert_eq!(task.await.is_err(), panics);
            assert_eq!(worker.cells().panics.get(), expected);
        }
    }
}
