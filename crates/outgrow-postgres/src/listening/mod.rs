//! LISTEN without a connection for each client: one connection of a pool, to the primary, listens on
//! all channels of its clients, and each client is told what is notified on its own.
//!
//! A client's `LISTEN` goes to the server that is lent to it, like any statement, so that the server
//! judges it, and counts once it is committed. Before it is sent the shared connection listens on the
//! channel, so that nothing is missed; what is notified until the commit is kept and told then. The
//! server that was lent is told to unlisten before somebody else gets it. As in Postgres a client
//! hears notifications in their order, outside of transactions only.
//!
//! When the shared connection is lost, notifications may be: a client that listened is ended, as it
//! would be with a server that ended, so that it connects and listens anew. One that does not read
//! what waits for it is ended too.
//!
//! What tells a client that a notification is its own is the process that notified, which it knows by
//! the number that we gave it. [`Hub::hold`] says for whom a server process works. That is exact, since
//! it is asked for before the client notifies, once all that is older has been heard
//! ([`Hub::fence`]), and given up when all that the client notified has been.
//!
//! In an upgrade a client that listens goes to the next process with all that is notified
//! ([`crossing`]): that one has an ear for it before it is there ([`landing`]).
//!
//! Not here: which statements listen (`sql/facts`), when their changes count (`client/session.rs`).

mod board;
pub(crate) mod crossing;
mod ear;
pub(crate) mod landing;
#[cfg(test)]
pub(crate) mod listener;
#[cfg(test)]
mod simulation;
mod task;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outgrow_core::Ticks;
use tokio::sync::Notify;

use board::{Asked, Batch, Board};
use crossing::Marker;
use ear::Notification;
pub(crate) use ear::{Change, Ear, Hearing};

use crate::plan::{Hosts, PoolPlan};
use crate::pool::Pool;
use crate::problem::Refusal;
use crate::worker::Worker;

/// The longest name of a channel that the server does not cut, in bytes (`NAMEDATALEN` less one).
const LONGEST_NAME: usize = 63;
/// After a connection that failed, until the next one is tried: clients that listen meanwhile keep
/// their own.
const RETRY: Duration = Duration::from_secs(1);
/// Most channels of markers that a pool listens on, besides those of its clients.
const MOST_MARKERS: usize = 256;
/// Most markers that are notified at once.
const MARKERS_AT_ONCE: usize = 100;
/// `configuration_limit_exceeded`.
const TOO_MUCH: &str = "53400";

/// How many clients listen, and on how many channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) listeners: usize,
    pub(crate) channels: usize,
}

/// Questions that wait for an answer: their numbers, and who asks.
type Fences = Vec<(u64, Arc<Ear>)>;

#[derive(Debug, Default)]
struct Inner {
    board: Board<Arc<Ear>>,
    /// Whether there is a connection, or one is being made.
    is_running: bool,
    /// The encoding of its texts.
    encoding: Box<str>,
    /// Clients that want to know when all has been heard that was notified before, with the numbers
    /// of their questions.
    fences: Fences,
    last_fence: u64,
    /// Markers that are to be notified.
    marks: VecDeque<Marker>,
    /// Server processes that work for clients that notify, with those clients' own numbers.
    holders: HashMap<u32, u32>,
    /// When there was no connection.
    failed: Option<Ticks>,
}

impl Inner {
    /// Has a channel listened on for a client; a pool may have `most`.
    fn want(&mut self, name: &board::Name, ear: &Arc<Ear>, most: u32) -> Hearing {
        let hearing = match self.board.ask(name, ear.number(), ear, most as usize) {
            Asked::Heard => Hearing::Promised,
            Asked::Later => Hearing::Asked,
            Asked::Full => return Hearing::Refused,
        };
        ear.set(name, hearing);
        hearing
    }
}

