//! Values that control work publishes and workers read: a [`Snapshot`] holds the newest, each
//! worker keeps a [`View`] of it and acknowledges the epoch it works with.
//!
//! A read costs one relaxed load while nothing changed. Nothing is locked across an await.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The newest value of something, with an epoch that grows by one at every publication.
#[derive(Debug)]
pub struct Snapshot<T> {
    current: Mutex<Arc<T>>,
    epoch: AtomicU64,
}

impl<T> Snapshot<T> {
    /// Publishes the first value as epoch 1.
    pub fn new(value: T) -> Self {
        Self {
            current: Mutex::new(Arc::new(value)),
            epoch: AtomicU64::new(1),
        }
    }

    /// Replaces the value; returns its epoch.
    pub fn publish(&self, value: Arc<T>) -> u64 {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = value;
        self.epoch.fetch_add(1, Ordering::Release) + 1
    }

    /// The newest value.
    pub fn load(&self) -> Arc<T> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The newest epoch.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// A view that starts at the newest value.
    pub fn view(&self) -> View<T> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        View {
            value: Arc::clone(&current),
            epoch: self.epoch.load(Ordering::Acquire),
        }
    }
}

/// One reader's copy of a [`Snapshot`]'s value.
#[derive(Debug)]
pub struct View<T> {
    value: Arc<T>,
    epoch: u64,
}

impl<T> View<T> {
    /// Takes over the newest value if there is one; true when it changed.
    #[inline]
    pub fn refresh(&mut self, snapshot: &Snapshot<T>) -> bool {
        if snapshot.epoch() == self.epoch {
            return false;
        }
        *self = snapshot.view();
        true
    }

    /// The value that this reader works with.
    #[inline]
    pub fn value(&self) -> &Arc<T> {
        &self.value
    }

    /// The epoch that this reader works with.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_changes_when_told_to() {
        let snapshot = Snapshot::new(1);
        let mut view = snapshot.view();
        assert!(!view.refresh(&snapshot));
        assert_eq!(snapshot.publish(Arc::new(2)), 2);
        assert_eq!(**view.value(), 1);
        assert!(view.refresh(&snapshot));
        assert_eq!((**view.value(), view.epoch()), (2, 2));
    }
}
