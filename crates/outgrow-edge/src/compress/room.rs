//! What the compressors and decompressors of a process may hold: shares of its memory, and of those one
//! client's.
//!
//! A client decides how much the decompressor of its body needs. So one may have as much as is left when it
//! has it, in all (the rule by which switches share their buffers): alone a half, who
//! comes then a half of what is left, and so on; what they give back is the next one's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outgrow_message::Ledger;
use outgrow_message::ledger::Charge;

/// The part of the process's memory that a room has: one in so many.
const SHARE: u64 = 4;

/// A share of the process's memory.
#[derive(Clone, Debug)]
pub(super) struct Room {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ledger: Arc<Ledger>,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    held_bytes: u64,
    /// Of each client that holds something, which is never nothing: no more of them than fit.
    of_clients: HashMap<IpAddr, u64>,
}

impl Inner {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts `more` for `client`, if there is room for it.
    fn add(&self, more: u64, client: Option<IpAddr>) -> bool {
        let mut counts = self.counts();
        let all = counts.held_bytes.saturating_add(more);
        let Some(left) = (self.ledger.limit_bytes() / SHARE).checked_sub(all) else {
            return false;
        };
        if let Some(client) = client {
            let own = counts
                .of_clients
                .get(&client)
                .map_or(more, |own| own + more);
            if own > left {
                return false;
            }
            counts.of_clients.insert(client, own);
        }
        counts.held_bytes = all;
        true
    }

    fn subtract(&self, less: u64, client: Option<IpAddr>) {
        let mut counts = self.counts();
        counts.held_bytes -= less;
        if let Some(client) = client
            && let Some(own) = counts.of_clients.get_mut(&client)
        {
            *own -= less;
            if *own == 0 {
                counts.of_clients.remove(&client);
            }
        }
    }
}

impl Room {
    pub(super) fn new(ledger: Arc<Ledger>) -> Self {
        let counts = Mutex::default();
        Self {
            inner: Arc::new(Inner { ledger, counts }),
        }
    }

    /// Room for so many bytes, of a client's share where there is one.
    pub(super) fn hold(&self, bytes: u64, client: Option<IpAddr>) -> Option<Held> {
        let mut held = Held {
            room: self.clone(),
            client,
            bytes: 0,
            charge: None,
            above: None,
        };
        held.grow_here(bytes).then_some(held)
    }

    /// The same, which goes over to `above` when it becomes more than `most` bytes.
    pub(super) fn hold_up_to(
        &self,
        (most, above): (u64, &Self),
        bytes: u64,
        client: Option<IpAddr>,
    ) -> Option<Held> {
        let mut held = self.hold(0, client)?;
        held.above = Some((most, above.clone()));
        held.grow(bytes).then_some(held)
    }
}

/// Memory of a compressor or a decompressor, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    room: Room,
    client: Option<IpAddr>,
    bytes: u64,
    charge: Option<Charge>,
    /// Above how many bytes another room counts them.
    above: Option<(u64, Room)>,
}

impl Held {
    /// Counts `bytes` in all, where that is more than now; whether there is room for them.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        if let Some((most, above)) = &self.above
            && bytes > *most
        {
            let held = above.hold(bytes, self.client);
            let has_room = held.is_some();
            if let Some(held) = held {
                *self = held;
            }
            return has_room;
        }
        self.grow_here(bytes)
    }

    fn grow_here(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        if !self.room.inner.add(more, self.client) {
            return false;
        }
        // Counted from here on, whatever becomes of it.
        self.bytes += more;
        let Some(charge) = self.room.inner.ledger.charge(more) else {
            self.bytes -= more;
            self.room.inner.subtract(more, self.client);
            return false;
        };
        match &mut self.charge {
            Some(own) => own.join(charge),
            None => self.charge = Some(charge),
        }
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.charge = None;
        if self.bytes > 0 {
            self.room.inner.subtract(self.bytes, self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn client(number: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, number]))
    }

    #[test]
    fn one_client_has_half_and_another_one_half_of_what_is_left() {
        let ledger = Ledger::new(256 * MIB);
        let room = Room::new(Arc::clone(&ledger));
        let all_of = |number| -> Vec<Held> {
            std::iter::from_fn(|| room.hold(MIB, client(number))).collect()
        };
        let first = all_of(1);
        assert_eq!(first.len(), 32);
        assert_eq!(all_of(2).len(), 16);
        let second = all_of(2);
        assert_eq!((second.len(), all_of(3).len()), (16, 8));
        assert!(room.hold(17 * MIB, None).is_none(), "who has no share");
        assert!(room.hold(16 * MIB, None).is_some(), "has what there is");
        drop((first, second));
        assert_eq!(ledger.used_bytes(), 0);
        let counts = room.inner.counts();
        assert_eq!((counts.held_bytes, counts.of_clients.len()), (0, 0));
    }

    #[test]
    fn what_becomes_large_leaves_the_small_ones_room() {
        let ledger = Ledger::new(256 * MIB);
        let (small, large) = (
            Room::new(Arc::clone(&ledger)),
            Room::new(Arc::clone(&ledger)),
        );
        let hold = || small.hold_up_to((MIB, &large), MIB, client(1));
        let mut held = hold().expect("room");
        assert_eq!(small.inner.counts().held_bytes, MIB);
        assert!(held.grow(9 * MIB));
        assert_eq!(small.inner.counts().held_bytes, 0);
        assert_eq!(large.inner.counts().held_bytes, 9 * MIB);
        assert!(held.grow(10 * MIB));
        assert_eq!(ledger.used_bytes(), 10 * MIB);
        let mut other = hold().expect("room");
        assert!(!other.grow(40 * MIB), "more than is left");
        assert_eq!(small.inner.counts().held_bytes, MIB, "it stays as it was");
        drop((held, other));
        assert_eq!(ledger.used_bytes(), 0);
    }
}
