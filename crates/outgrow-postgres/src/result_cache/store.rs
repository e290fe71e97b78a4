//! Answers by key, in bounded memory. Pure: the time is an argument.
//!
//! What makes room is what came first and was not asked for since it was last looked at (CLOCK). Keys are
//! compared as a whole: two that have one hash never get each other's answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use outgrow_core::Ticks;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::epochs::Stamp;

/// Most answers that are on their way at a time, of which others know.
const MOST_FILLS: usize = 4096;
/// What an answer takes besides its bytes, about.
const OVERHEAD: u64 = 256;

/// An answer.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Box<[u8]>,
    pub(super) answer: Arc<[u8]>,
    pub(super) until: Ticks,
    pub(super) stamp: Stamp,
}

impl Entry {
    fn bytes(&self) -> u64 {
        OVERHEAD + (self.key.len() + self.answer.len() + self.stamp.bytes()) as u64
    }
}

#[derive(Debug)]
struct Slot {
    entry: Entry,
    is_used: bool,
    /// Tells it from another one of the same hash in the line.
    number: u64,
}

/// Answers by key.
#[derive(Debug, Default)]
pub(super) struct Store {
    by_hash: HashMap<u64, Slot>,
    /// In the order in which they came; those that are gone are passed over.
    line: VecDeque<(u64, u64)>,
    bytes: u64,
    last: u64,
    fills: HashMap<u64, (Ticks, Arc<Notify>)>,
    hits: u64,
    misses: u64,
    filled: u64,
    evictions: u64,
}

impl Store {
    /// The answer, if there is one that is good.
    pub(super) fn get(
        &mut self,
        hash: u64,
        key: &[u8],
        now: Ticks,
        is_good: impl Fn(&Stamp) -> bool,
    ) -> Option<Arc<[u8]>> {
        let slot = self.by_hash.get_mut(&hash)?;
        if *slot.entry.key != *key {
            return None;
        }
        if now < slot.entry.until && is_good(&slot.entry.stamp) {
            slot.is_used = true;
            self.hits += 1;
            return Some(Arc::clone(&slot.entry.answer));
        }
        self.remove(hash);
        None
    }

    fn remove(&mut self, hash: u64) {
        if let Some(slot) = self.by_hash.remove(&hash) {
            self.bytes -= slot.entry.bytes();
        }
    }

    /// Keeps an answer, in at most `limit` bytes of all.
    pub(super) fn put(&mut self, hash: u64, entry: Entry, limit: u64) {
        self.remove(hash);
        let bytes = entry.bytes();
        if bytes > limit {
            return;
        }
        while self.bytes + bytes > limit && self.evict() {}
        self.last += 1;
        self.line.push_back((hash, self.last));
        self.bytes += bytes;
        self.filled += 1;
        let slot = Slot {
            entry,
            is_used: false,
            number: self.last,
        };
        self.by_hash.insert(hash, slot);
        // Places of those that are gone do not add up.
        if self.line.len() > 2 * self.by_hash.len() + 64 {
            let by_hash = &self.by_hash;
            let is_there = |hash: u64, number: u64| {
                by_hash.get(&hash).is_some_and(|slot| slot.number == number)
            };
            self.line.retain(|(hash, number)| is_there(*hash, *number));
        }
    }

    /// Makes room; false when there is nothing left that could go.
    fn evict(&mut self) -> bool {
        while let Some((hash, number)) = self.line.pop_front() {
            let Some(slot) = self.by_hash.get_mut(&hash) else {
                continue;
            };
            if slot.number != number {
                continue;
            }
            if std::mem::take(&mut slot.is_used) {
                self.line.push_back((hash, number));
                continue;
            }
            self.remove(hash);
            self.evictions += 1;
            return true;
        }
        false
    }

    /// By which one hears when an answer that is on its way is there.
    pub(super) fn filling(&self, hash: u64, now: Ticks) -> Option<OwnedNotified> {
        let (until, notify) = self.fills.get(&hash)?;
        (now < *until).then(|| Arc::clone(notify).notified_owned())
    }

    /// An answer is on its way, and waited for until then.
    pub(super) fn begin_fill(&mut self, hash: u64, now: Ticks, until: Ticks) {
        self.misses += 1;
        if self.fills.len() >= MOST_FILLS {
            self.fills.retain(|_, (until, _)| now < *until);
        }
        if self.fills.len() < MOST_FILLS {
            self.fills.insert(hash, (until, Arc::default()));
        }
    }

    /// It is there, or does not come.
    pub(super) fn end_fill(&mut self, hash: u64) {
        if let Some((_, notify)) = self.fills.remove(&hash) {
            notify.notify_waiters();
        }
    }

    /// Adds what is counted.
    pub(super) fn add_to(&self, counts: &mut super::Counts) {
        counts.hits += self.hits;
        counts.misses += self.misses;
        counts.fills += self.filled;
        counts.evictions += self.evictions;
        counts.entries += self.by_hash.len() as u64;
        counts.bytes += self.bytes;
    }
}
