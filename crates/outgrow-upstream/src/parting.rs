//! When an endpoint is to be left by those who stay on long connections to it: it was taken out of the
//! configuration, or its instance is to stop.
//!
//! Requests end by themselves. Who might stay for hours, a WebSocket, is woken and sees by when it has to
//! be gone; how it goes is the tier's to know.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use outgrow_core::Ticks;

use crate::Endpoint;

/// One endpoint's.
#[derive(Debug, Default)]
pub struct Parting {
    /// By when, as `Ticks`; 0 while nobody has to go.
    until: AtomicU64,
    stays: Mutex<Stays>,
}

#[derive(Debug, Default)]
struct Stays {
    last: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl Parting {
    /// By when everybody has to be gone, if that is so.
    #[inline]
    pub fn until(&self) -> Option<Ticks> {
        match self.until.load(Ordering::Acquire) {
            0 => None,
            until => Some(Ticks(until)),
        }
    }

    /// Everybody has to be gone by `until`. What was said before holds.
    pub(crate) fn begin(&self, until: Ticks) {
        let until = until.0.max(1);
        let order = (Ordering::AcqRel, Ordering::Relaxed);
        let first = self.until.compare_exchange(0, until, order.0, order.1);
        if first.is_ok() {
            self.wake();
        }
    }

    /// Nobody has to go any more.
    pub(crate) fn take_back(&self) {
        if self.until.swap(0, Ordering::AcqRel) != 0 {
            self.wake();
        }
    }

    fn wake(&self) {
        let wakers: Vec<Waker> = self.stays().wakers.values().cloned().collect();
        for waker in wakers {
            waker.wake();
        }
    }

    fn stays(&self) -> MutexGuard<'_, Stays> {
        self.stays.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who stays at an endpoint, until this is dropped.
#[derive(Debug)]
pub struct LongStay {
    endpoint: Arc<Endpoint>,
    /// None before the first look.
    number: Option<u64>,
}

impl LongStay {
    /// At this endpoint.
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        Self {
            endpoint,
            number: None,
        }
    }

    /// By when it has to be gone, if that is so. The task that looks first is woken when that changes.
    #[inline]
    pub fn until(&mut self, cx: &Context<'_>) -> Option<Ticks> {
        if self.number.is_none() {
            let mut stays = self.endpoint.parting().stays();
            stays.last += 1;
            let number = stays.last;
            stays.wakers.insert(number, cx.waker().clone());
            self.number = Some(number);
        }
        self.endpoint.parting().until()
    }
}

impl Drop for LongStay {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.endpoint.parting().stays().wakers.remove(&number);
        }
    }
}
