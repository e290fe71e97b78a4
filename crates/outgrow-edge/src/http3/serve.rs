//! A connection, from its handshake to its end, and its streams.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use outgrow_core::{Cause, Ticks};
use outgrow_http::h1::Reject;
use outgrow_http::h3::{self, Account, Connection, H3Stream, NoHead};
use outgrow_message::Method;
use outgrow_net::Timer;
use outgrow_net::quic::quinn::{self, Connecting, ConnectionError};
use outgrow_tls::quic_client_certificate;
use tokio::sync::watch;

use super::handshakes::Handshake;
use super::plan::{Http3Plan, no_error};
use crate::http2::{Watch, fault_of};
use crate::identity::Peer;
use crate::plan::ListenerPlan;
use crate::shown::Shown;
use crate::tunnel;
use crate::way::Way;
use crate::worker::{Drain, Worker};

/// From the first GOAWAY, which says that the connection will end, to the second, which says with what
/// request: as many round trips as a request could have been under way for, within these.
const ROUND_TRIPS: u32 = 3;
const SHORTEST_NOTICE: Duration = Duration::from_millis(100);
const LONGEST_NOTICE: Duration = Duration::from_secs(2);

/// How long a request that looks as if it had no body is held until its end is here, which many clients
/// send in a packet of its own. Without it the endpoint is told of a body, since there may be one.
const END: Duration = Duration::from_millis(100);

/// Whether the handshake is complete, for requests that wait for it.
type Complete = watch::Receiver<bool>;

/// For as long as its endpoint takes new connections. Then those that are there are to end as in a drain.
pub(super) type Stays = watch::Receiver<()>;

/// From where a connection comes: what is told of its requests, for as long as it lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct From {
    pub(super) address: IpAddr,
    /// It was shown before the handshake that the client hears at this address (RFC 9000 section 8.1). Else
    /// the handshake shows it, once it is complete.
    pub(super) is_verified: bool,
}

/// Does the handshake and serves what follows. A handshake that fails or takes longer than a head may
/// ends the connection; it is counted by its reason.
pub(super) async fn serve(
    worker: Arc<Worker>,
    listener: Arc<ListenerPlan>,
    http3: Arc<Http3Plan>,
    from: From,
    (connecting, account, stays): (Connecting, Arc<Account>, Stays),
    handshake: Handshake,
) {
    let limit = listener.timeouts.head;
    let begun = if http3.early_data {
        let shown = {
            let (worker, account) = (Arc::clone(&worker), Arc::clone(&account));
            move || account.be_of(worker.shared.holders.of(from.address))
        };
        let begun = begin_early(connecting, limit, handshake, shown);
        tokio::time::timeout(limit, begun).await
    } else {
        let begun = tokio::time::timeout(limit, complete(connecting)).await;
        drop(handshake);
        begun
    };
    let (quic, complete) = match begun {
        Ok(Ok(begun)) => begun,
        Ok(Err(error)) => return worker.cells().count_fault(cause_of(&error)),
        Err(_) => return worker.cells().count_fault(Cause::HeadTimeout),
    };
    let blocks = Arc::clone(&worker.blocks);
    let saying = h3::serve(
        quic.clone(),
        account,
        blocks,
        listener.limits,
        h3::Settings::default(),
    );
    let connection = match tokio::time::timeout(limit, saying).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(fault)) => return worker.cells().count_fault(fault.cause),
        Err(_) => return worker.cells().count_fault(Cause::HeadTimeout),
    };
    let shown = quic_client_certificate(&quic)
        .map(|certificate| Arc::new(Shown::new(&certificate, &listener.client_facts)));
    let now = worker.now();
    let peer = {
        let trusted = listener.trusts(Some(from.address));
        let mut peer = Peer::new(Some(from.address), trusted, true);
        peer.shown.clone_from(&shown);
        peer
    };
    Streams {
        connection,
        quic,
        from,
        peer,
        complete,
        ending: None,
        refusing: false,
        refusing_since: Ticks::ZERO,
        idle_since: now,
        moving: (0, 0),
    }
    .run(&worker, &listener, stays)
    .await;
}

