//! The memory ledger: buffers are blocks of three sizes from a worker's free list, and all that
//! are in use in the process are counted against one limit.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The sizes of blocks in bytes.
pub const BLOCK_SIZES: [usize; 3] = [16 * 1024, 64 * 1024, 256 * 1024];

/// How many free blocks of each size a worker keeps for reuse: 2 MiB, 1 MiB, 1 MiB.
const FREE_BLOCKS: [usize; 3] = [128, 16, 4];

/// Counts the bytes of buffers in use in the process, against a limit.
#[derive(Debug)]
pub struct Ledger {
    used_bytes: AtomicU64,
    limit_bytes: AtomicU64,
    refused: AtomicU64,
}

impl Ledger {
    /// A ledger with a limit in bytes.
    pub fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            used_bytes: AtomicU64::new(0),
            limit_bytes: AtomicU64::new(limit_bytes),
            refused: AtomicU64::new(0),
        })
    }

    /// Changes the limit; what is in use stays.
    pub fn set_limit(&self, limit_bytes: u64) {
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
    }

    /// Bytes in use now.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// How often a block was refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn charge(&self, bytes: usize) -> bool {
        let before = self.used_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if before + bytes as u64 <= self.limit_bytes.load(Ordering::Relaxed) {
            return true;
        }
        self.used_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        self.refused.fetch_add(1, Ordering::Relaxed);
        false
    }

    fn discharge(&self, bytes: usize) {
        self.used_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}

/// A worker's supply of blocks.
#[derive(Debug)]
pub struct Blocks {
    ledger: Arc<Ledger>,
    free: Mutex<[Vec<Box<[u8]>>; 3]>,
}

impl Blocks {
    /// A supply that charges `ledger`.
    pub fn new(ledger: Arc<Ledger>) -> Arc<Self> {
        Arc::new(Self {
            ledger,
            free: Mutex::default(),
        })
    }

    /// A block of the smallest size, or none when the ledger is full.
    #[inline]
    pub fn take(self: &Arc<Self>) -> Option<Block> {
        self.take_class(0)
    }

    /// A block of size [`BLOCK_SIZES`]`[class]`, or none when the ledger is full.
    pub fn take_class(self: &Arc<Self>, class: usize) -> Option<Block> {
        let class = class.min(BLOCK_SIZES.len() - 1);
        let size = BLOCK_SIZES[class];
        if !self.ledger.charge(size) {
            return None;
        }
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner)[class].pop();
        let bytes = free.unwrap_or_else(|| vec![0; size].into_boxed_slice());
        Some(Block {
            bytes,
            supply: Arc::clone(self),
        })
    }

    fn give(&self, bytes: Box<[u8]>) {
        self.ledger.discharge(bytes.len());
        let Some(class) = BLOCK_SIZES.iter().position(|&size| size == bytes.len()) else {
            return;
        };
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free[class].len() < FREE_BLOCKS[class] {
            if free[class].capacity() == 0 {
                free[class].reserve_exact(FREE_BLOCKS[class]);
            }
            free[class].push(bytes);
        }
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
    use super::*;

    #[test]
    fn the_limit_holds_and_blocks_come_back() {
        let ledger = Ledger::new(80 * 1024);
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
}
