//! The query cache: whole answers to statements that only read, kept in memory and given to clients
//! without a server. Off unless it is configured.
//!
//! ```text
//! text ── tables     what a statement reads, what it may write: by names and the catalogue
//!     ── epochs      a count for each table that grows with every write seen here, at its start and its end
//!     ── store       answers by key, each with the counts that it was asked for under
//! ```
//!
//! An answer is good as long as no count that it depends on has grown since before it was asked for: so one
//! that was on its way while somebody wrote is never given out. What cannot be told by names counts as a
//! write of everything. Writes that others make, past this process, are not seen: the time to live bounds
//! how old an answer gets. What a client's rights and settings are is in the key, as they are part of what
//! is asked.
//!
//! One for each process: which worker a client is at does not matter. The driver is `client/cached.rs`.

mod epochs;
mod store;
mod tables;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use outgrow_core::Ticks;
use tokio::sync::futures::OwnedNotified;

use epochs::Epochs;
pub(crate) use epochs::{Depends, Stamp, Touch};
use store::Store;
pub(crate) use tables::{Builder, GENERATION, LOAD, Reading, Tables, says_a_time};

/// Parts that are locked on their own.
const SHARDS: usize = 16;
/// How long nothing is kept after the end of a write that came to no end: the server may be at it still.
const DOUBT: Duration = Duration::from_secs(30);
/// How long one answer is waited for by others who ask the same; after it they ask for themselves.
pub(crate) const FILL_PATIENCE: Duration = Duration::from_millis(100);

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers given from memory.
    pub hits: u64,
    /// Statements that could have been answered and were asked of a server.
    pub misses: u64,
    /// Answers that were kept.
    pub fills: u64,
    /// Writes that made answers worthless.
    pub invalidations: u64,
    /// Answers that made room for others.
    pub evictions: u64,
    /// Answers that are kept.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
}

/// One database on its servers, whatever clients call it.
#[derive(Debug, Default)]
pub(crate) struct Domain {
    epochs: Epochs,
    /// Grows with every definition seen here.
    definitions: AtomicU64,
    /// When something was last written, as `Ticks`.
    wrote: AtomicU64,
    /// Until when nothing is kept, as `Ticks`.
    doubt: AtomicU64,
    invalidations: AtomicU64,
}

impl Domain {
    /// A write begins or ends.
    pub(crate) fn touch(&self, touch: &Touch, now: Ticks) {
        if touch.is_nothing() {
            return;
        }
        self.epochs.touch(touch);
        self.wrote.fetch_max(now.0, Ordering::SeqCst);
        self.invalidations.fetch_add(1, Ordering::Relaxed);
    }

    /// A definition begins or ends: what is known of tables is to be asked anew.
    pub(crate) fn define(&self) {
        self.definitions.fetch_add(1, Ordering::SeqCst);
    }

    /// How many definitions were seen here.
    pub(crate) fn definitions(&self) -> u64 {
        self.definitions.load(Ordering::SeqCst)
    }

    /// A write came to no end that anybody knows.
    pub(crate) fn doubt(&self, touch: &Touch, now: Ticks) {
        self.doubt.fetch_max((now + DOUBT).0, Ordering::SeqCst);
        self.touch(touch, now);
    }

    /// When something was last written.
    pub(crate) fn wrote(&self) -> Option<Ticks> {
        let wrote = self.wrote.load(Ordering::SeqCst);
        (wrote > 0).then_some(Ticks(wrote))
    }

    /// What an answer that is asked for from now on rests on. None while nothing is to be kept.
    pub(crate) fn stamp(&self, depends: &Depends, now: Ticks) -> Option<Stamp> {
        if now.0 < self.doubt.load(Ordering::SeqCst) {
            return None;
        }
        Some(self.epochs.stamp(depends))
    }
}

/// What a statement that could be answered from memory gets.
pub(crate) enum Found {
    /// The answer: all messages of it.
    Answer(Arc<[u8]>),
    /// Nothing: who asks is to keep the answer.
    Fill,
    /// Nothing yet: somebody else has just asked.
    Wait(OwnedNotified),
}

