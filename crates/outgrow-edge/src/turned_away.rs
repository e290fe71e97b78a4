//! Connections above `max_connections`: what their clients are told, and the record of it.
//!
//! A socket that is closed with unread bytes in it is reset, which takes the answer away from the client
//! again: so a few at a time are waited for (RFC 9112 section 9.6), and recorded. In a flood the others
//! are closed at once, and only counted.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outgrow_core::{Cause, Fault, Phase};
use outgrow_net::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::identity::Peer;
use crate::plan::ListenerPlan;
use crate::record::Line;
use crate::worker::Worker;

/// What a client is told, before anything of it was read.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\
    Retry-After: 1\r\nConnection: close\r\n\r\n";
/// Most that are waited for at a time, by each worker.
const WAITED_FOR: usize = 32;
/// How long one is waited for.
const WAIT: Duration = Duration::from_secs(1);
/// Most bytes of one that are read away.
const READ_LIMIT: usize = 64 * 1024;

/// How many are waited for now.
#[derive(Debug, Default)]
pub(crate) struct Waiting(AtomicUsize);

impl Waiting {
    fn take_place(self: &Arc<Self>) -> Option<Place> {
        let (order, places) = (Ordering::Relaxed, &self.0);
        let more = |taken: usize| (taken < WAITED_FOR).then_some(taken + 1);
        places.fetch_update(order, order, more).ok()?;
        Some(Place(Arc::clone(self)))
    }
}

struct Place(Arc<Waiting>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Says why, as far as the socket's buffer takes it; TLS clients only see the end.
pub(crate) fn turn_away(
    worker: &Worker,
    waiting: &Arc<Waiting>,
    listener: &ListenerPlan,
    mut stream: Stream,
    address: Option<IpAddr>,
) {
    worker.cells().count_fault(Cause::Overload);
    let place = waiting.take_place();
    if place.is_some() {
        record(worker, &Peer::new(address, false, listener.tls.is_some()));
    }
    if listener.tls.is_some() {
        return;
    }
    let (Ok(_), Some(place)) = (stream.try_write(TOO_MANY), place) else {
        return;
    };
    tokio::spawn(async move {
        let _place = place;
        let _ = tokio::time::timeout(WAIT, async {
            stream.shutdown().await.ok()?;
            let (mut nothing, mut read) = ([0; 1024], 0);
            while read < READ_LIMIT {
                read += match stream.read(&mut nothing).await.ok()? {
                    0 => return None,
                    count => count,
                };
            }
            Some(())
        })
        .await;
    });
}

fn record(worker: &Worker, peer: &Peer) {
    if !worker.records.is_on() {
        return;
    }
    let (mut context, _) = worker.begin(worker.now(), |_| None);
    context.status = 503;
    context.fault = Some(Fault::outgrow(Phase::RequestHead, Cause::Overload));
    context.stages.end = context.stages.start;
    worker.records.put(&Line {
        context: &context,
        client: peer.address(),
        peer: b"",
        method: b"",
        host: b"",
        path: b"",
        query: None,
        route: "",
        service: "",
        endpoint: "",
        detail: "as many connections as max_connections of the listener says are open",
        user_agent: b"",
        given_id: None,
    });
}
