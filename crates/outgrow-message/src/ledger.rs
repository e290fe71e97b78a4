//! The memory ledger: buffers are blocks of three sizes from a worker's free list, and all that
//! are in use in the process are counted against one limit.
//!
//! Who asks gets less the less there is: above half of the limit what is read ahead comes in the
//! smallest blocks, so that clients that do not read cannot hold all of it; the last sixteenth is
//! for heads and for our own answers, so that whoever comes is told what is the matter.

mod foreseen;

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use foreseen::{Foreseen, Holder, Share};

/// The sizes of blocks in bytes.
pub const BLOCK_SIZES: [usize; 3] = [16 * 1024, 64 * 1024, 256 * 1024];

/// How many free blocks of each size a worker keeps for reuse: 2 MiB, 1 MiB, 1 MiB.
const FREE_BLOCKS: [usize; 3] = [128, 16, 4];

/// What a supply takes from the ledger at a time at most, so that workers rarely meet there.
const MOST_CREDIT_BYTES: u64 = 1024 * 1024;

/// The part of the limit that all supplies together take at a time: one in so many. Each keeps twice as much
/// unused at most, so with many workers an eighth of the limit is with them for nothing.
const CREDITS_SHARE: u64 = 16;

/// The part of the limit that is kept for heads and our own answers: one in so many.
const RESERVE_SHARE: u64 = 16;

/// The part of the limit in which something may wait that nothing else bounds: one in so many.
const WAITING_SHARE: u64 = 4;

/// What a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A body, a tunnel, a request on its way to an endpoint.
    Usual,
    /// A request's head, or the head of an answer to it: may go to the limit.
    Head,
}

/// Counts the bytes of buffers in use in the process, against a limit.
#[derive(Debug)]
pub struct Ledger {
    /// Bytes handed to workers, their credits included.
    handed_bytes: AtomicU64,
    limit_bytes: AtomicU64,
    /// What a supply takes at a time.
    credit_bytes: AtomicU64,
    /// Of what is in use: see [`Ledger::let_wait`].
    waiting_bytes: AtomicU64,
    /// Of what is handed out: see [`Ledger::foresee`].
    foreseen: Arc<Holder>,
    refused_foreseen: AtomicU64,
    refused: AtomicU64,
    /// Each worker's bytes that were handed to it and are not in use.
    credits: Mutex<Vec<Arc<AtomicU64>>>,
}

