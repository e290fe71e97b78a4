//! What all bodies that are being compressed or decompressed share: the threads, bounds on the memory of
//! compressors and of decompressors, and some compressors that were used before.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outgrow_message::Ledger;
use outgrow_message::ledger::Charge;

use super::codec::{Codec, Manner};
use crate::pool::{Owner, Pool, Ticket};

/// The part of the process's memory that compressors may have, and decompressors as well: one in so many.
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
    /// What compressors may hold.
    coders: Room,
    /// What decompressors may hold: clients decide how much one of them needs, and so are kept from
    /// taking the compressors' part.
    decoders: Room,
    /// What those may hold that need little, whatever the client says (gzip, deflate): nobody who asks for
    /// large windows takes it from them.
    small_decoders: Room,
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
            coders: Room::new(Arc::clone(&ledger)),
            decoders: Room::new(Arc::clone(&ledger)),
            small_decoders: Room::new(ledger),
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
        let held = self.coders.hold(bytes).or_else(|| {
            // What only waits to be used again is given up for what is needed now.
            let unused = std::mem::take(&mut *self.spares());
            drop(unused);
            self.coders.hold(bytes)
        })?;
        Some((Codec::new(manner, length).ok()?, held))
    }

    /// Room for a decompressor of so many bytes, which stays as small where `is_small`; none where there is
    /// no memory for it.
    pub(crate) fn hold_decoder(&self, bytes: u64, is_small: bool) -> Option<Held> {
        match is_small {
            true => self.small_decoders.hold(bytes),
            false => self.decoders.hold(bytes),
        }
    }

    /// Has a thread do `work`; gives it back where none has time.
    pub(crate) fn submit<T, F>(&self, work: F) -> Result<Ticket<T>, F>
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

/// A share of the process's memory.
#[derive(Debug)]
struct Room {
    ledger: Arc<Ledger>,
    held_bytes: Arc<AtomicU64>,
}

impl Room {
    fn new(ledger: Arc<Ledger>) -> Self {
        Self {
            ledger,
            held_bytes: Arc::default(),
        }
    }

    fn hold(&self, bytes: u64) -> Option<Held> {
        let mut held = Held {
            ledger: Arc::clone(&self.ledger),
            total: Arc::clone(&self.held_bytes),
            bytes: 0,
            charge: None,
        };
        held.grow(bytes).then_some(held)
    }
}

/// Memory of a compressor or a decompressor, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    ledger: Arc<Ledger>,
    total: Arc<AtomicU64>,
    bytes: u64,
    charge: Option<Charge>,
}

impl Held {
    /// Counts `bytes` in all, where that is more than now; whether there is room for them.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        let before = self.total.fetch_add(more, Ordering::Relaxed);
        let is_within = before + more <= self.ledger.limit_bytes() / SHARE;
        let charge = is_within.then(|| self.ledger.charge(more)).flatten();
        let Some(charge) = charge else {
            self.total.fetch_sub(more, Ordering::Relaxed);
            return false;
        };
        match &mut self.charge {
            Some(own) => own.join(charge),
            None => self.charge = Some(charge),
        }
        self.bytes = bytes;
        true
    }
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

    /// A few clients that ask for the largest windows leave those alone who ask for small ones.
    #[test]
    fn large_windows_take_nothing_from_small_ones() {
        let shelf = Shelf::new(Ledger::new(256 << 20), 1);
        let large = || shelf.hold_decoder(9 << 20, false);
        let all: Vec<_> = std::iter::from_fn(large).collect();
        assert_eq!(all.len(), 7, "64 MiB");
        assert!(shelf.hold_decoder(64 << 10, false).is_some());
        assert!(shelf.hold_decoder(2 << 20, false).is_none());
        let small: Vec<_> = (0..1_000)
            .map_while(|_| shelf.hold_decoder(64 << 10, true))
            .collect();
        assert_eq!(small.len(), 1_000);
    }
}
