//! What others could make us hold, whether or not they do: what windows let them send, say.
//!
//! It is counted from the moment when they could. Since nobody need have sent a byte of it, it has a share of
//! all memory, so that those who use what is counted for them keep the rest; and each who could has a part
//! of that share, so that few do not take it from all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Charge, Ledger, add_within};

/// One holder may have one in so many of a share.
pub const HOLDER_SHARE: u64 = 4;

/// One of those who could make us hold something: a client's address.
#[derive(Debug, Default)]
pub struct Holder {
    bytes: AtomicU64,
}

/// Bytes in a holder's sum.
#[derive(Debug)]
struct Held {
    by: Arc<Holder>,
    bytes: u64,
}

impl Held {
    fn within(by: &Arc<Holder>, limit: u64, bytes: u64) -> Option<Self> {
        let held = || Self {
            by: Arc::clone(by),
            bytes,
        };
        add_within(&by.bytes, bytes, limit).then(held)
    }

    fn join(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    fn give_back(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.by.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Bytes that are counted since somebody could make us hold them, until this is dropped.
#[derive(Debug)]
pub struct Foreseen {
    charge: Charge,
    by_all: Held,
    by_holder: Held,
}

impl Foreseen {
    /// Goes back together with `other`, which is of the same ledger and holder; of others nothing is joined.
    pub fn join(&mut self, other: Self) {
        let is_of_one = Arc::ptr_eq(&self.by_all.by, &other.by_all.by)
            && Arc::ptr_eq(&self.by_holder.by, &other.by_holder.by);
        if is_of_one {
            self.charge.join(other.charge);
            self.by_all.join(other.by_all);
            self.by_holder.join(other.by_holder);
        }
    }

    /// It is in use from now on, and others may have its part of the share. It counts as any other memory, and
    /// to its holder as before.
    pub fn leave_share(&mut self) {
        self.by_all.give_back();
    }
}

impl Ledger {
    /// Counts bytes that `holder` could make us hold: all such together are at most one in `share` of the
    /// limit, and its own one in [`HOLDER_SHARE`] of that.
    pub fn foresee(
        self: &Arc<Self>,
        holder: &Arc<Holder>,
        share: u64,
        bytes: u64,
    ) -> Option<Foreseen> {
        let limit = self.limit_bytes() / share.max(1);
        Some(Foreseen {
            by_holder: Held::within(holder, limit / HOLDER_SHARE, bytes)?,
            by_all: Held::within(&self.foreseen, limit, bytes)?,
            charge: self.charge(bytes)?,
        })
    }

    /// Bytes of all that [`Ledger::foresee`] has given and that are in its share now.
    pub fn foreseen_bytes(&self) -> u64 {
        self.foreseen.bytes.load(Ordering::Relaxed)
    }

    /// Takes note that somebody was refused something for want of what [`Ledger::foresee`] gives.
    pub fn note_unforeseen(&self) {
        self.refused_foreseen.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was noted.
    pub fn refused_foreseen(&self) -> u64 {
        self.refused_foreseen.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holders() -> [Arc<Holder>; 4] {
        Default::default()
    }

    #[test]
    fn what_is_foreseen_has_a_share_of_its_own() {
        let ledger = Ledger::new(1 << 20);
        let used = ledger.charge(1 << 19).expect("half of it");
        let of = holders();
        let foresee = |at: usize, bytes| ledger.foresee(&of[at], 4, bytes);
        let all: Vec<_> = (0..4).map(|at| foresee(at, 1 << 16)).collect();
        assert!(all.iter().all(Option::is_some), "whatever others use");
        assert_eq!(ledger.foreseen_bytes(), 1 << 18);
        assert!(ledger.foresee(&Arc::default(), 4, 1).is_none());
        drop(all);
        assert_eq!((ledger.used_bytes(), ledger.foreseen_bytes()), (1 << 19, 0));
        let rest = ledger.charge((1 << 19) - (1 << 16));
        assert!(rest.is_some() && foresee(0, 1).is_none(), "nothing is left");
        drop((used, rest));
        assert!(foresee(0, 1 << 16).is_some(), "what was refused came back");
    }

    #[test]
    fn a_holder_has_a_part_of_a_share() {
        let ledger = Ledger::new(1 << 20);
        let [one, other, ..] = holders();
        let part = (1 << 18) / HOLDER_SHARE;
        let mut first = ledger.foresee(&one, 4, part - 1).expect("room");
        assert!(ledger.foresee(&one, 4, 2).is_none());
        first.join(ledger.foresee(&one, 4, 1).expect("just its part"));
        assert!(ledger.foresee(&one, 4, 1).is_none());
        let others = ledger.foresee(&other, 4, part).expect("it has its own");
        assert_eq!(ledger.foreseen_bytes(), 2 * part);
        drop(first);
        assert_eq!(ledger.foreseen_bytes(), part);
        assert!(ledger.foresee(&one, 4, part).is_some());
        drop(others);
        assert_eq!((ledger.used_bytes(), ledger.foreseen_bytes()), (0, 0));
    }

    #[test]
    fn what_is_in_use_leaves_the_share_and_stays_its_holders() {
        let ledger = Ledger::new(1 << 20);
        let [one, other, ..] = holders();
        let part = (1 << 18) / HOLDER_SHARE;
        let mut first = ledger.foresee(&one, 4, part).expect("room");
        first.leave_share();
        assert_eq!((ledger.used_bytes(), ledger.foreseen_bytes()), (part, 0));
        assert!(ledger.foresee(&one, 4, 1).is_none());
        // Of two that could not be joined each goes by itself.
        first.join(ledger.foresee(&other, 4, part).expect("room"));
        assert_eq!((ledger.used_bytes(), ledger.foreseen_bytes()), (part, 0));
        drop(first);
        assert!(ledger.foresee(&one, 4, part).is_some());
        assert_eq!((ledger.used_bytes(), ledger.foreseen_bytes()), (0, 0));
    }
}
