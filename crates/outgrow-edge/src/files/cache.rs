//! Small files in memory for a moment, so that one that everybody asks for costs no system call.
//!
//! What is kept is at most [`FRESH`] old: then it is looked for anew. What is not there is not kept, nor
//! is the fallback that stands in for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_message::Ledger;
use outgrow_message::ledger::Charge;

use super::lookup::{Content, Data, Found, Wanted};

/// How long a file is sent without another look at it.
const FRESH: Duration = Duration::from_secs(1);
/// Most files of a route.
const ENTRIES: usize = 1_024;
/// Most bytes of a route's files.
const BYTES: usize = 8 * 1_024 * 1_024;
/// What an entry takes besides its bytes, roughly.
const OVERHEAD: usize = 512;

/// The kept files of one route.
#[derive(Debug, Default)]
pub(super) struct Cache {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<Wanted, Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    content: Arc<Content>,
    looked: Ticks,
    bytes: usize,
    _charge: Charge,
}

impl Cache {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept and fresh.
    pub(super) fn get(&self, wanted: &Wanted, now: Ticks) -> Option<Arc<Content>> {
        let kept = self.kept();
        let entry = kept.entries.get(wanted)?;
        (now.since(entry.looked) < FRESH).then(|| Arc::clone(&entry.content))
    }

    /// Keeps what was found at `looked`, if it is small and there is memory for it.
    pub(super) fn put(&self, wanted: &Wanted, found: &Found, looked: Ticks, ledger: &Arc<Ledger>) {
        let mut kept = self.kept();
        kept.remove(wanted);
        let Found::File(content) = found else {
            return;
        };
        let Data::Here { bytes: data, .. } = &content.data else {
            return;
        };
        if content.is_fallback {
            // It is the answer to any number of paths, and each would bring its own copy.
            return;
        }
        let overhead = wanted.place.path.len() + OVERHEAD;
        let bytes = data.len() + overhead;
        if kept.entries.len() >= ENTRIES || kept.bytes + bytes > BYTES {
            kept.drop_stale(looked);
        }
        if kept.entries.len() >= ENTRIES || kept.bytes + bytes > BYTES {
            return;
        }
        let Some(charge) = ledger.charge(overhead as u64) else {
            return;
        };
        let entry = Entry {
            content: Arc::clone(content),
            looked,
            bytes,
            _charge: charge,
        };
        kept.bytes += bytes;
        kept.entries.insert(wanted.clone(), entry);
    }
}

impl Kept {
    fn remove(&mut self, wanted: &Wanted) {
        if let Some(entry) = self.entries.remove(wanted) {
            self.bytes -= entry.bytes;
        }
    }

    fn drop_stale(&mut self, now: Ticks) {
        self.entries
            .retain(|_, entry| now.since(entry.looked) < FRESH);
        self.bytes = self.entries.values().map(|entry| entry.bytes).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::super::conditions::Validators;
    use super::super::place::Place;
    use super::*;

    fn wanted(number: usize) -> Wanted {
        Wanted {
            place: Place {
                path: number.to_string().into_bytes(),
                is_directory: false,
            },
            codings: Vec::new(),
            or_fallback: false,
        }
    }

    fn found(bytes: usize, ledger: &Arc<Ledger>) -> Found {
        Found::File(Arc::new(Content {
            path: Vec::new(),
            coding: None,
            is_fallback: false,
            length: bytes as u64,
            validators: Validators::default(),
            data: Data::Here {
                bytes: vec![0; bytes],
                _charge: ledger.charge(bytes as u64).expect("room"),
            },
        }))
    }

    #[test]
    fn files_are_kept_for_a_second_and_within_bounds() {
        let ledger = Ledger::new(64 << 20);
        let cache = Cache::default();
        let second = |count: u64| Ticks(count * 1_000_000_000 + 1);
        for number in 0..2_000 {
            cache.put(&wanted(number), &found(1_000, &ledger), second(1), &ledger);
        }
        assert_eq!(cache.kept().entries.len(), ENTRIES);
        assert!(cache.get(&wanted(1), second(1)).is_some());
        assert!(cache.get(&wanted(1), second(2)).is_none(), "not fresh");
        assert!(cache.get(&wanted(1_999), second(1)).is_none(), "no room");
        for number in 0..200 {
            cache.put(&wanted(number), &found(64_000, &ledger), second(3), &ledger);
        }
        let bytes = cache.kept().bytes;
        assert!(bytes <= BYTES && bytes > BYTES - 70_000, "{bytes}");
        assert_eq!(ledger.used_bytes(), bytes as u64);
        cache.put(&wanted(0), &Found::LacksSlash, second(3), &ledger);
        assert!(
            cache.get(&wanted(0), second(3)).is_none(),
            "what is gone is not kept"
        );
        drop(cache);
        assert_eq!(ledger.used_bytes(), 0);
    }
}