/// Waits until the handshake is complete.
async fn complete(
    connecting: Connecting,
) -> Result<(quinn::Connection, Complete), ConnectionError> {
    let quic = connecting.await?;
    Ok((quic, watch::channel(true).1))
}

/// Does not wait: requests may come with the first packets. `shown` is for when the handshake has shown that
/// the client hears at its address.
async fn begin_early(
    connecting: Connecting,
    limit: Duration,
    handshake: Handshake,
    shown: impl FnOnce() + Send + 'static,
) -> Result<(quinn::Connection, Complete), ConnectionError> {
    let (quic, accepted) = match connecting.into_0rtt() {
        Ok(begun) => begun,
        // Where the library cannot, as it can for every server.
        Err(connecting) => {
            let begun = complete(connecting).await?;
            shown();
            return Ok(begun);
        }
    };
    let (told, complete) = watch::channel(false);
    let waiting = quic.clone();
    tokio::spawn(async move {
        let in_time = tokio::time::timeout(limit, accepted).await.is_ok();
        drop(handshake);
        if in_time && waiting.close_reason().is_none() {
            shown();
            let _ = told.send(true);
        } else {
            waiting.close(no_error(), b"");
        }
    });
    Ok((quic, complete))
}

fn cause_of(error: &ConnectionError) -> Cause {
    match error {
        ConnectionError::TransportError(_) | ConnectionError::VersionMismatch => Cause::BadRequest,
        _ => Cause::ClientGone,
    }
}

struct Streams {
    connection: Connection,
    quic: quinn::Connection,
    from: From,
    peer: Peer,
    complete: Complete,
    /// Since when it is said that the connection will end.
    ending: Option<Ticks>,
    /// No further stream is taken.
    refusing: bool,
    /// Since when.
    refusing_since: Ticks,
    /// When a stream was open last, or something was acknowledged.
    idle_since: Ticks,
    /// Streams that were open, and bytes that were not acknowledged, when that was looked at last.
    moving: (usize, usize),
}

impl Streams {
    async fn run(mut self, worker: &Arc<Worker>, listener: &Arc<ListenerPlan>, mut stays: Stays) {
        let mut left = pin!(async move { while stays.changed().await.is_ok() {} });
        let mut has_left = false;
        let clock = worker.shared.clock;
        let mut timer = Timer::new(&worker.wheel);
        loop {
            let stream = poll_fn(|cx| {
                has_left = has_left || left.as_mut().poll(cx).is_ready();
                if has_left || worker.shared.drain() != Drain::No || self.has_moved() {
                    self.end(clock.now());
                }
                loop {
                    if let Poll::Ready(stream) = self.connection.poll_accept(cx) {
                        return Poll::Ready(stream);
                    }
                    let now = clock.now();
                    self.note(now);
                    timer.set(self.deadline(listener.timeouts.keep_alive));
                    if timer.poll(cx, now).is_pending() {
                        return Poll::Pending;
                    }
                    match (self.ending, self.refusing) {
                        (None, _) => self.end(now),
                        (Some(_), false) => {
                            self.refusing = true;
                            self.refusing_since = now;
                            self.connection.refuse_new();
                        }
                        (Some(_), true) => return Poll::Ready(None),
                    }
                }
            })
            .await;
            let Some(stream) = stream else { break };
            let request = Request {
                worker: Arc::clone(worker),
                listener: Arc::clone(listener),
                stream,
                peer: self.peer.clone(),
                from: self.from,
                complete: self.complete.clone(),
            };
            tokio::spawn(request.run());
        }
        if let Some(fault) = self.connection.fault() {
            worker.cells().count_fault(fault.cause);
        }
    }

    /// Whether the client now comes from another address (migration; another port is no other address).
    /// Whether it hears there is verified by QUIC (RFC 9000 section 8.2), which does not tell: that address is
    /// told to nobody. What is under way goes on; for what follows the client is asked to come anew, from
    /// where it is.
    fn has_moved(&self) -> bool {
        self.quic.remote_address().ip().to_canonical() != self.from.address
    }