/// The shared connection of a pool, as clients see it.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    changed: Notify,
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks when everything has been heard that was committed up to now; see [`Ear::is_fenced`].
    pub(crate) fn fence(&self, ear: &Arc<Ear>) -> u64 {
        let mut inner = self.lock();
        inner.last_fence += 1;
        let number = inner.last_fence;
        if inner.is_running {
            inner.fences.push((number, Arc::clone(ear)));
            self.changed.notify_one();
        } else {
            // Nobody hears anything.
            ear.set_fenced(number);
        }
        number
    }

    /// Says for which client, as clients know it, a server process works, until that is dropped.
    pub(crate) fn hold(pool: &Arc<Pool>, process: u32, client: u32) -> Held {
        pool.hub.lock().holders.insert(process, client);
        Held {
            pool: Arc::clone(pool),
            process,
        }
    }

    /// Has the shared connection listen on the channel of a client's marker; what becomes of it is in
    /// the ear.
    pub(crate) fn expect_mark(&self, ear: &Arc<Ear>) {
        let Some(channel) = ear.marker_channel() else {
            return;
        };
        let mut inner = self.lock();
        let asked = match inner.is_running {
            true => {
                let board = &mut inner.board;
                board.ask_marker(&channel, ear.number(), ear, MOST_MARKERS)
            }
            false => Asked::Full,
        };
        self.changed.notify_one();
        drop(inner);
        match asked {
            Asked::Later => {}
            Asked::Heard => ear.told(&channel, true),
            Asked::Full => ear.told(&channel, false),
        }
    }

    /// Notifies a marker, in a transaction of its own or with others.
    pub(crate) fn mark(&self, marker: Marker) {
        self.lock().marks.push_back(marker);
        self.changed.notify_one();
    }

    /// A client does not listen on these channels any more.
    pub(crate) fn leave(&self, names: &[board::Name], ear: &Ear) {
        if names.is_empty() {
            return;
        }
        let mut inner = self.lock();
        for name in names {
            inner.board.leave(name, ear.number());
        }
        self.changed.notify_one();
    }

    /// A client leaves.
    pub(crate) fn forget(&self, ear: &Ear) {
        self.leave(&ear.clear(), ear);
    }

    /// How it is used.
    pub(crate) fn counts(&self) -> Counts {
        let inner = self.lock();
        Counts {
            listeners: inner.board.listeners(),
            channels: inner.board.channels(),
        }
    }

    /// What is to be said next, with the questions that its answer answers; none when there is
    /// nothing.
    fn next(&self) -> Option<(Batch, Fences)> {
        let mut inner = self.lock();
        let fences = std::mem::take(&mut inner.fences);
        if !inner.marks.is_empty() {
            let count = inner.marks.len().min(MARKERS_AT_ONCE);
            let batch = Batch::of_marks(inner.marks.drain(..count));
            return Some((batch, fences));
        }
        if fences.is_empty() && !inner.board.has_more() {
            return None;
        }
        Some((inner.board.next_batch(), fences))
    }

    fn answered(&self, batch: Batch, is_done: bool) {
        let mut inner = self.lock();
        // Markers that did not come to be: those clients begin anew.
        let marks = batch.marks().iter().filter(|_| !is_done);
        let lost: Vec<_> = marks
            .flat_map(|name| inner.board.ears(name).cloned())
            .collect();
        let told = inner.board.answered(batch, is_done);
        drop(inner);
        for (name, ear) in told {
            ear.told(&name, is_done);
        }
        for ear in lost {
            ear.lose_crossing();
        }
    }

    /// Gives a notification to those who listen; gives to how many, and for how many it was too
    /// much.
    fn deliver(&self, process: u32, channel: &[u8], payload: &[u8], limit: usize) -> (u64, u64) {
        let inner = self.lock();
        let notification = Arc::new(Notification {
            process: inner.holders.get(&process).copied().unwrap_or(process),
            channel: channel.into(),
            payload: payload.into(),
        });
        let (mut count, mut overflows) = (0, 0);
        for ear in inner.board.ears(channel) {
            let overflow = || {
                let message = format!(
                    "more than {limit} bytes of notifications wait for this client, which does not \
                     read them"
                );
                Refusal::new(TOO_MUCH, message)
            };
            count += 1;
            overflows += u64::from(!ear.push(&notification, limit, overflow));
        }
        (count, overflows)
    }

    /// Whether there is no connection, and none is being made.
    fn is_down(&self) -> bool {
        !self.lock().is_running
    }

    /// Whether nobody wants it any more; then it is not running from now on.
    fn stop_unused(&self) -> bool {
        let mut inner = self.lock();
        let is_unused =
            inner.board.channels() == 0 && inner.fences.is_empty() && inner.marks.is_empty();
        inner.is_running &= !is_unused;
        is_unused
    }

    /// There is no connection any more: whoever listened is told.
    fn end(&self, refusal: &Refusal, failed: Option<Ticks>) {
        let mut inner = self.lock();
        inner.is_running = false;
        inner.failed = failed.or(inner.failed);
        inner.holders.clear();
        inner.marks.clear();
        let fences = std::mem::take(&mut inner.fences);
        let ears = inner.board.clear();
        drop(inner);
        for ear in ears {
            ear.end(refusal);
        }
        for (number, ear) in fences {
            ear.set_fenced(number);
        }
    }
}

