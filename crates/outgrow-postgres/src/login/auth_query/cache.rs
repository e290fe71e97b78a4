//! Answers of the last moments, so that a thousand clients who come back at once do not ask a
//! thousand times.
//!
//! A password that was changed works on here for as long as an answer is believed. A login that
//! fails with a remembered secret is to make it forgotten and to ask once more: see
//! [`Refusal::is_stale`](crate::login::Refusal::is_stale).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use outgrow_core::Ticks;

use super::Answer;

/// How long and how much is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// How long a secret is believed. Zero: nothing is remembered.
    pub lifetime: Duration,
    /// How long a user is believed not to be there.
    pub lifetime_of_nobody: Duration,
    /// Most users that are remembered, and as many that are not there: these never take the place
    /// of those, since anybody can ask for them.
    pub capacity: usize,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(10),
            lifetime_of_nobody: Duration::from_secs(1),
            capacity: 10_000,
        }
    }
}

/// The answers, by what was asked (a database that has its own query) and by user.
#[derive(Debug, Default)]
pub struct Cache {
    settings: CacheSettings,
    users: Shelf,
    nobodies: Shelf,
}

impl Cache {
    /// An empty one.
    pub fn new(settings: CacheSettings) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// What is believed of a user.
    pub fn get(&self, scope: &str, user: &str, now: Ticks) -> Option<Answer> {
        let key = (scope.to_owned(), user.to_owned());
        let known = |shelf: &Shelf, lifetime| {
            let entry = shelf.entries.get(&key)?;
            (now.since(entry.at) < lifetime).then(|| entry.answer.clone())
        };
        known(&self.users, self.settings.lifetime)
            .or_else(|| known(&self.nobodies, self.settings.lifetime_of_nobody))
    }

    /// Remembers an answer.
    pub fn put(&mut self, scope: &str, user: &str, answer: &Answer, now: Ticks) {
        let key = (scope.to_owned(), user.to_owned());
        self.users.remove(&key);
        self.nobodies.remove(&key);
        let (shelf, lifetime) = match answer {
            Answer::User(_) => (&mut self.users, self.settings.lifetime),
            Answer::Nobody => (&mut self.nobodies, self.settings.lifetime_of_nobody),
        };
        if lifetime > Duration::ZERO {
            shelf.put(key, answer.clone(), now, self.settings.capacity);
        }
    }

    /// Forgets one user.
    pub fn forget(&mut self, scope: &str, user: &str) {
        let key = (scope.to_owned(), user.to_owned());
        self.users.remove(&key);
        self.nobodies.remove(&key);
    }

    /// Forgets all: after a reload.
    pub fn clear(&mut self) {
        self.users = Shelf::default();
        self.nobodies = Shelf::default();
    }

    /// How many answers are remembered, those that are believed no more included.
    pub fn len(&self) -> usize {
        self.users.entries.len() + self.nobodies.entries.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

type Key = (String, String);

#[derive(Debug)]
struct Entry {
    answer: Answer,
    at: Ticks,
    number: u64,
}

/// Entries in the order in which they came; the first ones go when there are too many.
#[derive(Debug, Default)]
struct Shelf {
    entries: BTreeMap<Key, Entry>,
    /// Keys with the numbers of their entries; those whose entry has another number are left over.
    order: VecDeque<(u64, Key)>,
    next: u64,
}

impl Shelf {
    fn put(&mut self, key: Key, answer: Answer, now: Ticks, capacity: usize) {
        while self.entries.len() >= capacity.max(1) {
            self.drop_first();
        }
        // What is left over in the order is never more than what is in use.
        while self.order.len() > 2 * capacity.max(1) {
            self.drop_first();
        }
        let number = self.next;
        self.next += 1;
        self.order.push_back((number, key.clone()));
        let entry = Entry {
            answer,
            at: now,
            number,
        };
        self.entries.insert(key, entry);
    }

    fn drop_first(&mut self) {
        if let Some((number, key)) = self.order.pop_front()
            && self
                .entries
                .get(&key)
                .is_some_and(|entry| entry.number == number)
        {
            self.entries.remove(&key);
        }
    }

    fn remove(&mut self, key: &Key) {
        self.entries.remove(key);
    }
}