impl Ledger {
    /// A ledger with a limit in bytes.
    pub fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            handed_bytes: AtomicU64::new(0),
            limit_bytes: AtomicU64::new(limit_bytes),
            credit_bytes: AtomicU64::new(credit_bytes(limit_bytes, 1)),
            waiting_bytes: AtomicU64::new(0),
            foreseen: Arc::default(),
            refused_foreseen: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            credits: Mutex::default(),
        })
    }

    /// Changes the limit; what is in use stays.
    pub fn set_limit(&self, limit_bytes: u64) {
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
        self.share_credits(&self.credits());
    }

    fn credits(&self) -> MutexGuard<'_, Vec<Arc<AtomicU64>>> {
        self.credits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There are so many supplies, or the limit is another one.
    fn share_credits(&self, credits: &[Arc<AtomicU64>]) {
        let bytes = credit_bytes(self.limit_bytes(), credits.len() as u64);
        self.credit_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Bytes in use now.
    pub fn used_bytes(&self) -> u64 {
        let unused: u64 = self
            .credits()
            .iter()
            .map(|credit| credit.load(Ordering::Relaxed))
            .sum();
        self.handed_bytes
            .load(Ordering::Relaxed)
            .saturating_sub(unused)
    }

    /// How often a block was refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// What those who need it `need` may have handed out together.
    fn limit_for(&self, need: Need) -> u64 {
        let limit = self.limit_bytes.load(Ordering::Relaxed);
        match need {
            Need::Usual => limit - limit / RESERVE_SHARE,
            Need::Head => limit,
        }
    }

    /// The limit in bytes.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes.load(Ordering::Relaxed)
    }

    /// Counts bytes that lie in no block, such as those of a library; none when there is no room.
    pub fn charge(self: &Arc<Self>, bytes: u64) -> Option<Charge> {
        if !self.add_within(bytes, self.limit_for(Need::Usual)) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.charge_of(bytes))
    }

    /// The same for what goes faster with more and works with less: only as long as no more than one in
    /// `share` of the limit is handed out by then.
    pub fn charge_within(self: &Arc<Self>, share: u64, bytes: u64) -> Option<Charge> {
        let limit = self.limit_bytes.load(Ordering::Relaxed) / share.max(1);
        self.add_within(bytes, limit).then(|| self.charge_of(bytes))
    }

    /// Whether so much more would leave no more than one in `share` of the limit handed out.
    pub fn has_within(&self, share: u64, bytes: u64) -> bool {
        let limit = self.limit_bytes.load(Ordering::Relaxed) / share.max(1);
        let handed = self.handed_bytes.load(Ordering::Relaxed);
        handed.saturating_add(bytes) <= limit
    }

    /// Counts bytes that are there in any case, above the limit too: others get less for it.
    pub fn charge_anyway(self: &Arc<Self>, bytes: u64) -> Charge {
        self.handed_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.charge_of(bytes)
    }

    /// Of bytes that have been added.
    fn charge_of(self: &Arc<Self>, bytes: u64) -> Charge {
        Charge {
            ledger: Arc::clone(self),
            bytes,
        }
    }

    fn add_within(&self, bytes: u64, limit: u64) -> bool {
        add_within(&self.handed_bytes, bytes, limit)
    }

    /// Whether more than half of the limit is handed out: then who could do with less does.
    pub fn is_tight(&self) -> bool {
        let limit = self.limit_bytes.load(Ordering::Relaxed);
        self.handed_bytes.load(Ordering::Relaxed) > limit / 2
    }

    /// Whether what only heads may have is handed out as well.
    fn is_in_reserve(&self) -> bool {
        self.handed_bytes.load(Ordering::Relaxed) > self.limit_for(Need::Usual)
    }

    /// A credit of at least `bytes`, more if there is more; none at the limit.
    fn hand_out(&self, bytes: u64, need: Need) -> Option<u64> {
        let hand = |wanted, limit| self.add_within(wanted, limit).then_some(wanted);
        let usual = self.limit_for(Need::Usual);
        hand(bytes.max(self.credit_bytes()), usual).or_else(|| hand(bytes, self.limit_for(need)))
    }

    fn credit_bytes(&self) -> u64 {
        self.credit_bytes.load(Ordering::Relaxed)
    }

    fn take_back(&self, bytes: u64) {
        self.handed_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What waits now: see [`Ledger::let_wait`].
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Whether more may wait that nothing but memory bounds: less than a quarter of the limit does, and
    /// memory is not tight. So those who make it wait leave as much again before it is tight for others.
    pub fn may_let_wait(&self) -> bool {
        self.waiting_bytes() < self.limit_bytes() / WAITING_SHARE && !self.is_tight()
    }

    /// Takes note that so many bytes in blocks wait for somebody whom nothing else bounds.
    pub fn let_wait(self: &Arc<Self>, bytes: u64) -> Waiting {
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        Waiting {
            ledger: Arc::clone(self),
            bytes,
        }
    }
}

/// What each of so many supplies takes at a time.
fn credit_bytes(limit_bytes: u64, supplies: u64) -> u64 {
    let share = limit_bytes / CREDITS_SHARE / supplies.max(1);
    share.clamp(BLOCK_SIZES[0] as u64, MOST_CREDIT_BYTES)
}

/// Adds to `sum` where that stays within `limit`. What is refused is never added, so that nobody else is
/// refused for it.
fn add_within(sum: &AtomicU64, bytes: u64, limit: u64) -> bool {
    let added = |sum: u64| {
        let sum = sum.checked_add(bytes)?;
        (sum <= limit).then_some(sum)
    };
    let order = Ordering::Relaxed;
    sum.fetch_update(order, order, added).is_ok()
}

/// A worker's supply of blocks.
#[derive(Debug)]
pub struct Blocks {
    ledger: Arc<Ledger>,
    shelf: Mutex<Shelf>,
}

