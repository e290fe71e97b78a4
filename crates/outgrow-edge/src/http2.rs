//! An HTTP/2 connection: each stream goes the same way as an HTTP/1.1 request, as a task of its own.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use outgrow_core::{Fault, Phase, Side};
use outgrow_http::h1::Reject;
use outgrow_http::h2::{self, Connection, H2Stream, RequestParts};
use outgrow_net::{Timer, Transport};

use crate::identity::Peer;
use crate::plan::ListenerPlan;
use crate::way::Way;
use crate::worker::{Drain, Worker};

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
        Err(_) => return worker.cells().count_fault(outgrow_core::Cause::HeadTimeout),
    };
    Streams {
        connection,
        draining: false,
    }
    .run(&worker, &listener, peer)
    .await;
}

struct Streams<T> {
    connection: Connection<T>,
    draining: bool,
}

impl<T: Transport> Streams<T> {
    async fn run(mut self, worker: &Arc<Worker>, listener: &Arc<ListenerPlan>, peer: Peer) {
        let clock = worker.shared.clock;
        let mut timer = Timer::new(&worker.wheel);
        let mut idle_since = clock.now();
        loop {
            let stream = poll_fn(|cx| {
                self.drain(worker.shared.drain());
                if let Poll::Ready(stream) = self.connection.poll_accept(cx) {
                    return Poll::Ready(stream);
                }
                let now = clock.now();
                if !self.connection.is_idle() {
                    idle_since = now;
                }
                timer.set(idle_since + listener.timeouts.keep_alive);
                if timer.poll(cx, now).is_ready() {
                    self.connection.drain();
                    return self.connection.poll_accept(cx);
                }
                Poll::Pending
            })
            .await;
            let Some((parts, stream)) = stream else { break };
            let (worker, listener) = (Arc::clone(worker), Arc::clone(listener));
            tokio::spawn(one_request(worker, listener, parts, stream, peer));
        }
        if let Some(fault) = self.connection.fault() {
            worker.cells().count_fault(fault.cause);
        }
    }

    /// HTTP/2 can say that no further stream is taken: no race, so both drains are the same.
    fn drain(&mut self, drain: Drain) {
        if drain != Drain::No && !self.draining {
            self.draining = true;
            self.connection.drain();
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
    let start = worker.now();
    let mut timer = Timer::new(&worker.wheel);
    let mut exchange = worker.take_exchange();
    let filled = parts.fill(&mut exchange.request);
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

fn fault_of(reject: Reject) -> Fault {
    Fault {
        side: Side::Client,
        ..Fault::client(Phase::RequestHead, reject.cause)
    }
}
