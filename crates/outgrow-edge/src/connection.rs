//! A client's connection: one request after the other on HTTP/1.1, many at a time on HTTP/2.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use outgrow_core::{Cause, Fault, Phase, Side, Ticks};
use outgrow_http::conn::ServerConnection;
use outgrow_http::conn::server::NoRequest;
use outgrow_http::h1::Reject;
use outgrow_http::h2::is_preface;
use outgrow_net::{Timer, Transport};

use crate::identity::Peer;
use crate::plan::ListenerPlan;
use crate::way::Way;
use crate::worker::{Drain, Exchange, Worker};

/// How long a client may take to read the last response before the connection is closed under it.
const LINGER: Duration = Duration::from_secs(2);

/// How a wait for a request ended.
enum Next {
    Request,
    End,
    Http2,
}

/// Serves a connection until it ends, and then lets go of `counted`. What it is (HTTP/1.1 or HTTP/2
/// by prior knowledge) is seen from its first bytes.
pub(crate) async fn serve<T: Transport + 'static>(
    worker: Arc<Worker>,
    listener: Arc<ListenerPlan>,
    io: T,
    peer: Peer,
    counted: impl Send,
) {
    let _counted = counted;
    let mut timer = Timer::new(&worker.wheel);
    let blocks = Arc::clone(&worker.blocks);
    let mut connection = ServerConnection::new(io, blocks, listener.limits);
    let mut since = worker.now();
    let mut first = true;
    loop {
        match next(
            &worker,
            &listener,
            &mut connection,
            &mut timer,
            first,
            since,
        )
        .await
        {
            Next::Request => {}
            Next::End => break,
            Next::Http2 => {
                let (io, incoming) = connection.into_parts();
                let began = incoming.buffer.bytes().to_vec();
                // Its block is not needed for as long as the connection lives.
                drop(incoming);
                // Boxed, so that HTTP/1.1 connections are not as large as its state.
                Box::pin(crate::http2::serve(worker, listener, io, began, peer)).await;
                return;
            }
        }
        first = false;
        let mut exchange = worker.take_exchange();
        let goes_on = one_request(
            &worker,
            &listener,
            &mut connection,
            &mut timer,
            &mut exchange,
            &peer,
        )
        .await;
        since = exchange.ended;
        worker.give_exchange(exchange);
        if !goes_on {
            if !connection.reset_if_cut_off() && connection.needs_linger() {
                linger(&worker, &mut connection, &mut timer).await;
            }
            break;
        }
        connection.rest();
    }
}

/// Waits between requests; `since` is when the last one ended, or the connection came.
async fn next<T: Transport>(
    worker: &Worker,
    listener: &ListenerPlan,
    connection: &mut ServerConnection<T>,
    timer: &mut Timer,
    first: bool,
    since: Ticks,
) -> Next {
    let timeouts = &listener.timeouts;
    let patience = if first {
        timeouts.head
    } else {
        timeouts.keep_alive
    };
    let clock = worker.shared.clock;
    timer.set(since + patience);
    // Read once per poll, and not at all at the first one.
    let mut known = Some(since);
    // Nothing came on the connection yet.
    let mut fresh = first;
    poll_fn(|cx| {
        let known = known.take();
        let now = || known.unwrap_or_else(|| clock.now());
        loop {
            match connection.poll_readable(cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(Next::End),
                Poll::Pending if worker.shared.drain() == Drain::Now => {
                    return Poll::Ready(Next::End);
                }
                Poll::Pending => return timer.poll(cx, now()).map(|()| Next::End),
            }
            if connection.pass_over_empty_line() {
                fresh = false;
                continue;
            }
            let bytes = connection.peek();
            if !fresh || !listener.http2 || bytes.first() != Some(&b'P') {
                return Poll::Ready(Next::Request);
            }
            match is_preface(bytes) {
                Some(false) => return Poll::Ready(Next::Request),
                Some(true) => return Poll::Ready(Next::Http2),
                None => {}
            }
            match connection.poll_more(cx) {
                Poll::Ready(0) => return Poll::Ready(Next::End),
                Poll::Ready(_) => {}
                Poll::Pending => return timer.poll(cx, now()).map(|()| Next::End),
            }
        }
    })
    .await
}

/// Handles one request; whether another one may follow.
async fn one_request<T: Transport>(
    worker: &Arc<Worker>,
    listener: &ListenerPlan,
    connection: &mut ServerConnection<T>,
    timer: &mut Timer,
    exchange: &mut Exchange,
    peer: &Peer,
) -> bool {
    let clock = worker.shared.clock;
    let start = clock.now();
    let mut timed_out = false;
    let head = poll_fn(|cx| {
        if let Poll::Ready(head) = connection.poll_head(cx, &mut exchange.request) {
            return Poll::Ready(head);
        }
        if !timed_out {
            timed_out = true;
            timer.set(start + listener.timeouts.head);
        }
        let reject = Reject {
            cause: Cause::HeadTimeout,
            detail: "the head did not arrive in time",
        };
        timer
            .poll(cx, clock.now())
            .map(|()| Err(NoRequest::Reject(reject)))
    })
    .await;
    if head.is_err() {
        connection.refused(&mut exchange.request);
    }
    let way = Way {
        worker,
        listener,
        peer,
        exchange,
        timer,
        down: connection,
        detail: "",
    };
    match head {
        Ok(()) if listener.http1 => way.process(start).await,
        Ok(()) => {
            let fault = Fault::client(Phase::RequestHead, Cause::VersionNotSupported);
            way.refuse(start, fault, "this listener speaks HTTP/2 only")
                .await;
        }
        Err(NoRequest::Closed | NoRequest::Gone) => return false,
        Err(NoRequest::Reject(reject)) => {
            let side = match reject.cause {
                Cause::MemoryLimit => Side::Outgrow,
                _ => Side::Client,
            };
            let fault = Fault {
                side,
                ..Fault::client(Phase::RequestHead, reject.cause)
            };
            way.refuse(start, fault, reject.detail).await;
        }
    }
    connection.can_continue()
}

async fn linger<T: Transport>(
    worker: &Worker,
    connection: &mut ServerConnection<T>,
    timer: &mut Timer,
) {
    let clock = worker.shared.clock;
    timer.set(clock.now() + LINGER);
    let mut shut = false;
    poll_fn(|cx| match connection.poll_linger(cx, &mut shut) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => timer.poll(cx, clock.now()),
    })
    .await;
}