#[derive(Debug)]
struct Shelf {
    free: [Vec<Box<[u8]>>; 3],
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
        drop(shelf);
        let bytes = free.unwrap_or_else(|| vec![0; size].into_boxed_slice());
        Some(Block {
            bytes,
            supply: Arc::clone(self),
        })
    }

    fn give(&self, bytes: Box<[u8]>) {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let mut credit = shelf.credit.load(Ordering::Relaxed) + bytes.len() as u64;
        if self.ledger.is_in_reserve() {
            // Others need it more than this worker its convenience.
            self.ledger.take_back(credit);
            credit = 0;
        } else {
            let usual = self.ledger.credit_bytes();
            if credit > 2 * usual {
                self.ledger.take_back(credit - usual);
                credit = usual;
            }
        }
        shelf.credit.store(credit, Ordering::Relaxed);
        let Some(class) = BLOCK_SIZES.iter().position(|&size| size == bytes.len()) else {
            return;
        };
        let free = &mut shelf.free[class];
        if free.len() < FREE_BLOCKS[class] {
            if free.capacity() == 0 {
                free.reserve_exact(FREE_BLOCKS[class]);
            }
            free.push(bytes);
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

/// Bytes that are counted although they lie in no block, until this is dropped.
#[derive(Debug)]
pub struct Charge {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Charge {
    /// Goes back together with `other`.
    pub fn join(&mut self, mut other: Self) {
        if Arc::ptr_eq(&self.ledger, &other.ledger) {
            self.bytes += std::mem::take(&mut other.bytes);
        }
    }

    /// How much it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.ledger.take_back(self.bytes);
    }
}

/// Bytes that wait, until this is dropped.
#[derive(Debug)]
pub struct Waiting {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let waiting = &self.ledger.waiting_bytes;
        waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
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
    fn a_quarter_may_wait_whatever_others_use_as_long_as_memory_is_not_tight() {
        let ledger = Ledger::new(8 << 20);
        let others = ledger.charge(3 << 20).expect("room");
        assert!(ledger.may_let_wait());
        let waiting = [(); 2].map(|()| ledger.let_wait(1 << 20));
        assert!(!ledger.may_let_wait());
        drop(waiting);
        assert!(ledger.may_let_wait());
        let more = ledger.charge((1 << 20) + 1).expect("room");
        assert!(!ledger.may_let_wait(), "more than half is in use");
        drop((others, more));
        assert!(ledger.may_let_wait());
    }

    #[test]
    fn what_lies_in_no_block_is_counted_too() {
        let ledger = Ledger::new(1 << 20);
        let charge = ledger.charge(1 << 19).expect("half of it");
        assert!(ledger.charge(1 << 19).is_none(), "the reserve is for heads");
        assert_eq!((ledger.used_bytes(), ledger.refused()), (1 << 19, 1));
        drop(charge);
        assert_eq!(ledger.used_bytes(), 0);
    }

    #[test]
    fn what_could_do_with_less_gets_a_share_only() {
        let ledger = Ledger::new(1 << 20);
        let mut charge = ledger.charge_within(4, 1 << 17).expect("an eighth");
        assert!(ledger.charge_within(4, (1 << 17) + 1).is_none());
        charge.join(ledger.charge_within(4, 1 << 17).expect("just a quarter"));
        assert_eq!((charge.bytes(), ledger.used_bytes()), (1 << 18, 1 << 18));
        let above = ledger.charge_anyway(2 << 20);
        assert!(ledger.charge(1).is_none() && ledger.is_tight());
        drop((charge, above));
        assert_eq!(ledger.used_bytes(), 0);
    }

    #[test]
    fn what_is_there_in_any_case_is_counted_above_the_limit() {
        let ledger = Ledger::new(1 << 20);
        let above = ledger.charge_anyway(2 << 20);
        assert!(ledger.charge(1).is_none() && ledger.is_tight());
        assert!(!ledger.has_within(1, 0) && !ledger.has_within(1, u64::MAX));
        drop(above);
        assert!(ledger.has_within(4, 1 << 18) && !ledger.has_within(4, (1 << 18) + 1));
        assert_eq!(ledger.used_bytes(), 0);
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