/// Answers by what was asked.
#[derive(Debug)]
pub struct ResultCache {
    /// Whether answers are kept in this process, since its first client.
    is_on: OnceLock<bool>,
    domains: Mutex<HashMap<Box<str>, Arc<Domain>>>,
    shards: [Mutex<Store>; SHARDS],
    hasher: std::hash::RandomState,
}

impl Default for ResultCache {
    fn default() -> Self {
        Self {
            is_on: OnceLock::new(),
            domains: Mutex::default(),
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: std::hash::RandomState::new(),
        }
    }
}

impl ResultCache {
    /// Whether answers are kept, if the plan has it so (`is_planned`). The first client decides for all that
    /// come later: of a client that was there before, writes would not be seen.
    pub(crate) fn is_on(&self, is_planned: bool) -> bool {
        *self.is_on.get_or_init(|| is_planned)
    }

    /// Whether answers are not kept although they are to be: that begins with another process.
    pub fn waits_for_restart(&self) -> bool {
        self.is_on.get() == Some(&false)
    }

    /// The database called `name` on the servers of `service`. As many as the configuration has.
    pub(crate) fn domain(&self, service: &str, name: &str) -> Arc<Domain> {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        let key = format!("{service}\0{name}");
        Arc::clone(domains.entry(key.into()).or_default())
    }

    fn shard(&self, key: &[u8]) -> (u64, std::sync::MutexGuard<'_, Store>) {
        use std::hash::BuildHasher;
        let hash = self.hasher.hash_one(key);
        let shard = &self.shards[hash as usize % SHARDS];
        (hash, shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The answer to what has this key, if it is good still. `may_wait`: for somebody else's answer.
    pub(crate) fn find(&self, key: &[u8], domain: &Domain, now: Ticks, may_wait: bool) -> Found {
        let (hash, mut shard) = self.shard(key);
        let is_good = |stamp: &Stamp| domain.epochs.is_good(stamp);
        if let Some(answer) = shard.get(hash, key, now, is_good) {
            return Found::Answer(answer);
        }
        if may_wait && let Some(notify) = shard.filling(hash, now) {
            return Found::Wait(notify);
        }
        shard.begin_fill(hash, now, now + FILL_PATIENCE);
        Found::Fill
    }

    /// Keeps an answer, in at most `limit` bytes of all.
    pub(crate) fn fill(
        &self,
        fill: Fill,
        answer: Vec<u8>,
        domain: &Domain,
        limit: u64,
        now: Ticks,
    ) {
        let (hash, mut shard) = self.shard(&fill.key);
        shard.end_fill(hash);
        if domain.epochs.is_good(&fill.stamp) {
            let entry = store::Entry {
                key: fill.key,
                answer: answer.into(),
                until: now + fill.ttl,
                stamp: fill.stamp,
            };
            shard.put(hash, entry, limit / SHARDS as u64);
        }
    }

    /// There is no answer to be kept after all: nobody waits for it any more.
    pub(crate) fn give_up(&self, fill: &Fill) {
        let (hash, mut shard) = self.shard(&fill.key);
        shard.end_fill(hash);
    }

    /// What has this key is not to be kept after all.
    pub(crate) fn forget_fill(&self, key: &[u8]) {
        let (hash, mut shard) = self.shard(key);
        shard.end_fill(hash);
    }

    /// What is counted, of all databases.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for shard in &self.shards {
            shard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .add_to(&mut counts);
        }
        let domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        for domain in domains.values() {
            counts.invalidations += domain.invalidations.load(Ordering::Relaxed);
        }
        counts
    }
}

/// An answer that is to be kept once it is there.
#[derive(Debug)]
pub(crate) struct Fill {
    pub(crate) key: Box<[u8]>,
    pub(crate) stamp: Stamp,
    pub(crate) ttl: Duration,
}

#[cfg(test)]
mod tests;
