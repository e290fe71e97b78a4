//! What one client hears: the channels that it listens on, and what has been notified there and was
//! not yet sent to it.
//!
//! A channel is first asked for, then promised: the shared connection listens on it, but the
//! client's transaction with the `LISTEN` is not committed. What is notified meanwhile is kept, and
//! heard when it is.
//!
//! Not here: a client that listens and changes its process (`ear/cross.rs`).

mod cross;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use super::board::Name;
use super::crossing::Crossing;
use crate::problem::Refusal;
use crate::seen::ClientSeen;
use crate::wire::{backend, write};

/// What a notification takes besides its texts: about what a queue needs for it.
const OVERHEAD: usize = 48;

/// A notification.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Notification {
    /// Who notified, as clients know it.
    pub(crate) process: u32,
    pub(crate) channel: Name,
    pub(crate) payload: Box<[u8]>,
}

impl Notification {
    fn bytes(&self) -> usize {
        OVERHEAD + self.channel.len() + self.payload.len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        write::message(out, backend::NOTIFICATION_RESPONSE, |out| {
            out.extend_from_slice(&self.process.to_be_bytes());
            write::text(out, &self.channel);
            write::text(out, &self.payload);
        });
    }
}

/// How a client stands to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hearing {
    /// The shared connection was asked to listen.
    Asked,
    /// It cannot.
    Refused,
    /// It does; the client's `LISTEN` is not committed.
    Promised,
    /// The client listens.
    Active,
}

/// A change of what a client listens on, once it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// `LISTEN`
    Listen(Name),
    /// `UNLISTEN`
    Unlisten(Name),
    /// `UNLISTEN *`, or what does the same.
    UnlistenAll,
}

#[derive(Debug, Default)]
struct Inner {
    channels: HashMap<Name, Hearing>,
    queue: VecDeque<Arc<Notification>>,
    bytes: usize,
    /// Why the client is to be ended.
    over: Option<Refusal>,
    /// Up to which number what was notified has been heard.
    fenced: u64,
    /// The client changes its process.
    crossing: Option<Box<Crossing>>,
}

/// A client's.
#[derive(Debug)]
pub(crate) struct Ear {
    number: u64,
    /// None while the client is not there yet.
    seen: OnceLock<Arc<ClientSeen>>,
    /// Of a client that changes its process: wakes who prepares that.
    news: OnceLock<Box<Notify>>,
    inner: Mutex<Inner>,
}

impl Ear {
    /// That of a client.
    pub(crate) fn new(seen: &Arc<ClientSeen>) -> Arc<Self> {
        Arc::new(Self {
            number: seen.number,
            seen: Arc::clone(seen).into(),
            news: OnceLock::new(),
            inner: Mutex::default(),
        })
    }

