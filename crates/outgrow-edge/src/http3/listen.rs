//! A worker's endpoint of a listener: who comes anew, and what becomes of the endpoint when the
//! listener goes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outgrow_core::Cause;
use outgrow_http::h3::Account;
use outgrow_net::Datagrams;
use outgrow_net::quic::quinn::{Endpoint, Incoming, TokioRuntime};
use outgrow_net::quic::{QuicSocket, feed};
use outgrow_net::ticker::Ticker;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::handshakes::Entry;
use super::plan::Http3Plan;
use super::serve::{self, From, Stays};
use crate::accept::{ListenerSlot, OpenConnection};
use crate::plan::ListenerPlan;
use crate::worker::{Drain, Worker};

/// What a connection takes that lies in no block of the ledger: its state, and what is gathered of its
/// packets. Measured: 48 KiB with 128 streams allowed.
const CONNECTION_BYTES: u64 = 32 * 1024;
/// The same for each stream that it may have.
const STREAM_BYTES: u64 = 256;
/// How often it is looked whether connections of a listener that is gone are left.
const LOOK: Duration = Duration::from_millis(250);
/// So many looks after the process has begun to leave the next one has said what it reads.
const SAYING: u32 = 4;
/// For so many looks clients may come that were asked to show their address before (Retry): their tokens
/// are good for 15 s.
const RETRYING: u32 = 64;

/// Endpoints of a worker whose listener is gone, and which live on for their connections: the same
/// listener may come again.
#[derive(Default)]
pub(crate) struct Endpoints {
    retired: Mutex<HashMap<Arc<str>, Retired>>,
    /// What takes from sockets beyond the endpoint's own: they are of the same group, so what is for
    /// connections comes there as well, for as long as there are any.
    feeding: Mutex<HashMap<Arc<str>, Vec<AbortHandle>>>,
}

struct Retired {
    endpoint: Endpoint,
    socket: Arc<QuicSocket>,
    /// Turns away who comes anew.
    refusing: AbortHandle,
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Endpoints")
    }
}

impl Endpoints {
    fn retired(&self) -> MutexGuard<'_, HashMap<Arc<str>, Retired>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, key: &str) -> Option<(Endpoint, Arc<QuicSocket>)> {
        let retired = self.retired().remove(key)?;
        retired.refusing.abort();
        retired.socket.set_idle(false);
        // The listener has brought its sockets anew.
        self.stop_feeding(key);
        Some((retired.endpoint, retired.socket))
    }

    fn put(&self, key: Arc<str>, retired: Retired) {
        self.retired().insert(key, retired);
    }

    /// The last connection of an endpoint has ended. Where the listener has taken it again meanwhile
    /// it stays.
    fn forget(&self, key: &str, socket: &Arc<QuicSocket>) {
        let mut retired = self.retired();
        let here = |one: &Retired| Arc::ptr_eq(&one.socket, socket);
        if retired.get(key).is_some_and(here) {
            retired.remove(key);
            // Who comes again meets no endpoint here, and is to make one.
            socket.release();
            self.stop_feeding(key);
        }
    }

    /// Takes from a further socket, until the last connection has ended.
    fn feed(&self, key: &Arc<str>, feed: impl Future<Output = ()> + Send + 'static) {
        let feeding = tokio::spawn(feed).abort_handle();
        let mut all = self.feeding.lock().unwrap_or_else(PoisonError::into_inner);
        let feeds = all.entry(Arc::clone(key)).or_default();
        feeds.retain(|feed| !feed.is_finished());
        feeds.push(feeding);
    }

    fn stop_feeding(&self, key: &str) {
        let mut all = self.feeding.lock().unwrap_or_else(PoisonError::into_inner);
        for feed in all.remove(key).unwrap_or_default() {
            feed.abort();
        }
    }
}

