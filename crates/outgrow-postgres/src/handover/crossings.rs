//! Clients that listen and are about to go to the next process: that it listens for them is prepared
//! before they are offered. What it says of that finds its client here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};

use super::Handover;
use super::link::Outgoing;
use super::record::Record;
use super::state::ClientState;
use crate::listening::crossing::{Marker, Standing};
use crate::listening::{Ear, Hub};
use crate::shared::Shared;

/// Clients that cross at a time.
pub(super) const AT_ONCE: usize = 64;
/// How long the next process may take to listen for one.
const PREPARE_LIMIT: Duration = Duration::from_secs(10);
/// For how long what it has prepared is good while the client is not at rest.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// How long the rest may take; its parts have limits of their own, which are shorter together.
const CROSS_LIMIT: Duration = Duration::from_secs(60);

/// Those of a process that leaves.
#[derive(Debug)]
pub(super) struct Crossings {
    /// By ticket: the link to the process that prepares, and the client's ear.
    ears: Mutex<HashMap<u64, (u64, Arc<Ear>)>>,
    permits: Semaphore,
    /// Whether the next process takes clients that listen.
    is_possible: AtomicBool,
}

impl Default for Crossings {
    fn default() -> Self {
        Self {
            ears: Mutex::default(),
            permits: Semaphore::new(AT_ONCE),
            is_possible: AtomicBool::new(false),
        }
    }
}

impl Crossings {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, (u64, Arc<Ear>)>> {
        self.ears.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether the next process takes clients that listen.
    pub(super) fn set_possible(&self, is_possible: bool) {
        self.is_possible.store(is_possible, Ordering::Release);
    }

    pub(super) fn is_possible(&self) -> bool {
        self.is_possible.load(Ordering::Acquire)
    }

    /// The other side of a link has said whether it listens for a client.
    pub(super) fn answer(&self, link: u64, ticket: u64, listens: bool) {
        let found = self.lock().get(&ticket).cloned();
        if let Some((_, ear)) = found.filter(|(of, _)| *of == link) {
            ear.set_heard_there(listens);
        }
    }

    /// The link over which a client was prepared.
    pub(super) fn link(&self, ticket: u64) -> Option<u64> {
        self.lock().get(&ticket).map(|(link, _)| *link)
    }

    /// A link has ended or was replaced, and so has what was prepared over it.
    pub(super) fn lose(&self, link: u64) {
        let ears: Vec<_> = {
            let all = self.lock();
            let lost = all.values().filter(|(of, _)| *of == link);
            lost.map(|(_, ear)| Arc::clone(ear)).collect()
        };
        for ear in ears {
            ear.lose_crossing();
        }
    }
}

impl Handover {
    /// Whether the next process takes clients that listen.
    pub(crate) fn takes_listeners(&self) -> bool {
        self.crossings.is_possible()
    }

    /// The link to the next process, if it takes clients that listen, and what is to be sent on it.
    fn next_listener(&self) -> Option<(u64, mpsc::Sender<Outgoing>)> {
        let inner = self.lock();
        let (link, _) = inner.offers.as_ref().filter(|_| self.takes_listeners())?;
        Some((*link, inner.links.get(link)?.clone()))
    }

    /// Whether that is still the link to the next process.
    fn is_next(&self, link: u64) -> bool {
        self.next_listener().is_some_and(|(next, _)| next == link)
    }
}

/// A client that the next process was told of, until this is dropped.
struct Told {
    shared: Arc<Shared>,
    ticket: u64,
    out: mpsc::Sender<Outgoing>,
}

impl Drop for Told {
    fn drop(&mut self) {
        let ticket = self.ticket;
        self.shared.handover.crossings.lock().remove(&ticket);
        let stays = Outgoing::Say(Record::Stays { ticket });
        if let Err(mpsc::error::TrySendError::Full(stays)) = self.out.try_send(stays)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let out = self.out.clone();
            runtime.spawn(async move {
                let _ = out.send(stays).await;
            });
        }
    }
}

/// A client that is to cross.
#[derive(Debug)]
pub(crate) struct Traveller {
    pub(crate) ticket: u64,
    /// The shared connection of its pool.
    pub(crate) hub: Arc<Hub>,
    pub(crate) ear: Arc<Ear>,
    pub(crate) marker: Marker,
    /// The encoding in which it listens.
    pub(crate) encoding: String,
    /// Who it is, what it has proven and what it listens on.
    pub(crate) state: ClientState,
}

/// Has both processes listen for a client that is to cross. What comes of it is in its ear; what was
/// prepared is there until this is dropped, or for as long as it is good.
pub(crate) async fn prepare(shared: Arc<Shared>, traveller: Traveller) {
    let Ok(_turn) = shared.handover.crossings.permits.acquire().await else {
        return;
    };
    let Traveller {
        ticket,
        hub,
        ear,
        marker,
        encoding,
        state,
    } = traveller;
    let Some((link, out)) = shared.handover.next_listener() else {
        return ear.lose_crossing();
    };
    let Some(state) = state.encode() else {
        return ear.set_heard_there(false);
    };
    let register = (link, Arc::clone(&ear));
    shared.handover.crossings.lock().insert(ticket, register);
    let told = Told {
        shared: Arc::clone(&shared),
        ticket,
        out,
    };
    hub.expect_mark(&ear);
    let record = Record::Expect {
        ticket,
        encoding,
        channel: marker.channel().to_vec(),
        word: marker.word().to_vec(),
        state,
    };
    let is_said = told.out.send(Outgoing::Say(record)).await.is_ok();
    // It may have ended, or another one come, before the ear was to be found.
    if !is_said || !shared.handover.is_next(link) {
        return ear.lose_crossing();
    }
    ear_leaves(&ear, Standing::Waits, PREPARE_LIMIT).await;
    if ear.standing() == Standing::Waits {
        return ear.set_heard_there(false);
    }
    ear_leaves(&ear, Standing::Ready, READY_LIMIT).await;
    ear.expire_crossing();
    ear_leaves(&ear, Standing::Crosses, CROSS_LIMIT).await;
    ear_leaves(&ear, Standing::Crossed, CROSS_LIMIT).await;
}

/// Until a client is at another point, for so long.
async fn ear_leaves(ear: &Ear, standing: Standing, limit: Duration) {
    let is_gone = ear.wait(|ear| ear.standing() != standing);
    let _ = tokio::time::timeout(limit, is_gone).await;
}
