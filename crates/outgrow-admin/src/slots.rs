//! Which connections are open, and which of them may be closed to make room for a new one: the
//! one that has been idle for longest.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// A connection that has not been idle for so long is spared: its request may be on its way.
pub(crate) const SPARED: Duration = Duration::from_millis(250);

const IDLE: u8 = 0;
const BUSY: u8 = 1;
const ENDED: u8 = 2;

/// All open connections of a listener.
#[derive(Debug)]
pub(crate) struct Slots {
    /// In the order of their coming.
    open: Mutex<Vec<Arc<Place>>>,
    start: Instant,
    /// Whether a new connection waits for room.
    wanted: AtomicBool,
    /// Whether the listener ends.
    ending: AtomicBool,
}

#[derive(Debug, Default)]
struct Place {
    state: AtomicU8,
    /// Milliseconds since the start.
    idle_since: AtomicU64,
    ended: Notify,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    place: Arc<Place>,
}

impl Slots {
    /// None are open.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::default(),
            start: Instant::now(),
            wanted: AtomicBool::new(false),
            ending: AtomicBool::new(false),
        })
    }

    fn now_millis(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// A place for a new connection, which is idle.
    pub(crate) fn take(self: &Arc<Self>) -> Slot {
        self.wanted.store(false, Ordering::SeqCst);
        let place = Arc::new(Place::default());
        let now = self.now_millis();
        place.idle_since.store(now, Ordering::SeqCst);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push(Arc::clone(&place));
        Slot {
            slots: Arc::clone(self),
            place,
        }
    }

    /// Ends the connection that has been idle for longest, unless all are busy or [`SPARED`]: to
    /// be asked again after that time. Until a place is taken, connections end after an exchange.
    pub(crate) fn make_room(&self) {
        self.wanted.store(true, Ordering::SeqCst);
        let Some(latest) = self.now_millis().checked_sub(SPARED.as_millis() as u64) else {
            return;
        };
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = open.iter().filter(|place| {
            place.state.load(Ordering::SeqCst) == IDLE
                && place.idle_since.load(Ordering::SeqCst) <= latest
        });
        if let Some(oldest) = idle.min_by_key(|place| place.idle_since.load(Ordering::SeqCst)) {
            oldest.end();
        }
    }

    /// Ends every connection: idle ones now, the others after their exchange.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().for_each(|place| place.end());
    }
}

impl Place {
    fn end(&self) {
        if self.exchange(IDLE, ENDED) {
            self.ended.notify_one();
        }
    }

    fn exchange(&self, from: u8, to: u8) -> bool {
        let exchanged = self
            .state
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
        exchanged.is_ok()
    }
}

impl Slot {
    /// Whether the connection may go on to answer a request, whose head is whole: it is not idle
    /// from now on. False when it was chosen to end.
    pub(crate) fn wake(&self) -> bool {
        self.place.exchange(IDLE, BUSY)
    }

    /// Whether another request may come: the connection is idle from now on. False when its place
    /// is needed, or the listener ends.
    pub(crate) fn rest(&self) -> bool {
        let now = self.slots.now_millis();
        self.place.idle_since.store(now, Ordering::SeqCst);
        self.place.state.store(IDLE, Ordering::SeqCst);
        !self.is_unwelcome()
    }

    /// Whether no further request should be invited.
    pub(crate) fn is_unwelcome(&self) -> bool {
        self.slots.ending.load(Ordering::SeqCst) || self.slots.wanted.load(Ordering::SeqCst)
    }

    /// Waits until the connection is chosen to end.
    pub(crate) async fn ended(&self) {
        self.place.ended.notified().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self
            .slots
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        open.retain(|place| !Arc::ptr_eq(place, &self.place));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_one_ends() {
        let slots = Slots::new();
        let first = slots.take();
        let second = slots.take();
        advance(SPARED / 2).await;
        let third = slots.take();
        assert!(first.wake() && first.rest());
        assert!(second.wake());
        slots.make_room();
        advance(SPARED / 2).await;
        slots.make_room();
        assert!(third.wake(), "spared so far");
        assert!(!third.rest(), "its place is wanted");
        advance(SPARED / 2).await;
        slots.make_room();
        assert!(!first.wake(), "the oldest of the idle ones");
        assert!(third.wake(), "is younger");
        drop(first);
        let _fourth = slots.take();
        assert!(second.rest(), "room was found");
        slots.end();
        assert!(!second.wake());
        assert!(!third.rest());
    }
}
