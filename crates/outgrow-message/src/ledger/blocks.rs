//! Blocks: buffers of three sizes, which each worker takes from a supply of its own.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Ledger, MOST_CREDIT_BYTES, Need};

/// The sizes of blocks in bytes.
pub const BLOCK_SIZES: [usize; 3] = [16 * 1024, 64 * 1024, 256 * 1024];

/// How many free blocks of each size a worker keeps for reuse at most: 2 MiB, 1 MiB, 1 MiB. Fewer where many
/// workers share the memory and so take less at a time.
const FREE_BLOCKS: [usize; 3] = [128, 16, 4];

/// How many free blocks of a size are kept by one that takes so much at a time.
fn most_free(class: usize, credit_bytes: u64) -> usize {
    let share = FREE_BLOCKS[class] as u64 * credit_bytes / MOST_CREDIT_BYTES;
    // One that is warm is kept where it is not larger than all that may be free anyway.
    let fewest = usize::from(BLOCK_SIZES[class] as u64 <= 4 * credit_bytes);
    usize::try_from(share).unwrap_or(usize::MAX).max(fewest)
}

/// A worker's supply of blocks.
#[derive(Debug)]
pub struct Blocks {
    ledger: Arc<Ledger>,
    shelf: Mutex<Shelf>,
    /// Handed out by the ledger and not in use. Written under the shelf's lock only.
    credit: AtomicU64,
}

#[derive(Debug, Default)]
struct Shelf {
    free: [Vec<Box<[u8]>>; 3],
    /// Whether the ledger knows it.
    has_joined: bool,
}

