//! What all bodies that are being compressed or decompressed share: the threads, bounds on the memory of
//! compressors and of decompressors, and some compressors that were used before.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outgrow_message::Ledger;

use super::codec::{Codec, Manner};
use super::room::{Held, Room};
use crate::pool::{Owner, Place, Pool, Task, Ticket};

/// Compressors that are kept for the next response.
const SPARES: usize = 8;
/// Pieces of responses that wait for a thread. There is at most one of each.
const RESPONSES_WAITING: usize = 256;
/// Pieces of one client's requests that do: who comes after them waits for no more of each other client.
const REQUESTS_WAITING: usize = 8;
/// A decompressor that holds no more than this is a small one: those of gzip and deflate always, those of
/// zstd and Brotli where the body, or its window, is small.
const SMALL_BYTES: u64 = 512 * 1_024;

/// The threads that work on a body, and whose piece of the line before them it waits in.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pool: Arc<Pool>,
    owner: Owner,
}

impl Line {
    fn new(pool: &Arc<Pool>, owner: Owner) -> Self {
        let pool = Arc::clone(pool);
        Self { pool, owner }
    }

    /// A place for one more piece, or who waits for one.
    pub(super) fn place(&self) -> Result<Place, Ticket<Place>> {
        self.owner.place()
    }

    /// Has a thread do `work`; gives it back where there is none at all.
    pub(super) fn push<T, F>(&self, place: Place, work: F) -> Result<Ticket<T>, F>
    where
        T: Send + 'static,
        F: Task<T>,
    {
        self.pool.hand_over(place, work)
    }
}

/// One for the process.
#[derive(Debug)]
pub(crate) struct Shelf {
    /// All that is compressed is one owner's: it ends by itself.
    responses: Line,
    /// The threads that decompress: half as many, and others, since what they do is as clients like it.
    decompress: Arc<Pool>,
    /// Whose they are: each client's that had something decompressed lately.
    clients: Mutex<HashMap<IpAddr, Owner>>,
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
        Self::with_room(ledger, threads, RESPONSES_WAITING)
    }

    /// The same, with so many pieces of responses that may wait for a thread.
    pub(super) fn with_room(ledger: Arc<Ledger>, threads: usize, waiting: usize) -> Arc<Self> {
        let pool = |name, threads| Arc::new(Pool::new(name, threads, usize::MAX));
        let responses = Owner::within(waiting);
        Arc::new(Self {
            responses: Line::new(&pool("compress", threads), responses),
            decompress: pool("decompress", threads.div_ceil(2)),
            clients: Mutex::default(),
            coders: Room::new(Arc::clone(&ledger)),
            decoders: Room::new(Arc::clone(&ledger)),
            small_decoders: Room::new(ledger),
            spares: Mutex::default(),
        })
    }

    /// Where what is compressed waits for a thread.
    pub(super) fn line_of_responses(&self) -> Line {
        self.responses.clone()
    }

    /// Where what is decompressed for `client` waits for one.
    pub(super) fn line_of(&self, client: IpAddr) -> Line {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() == clients.capacity() {
            // Before there is place for more of them, those go that have nothing any more.
            clients.retain(|_, owner| owner.is_known());
        }
        let owner = clients.entry(client);
        let owner = owner.or_insert_with(|| Owner::within(REQUESTS_WAITING));
        Line::new(&self.decompress, owner.clone())
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

    /// What counts for a decompressor for a body of `client`'s, which has nothing yet.
    pub(crate) fn decoder(&self, client: IpAddr) -> Held {
        let above = (SMALL_BYTES, &self.decoders);
        self.small_decoders.nothing_up_to(above, client)
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
        let client = |number| IpAddr::from([192, 0, 2, number]);
        let shelf = Shelf::new(Ledger::new(256 << 20), 1);
        let hold = |bytes, number| {
            let mut held = shelf.decoder(client(number));
            held.grow(bytes).then_some(held)
        };
        let large = |number| hold(8 << 20, number);
        let all: Vec<_> = (1..9).map_while(large).collect();
        assert_eq!(all.len(), 7, "one for each of seven");
        assert!(large(1).is_none());
        let small: Vec<_> = (0..300).map_while(|_| hold(64 << 10, 1)).collect();
        assert_eq!(small.len(), 204, "a fifth of 64 MiB");
        assert!(hold(512 << 10, 2).is_some());
    }

    #[test]
    fn clients_that_are_gone_are_forgotten() {
        let shelf = Shelf::new(Ledger::new(1 << 20), 1);
        let stays = shelf.line_of(IpAddr::from([192, 0, 2, 1]));
        for at in 0..10_000_u32 {
            shelf.line_of(IpAddr::from(at.to_be_bytes()));
        }
        let again = shelf.line_of(IpAddr::from([192, 0, 2, 1]));
        assert!(again.owner.is_same(&stays.owner));
        let known = shelf.clients.lock().expect("no panic").len();
        assert!(known < 100, "{known}");
    }
}