/// Accepts for ever; aborted when the listener goes or drains. Connections stay.
pub(crate) async fn run(worker: Arc<Worker>, socket: Datagrams, slot: ListenerSlot) {
    let Some(http3) = slot.load().http3.clone() else {
        return;
    };
    let (key, dispatch) = (Arc::clone(&http3.key), Arc::clone(&http3.dispatch));
    let feed = |socket| {
        feed(
            socket,
            Arc::clone(&dispatch),
            Arc::clone(&key),
            worker.index,
        )
    };
    if let Some((endpoint, own)) = worker.http3.take(&key) {
        let listening = Listening::new(&worker, &slot, &http3, endpoint, own);
        // It has a socket; what comes to the new one is for it as well.
        worker.http3.feed(&key, feed(socket));
        accept(&worker, &listening, &slot).await;
        return;
    }
    let own = match QuicSocket::new(socket, &dispatch, &key, worker.index) {
        Ok(Ok(socket)) => socket,
        Ok(Err(socket)) => return worker.http3.feed(&key, feed(socket)),
        Err(_) => return worker.cells().count_fault(Cause::Internal),
    };
    let config = dispatch.endpoint_config(worker.index, &key);
    let server = Some((*http3.config).clone());
    let socket = Arc::clone(&own);
    let made = Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime));
    let Ok(endpoint) = made else {
        return worker.cells().count_fault(Cause::Internal);
    };
    let listening = Listening::new(&worker, &slot, &http3, endpoint, own);
    accept(&worker, &listening, &slot).await;
}

/// An endpoint that accepts. Dropped, it lives on for its connections.
struct Listening {
    worker: Arc<Worker>,
    slot: ListenerSlot,
    key: Arc<str>,
    endpoint: Endpoint,
    socket: Arc<QuicSocket>,
    /// Ends with this: its connections are told to come anew, elsewhere.
    stays: watch::Sender<()>,
}

impl Listening {
    fn new(
        worker: &Arc<Worker>,
        slot: &ListenerSlot,
        http3: &Http3Plan,
        endpoint: Endpoint,
        socket: Arc<QuicSocket>,
    ) -> Self {
        Self {
            worker: Arc::clone(worker),
            slot: Arc::clone(slot),
            key: Arc::clone(&http3.key),
            endpoint,
            socket,
            stays: watch::channel(()).0,
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if self.worker.shared.drain() == Drain::Gently {
            // The next process has the same sockets: it takes what comes, and hands over what is ours.
            self.socket.set_reading(false);
        }
        // Without a runtime the worker has ended, and its connections with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let left = Left {
            worker: Arc::clone(&self.worker),
            slot: Arc::clone(&self.slot),
            key: Arc::clone(&self.key),
            endpoint: self.endpoint.clone(),
            socket: Arc::clone(&self.socket),
            looks: 0,
        };
        let refusing = runtime.spawn(left.run());
        let refusing = refusing.abort_handle();
        let retired = Retired {
            endpoint: self.endpoint.clone(),
            socket: Arc::clone(&self.socket),
            refusing,
        };
        self.worker.http3.put(Arc::clone(&self.key), retired);
    }
}

/// An endpoint that lives on for its connections.
struct Left {
    worker: Arc<Worker>,
    slot: ListenerSlot,
    key: Arc<str>,
    endpoint: Endpoint,
    socket: Arc<QuicSocket>,
    /// Since the process began to leave to another one.
    looks: u32,
}

impl Left {
    /// Turns away who comes anew, for as long as any worker's endpoint of the listener has connections.
    async fn run(mut self) {
        let mut looks = Ticker::new(LOOK);
        loop {
            tokio::select! {
                incoming = self.endpoint.accept() => match incoming {
                    Some(incoming) => self.turn_away(incoming),
                    None => break,
                },
                () = looks.tick() => if self.look() {
                    break;
                },
            }
        }
        self.worker.http3.forget(&self.key, &self.socket);
    }

    fn is_leaving(&self) -> bool {
        self.worker.shared.drain() == Drain::Gently
    }

    /// Who had to show its address to this process, and does only now, has the next one hand it over, and
    /// could come to nobody else. Who is the next one's, and came here since this one still read, is not
    /// told anything: it says it again.
    fn turn_away(&self, incoming: Incoming) {
        if !self.is_leaving() {
            return incoming.refuse();
        }
        let listener = self.slot.load();
        match &listener.http3 {
            // A token of an earlier connection is no reason: its client may be sent to the next process.
            Some(http3) if incoming.remote_address_validated() && !incoming.may_retry() => {
                // It is told at once to come anew.
                let stays = watch::channel(()).1;
                begin(&self.worker, &listener, http3, incoming, stays);
            }
            _ if self.hand_over() => incoming.ignore(),
            _ => incoming.refuse(),
        }
    }

    /// Whether the next process reads here, and so this one does not any more.
    fn hand_over(&self) -> bool {
        let is_read = self.socket.is_read_by_next() == Some(true);
        if is_read {
            // It may be for this one again.
            self.socket.set_reading(false);
        }
        is_read
    }