impl Blocks {
    /// A supply that charges `ledger`.
    pub fn new(ledger: Arc<Ledger>) -> Arc<Self> {
        Arc::new(Self {
            ledger,
            shelf: Mutex::default(),
            credit: AtomicU64::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it has of the ledger that is not in use.
    pub(super) fn credit_bytes(&self) -> u64 {
        self.credit.load(Ordering::Relaxed)
    }

    /// Gives back what of that is more than so much, and free blocks beyond those that go with it.
    pub(super) fn keep_at_most(&self, bytes: u64) {
        let mut shelf = self.lock();
        for (class, free) in shelf.free.iter_mut().enumerate() {
            // Those that were used last stay.
            let more = free.len().saturating_sub(most_free(class, bytes));
            free.drain(..more);
        }
        let more = self.credit_bytes().saturating_sub(bytes);
        self.credit.fetch_sub(more, Ordering::Relaxed);
        self.ledger.take_back(more);
    }

    /// What it charges.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// See [`Ledger::is_tight`].
    pub fn is_tight(&self) -> bool {
        self.ledger.is_tight()
    }

    /// A block of the smallest size, or none when the ledger is full.
    #[inline]
    pub fn take(self: &Arc<Self>) -> Option<Block> {
        self.take_class(0)
    }

    /// A block of size [`BLOCK_SIZES`]`[class]`, or none when the ledger is full.
    #[inline]
    pub fn take_class(self: &Arc<Self>, class: usize) -> Option<Block> {
        self.take_for(Need::Usual, class)
    }

    /// A block to read into, of `class` at most: of the smallest size when memory is short.
    #[inline]
    pub fn take_up_to(self: &Arc<Self>, class: usize, need: Need) -> Option<Block> {
        if class > 0
            && !self.ledger.is_tight()
            && let Some(block) = self.take_for(need, class)
        {
            return Some(block);
        }
        self.take_for(need, 0)
    }

    /// A block of size [`BLOCK_SIZES`]`[class]` for a `need`.
    pub fn take_for(self: &Arc<Self>, need: Need, class: usize) -> Option<Block> {
        let class = class.min(BLOCK_SIZES.len() - 1);
        let size = BLOCK_SIZES[class];
        let mut shelf = self.lock();
        if !shelf.has_joined {
            shelf.has_joined = true;
            drop(shelf);
            self.ledger.join(Arc::downgrade(self));
            shelf = self.lock();
        }
        let mut credit = self.credit_bytes();
        if credit < size as u64 {
            match self.ledger.hand_out(size as u64, need) {
                Some(more) => credit += more,
                None => {
                    self.ledger.refused.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
            }
        }
        self.credit.store(credit - size as u64, Ordering::Relaxed);
        let free = shelf.free[class].pop();
        drop(shelf);
        let bytes = free.unwrap_or_else(|| vec![0; size].into_boxed_slice());
        Some(Block {
            bytes,
            supply: Arc::clone(self),
        })
    }

    #[cfg(test)]
    fn kept(&self) -> [usize; 3] {
        self.lock().free.each_ref().map(Vec::len)
    }

    fn give(&self, bytes: Box<[u8]>) {
        let mut shelf = self.lock();
        let mut credit = self.credit_bytes() + bytes.len() as u64;
        let usual = self.ledger.credit_bytes();
        if self.ledger.is_in_reserve() {
            // Others need it more than this worker its convenience.
            self.ledger.take_back(credit);
            credit = 0;
        } else if credit > 2 * usual {
            self.ledger.take_back(credit - usual);
            credit = usual;
        }
        self.credit.store(credit, Ordering::Relaxed);
        let Some(class) = BLOCK_SIZES.iter().position(|&size| size == bytes.len()) else {
            return;
        };
        let free = &mut shelf.free[class];
        if free.len() < most_free(class, usual) {
            if free.capacity() == 0 {
                free.reserve_exact(FREE_BLOCKS[class]);
            }
            free.push(bytes);
        }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.ledger.take_back(self.credit_bytes());
        self.ledger.share_credits();
    }
}

/// A buffer of one of [`BLOCK_SIZES`]. Goes back to its supply when dropped. Its bytes are those
/// of an earlier use: whoever reads it reads only what it has written.
#[derive(Debug)]
pub struct Block {
    bytes: Box<[u8]>,
    supply: Arc<Blocks>,
}

impl Deref for Block {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Block {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        self.supply.give(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CREDITS_SHARE, RESERVE_SHARE};
    use super::*;

    fn handed_bytes(ledger: &Ledger) -> u64 {
        ledger.handed_bytes.load(Ordering::Relaxed)
    }

    /// So many supplies, of which each was used.
    fn used(ledger: &Arc<Ledger>, count: usize) -> Vec<Arc<Blocks>> {
        let supplies: Vec<_> = (0..count)
            .map(|_| Blocks::new(Arc::clone(ledger)))
            .collect();
        for blocks in &supplies {
            drop([0; 8].map(|class| blocks.take_class(class).expect("a block")));
            drop([1, 2, 2].map(|class| blocks.take_class(class).expect("a block")));
        }
        supplies
    }

    #[test]
    fn the_supplies_of_many_workers_leave_memory_for_use() {
        const LIMIT: u64 = 256 << 20;
        let ledger = Ledger::new(LIMIT);
        let supplies = used(&ledger, 3 * 128);
        assert_eq!(ledger.used_bytes(), 0);
        let idle = LIMIT * 2 / CREDITS_SHARE;
        let handed = handed_bytes(&ledger);
        assert!(handed > 0 && handed <= idle, "{handed}");
        assert!(!ledger.is_tight() && ledger.may_let_wait());
        assert!(supplies.iter().all(|one| one.kept() == [5, 1, 0]));
        drop(supplies);
        assert_eq!(handed_bytes(&ledger), 0);
        // One large block that is warm is kept, whatever small ones there are.
        let supplies = used(&ledger, 128);
        assert!(supplies.iter().all(|one| one.kept() == [8, 1, 1]));
        let large = supplies[0].take_class(2).expect("room").as_ptr();
        assert_eq!(supplies[0].take_class(2).expect("room").as_ptr(), large);
        drop(supplies);
        assert_eq!(handed_bytes(&ledger), 0);
        // Few of them take more at a time, and those that are not used take nothing.
        let _unused: Vec<_> = (0..100).map(|_| Blocks::new(Arc::clone(&ledger))).collect();
        let few = Blocks::new(Arc::clone(&ledger));
        drop(few.take());
        assert_eq!(handed_bytes(&ledger), MOST_CREDIT_BYTES);
    }

    #[test]
    fn a_smaller_limit_is_everybodys() {
        let ledger = Ledger::new(256 << 20);
        let supplies = used(&ledger, 12);
        assert!(handed_bytes(&ledger) > 8 << 20);
        ledger.set_limit(8 << 20);
        let handed = handed_bytes(&ledger);
        assert!(handed <= (8 << 20) / CREDITS_SHARE, "{handed}");
        assert!(supplies[0].take_class(2).is_some());
        // Where there is too little for all of them to keep some, none does.
        let more = used(&ledger, 400);
        assert_eq!((handed_bytes(&ledger), ledger.used_bytes()), (0, 0));
        let block = more[0].take().expect("room");
        assert_eq!(handed_bytes(&ledger), BLOCK_SIZES[0] as u64);
        drop(block);
        assert_eq!(handed_bytes(&ledger), 0);
    }

    #[test]
    fn the_limit_holds_and_blocks_come_back() {
        let ledger = Ledger::new(96 * 1024);
        let blocks = Blocks::new(Arc::clone(&ledger));
        let small = blocks.take().expect("below the limit");
        let large = blocks.take_class(1).expect("just at the limit");
        assert_eq!((small.len(), large.len()), (16 * 1024, 64 * 1024));
        assert!(blocks.take().is_none());
        assert_eq!((ledger.used_bytes(), ledger.refused()), (80 * 1024, 1));
        drop((small, large));
        assert_eq!(ledger.used_bytes(), 0);
        assert!(blocks.take().is_some());
    }

    #[test]
    fn who_asks_gets_less_the_less_there_is() {
        const KIB: usize = 1024;
        let ledger = Ledger::new(4 << 20);
        let blocks = Blocks::new(Arc::clone(&ledger));
        let fill = |class, need| {
            let take = || blocks.take_up_to(class, need);
            std::iter::from_fn(take).collect::<Vec<_>>()
        };
        let read = fill(2, Need::Usual);
        let large = read.iter().filter(|block| block.len() == 256 * KIB).count();
        let small = read.iter().filter(|block| block.len() == 16 * KIB).count();
        assert!(
            (8..=12).contains(&large),
            "{large}: about half of the limit"
        );
        assert_eq!(large + small, read.len());
        let reserve = (4 << 20) / RESERVE_SHARE as usize;
        let held: usize = read.iter().map(|block| block.len()).sum();
        assert_eq!(held, (4 << 20) - reserve);
        assert!(blocks.take().is_none());
        let heads = fill(0, Need::Head);
        assert_eq!(heads.len(), reserve / (16 * KIB));
        // What heads give back is not taken by others, whatever the worker could keep.
        drop(heads);
        assert!(blocks.take().is_none());
        assert!(blocks.take_for(Need::Head, 0).is_some());
        drop(read);
        assert_eq!(ledger.used_bytes(), 0);
        assert!(blocks.take_class(2).is_some());
    }
}