    /// Takes note of what has moved since the last look.
    fn note(&mut self, now: Ticks) {
        let moving = (self.connection.open_streams(), self.connection.held_bytes());
        // One that has just ended has been there until now.
        if moving.0 > 0 || moving != self.moving {
            self.idle_since = now;
        }
        self.moving = moving;
    }

    /// When the next step to the end is due: to say that it comes, to refuse, to close. The last one
    /// waits for who is at work, and until the client has all that was sent, or takes nothing.
    fn deadline(&self, keep_alive: Duration) -> Ticks {
        let trips = self.connection.round_trip() * ROUND_TRIPS;
        let notice = trips.clamp(SHORTEST_NOTICE, LONGEST_NOTICE);
        match (self.ending, self.refusing) {
            (None, _) => self.idle_since + keep_alive,
            (Some(since), false) => since + notice,
            (Some(_), true) if self.connection.is_idle() => {
                // What was said last has to leave.
                self.idle_since.max(self.refusing_since) + notice
            }
            (Some(_), true) => self.idle_since + keep_alive,
        }
    }

    /// Says that it will end.
    fn end(&mut self, now: Ticks) {
        if self.ending.is_none() {
            self.ending = Some(now);
            self.connection.drain();
        }
    }
}

/// One request.
struct Request {
    worker: Arc<Worker>,
    listener: Arc<ListenerPlan>,
    stream: H3Stream,
    peer: Peer,
    from: From,
    complete: Complete,
}

impl Request {
    async fn run(mut self) {
        let _watch = Watch(Arc::clone(&self.worker));
        let start = self.worker.now();
        let mut timer = Timer::new(&self.worker.wheel);
        timer.set(start + self.listener.timeouts.head);
        let clock = self.worker.shared.clock;
        let mut awaits_end = false;
        let head = poll_fn(|cx| match self.stream.poll_head(cx) {
            Poll::Ready(head) => Poll::Ready(Some(head)),
            Poll::Pending => {
                let now = clock.now();
                if self.stream.has_head() && !awaits_end {
                    awaits_end = true;
                    timer.set((now + END).min(start + self.listener.timeouts.head));
                }
                let waited = timer.poll(cx, now);
                waited.map(|()| self.stream.take_head().map(Ok))
            }
        });
        let head = match head.await {
            Some(Ok(parts)) => Ok(parts),
            Some(Err(NoHead::Reject(reject))) => Err(reject),
            Some(Err(NoHead::Gone)) => return,
            None => Err(Reject {
                cause: Cause::HeadTimeout,
                detail: "the head did not arrive in time",
            }),
        };
        let mut exchange = self.worker.take_exchange();
        let filled = head.and_then(|parts| parts.fill(&mut exchange.request));
        match filled {
            Ok(()) => self.stream.begin_body(&exchange.request),
            Err(reject) => self.stream.note(reject),
        }
        let chance = || [self.worker.chance(), self.worker.chance()];
        tunnel::handshake::put_key(&mut exchange.request, chance);
        if self.stream.is_early() && !*self.complete.borrow() {
            let request = &mut exchange.request;
            let is_safe = matches!(request.method, Method::Get | Method::Head | Method::Options)
                && !request.wants_upgrade;
            let may_go_on = filled.is_ok() && is_safe && request.length.is_empty();
            // Before the handshake is complete the address may be anybody's (RFC 8470 section 3), which a
            // refusal's record is not to name either.
            if may_go_on && self.from.is_verified {
                request.fields.set(b"Early-Data", b"1");
            } else if self.complete.wait_for(|complete| *complete).await.is_err() {
                // It never was: who sent it may be nobody.
                return self.worker.give_exchange(exchange);
            }
        }
        let way = Way {
            worker: &self.worker,
            listener: &self.listener,
            peer: &self.peer,
            exchange: &mut exchange,
            timer: &mut timer,
            down: &mut self.stream,
            detail: "",
        };
        match filled {
            Ok(()) => way.process(start).await,
            Err(reject) => way.refuse(start, fault_of(reject), reject.detail).await,
        }
        self.worker.give_exchange(exchange);
    }
}
