//! A worker's socket of a listener: each datagram to its session, new sessions to an endpoint.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outgrow_balance::hash::hash;
use outgrow_core::Ticks;
use outgrow_net::Datagrams;
use outgrow_upstream::{Permit, Unavailable, Wish};
use tokio::task::AbortHandle;

use super::session::Session;
use super::sessions::{Arrival, SessionId, Sessions};
use crate::end::End;
use crate::plan::{UdpPlan, UdpSlot};
use crate::worker::Worker;

/// Why a session finds no room at any endpoint.
const BUSY: &str = "busy";

/// The listener's socket with its sessions.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(super) socket: Datagrams,
    table: Mutex<Sessions>,
    lines: Mutex<HashMap<SessionId, Line>>,
}

/// The way to a session's endpoint.
#[derive(Debug)]
struct Line {
    socket: Arc<Datagrams>,
    /// Ends its task.
    task: AbortHandle,
    /// Its place at the endpoint.
    permit: Option<Permit>,
    /// Bytes that its source has sent.
    received_bytes: u64,
}

impl Listening {
    pub(super) fn table(&self) -> MutexGuard<'_, Sessions> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<SessionId, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a session that gives way. Its place at the endpoint is free at once, the rest of it when its
    /// task gets its turn.
    fn let_go(&self, id: SessionId) {
        let mut lines = self.lines();
        let line = lines.get_mut(&id);
        let permit = line.and_then(|line| {
            line.task.abort();
            line.permit.take()
        });
        drop(lines);
        drop(permit);
    }

    /// Forgets a session that has ended; how many bytes its source had sent.
    pub(super) fn forget(&self, id: SessionId) -> u64 {
        self.table().end(id);
        let line = self.lines().remove(&id);
        line.map_or(0, |line| line.received_bytes)
    }
}

/// Some datagrams of one source that came together.
struct Group<'b> {
    source: SocketAddr,
    /// The address that the source asked.
    asked: Option<IpAddr>,
    bytes: &'b [u8],
    /// The length of each but the last one.
    stride: usize,
}

/// Takes datagrams for ever; aborted when the listener goes or drains. Sessions stay.
pub(crate) async fn run(worker: Arc<Worker>, socket: Datagrams, slot: UdpSlot) {
    let listening = Arc::new(Listening {
        socket,
        table: Mutex::default(),
        lines: Mutex::default(),
    });
    let mut plan = slot.view();
    worker.shared.crowds.join(&plan.value().name, &listening);
    loop {
        poll_fn(|cx| {
            let mut scratch = worker.scratch();
            let received = std::task::ready!(listening.socket.poll_receive(cx, &mut scratch));
            plan.refresh(&slot);
            let now = worker.now();
            // An error is one of a datagram that was sent before: there is nothing to be done.
            for group in received.into_iter().flatten() {
                let group = Group {
                    source: group.source,
                    asked: group.asked,
                    bytes: &scratch.bytes(&group)[..group.length],
                    stride: group.stride,
                };
                pass_on(&worker, &listening, plan.value(), &group, now);
            }
            std::task::Poll::Ready(())
        })
        .await;
        // Sessions that gave way let go of what they have, and others of the worker get their turn,
        // however much comes.
        tokio::task::yield_now().await;
    }
}

/// Passes datagrams on to their session's endpoint, or drops them.
fn pass_on(
    worker: &Arc<Worker>,
    listening: &Arc<Listening>,
    plan: &Arc<UdpPlan>,
    group: &Group<'_>,
    now: Ticks,
) {
    let cells = plan.metrics.of(worker.index);
    let count = group.bytes.len().div_ceil(group.stride.max(1)).max(1) as u32;
    cells.received_datagrams.add(u64::from(count));
    let arrival = listening
        .table()
        .arrive(group.source, count, &plan.limits, now);
    let id = match arrival {
        Arrival::Known(id) => id,
        Arrival::New(id, gone) => {
            if let Some(gone) = gone {
                listening.let_go(gone);
            }
            if let Err(reason) = begin(worker, listening, plan, group, id, now) {
                listening.table().end(id);
                cells.count_dropped(reason, u64::from(count));
                return;
            }
            id
        }
        Arrival::Full => return cells.count_dropped("too_many_sessions", u64::from(count)),
        Arrival::FullAddress => {
            return cells.count_dropped("too_many_of_address", u64::from(count));
        }
    };
    let mut lines = listening.lines();
    let Some(line) = lines.get_mut(&id) else {
        return cells.count_dropped("session_gone", u64::from(count));
    };
    match line.socket.send_on(group.bytes, group.stride) {
        Ok(()) => {
            line.received_bytes += group.bytes.len() as u64;
            cells.received_bytes.add(group.bytes.len() as u64);
        }
        // What was said of datagrams before is told here as well: the session looks at it.
        Err(_) => cells.count_dropped("endpoint_not_taken", u64::from(count)),
    }
}

