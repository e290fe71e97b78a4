//! Which lane of its pool a client is in, and which one it is to go to.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A client's lane.
#[derive(Debug)]
pub(crate) struct LaneSeen {
    /// The number of its pool's lanes; 0: none yet.
    lanes: AtomicU64,
    /// The worker that serves it.
    worker: AtomicUsize,
    /// The one that is to; [`usize::MAX`]: the same.
    wanted: AtomicUsize,
}

impl Default for LaneSeen {
    fn default() -> Self {
        Self {
            lanes: AtomicU64::new(0),
            worker: AtomicUsize::new(0),
            wanted: AtomicUsize::new(usize::MAX),
        }
    }
}

impl LaneSeen {
    /// The number of its pool's lanes, and the worker that it is at.
    pub(crate) fn now(&self) -> (u64, usize) {
        let lanes = self.lanes.load(Ordering::Relaxed);
        (lanes, self.worker.load(Ordering::Relaxed))
    }

    /// It is there now.
    pub(crate) fn set(&self, lanes: u64, worker: usize) {
        self.lanes.store(lanes, Ordering::Relaxed);
        self.worker.store(worker, Ordering::Relaxed);
        self.want(None);
    }

    /// The worker whose lane it is to go to when it is at rest.
    #[inline]
    pub(crate) fn wanted(&self) -> Option<usize> {
        let worker = self.wanted.load(Ordering::Relaxed);
        (worker != usize::MAX).then_some(worker)
    }

    /// Has it go there.
    pub(crate) fn want(&self, worker: Option<usize>) {
        let worker = worker.unwrap_or(usize::MAX);
        self.wanted.store(worker, Ordering::Relaxed);
    }
}
