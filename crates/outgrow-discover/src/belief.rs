//! What is believed of a source's answers, and when: pure, `now` is an argument.
//!
//! - A failure changes nothing; how old the last answer is can be seen.
//! - "There are none" counts when it was said for as long as `empty_after`, without a break.
//! - Changes are taken over at most once in [`PACE`]: the last one counts.

use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Ticks;

use crate::found::{Discovered, Found};

/// From one change that is taken over to the next at least.
pub const PACE: Duration = Duration::from_millis(400);

/// What is believed of one source.
#[derive(Debug, Default)]
pub struct Belief {
    believed: Option<Arc<Discovered>>,
    changed: Option<Ticks>,
    empty_since: Option<Ticks>,
    changes: u64,
}

impl Belief {
    /// Starts with what an earlier process believed.
    pub fn recall(&mut self, endpoints: Vec<Found>) {
        if self.believed.is_none() && !endpoints.is_empty() {
            self.believed = Some(Arc::new(Discovered::new(endpoints, 0)));
        }
    }

    /// Looks at the source's last answer; the endpoints when they are others than before. To be
    /// asked a few times a second, also when nothing new came.
    pub fn step(
        &mut self,
        answer: Option<&Arc<Discovered>>,
        empty_after: Duration,
        now: Ticks,
    ) -> Option<Arc<Discovered>> {
        let answer = answer?;
        if answer.is_empty() {
            let since = *self.empty_since.get_or_insert(now);
            let has_some = self.believed.as_ref().is_some_and(|old| !old.is_empty());
            if has_some && now.since(since) < empty_after {
                return None;
            }
        } else {
            self.empty_since = None;
        }
        let is_same = |old: &Arc<Discovered>| {
            Arc::ptr_eq(old, answer) || old.endpoints() == answer.endpoints()
        };
        if self.believed.as_ref().is_some_and(is_same) {
            return None;
        }
        if self
            .changed
            .is_some_and(|changed| now.since(changed) < PACE)
        {
            return None;
        }
        self.changed = Some(now);
        self.changes += 1;
        self.believed = Some(Arc::clone(answer));
        Some(Arc::clone(answer))
    }

    /// The endpoints that are believed in.
    pub fn endpoints(&self) -> &[Found] {
        self.believed.as_ref().map_or(&[], |one| one.endpoints())
    }

    /// Whether the source or an earlier process told anything yet.
    pub fn is_known(&self) -> bool {
        self.believed.is_some()
    }

    /// How often the endpoints became others.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Since when the source says that there are none, while that is not believed.
    pub fn doubted_since(&self) -> Option<Ticks> {
        self.empty_since.filter(|_| !self.endpoints().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use outgrow_core::settings::Address;

    use super::*;

    fn answer(ports: &[u16]) -> Arc<Discovered> {
        let found = |port: &u16| Found::at(Address::tcp("10.0.0.1", *port));
        Arc::new(Discovered::new(ports.iter().map(found), 0))
    }

    const fn at(millis: u64) -> Ticks {
        Ticks(millis * 1_000_000)
    }

    const EMPTY_AFTER: Duration = Duration::from_secs(10);

    #[test]
    fn none_is_believed_after_a_while_and_only_without_a_break() {
        let mut belief = Belief::default();
        let mut step = |ports: &[u16], millis| {
            let changed = belief.step(Some(&answer(ports)), EMPTY_AFTER, at(millis));
            (changed.is_some(), belief.endpoints().len())
        };
        assert_eq!(step(&[1, 2], 1_000), (true, 2));
        assert_eq!(step(&[1, 2], 2_000), (false, 2));
        assert_eq!(step(&[], 3_000), (false, 2));
        assert_eq!(step(&[], 12_900), (false, 2));
        assert_eq!(step(&[2], 12_950), (true, 1), "it was a mistake");
        assert_eq!(step(&[], 13_500), (false, 1));
        assert_eq!(step(&[], 23_400), (false, 1), "counted anew");
        assert_eq!(step(&[], 23_500), (true, 0));
        assert_eq!(step(&[], 40_000), (false, 0));
    }

    #[test]
    fn a_service_that_never_had_endpoints_hears_so_at_once() {
        let mut belief = Belief::default();
        assert!(!belief.is_known());
        assert!(
            belief
                .step(Some(&answer(&[])), EMPTY_AFTER, at(1))
                .is_some()
        );
        assert!(belief.is_known());
    }

    #[test]
    fn what_was_recalled_stays_until_there_is_an_answer() {
        let mut belief = Belief::default();
        belief.recall(answer(&[1]).endpoints().to_vec());
        assert!(belief.step(None, EMPTY_AFTER, at(1)).is_none());
        assert_eq!(belief.endpoints().len(), 1);
        assert!(
            belief
                .step(Some(&answer(&[])), EMPTY_AFTER, at(1))
                .is_none()
        );
        assert!(
            belief
                .step(Some(&answer(&[3])), EMPTY_AFTER, at(2))
                .is_some()
        );
    }

    #[test]
    fn a_flood_of_changes_is_a_few_a_second_and_the_last_one_counts() {
        let mut belief = Belief::default();
        let mut taken = 0;
        for millis in 0..10_000_u64 {
            let ports = [(millis % 1_000) as u16 + 1];
            taken += u32::from(
                belief
                    .step(Some(&answer(&ports)), EMPTY_AFTER, at(millis))
                    .is_some(),
            );
        }
        assert_eq!(taken, 25);
        let last = answer(&[7]);
        assert!(belief.step(Some(&last), EMPTY_AFTER, at(20_000)).is_some());
        assert_eq!(belief.endpoints(), last.endpoints());
    }
}
