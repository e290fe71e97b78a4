//! The memory ledger: buffers are blocks of three sizes from a worker's free list, and all that
//! are in use in the process are counted against one limit.
//!
//! Who asks gets less the less there is: above half of the limit what is read ahead comes in the
//! smallest blocks, so that clients that do not read cannot hold all of it; the last sixteenth is
//! for heads and for our own answers, so that whoever comes is told what is the matter.

mod blocks;
mod foreseen;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

pub use blocks::{BLOCK_SIZES, Block, Blocks};
pub use foreseen::{Foreseen, Holder, Share};

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
    /// The supplies that have taken something of it.
    supplies: Mutex<Vec<Weak<Blocks>>>,
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
            supplies: Mutex::default(),
        })
    }

    /// Changes the limit; what is in use stays.
    pub fn set_limit(&self, limit_bytes: u64) {
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
        self.share_credits();
    }

    /// A supply takes something for the first time.
    fn join(&self, supply: Weak<Blocks>) {
        let mut supplies = self.lock();
        supplies.retain(|other| other.strong_count() > 0);
        supplies.push(supply);
        drop(supplies);
        self.share_credits();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Blocks>>> {
        self.supplies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There are other supplies, or the limit is another one: who has more than its share gives it back.
    fn share_credits(&self) {
        // The last one to store knows all that have joined, and the limit.
        let known = self.lock();
        let supplies = alive(&known);
        let bytes = credit_bytes(self.limit_bytes(), supplies.len() as u64);
        self.credit_bytes.store(bytes, Ordering::Relaxed);
        drop(known);
        for supply in supplies {
            supply.keep_at_most(self.credit_bytes());
        }
    }

    /// Bytes in use now.
    pub fn used_bytes(&self) -> u64 {
        let supplies = alive(&self.lock());
        let unused: u64 = supplies.iter().map(|supply| supply.credit_bytes()).sum();
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
    /// memory is not tight. Who asks and then lets it wait may so exceed the quarter, by one answer for each worker.
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

/// Those that have not ended; to be dropped without the lock, which the end of one takes.
fn alive(known: &[Weak<Blocks>]) -> Vec<Arc<Blocks>> {
    known.iter().filter_map(Weak::upgrade).collect()
}

/// What each of so many supplies takes at a time; 0: what it needs.
fn credit_bytes(limit_bytes: u64, supplies: u64) -> u64 {
    let share = limit_bytes / CREDITS_SHARE / supplies.max(1);
    match share < BLOCK_SIZES[0] as u64 {
        true => 0,
        false => share.min(MOST_CREDIT_BYTES),
    }
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

impl Waiting {
    /// It is no more than so many now.
    pub fn shrink_to(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        let waiting = &self.ledger.waiting_bytes;
        waiting.fetch_sub(less, Ordering::Relaxed);
        self.bytes -= less;
    }
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
    fn a_quarter_may_wait_whatever_others_use_as_long_as_memory_is_not_tight() {
        let ledger = Ledger::new(8 << 20);
        let others = ledger.charge(3 << 20).expect("room");
        assert!(ledger.may_let_wait());
        let waiting = [(); 2].map(|()| ledger.let_wait(1 << 20));
        assert!(!ledger.may_let_wait());
        let [one, mut other] = waiting;
        other.shrink_to(1 << 10);
        other.shrink_to(1 << 11);
        assert_eq!(ledger.waiting_bytes(), (1 << 20) + (1 << 10));
        assert!(ledger.may_let_wait());
        drop((one, other));
        assert_eq!(ledger.waiting_bytes(), 0);
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
}
