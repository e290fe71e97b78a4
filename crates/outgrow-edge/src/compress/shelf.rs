//! What all bodies that are being compressed or decompressed share: the threads, bounds on the memory of
//! compressors and of decompressors, and some compressors that were used before.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outgrow_message::Ledger;

use super::codec::{Codec, Manner};
use super::room::{Held, Room};
use crate::pool::{Owner, Pool, Task, Ticket};

/// Compressors that are kept for the next response.
const SPARES: usize = 8;
/// Pieces that wait for a thread. There is at most one of each response.
const WAITING: usize = 256;
/// A decompressor that holds no more than this is a small one: those of gzip and deflate always, those of
/// zstd and Brotli where the body, or its window, is small.
const SMALL_BYTES: u64 = 512 * 1_024;

/// What a body is that is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// A response's, which is compressed.
    Responses,
    /// A request's, which is decompressed: what it takes is its client's choice.
    Requests,
}

/// One for the process.
#[derive(Debug)]
pub(crate) struct Shelf {
    pool: Pool,
    /// All that is compressed is one owner's: it ends by itself.
    responses: Owner,
    /// All that is decompressed is another one's, which leaves half of the threads and half of the line.
    requests: Owner,
    /// What compressors may hold.
    coders: Room,
    /// What decompressors may hold: clients decide how much one of them needs, and so are kept from
    /// taking the compressors' part.
    decoders: Room,
    /// What those may hold that need little ([`SMALL_BYTES`]): nobody who asks for large windows takes it
    /// from them.
    small_decoders: Room,
    spares: Mutex<Vec<(Manner, Codec, Held)>>,
}

impl Shelf {
    /// With so many threads, and memory of `ledger`.
    pub(crate) fn new(ledger: Arc<Ledger>, threads: usize) -> Arc<Self> {
        Self::with_room(ledger, threads, WAITING)
    }

    /// The same, with so many pieces that may wait for a thread.
    pub(crate) fn with_room(ledger: Arc<Ledger>, threads: usize, waiting: usize) -> Arc<Self> {
        Arc::new(Self {
            pool: Pool::new("compress", threads, waiting),
            responses: Owner::default(),
            requests: Owner::within(threads.div_ceil(2), waiting.div_ceil(2)),
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
        let held = self.coders.hold(bytes, None).or_else(|| {
            // What only waits to be used again is given up for what is needed now.
            let unused = std::mem::take(&mut *self.spares());
            drop(unused);
            self.coders.hold(bytes, None)
        })?;
        Some((Codec::new(manner, length).ok()?, held))
    }

    /// Room for a decompressor of so many bytes for a body of `client`'s; none where there is no memory for
    /// it, or the client has its part.
    pub(crate) fn hold_decoder(&self, bytes: u64, client: Option<IpAddr>) -> Option<Held> {
        let above = (SMALL_BYTES, &self.decoders);
        self.small_decoders.hold_up_to(above, bytes, client)
    }

    /// Has a thread do `work`; gives it back where none has time.
    pub(super) fn submit<T, F>(&self, whose: Whose, work: F) -> Result<Ticket<T>, F>
    where
        T: Send + 'static,
        F: Task<T>,
    {
        let owner = match whose {
            Whose::Responses => &self.responses,
            Whose::Requests => &self.requests,
        };
        self.pool.submit(owner, work)
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

    /// A few clients that ask for the largest windows leave those alone who ask for small ones, and one of
    /// them the others who ask for large ones.
    #[test]
    fn large_windows_take_nothing_from_small_ones() {
        let client = |number| Some(IpAddr::from([192, 0, 2, number]));
        let shelf = Shelf::new(Ledger::new(256 << 20), 1);
        let large = |number| shelf.hold_decoder(8 << 20, client(number));
        let all: Vec<_> = std::iter::from_fn(|| large(1)).collect();
        assert_eq!(all.len(), 4, "half of 64 MiB");
        let others: Vec<_> = (2..9).map_while(large).collect();
        assert_eq!(others.len(), 3, "somebody else's");
        assert!(shelf.hold_decoder(9 << 20, client(9)).is_none());
        let small: Vec<_> = (0..512)
            .map_while(|_| shelf.hold_decoder(64 << 10, client(1)))
            .collect();
        assert_eq!(small.len(), 512);
        assert!(shelf.hold_decoder(512 << 10, client(1)).is_none());
        assert!(shelf.hold_decoder(512 << 10, client(2)).is_some());
    }
}
