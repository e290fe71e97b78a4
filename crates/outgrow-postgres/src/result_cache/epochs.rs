//! Counts that grow with every write, so that an answer can tell whether it is as new as its tables.
//! Pure.
//!
//! Tables share a fixed number of counts, by a hash of their name: two that have one in common make each
//! other's answers worthless, which is never wrong, and nothing grows.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of tables.
pub(super) const SLOTS: usize = 1024;

/// What a write may have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Touch {
    /// Nothing that answers rest on.
    #[default]
    Nothing,
    /// These tables.
    Tables(Vec<u16>),
    /// Anything.
    Everything,
}

impl Touch {
    /// Whether it is nothing.
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }

    /// Adds what another one may have changed.
    pub(crate) fn add(&mut self, other: &Self) {
        match (&mut *self, other) {
            (_, Self::Nothing) | (Self::Everything, _) => {}
            (Self::Nothing, _) | (_, Self::Everything) => *self = other.clone(),
            (Self::Tables(own), Self::Tables(more)) => {
                for slot in more {
                    if !own.contains(slot) {
                        own.push(*slot);
                    }
                }
            }
        }
    }
}

/// What an answer rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Depends {
    /// The tables.
    pub(crate) tables: Vec<u16>,
    /// It may be anything.
    pub(crate) on_any: bool,
}

/// The counts that an answer was asked for under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    everything: u64,
    any: Option<u64>,
    tables: Box<[(u16, u64)]>,
}

impl Stamp {
    /// Bytes of memory besides its own size.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.tables)
    }
}

/// The counts of a database.
#[derive(Debug)]
pub(super) struct Epochs {
    everything: AtomicU64,
    any: AtomicU64,
    tables: Box<[AtomicU64]>,
}

impl Default for Epochs {
    fn default() -> Self {
        Self {
            everything: AtomicU64::new(0),
            any: AtomicU64::new(0),
            tables: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Epochs {
    pub(super) fn touch(&self, touch: &Touch) {
        match touch {
            Touch::Nothing => return,
            Touch::Tables(slots) => {
                for slot in slots {
                    self.tables[usize::from(*slot) % SLOTS].fetch_add(1, Ordering::SeqCst);
                }
            }
            Touch::Everything => {
                self.everything.fetch_add(1, Ordering::SeqCst);
            }
        }
        self.any.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn stamp(&self, depends: &Depends) -> Stamp {
        Stamp {
            everything: self.everything.load(Ordering::SeqCst),
            any: depends.on_any.then(|| self.any.load(Ordering::SeqCst)),
            tables: depends
                .tables
                .iter()
                .map(|slot| (*slot, self.table(*slot)))
                .collect(),
        }
    }

    fn table(&self, slot: u16) -> u64 {
        self.tables[usize::from(slot) % SLOTS].load(Ordering::SeqCst)
    }

    pub(super) fn is_good(&self, stamp: &Stamp) -> bool {
        stamp.everything == self.everything.load(Ordering::SeqCst)
            && stamp
                .any
                .is_none_or(|any| any == self.any.load(Ordering::SeqCst))
            && stamp
                .tables
                .iter()
                .all(|(slot, count)| self.table(*slot) == *count)
    }
}
