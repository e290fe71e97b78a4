//! A pool's lock. Where the pool has several lanes, what changed while it was held is shown to the
//! others as it is given up, and what follows from that is done behind it.

use std::ops::{Deref, DerefMut};
use std::sync::{MutexGuard, PoisonError};

use super::Pool;
use super::inner::Inner;

/// A pool that is held. Fields are dropped in their order: the lock first.
pub(super) struct Locked<'p> {
    inner: MutexGuard<'p, Inner>,
    after: Settling<'p>,
}

/// Has the lanes settled when it is due, once the lock is given up.
struct Settling<'p> {
    pool: &'p Pool,
    may: bool,
    is_due: bool,
}

impl Pool {
    #[inline]
    pub(super) fn lock(&self) -> Locked<'_> {
        self.lock_and(true)
    }

    /// For who settles the lanes: nothing follows from it.
    pub(super) fn lock_quietly(&self) -> Locked<'_> {
        self.lock_and(false)
    }

    #[inline]
    fn lock_and(&self, may: bool) -> Locked<'_> {
        Locked {
            inner: self.inner.lock().unwrap_or_else(PoisonError::into_inner),
            after: Settling {
                pool: self,
                may,
                is_due: false,
            },
        }
    }
}

impl Deref for Locked<'_> {
    type Target = Inner;

    #[inline]
    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl DerefMut for Locked<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.inner.in_lanes.is_some() {
            self.after.is_due = self.inner.show() && self.after.may;
        }
    }
}

impl Drop for Settling<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.is_due {
            self.pool.lanes.settle();
        }
    }
}