/// A server process works for a client.
#[derive(Debug)]
pub(crate) struct Held {
    pool: Arc<Pool>,
    process: u32,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.pool.hub.lock().holders.remove(&self.process);
    }
}

/// Has the shared connection of a pool listen on a channel for a client that reads texts in
/// `encoding`; what becomes of it is in its ear.
pub(crate) fn ask(
    worker: &Arc<Worker>,
    pool: &Arc<Pool>,
    ear: &Arc<Ear>,
    name: &[u8],
    encoding: &str,
) -> Hearing {
    let hearing = try_ask(worker, pool, ear, name, encoding);
    if hearing == Hearing::Refused {
        pool.numbers.listens_alone.add(1);
    }
    hearing
}

/// Whether a pool may have a shared connection.
fn can_share(plan: &PoolPlan) -> bool {
    let database = &plan.database;
    // With servers that are taken in turn nobody knows where somebody notifies.
    let has_one =
        database.hosts == Hosts::ByRole || database.service.endpoints().load().all.len() == 1;
    plan.house.notifications.is_shared && has_one
}

fn try_ask(
    worker: &Arc<Worker>,
    pool: &Arc<Pool>,
    ear: &Arc<Ear>,
    name: &[u8],
    encoding: &str,
) -> Hearing {
    let plan = pool.plan();
    let limits = &plan.house.notifications;
    if !can_share(&plan) || ear.channels() >= limits.most_of_client as usize {
        return Hearing::Refused;
    }
    let now = worker.now();
    let mut inner = pool.hub.lock();
    if !inner.is_running {
        if inner.failed.is_some_and(|at| now.since(at) < RETRY) {
            return Hearing::Refused;
        }
        inner.encoding = encoding.into();
    } else if *inner.encoding != *encoding {
        return Hearing::Refused;
    }
    let name: board::Name = name.into();
    let hearing = inner.want(&name, ear, limits.most_channels);
    if hearing == Hearing::Refused {
        return hearing;
    }
    if !inner.is_running {
        inner.is_running = true;
        tokio::spawn(task::run(Arc::clone(worker), Arc::clone(pool)));
    }
    pool.hub.changed.notify_one();
    hearing
}

/// A channel's name as it stands in a statement, as the server knows it. None when that depends on
/// encodings, or cannot be told: then the client listens by itself.
pub(crate) fn channel_name(written: crate::sql::name::Name<'_>) -> Option<board::Name> {
    let crate::sql::name::Name::Written(text) = written else {
        return None;
    };
    let first = *text.first()?;
    let is_word = first.is_ascii_alphabetic() || matches!(first, b'_' | b'"');
    // `U&"…"`
    let is_escaped = text.len() > 1 && matches!(first, b'u' | b'U') && text[1] == b'&';
    let mut name = written.folded().into_owned();
    if !is_word || is_escaped || !name.is_ascii() || name.is_empty() {
        return None;
    }
    name.truncate(LONGEST_NAME);
    Some(name.into())
}