/// A new session: an endpoint, a socket, a task. Or why not.
fn begin(
    worker: &Arc<Worker>,
    listening: &Arc<Listening>,
    plan: &Arc<UdpPlan>,
    group: &Group<'_>,
    id: SessionId,
    now: Ticks,
) -> Result<(), &'static str> {
    let target = plan.target.as_ref().ok_or("no_endpoint")?;
    let permit = match choose(worker, target, group.source, now) {
        Err(BUSY) if make_room(worker, listening, plan, (id, now)) => {
            choose(worker, target, group.source, now)?
        }
        chosen => chosen?,
    };
    let endpoint = Arc::clone(permit.endpoint());
    let address = endpoint.first_address().ok_or("no_address")?;
    let socket = listening
        .socket
        .connected(address)
        .map_err(|_| "no_socket")?;
    let socket = Arc::new(socket);
    worker.shared.loads[worker.index].fetch_add(1, Ordering::Relaxed);
    plan.metrics.open.add(1);
    plan.metrics.of(worker.index).accepted.add(1);
    let session = Session {
        worker: Arc::clone(worker),
        listening: Arc::clone(listening),
        plan: Arc::clone(plan),
        target: Arc::clone(target),
        id,
        name: worker.new_id(),
        source: group.source,
        asked: group.asked,
        socket: Arc::clone(&socket),
        endpoint,
        began: now,
        sent_bytes: 0,
        end: End::GaveWay,
    };
    let task = tokio::spawn(session.run()).abort_handle();
    let line = Line {
        socket,
        task,
        permit: Some(permit),
        received_bytes: 0,
    };
    listening.lines().insert(id, line);
    Ok(())
}

/// The endpoints' room is shared as the listener's is: one that may give way does, of this worker or, where
/// it has none, of another one. One that was answered, of whichever worker, stays for as long as any has one
/// that was not.
fn make_room(
    worker: &Worker,
    listening: &Arc<Listening>,
    plan: &UdpPlan,
    (id, now): (SessionId, Ticks),
) -> bool {
    let unanswered = |of: &Arc<Listening>, to: Option<SessionId>| {
        let gone = of.table().unanswered_gives_way(to);
        gone.inspect(|gone| of.let_go(*gone)).is_some()
    };
    let quiet = |of: &Arc<Listening>| {
        let gone = of.table().quiet_gives_way(now);
        gone.inspect(|gone| of.let_go(*gone)).is_some()
    };
    if unanswered(listening, Some(id)) {
        return true;
    }
    let others = worker.shared.crowds.others(&plan.name, listening);
    others.iter().any(|other| unanswered(other, None))
        || quiet(listening)
        || others.iter().any(quiet)
}

fn choose(
    worker: &Worker,
    target: &crate::plan::Target,
    source: SocketAddr,
    now: Ticks,
) -> Result<Permit, &'static str> {
    let key = target.hashes.then(|| {
        let text = source.ip().to_canonical().to_string();
        hash(text.as_bytes())
    });
    let wish = Wish {
        key,
        ..Wish::default()
    };
    let chooser = target.chooser(worker.index).lock();
    let mut chooser = chooser.unwrap_or_else(PoisonError::into_inner);
    let chooser = &mut *chooser;
    let service = &target.service;
    let chosen = service.choose(&mut chooser.view, now, &mut chooser.random, wish);
    chosen.map_err(|unavailable| match unavailable {
        Unavailable::NoEndpoint => "no_endpoint",
        Unavailable::Full(_) | Unavailable::Busy => BUSY,
    })
}
