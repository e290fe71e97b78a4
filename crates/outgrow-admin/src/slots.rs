//! Which connections are open, and which of them may be closed to make room for a new one: the
//! one that has been idle for longest.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

const IDLE: u8 = 0;
const BUSY: u8 = 1;
const ENDED: u8 = 2;

/// All open connections of a listener.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    open: Mutex<Vec<Arc<Place>>>,
    /// Counts the times that a connection became idle; orders them.
    turn: AtomicU64,
    /// Whether a new connection waits for room.
    wanted: AtomicBool,
    /// Whether the listener ends.
    ending: AtomicBool,
}

#[derive(Debug, Default)]
struct Place {
    state: AtomicU8,
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
    /// A place for a new connection, which is idle.
    pub(crate) fn take(self: &Arc<Self>) -> Slot {
        self.wanted.store(false, Ordering::SeqCst);
        let place = Arc::new(Place::default());
        let turn = self.turn.fetch_add(1, Ordering::SeqCst);
        place.idle_since.store(turn, Ordering::SeqCst);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push(Arc::clone(&place));
        Slot {
            slots: Arc::clone(self),
            place,
        }
    }

    /// Ends the connection that has been idle for longest; when none is, the next that becomes
    /// idle ends then.
    pub(crate) fn make_room(&self) {
        self.wanted.store(true, Ordering::SeqCst);
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = open
            .iter()
            .filter(|place| place.state.load(Ordering::SeqCst) == IDLE);
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
        let exchanged =
            self.state
                .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
        exchanged.is_ok()
    }
}

impl Slot {
    /// Whether the connection may go on to its next request: it is not idle from now on. False
    /// when it was chosen to end.
    pub(crate) fn wake(&self) -> bool {
        self.place.exchange(IDLE, BUSY)
    }

    /// Whether another request may come: the connection is idle from now on. False when its place
    /// is needed, or the listener ends.
    pub(crate) fn rest(&self) -> bool {
        let turn = self.slots.turn.fetch_add(1, Ordering::SeqCst);
        self.place.idle_since.store(turn, Ordering::SeqCst);
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
    use super::*;

    #[test]
    fn the_longest_idle_one_ends() {
        let slots = Arc::new(Slots::default());
        let (first, second, third) = (slots.take(), slots.take(), slots.take());
        assert!(first.wake() && first.rest());
        assert!(second.wake());
        slots.make_room();
        assert!(!third.wake(), "the oldest of the idle ones");
        assert!(first.wake(), "was busy since");
        drop(third);
        assert!(!first.rest(), "room is still wanted");
        let _fourth = slots.take();
        assert!(second.rest(), "room was found");
        slots.end();
        assert!(!second.wake());
    }
}