    /// Lets whom it concerns look.
    fn nudge(&self) {
        if let Some(seen) = self.seen.get() {
            seen.nudge();
        }
        if let Some(news) = self.news.get() {
            news.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client's number; no other ear has it.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// How the client stands to a channel; none: not at all.
    pub(crate) fn hearing(&self, name: &[u8]) -> Option<Hearing> {
        self.lock().channels.get(name).copied()
    }

    /// Whether it has to do with any channel.
    pub(crate) fn has_any(&self) -> bool {
        !self.lock().channels.is_empty()
    }

    /// How many channels it has to do with.
    pub(crate) fn channels(&self) -> usize {
        self.lock().channels.len()
    }

    pub(super) fn set(&self, name: &Name, hearing: Hearing) {
        self.lock().channels.insert(Arc::clone(name), hearing);
    }

    /// The shared connection has said whether it listens on a channel.
    pub(super) fn told(&self, name: &[u8], is_heard: bool) {
        let mut inner = self.lock();
        if let Some(hearing @ Hearing::Asked) = inner.channels.get_mut(name) {
            *hearing = if is_heard {
                Hearing::Promised
            } else {
                Hearing::Refused
            };
        }
        inner.tell_crossing(name, is_heard);
        drop(inner);
        self.nudge();
    }

    /// Everything that was committed before the question `number` has been heard.
    pub(super) fn set_fenced(&self, number: u64) {
        let mut inner = self.lock();
        inner.fenced = inner.fenced.max(number);
        drop(inner);
        self.nudge();
    }

    /// Whether the answer to that question is there, or none will come.
    pub(crate) fn is_fenced(&self, number: u64) -> bool {
        let inner = self.lock();
        inner.fenced >= number || inner.over.is_some()
    }

    /// Keeps a notification for the client; false when that was one too many: what waits for it may
    /// take `limit` bytes, and it is ended with `overflow`.
    pub(super) fn push(
        &self,
        notification: &Arc<Notification>,
        limit: usize,
        overflow: impl FnOnce() -> Refusal,
    ) -> bool {
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.over.is_some() {
            return true;
        }
        let queue = match &mut inner.crossing {
            None => Some(&mut inner.queue),
            Some(crossing) => crossing.place(notification, &mut inner.queue),
        };
        let bytes = inner.bytes + notification.bytes();
        let fits = match queue {
            // A marker, or what the other process tells.
            None => true,
            Some(_) if !inner.channels.contains_key(&notification.channel) => true,
            Some(queue) if bytes <= limit => {
                queue.push_back(Arc::clone(notification));
                inner.bytes = bytes;
                true
            }
            Some(_) => {
                inner.queue = VecDeque::new();
                inner.bytes = 0;
                inner.over = Some(overflow());
                false
            }
        };
        drop(guard);
        self.nudge();
        fits
    }

    /// The client is to be ended as soon as it is in no transaction.
    pub(super) fn end(&self, refusal: &Refusal) {
        let mut inner = self.lock();
        // Who only asked hears that it cannot be done, and nothing was missed.
        let mut states = inner.channels.values();
        if states.any(|hearing| matches!(hearing, Hearing::Active | Hearing::Promised)) {
            inner.over.get_or_insert_with(|| refusal.clone());
        }
        for hearing in inner.channels.values_mut() {
            *hearing = Hearing::Refused;
        }
        drop(inner);
        self.nudge();
    }

    /// Why the client is to be ended, if it is.
    pub(crate) fn over(&self) -> Option<Refusal> {
        self.lock().over.clone()
    }

    /// Nothing that was notified up to now concerns a `LISTEN` that may yet be committed.
    pub(crate) fn drop_promised(&self) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let (channels, bytes) = (&inner.channels, &mut inner.bytes);
        inner.queue.retain(|one| {
            let stays = channels.get(&one.channel) == Some(&Hearing::Active);
            *bytes -= if stays { 0 } else { one.bytes() };
            stays
        });
    }

    /// Changes are committed; gives the channels that the client does not listen on any more. A
    /// channel that is to be listened on and was not promised is left out: somebody else sees to it.
    pub(crate) fn settle(&self, changes: &[Change]) -> Vec<Name> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let mut wanted: HashMap<&Name, bool> = HashMap::new();
        for change in changes {
            match change {
                Change::Listen(name) => {
                    wanted.insert(name, true);
                }
                Change::Unlisten(name) => {
                    wanted.insert(name, false);
                }
                Change::UnlistenAll => {
                    wanted.clear();
                    let active = inner.channels.iter();
                    let active = active.filter(|(_, hearing)| **hearing == Hearing::Active);
                    wanted.extend(active.map(|(name, _)| (name, false)));
                }
            }
        }
        let wanted: Vec<(Name, bool)> = wanted
            .into_iter()
            .map(|(name, wants)| (Arc::clone(name), wants))
            .collect();
        let mut gone = Vec::new();
        for (name, wants) in wanted {
            match inner.channels.get_mut(&name) {
                Some(hearing @ Hearing::Promised) if wants => *hearing = Hearing::Active,
                Some(Hearing::Active) if !wants => {
                    inner.channels.remove(&name);
                    gone.push(name);
                }
                _ => {}
            }
        }
        inner.sweep();
        gone
    }

    /// Gives up what was asked for and not committed; gives those channels.
    pub(crate) fn give_up(&self) -> Vec<Name> {
        let mut inner = self.lock();
        let mut gone = Vec::new();
        inner.channels.retain(|name, hearing| {
            let stays = *hearing == Hearing::Active;
            if !stays {
                gone.push(Arc::clone(name));
            }
            stays
        });
        if !gone.is_empty() {
            inner.sweep();
        }
        gone
    }

    /// All channels, none of which the client has to do with any more.
    pub(super) fn clear(&self) -> Vec<Name> {
        let mut inner = self.lock();
        inner.queue = VecDeque::new();
        inner.bytes = 0;
        let marker = inner.crossing.take().map(|one| one.channel());
        let names = inner.channels.drain().map(|(name, _)| name);
        names.chain(marker).collect()
    }

    /// Writes what the client is to get, at most about `limit` bytes at a time; gives how many. With
    /// `is_same` false the client reads texts in another encoding than the shared connection: what is
    /// not ASCII cannot be sent to it, and ends it with `foreign`.
    pub(crate) fn take(
        &self,
        out: &mut Vec<u8>,
        limit: usize,
        is_same: bool,
        foreign: impl FnOnce() -> Refusal,
    ) -> u64 {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let (start, mut count, mut place) = (out.len(), 0, 0);
        while out.len() - start < limit {
            let Some(next) = inner.queue.get(place) else {
                break;
            };
            if inner.channels.get(&next.channel) != Some(&Hearing::Active) {
                place += 1;
                continue;
            }
            if !is_same && !next.payload.is_ascii() {
                inner.over.get_or_insert_with(foreign);
                break;
            }
            if let Some(next) = inner.queue.remove(place) {
                inner.bytes -= next.bytes();
                next.write(out);
                count += 1;
            }
        }
        if inner.queue.is_empty() && inner.queue.capacity() > 64 {
            inner.queue = VecDeque::new();
        }
        count
    }
}

impl Inner {
    /// Drops what was notified on channels that the client has nothing to do with any more.
    fn sweep(&mut self) {
        let (channels, bytes) = (&self.channels, &mut self.bytes);
        self.queue.retain(|one| {
            let stays = channels.contains_key(&one.channel);
            *bytes -= if stays { 0 } else { one.bytes() };
            stays
        });
    }
}
