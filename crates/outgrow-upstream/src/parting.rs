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

/// By when everybody has to be gone from an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The last moment.
    pub until: Ticks,
    /// It stops then. Otherwise it only is not to be used any more, and may be back before.
    pub stops: bool,
}

/// One endpoint's.
#[derive(Debug, Default)]
pub struct Parting {
    /// The last moment in nanoseconds, with the lowest bit for `stops`; 0 while nobody has to go.
    part: AtomicU64,
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
    pub fn part(&self) -> Option<Part> {
        match self.part.load(Ordering::Acquire) {
            0 => None,
            part => Some(Part {
                until: Ticks(part & !1),
                stops: part & 1 == 1,
            }),
        }
    }

    /// Everybody has to be gone. Where that was said before, the sooner one holds, and that it stops.
    pub(crate) fn begin(&self, part: Part) {
        let (until, stops) = (part.until.0.max(2) & !1, u64::from(part.stops));
        let with = |before: u64| {
            let until = match before & !1 {
                0 => until,
                before => before.min(until),
            };
            let part = until | stops | before & 1;
            (part != before).then_some(part)
        };
        let order = (Ordering::AcqRel, Ordering::Relaxed);
        if self.part.fetch_update(order.0, order.1, with).is_ok() {
            self.wake();
        }
    }

    /// Nobody has to go any more.
    pub(crate) fn take_back(&self) {
        if self.part.swap(0, Ordering::AcqRel) != 0 {
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
    pub fn part(&mut self, cx: &Context<'_>) -> Option<Part> {
        if self.number.is_none() {
            let mut stays = self.endpoint.parting().stays();
            stays.last += 1;
            let number = stays.last;
            stays.wakers.insert(number, cx.waker().clone());
            self.number = Some(number);
        }
        self.endpoint.parting().part()
    }
}

impl Drop for LongStay {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.endpoint.parting().stays().wakers.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sooner_moment_holds_and_a_stop_stays_one() {
        let parting = Parting::default();
        let part = |until, stops| Part {
            until: Ticks(until),
            stops,
        };
        assert_eq!(parting.part(), None);
        parting.begin(part(0, false));
        assert_eq!(parting.part(), Some(part(2, false)));
        parting.take_back();
        for (said, is) in [
            (part(1_001, false), part(1_000, false)),
            (part(2_000, true), part(1_000, true)),
            (part(500, false), part(500, true)),
            (part(600, true), part(500, true)),
        ] {
            parting.begin(said);
            assert_eq!(parting.part(), Some(is));
        }
        parting.take_back();
        assert_eq!(parting.part(), None);
    }
}
