//! What the compressors and decompressors of a process may hold: shares of its memory, and of those one
//! client's.
//!
//! A client decides how much the decompressor of its body needs. So one may have a quarter of what is left
//! when it has it, in all (the rule by which switches share their buffers): alone a fifth of a room, the next one
//! a fifth of what is left, and so on, so that ten of them leave a tenth; what they give back is the next
//! one's. What a client's only body needs may be more, up to as much as is left. Nobody gives back what a body
//! needs before it ends, so enough clients together have it all.
//!
//! Each room has one lock for the process. It is taken for a body's beginning and end, and where it comes to
//! need more, for a look at one entry.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outgrow_message::Ledger;
use outgrow_message::ledger::Charge;

/// The part of the process's memory that a room has: one in so many.
const SHARE: u64 = 4;
/// What a client may have of what is left: one in so many.
const CLIENT_SHARE: u64 = 4;

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

    /// Counts `more` for a body of `client`'s that has `so_far`, if there is room for it.
    fn add(&self, more: u64, so_far: u64, client: Option<IpAddr>) -> bool {
        let mut counts = self.counts();
        let all = counts.held_bytes.saturating_add(more);
        let Some(left) = (self.ledger.limit_bytes() / SHARE).checked_sub(all) else {
            return false;
        };
        if let Some(client) = client {
            let before = counts.of_clients.get(&client).copied().unwrap_or(0);
            let own = before + more;
            let share = match before == so_far {
                true => left,
                false => left / CLIENT_SHARE,
            };
            if own > share {
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
        if !self.room.inner.add(more, self.bytes, self.client) {
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
    fn a_client_has_a_quarter_of_what_it_leaves() {
        let ledger = Ledger::new(256 * MIB);
        let room = Room::new(Arc::clone(&ledger));
        let all_of = |number| -> Vec<Held> {
            std::iter::from_fn(|| room.hold(MIB, client(number))).collect()
        };
        let first = all_of(1);
        assert_eq!(first.len(), 12, "a fifth of 64");
        let others: Vec<_> = (2..=10).map(all_of).collect();
        let counts: Vec<usize> = others.iter().map(Vec::len).collect();
        assert_eq!(counts, [10, 8, 6, 5, 4, 3, 3, 2, 2]);
        assert!(room.hold(10 * MIB, None).is_none(), "who has no share");
        assert!(room.hold(9 * MIB, None).is_some(), "has what there is");
        drop((first, others));
        assert_eq!(ledger.used_bytes(), 0);
        let counts = room.inner.counts();
        assert_eq!((counts.held_bytes, counts.of_clients.len()), (0, 0));
    }

    #[test]
    fn the_only_body_of_a_client_may_need_more() {
        let ledger = Ledger::new(256 * MIB);
        let room = Room::new(Arc::clone(&ledger));
        let mut only = room.hold(20 * MIB, client(1)).expect("room");
        assert!(only.grow(32 * MIB), "half of 64");
        assert!(!only.grow(33 * MIB));
        assert!(room.hold(MIB, client(1)).is_none(), "and no other one");
        let mut second = room.hold(MIB, client(2)).expect("room");
        let third = room.hold(MIB, client(2)).expect("room");
        assert!(!second.grow(9 * MIB), "there is another one of it");
        drop(third);
        assert!(second.grow(9 * MIB));
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
