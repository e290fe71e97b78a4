//! Blocks: buffers of three sizes, which each worker takes from a supply of its own.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Ledger, Need};

/// The sizes of blocks in bytes.
pub const BLOCK_SIZES: [usize; 3] = [16 * 1024, 64 * 1024, 256 * 1024];

/// How many free blocks of each size a worker keeps for reuse: 2 MiB, 1 MiB, 1 MiB.
const FREE_BLOCKS: [usize; 3] = [128, 16, 4];

/// The same in bytes, where many workers share the memory: so many times what each takes from the ledger at
/// a time.
const FREE_CREDITS: u64 = 4;

/// A worker's supply of blocks.
#[derive(Debug)]
pub struct Blocks {
    ledger: Arc<Ledger>,
    shelf: Mutex<Shelf>,
}

#[derive(Debug)]
struct Shelf {
    free: [Vec<Box<[u8]>>; 3],
    /// In all of them.
    free_bytes: u64,
    /// Handed out by the ledger and not in use. Written under the lock only.
    credit: Arc<AtomicU64>,
}

impl Blocks {
    /// A supply that charges `ledger`.
    pub fn new(ledger: Arc<Ledger>) -> Arc<Self> {
        let credit: Arc<AtomicU64> = Arc::default();
        let mut credits = ledger.credits();
        credits.push(Arc::clone(&credit));
        ledger.share_credits(&credits);
        drop(credits);
        let shelf = Shelf {
            free: Default::default(),
            free_bytes: 0,
            credit,
        };
        Arc::new(Self {
            ledger,
            shelf: Mutex::new(shelf),
        })
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
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let mut credit = shelf.credit.load(Ordering::Relaxed);
        if credit < size as u64 {
            match self.ledger.hand_out(size as u64, need) {
                Some(more) => credit += more,
                None => {
                    self.ledger.refused.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
            }
        }
        shelf.credit.store(credit - size as u64, Ordering::Relaxed);
        let free = shelf.free[class].pop();
        shelf.free_bytes -= free.as_ref().map_or(0, |_| size as u64);
        drop(shelf);
        let bytes = free.unwrap_or_else(|| vec![0; size].into_boxed_slice());
        Some(Block {
            bytes,
            supply: Arc::clone(self),
        })
    }

    #[cfg(test)]
    fn kept_bytes(&self) -> u64 {
        let shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = shelf.free.iter().flatten();
        let bytes = kept.map(|block| block.len() as u64).sum();
        assert_eq!(bytes, shelf.free_bytes);
        bytes
    }

    fn give(&self, bytes: Box<[u8]>) {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let mut credit = shelf.credit.load(Ordering::Relaxed) + bytes.len() as u64;
        let usual = self.ledger.credit_bytes();
        if self.ledger.is_in_reserve() {
            // Others need it more than this worker its convenience.
            self.ledger.take_back(credit);
            credit = 0;
        } else if credit > 2 * usual {
            self.ledger.take_back(credit - usual);
            credit = usual;
        }
        shelf.credit.store(credit, Ordering::Relaxed);
        let Some(class) = BLOCK_SIZES.iter().position(|&size| size == bytes.len()) else {
            return;
        };
        let size = bytes.len() as u64;
        let all = shelf.free_bytes + size;
        let free = &mut shelf.free[class];
        if free.len() < FREE_BLOCKS[class] && all <= FREE_CREDITS * usual {
            if free.capacity() == 0 {
                free.reserve_exact(FREE_BLOCKS[class]);
            }
            free.push(bytes);
            shelf.free_bytes = all;
        }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        let shelf = self.shelf.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.ledger
            .take_back(shelf.credit.swap(0, Ordering::Relaxed));
        let mut credits = self.ledger.credits();
        credits.retain(|credit| !Arc::ptr_eq(credit, &shelf.credit));
        self.ledger.share_credits(&credits);
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
    use super::super::{CREDITS_SHARE, MOST_CREDIT_BYTES, RESERVE_SHARE};
    use super::*;

    #[test]
    fn the_supplies_of_many_workers_leave_memory_for_use() {
        const LIMIT: u64 = 256 << 20;
        let ledger = Ledger::new(LIMIT);
        let supplies: Vec<_> = (0..3 * 128)
            .map(|_| Blocks::new(Arc::clone(&ledger)))
            .collect();
        for blocks in &supplies {
            drop([0; 8].map(|class| blocks.take_class(class).expect("a block")));
            drop(blocks.take_class(2).expect("a large block"));
        }
        assert_eq!(ledger.used_bytes(), 0);
        let kept = supplies.iter().map(|blocks| blocks.kept_bytes());
        assert!(kept.sum::<u64>() <= LIMIT * FREE_CREDITS / CREDITS_SHARE);
        let idle = LIMIT * 2 / CREDITS_SHARE;
        let handed = ledger.handed_bytes.load(Ordering::Relaxed);
        assert!(handed > 0 && handed <= idle, "{handed}");
        assert!(!ledger.is_tight() && ledger.may_let_wait());
        // Few of them take more at a time.
        drop(supplies);
        assert_eq!(ledger.handed_bytes.load(Ordering::Relaxed), 0);
        let few = Blocks::new(Arc::clone(&ledger));
        drop(few.take());
        assert_eq!(
            ledger.handed_bytes.load(Ordering::Relaxed),
            MOST_CREDIT_BYTES
        );
        ledger.set_limit(1 << 20);
        assert_eq!(ledger.credit_bytes(), (1 << 20) / CREDITS_SHARE);
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