    /// Whether it has served its time.
    fn look(&mut self) -> bool {
        let is_idle = self.socket.set_idle(self.endpoint.open_connections() == 0);
        if !self.is_leaving() {
            return is_idle;
        }
        self.looks = self.looks.saturating_add(1);
        // One of the two reads, or the other's clients would be turned away, or nobody heard.
        let is_handed_over = self.hand_over();
        let is_known = self.socket.is_read_by_next().is_some();
        if !is_handed_over && is_known && self.looks >= SAYING {
            self.socket.set_reading(true);
        }
        is_idle && self.looks >= RETRYING
    }
}

async fn accept(worker: &Arc<Worker>, listening: &Listening, slot: &ListenerSlot) {
    let mut plan = slot.view();
    while let Some(incoming) = listening.endpoint.accept().await {
        plan.refresh(slot);
        let listener = plan.value();
        match &listener.http3 {
            // Those that have ended and whose memory is still there count as well.
            Some(http3) if listening.endpoint.open_connections() <= most(listener) => {
                let stays = listening.stays.subscribe();
                begin(worker, listener, http3, incoming, stays);
                // A handshake is work: others have their turn before the next one.
                tokio::task::yield_now().await;
            }
            Some(_) => {
                worker.cells().count_fault(Cause::Overload);
                incoming.refuse();
            }
            None => incoming.refuse(),
        }
    }
}

/// Connections of a listener.
fn most(listener: &ListenerPlan) -> usize {
    usize::try_from(listener.max_connections).unwrap_or(usize::MAX)
}

/// Begins a handshake, has an address verified, or turns a client away.
fn begin(
    worker: &Arc<Worker>,
    listener: &Arc<ListenerPlan>,
    http3: &Arc<Http3Plan>,
    incoming: Incoming,
    stays: Stays,
) {
    let cells = listener.metrics.workers.of(worker.index);
    let from = From {
        address: incoming.remote_address().ip().to_canonical(),
        is_verified: incoming.remote_address_validated(),
    };
    let handshake = match http3.handshakes.enter(from.address, from.is_verified) {
        Entry::Begin(handshake) => handshake,
        Entry::Verify if incoming.may_retry() => {
            // It fails only where it may not.
            let _ = incoming.retry();
            return;
        }
        Entry::Verify | Entry::Refuse => {
            cells.refused.add(1);
            worker.cells().count_fault(Cause::Overload);
            return incoming.refuse();
        }
    };
    let Some((open, account)) = admit(worker, listener, http3, from) else {
        cells.refused.add(1);
        return incoming.refuse();
    };
    let Ok(connecting) = incoming.accept_with(http3.config_of(&account)) else {
        return worker.cells().count_fault(Cause::BadRequest);
    };
    cells.accepted.add(1);
    let (worker, listener, http3) = (Arc::clone(worker), Arc::clone(listener), Arc::clone(http3));
    tokio::spawn(async move {
        let connecting = (connecting, account, stays);
        serve::serve(worker, listener, http3, from, connecting, handshake).await;
        drop(open);
    });
}

/// Whether there is room for one more connection, and the memory that it takes.
fn admit(
    worker: &Arc<Worker>,
    listener: &ListenerPlan,
    http3: &Http3Plan,
    from: From,
) -> Option<(OpenConnection, Arc<Account>)> {
    let count = listener.metrics.open.add(1) + 1;
    let open = OpenConnection::new(&worker.shared, &listener.metrics, worker.index);
    if count > i64::from(listener.max_connections) {
        worker.cells().count_fault(Cause::Overload);
        return None;
    }
    // Connections alone may have half of the memory: the rest is for what they do.
    let ledger = &worker.shared.ledger;
    let charge = match ledger.is_tight() {
        true => None,
        false => ledger.charge(CONNECTION_BYTES + STREAM_BYTES * u64::from(http3.max_streams)),
    };
    let Some(charge) = charge else {
        worker.cells().count_fault(Cause::MemoryLimit);
        return None;
    };
    let holders = &worker.shared.holders;
    // Without early data nothing comes before the handshake has shown the address.
    let holder = match from.is_verified || !http3.early_data {
        true => holders.of(from.address),
        false => holders.unknown(),
    };
    let account = Account::new(ledger, charge, http3.windows, holder);
    Some((open, account))
}
