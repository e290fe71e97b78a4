//! Whose work it is, and who waits for a place to have it wait for a thread in.

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{Promise, Slot, Ticket};

/// Whose work it is: each has a share of the threads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owner(pub(super) Arc<Counts>);

impl Owner {
    /// One that has at most `waiting` [places](Owner::place).
    pub(crate) fn within(waiting: usize) -> Self {
        let most_waiting = waiting.max(1);
        Self(Arc::new(Counts {
            most_waiting,
            ..Counts::default()
        }))
    }

    /// What tells it from others for as long as somebody has it.
    pub(crate) fn key(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    /// Whether they are one.
    #[cfg(test)]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What finds it again as long as somebody has it, or work of its is there.
    pub(crate) fn known(&self) -> KnownOwner {
        KnownOwner(Arc::downgrade(&self.0))
    }

    /// Whether anybody else knows it.
    pub(crate) fn is_known(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// A place to wait for a thread in; or who waits for one, and gets it in the order of asking.
    pub(crate) fn place(&self) -> Result<Place, Ticket<Place>> {
        let mut line = self.0.line();
        if line.taken < self.0.most_waiting {
            line.taken += 1;
            return Ok(Place(Arc::clone(&self.0)));
        }
        if line.outside.len() == line.outside.capacity() {
            // Before there is room for more of them, those go that nobody waits for any more.
            line.outside.retain(Promise::is_wanted);
        }
        let slot: Arc<Slot<Place>> = Arc::default();
        line.outside.push_back(Promise(Arc::clone(&slot)));
        Err(Ticket(slot))
    }

    /// One more place than there may be.
    pub(super) fn place_anyway(&self) -> Place {
        self.0.line().taken += 1;
        Place(Arc::clone(&self.0))
    }
}

/// An owner that may be gone.
#[derive(Debug)]
pub(crate) struct KnownOwner(Weak<Counts>);

impl KnownOwner {
    /// The owner, if it is there.
    pub(crate) fn owner(&self) -> Option<Owner> {
        self.0.upgrade().map(Owner)
    }
}

/// A place in an owner's line before the threads. It goes to who waits for one when it is dropped, the oldest
/// first: when a thread has begun the work, and when nobody comes for it.
#[derive(Debug)]
pub(crate) struct Place(pub(super) Arc<Counts>);

impl Drop for Place {
    fn drop(&mut self) {
        let mut line = self.0.line();
        let next = match line.taken > self.0.most_waiting {
            true => None,
            false => line.next(),
        };
        match next {
            Some(promise) => {
                drop(line);
                // Who has dropped its ticket by now drops this place as well, so the next one gets it.
                promise.keep(|| Self(Arc::clone(&self.0)));
            }
            None => line.taken -= 1,
        }
    }
}

/// What one owner has.
#[derive(Debug)]
pub(super) struct Counts {
    /// Threads that are at it now; written under the pool's lock.
    pub(super) busy: AtomicUsize,
    /// What may wait for a thread.
    pub(super) most_waiting: usize,
    line: Mutex<Line>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            busy: AtomicUsize::new(0),
            most_waiting: usize::MAX,
            line: Mutex::default(),
        }
    }
}

/// Who waits for a thread. Its lock is taken after the pool's where both are.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Places that are taken.
    pub(super) taken: usize,
    /// Who waits for one; nobody while there is one.
    pub(super) outside: VecDeque<Promise<Place>>,
}

impl Line {
    /// Who has waited for a place longest, of those who still do.
    fn next(&mut self) -> Option<Promise<Place>> {
        loop {
            let promise = self.outside.pop_front()?;
            if promise.is_wanted() {
                return Some(promise);
            }
        }
    }
}

impl Counts {
    pub(super) fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
