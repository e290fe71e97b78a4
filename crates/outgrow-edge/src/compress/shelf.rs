//! What all responses that are being compressed share: the threads, a bound on the memory of their
//! compressors, and some compressors that were used before.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outgrow_message::Ledger;
use outgrow_message::ledger::Charge;

use super::codec::{Codec, Manner};
use crate::pool::{Owner, Pool, Ticket};

/// The part of the process's memory that compressors may have: one in so many.
const SHARE: u64 = 4;
/// Compressors that are kept for the next response.
const SPARES: usize = 8;
/// Pieces that wait for a thread. There is at most one of each response.
const WAITING: usize = 256;

/// One for the process.
#[derive(Debug)]
pub(crate) struct Shelf {
    pool: Pool,
    /// All that is compressed is one owner's: it ends by itself.
    owner: Owner,
    ledger: Arc<Ledger>,
    held_bytes: Arc<AtomicU64>,
    spares: Mutex<Vec<(Manner, Codec, Held)>>,
}

impl Shelf {
    /// With so many threads, and memory of `ledger`.
    pub(crate) fn new(ledger: Arc<Ledger>, threads: usize) -> Arc<Self> {
        Self::with_room(ledger, threads, WAITING)
    }

    /// The same, with so many pieces that may wait for a thread.
    pub(super) fn with_room(ledger: Arc<Ledger>, threads: usize, waiting: usize) -> Arc<Self> {
        Arc::new(Self {
            pool: Pool::new("compress", threads, waiting),
            owner: Owner::default(),
            ledger,
            held_bytes: Arc::default(),
            spares: Mutex::default(),
        })
    }

    fn spares(&self) -> MutexGuard<'_, Vec<(Manner, Codec, Held)>> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A compressor for a response of `length` bytes where that is known; none where there is no
    /// memory for it.
    pub(super) fn take(&self, manner: Manner, length: Option<u64>) -> Option<(Codec, Held)> {
        let spare = {
            let mut spares = self.spares();
            let place = spares.iter().position(|(of, ..)| *of == manner);
            place.map(|place| spares.swap_remove(place))
        };
        if let Some((_, codec, held)) = spare
            && let Some(codec) = codec.again(length)
        {
            return Some((codec, held));
        }
        let bytes = manner.memory_bytes(length);
        let held = self.hold(bytes).or_else(|| {
            // What only waits to be used again is given up for what is needed now.
            let unused = std::mem::take(&mut *self.spares());
            drop(unused);
            self.hold(bytes)
        })?;
        Some((Codec::new(manner, length).ok()?, held))
    }

    fn hold(&self, bytes: u64) -> Option<Held> {
        let before = self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut held = Held {
            total: Arc::clone(&self.held_bytes),
            bytes,
            charge: None,
        };
        if before + bytes > self.ledger.limit_bytes() / SHARE {
            return None;
        }
        held.charge = Some(self.ledger.charge(bytes)?);
        Some(held)
    }

    /// Has a thread do `work`; gives it back where none has time.
    pub(super) fn submit<T, F>(&self, work: F) -> Result<Ticket<T>, F>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.pool.submit(&self.owner, work)
    }

    /// Keeps a compressor, if there is one, for another response, if it is worth it.
    pub(super) fn give_back(&self, manner: Manner, engine: Option<(Codec, Held)>) {
        if let Some((codec, held)) = engine {
            self.give(manner, codec, held);
        }
    }

    fn give(&self, manner: Manner, codec: Codec, held: Held) {
        let mut spares = self.spares();
        if codec.is_reusable() && spares.len() < SPARES {
            spares.push((manner, codec, held));
        }
    }
}

/// Memory of a compressor, counted until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    total: Arc<AtomicU64>,
    bytes: u64,
    charge: Option<Charge>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.charge = None;
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ContentCoding;

    #[test]
    fn compressors_have_a_quarter_of_the_memory_and_come_back() {
        let ledger = Ledger::new(8 << 20);
        let shelf = Shelf::new(Arc::clone(&ledger), 1);
        let gzip = Manner {
            coding: ContentCoding::Gzip,
            level: 4,
        };
        let take = || shelf.take(gzip, None);
        let all: Vec<_> = std::iter::from_fn(take).collect();
        assert_eq!(all.len(), 5, "2 MiB of 384 KiB each");
        assert_eq!(ledger.used_bytes(), 5 * 384 * 1024);
        for (codec, held) in all {
            shelf.give(gzip, codec, held);
        }
        assert_eq!(
            ledger.used_bytes(),
            5 * 384 * 1024,
            "they wait for the next one"
        );
        let br = Manner {
            coding: ContentCoding::Br,
            level: 1,
        };
        let (codec, held) = shelf.take(br, Some(1_000)).expect("the spares give way");
        assert_eq!(ledger.used_bytes(), br.memory_bytes(Some(1_000)));
        shelf.give(br, codec, held);
        assert_eq!(ledger.used_bytes(), 0, "this one cannot be used again");
    }
}
