//! How many connections the lanes of a pool have together, how many more may be made, and which lane
//! is given one: pure.
//!
//! A lane has a line and idle connections of its own. Here is what must hold over all of them: never
//! more connections than the pool may have, and nobody overtaken by somebody who came much later.

use std::time::Duration;

use outgrow_core::Ticks;

/// How much later somebody may have come and still be served first, being in the lane that a connection
/// is given back to: for less a connection is not moved to another thread.
pub(crate) const SLACK: Duration = Duration::from_millis(5);

/// Connections of all lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// That stand: idle or lent.
    pub(crate) standing: u32,
    /// That are being made.
    pub(crate) coming: u32,
}

/// What a lane wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Connections that those who wait in it lack.
    pub(crate) lacking: u32,
    /// The least that the pool should have, where it is this lane that sees to it.
    pub(crate) minimum: u32,
    /// The most that it may have, with the reserve where it is due.
    pub(crate) most: u32,
    /// Whether one is made after the other.
    pub(crate) singly: bool,
    /// Whether the last attempt failed, so that one is tried first.
    pub(crate) has_failed: bool,
}

impl Ledger {
    /// All.
    pub(crate) fn total(self) -> u32 {
        self.standing + self.coming
    }

    /// How many a lane may make now. They count as coming from then on.
    pub(crate) fn grant(&mut self, wish: Wish) -> u32 {
        if (wish.singly || wish.has_failed) && self.coming > 0 {
            return 0;
        }
        let total = self.total();
        let lacking = wish.lacking.max(wish.minimum.saturating_sub(total));
        let granted = lacking.min(wish.most.saturating_sub(total));
        let granted = match wish.singly || wish.has_failed {
            true => granted.min(1),
            false => granted,
        };
        self.coming += granted;
        granted
    }

    /// Room for a connection that stands at once, of at most so many.
    pub(crate) fn take(&mut self, most: u32) -> bool {
        let has_room = self.total() < most;
        self.standing += u32::from(has_room);
        has_room
    }

    /// A lane had `before` and has `now`. What is on its way from one lane to another stands in both
    /// for a moment and is counted once, so the lane's own may be more than all.
    pub(crate) fn change(&mut self, before: Self, now: Self) {
        self.standing = (self.standing + now.standing).saturating_sub(before.standing);
        self.coming = (self.coming + now.coming).saturating_sub(before.coming);
    }
}

/// Which lane a connection is given to that `own` has to give, of whose lines the first have come at
/// `firsts` (none: nobody waits): none is `own` itself.
pub(crate) fn next(own: usize, firsts: impl Iterator<Item = Option<Ticks>>) -> Option<usize> {
    let mut of_own = None;
    let mut oldest: Option<(Ticks, usize)> = None;
    for (lane, first) in firsts.enumerate() {
        if lane == own {
            of_own = first;
        } else if let Some(first) = first
            && oldest.is_none_or(|(since, _)| first < since)
        {
            oldest = Some((first, lane));
        }
    }
    let (since, lane) = oldest?;
    of_own.is_none_or(|own| own > since + SLACK).then_some(lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_pool_may_have() {
        let check = |standing, coming, wish: Wish, expected| {
            let mut ledger = Ledger { standing, coming };
            assert_eq!(ledger.grant(wish), expected, "{wish:?}");
            assert_eq!(ledger.coming, coming + expected);
        };
        let wish = Wish {
            lacking: 3,
            most: 5,
            ..Wish::default()
        };
        check(0, 0, wish, 3);
        check(3, 0, wish, 2);
        check(4, 1, wish, 0);
        check(9, 0, wish, 0);
        let minimum = Wish {
            lacking: 0,
            minimum: 4,
            ..wish
        };
        check(1, 1, minimum, 2);
        check(4, 0, minimum, 0);
        let singly = Wish {
            singly: true,
            ..wish
        };
        check(0, 0, singly, 1);
        check(0, 1, singly, 0);
        let failed = Wish {
            has_failed: true,
            ..wish
        };
        check(0, 0, failed, 1);
        check(2, 1, failed, 0);
        let mut ledger = Ledger {
            standing: 4,
            coming: 0,
        };
        assert!(ledger.take(5) && !ledger.take(5));
    }

    #[test]
    fn who_came_much_later_is_not_served_first() {
        let at = |millis: u64| Some(Ticks(millis * 1_000_000));
        let check = |own, firsts: &[Option<Ticks>], expected| {
            assert_eq!(next(own, firsts.iter().copied()), expected, "{firsts:?}");
        };
        check(0, &[None, None], None);
        check(0, &[at(1), None], None);
        check(0, &[None, at(9)], Some(1));
        check(0, &[at(10), at(5)], None);
        check(0, &[at(11), at(5)], Some(1));
        check(1, &[at(11), at(5)], None);
        check(1, &[at(3), None, at(2)], Some(2));
        check(2, &[None, None, None], None);
    }
}
