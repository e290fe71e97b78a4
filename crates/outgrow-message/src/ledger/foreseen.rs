//! What others could make us hold, whether or not they do: what windows let them send, say.
//!
//! It is counted from the moment when they could. Since nobody need have sent a byte of it, it has a share of
//! all memory, so that those who use what is counted for them keep the rest; and each who could has a part
//! of that share, so that few do not take it from all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Charge, Ledger, add_within};

/// One of those who could make us hold something: a client's address.
#[derive(Debug, Default)]
pub struct Holder {
    bytes: AtomicU64,
}

/// What may be foreseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// All together: one in so many of the ledger's limit.
    pub one_in: u64,
    /// One holder: so much of that, in percent.
    pub holder_percent: u64,
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
    by_all: Held,
    by_holder: Held,
    _charge: Charge,
}

impl Foreseen {
    /// It is in use from now on, and others may have its part of the share. It counts as any other memory, and
    /// to its holder as before.
    pub fn leave_share(&mut self) {
        self.by_all.give_back();
    }

    /// It counts to this holder from now on, however much that one has.
    pub fn be_of(&mut self, holder: &Arc<Holder>) {
        let bytes = self.by_holder.bytes;
        holder.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.by_holder = Held {
            by: Arc::clone(holder),
            bytes,
        };
    }
}

impl Ledger {
    /// Counts bytes that `holder` could make us hold, if all such together and its own are within `share`.
    pub fn foresee(
        self: &Arc<Self>,
        holder: &Arc<Holder>,
        share: Share,
        bytes: u64,
    ) -> Option<Foreseen> {
        let limit = self.limit_bytes() / share.one_in.max(1);
        Some(Foreseen {
            by_holder: Held::within(holder, limit / 100 * share.holder_percent, bytes)?,
            by_all: Held::within(&self.foreseen, limit, bytes)?,
            _charge: self.charge(bytes)?,
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

    /// A quarter of all, of which each may have a quarter.
    const SHARE: Share = Share {
        one_in: 4,
        holder_percent: 25,
    };
    /// What all tests have.
    const LIMIT: u64 = 1_600_000;
    const ALL: u64 = LIMIT / 4;
    const PART: u64 = ALL / 4;

    fn holders() -> [Arc<Holder>; 4] {
        Default::default()
    }

    #[test]
    fn what_is_foreseen_has_a_share_of_its_own() {
        let ledger = Ledger::new(LIMIT);
        let used = ledger.charge(LIMIT / 2).expect("half of it");
        let of = holders();
        let foresee = |at: usize, bytes| ledger.foresee(&of[at], SHARE, bytes);
        let all: Vec<_> = (0..4).map(|at| foresee(at, PART)).collect();
        assert!(all.iter().all(Option::is_some), "whatever others use");
        assert_eq!(ledger.foreseen_bytes(), ALL);
        assert!(ledger.foresee(&Arc::default(), SHARE, 1).is_none());
        drop(all);
        assert_eq!(
            (ledger.used_bytes(), ledger.foreseen_bytes()),
            (LIMIT / 2, 0)
        );
        let rest = ledger.charge(LIMIT / 2 - LIMIT / 16);
        assert!(rest.is_some() && foresee(0, 1).is_none(), "nothing is left");
        drop((used, rest));
        assert!(foresee(0, PART).is_some(), "what was refused came back");
    }

    #[test]
    fn a_holder_has_a_part_of_a_share() {
        let ledger = Ledger::new(LIMIT);
        let [one, other, ..] = holders();
        let first = ledger.foresee(&one, SHARE, PART - 1).expect("room");
        assert!(ledger.foresee(&one, SHARE, 2).is_none());
        let rest = ledger.foresee(&one, SHARE, 1).expect("just its part");
        assert!(ledger.foresee(&one, SHARE, 1).is_none());
        let others = ledger.foresee(&other, SHARE, PART).expect("it has its own");
        assert_eq!(ledger.foreseen_bytes(), 2 * PART);
        let more = Share {
            holder_percent: 100,
            ..SHARE
        };
        assert!(ledger.foresee(&one, more, 2 * PART + 1).is_none());
        assert!(ledger.foresee(&one, more, 2 * PART).is_some());
        drop((first, rest));
        assert_eq!(ledger.foreseen_bytes(), PART);
        assert!(ledger.foresee(&one, SHARE, PART).is_some());
        drop(others);
        assert_eq!((ledger.used_bytes(), ledger.foreseen_bytes()), (0, 0));
    }

    #[test]
    fn what_is_in_use_leaves_the_share_and_stays_its_holders() {
        let ledger = Ledger::new(LIMIT);
        let [one, ..] = holders();
        let mut first = ledger.foresee(&one, SHARE, PART).expect("room");
        first.leave_share();
        assert_eq!((ledger.used_bytes(), ledger.foreseen_bytes()), (PART, 0));
        assert!(ledger.foresee(&one, SHARE, 1).is_none());
        drop(first);
        assert!(ledger.foresee(&one, SHARE, PART).is_some());
        assert_eq!((ledger.used_bytes(), ledger.foreseen_bytes()), (0, 0));
    }

    #[test]
    fn what_is_foreseen_may_become_another_holders() {
        let ledger = Ledger::new(LIMIT);
        let [unknown, one, ..] = holders();
        let of_one = ledger.foresee(&one, SHARE, PART).expect("room");
        let mut first = ledger.foresee(&unknown, SHARE, PART).expect("room");
        first.be_of(&one);
        assert_eq!(ledger.foreseen_bytes(), 2 * PART, "it is counted once");
        assert!(ledger.foresee(&unknown, SHARE, PART).is_some());
        drop(of_one);
        assert!(ledger.foresee(&one, SHARE, 1).is_none(), "it has its part");
        drop(first);
        assert!(ledger.foresee(&one, SHARE, PART).is_some());
    }
}
