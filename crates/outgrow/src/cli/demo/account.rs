//! What each step cost. Pure: the counts come in, differences come out.
//!
//! What goes wrong between a step and the next one is put down to the first.

use std::collections::BTreeMap;
use std::ops::{Add, Sub};
use std::time::Duration;

use outgrow_shop::shoppers::Totals;

use super::play::Played;
use super::script::{Cue, Step};

/// Counts since the load began, or between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Requests that ended, well or not.
    pub(super) requests: u64,
    /// Not answered, or not with what the shop says.
    pub(super) failed: u64,
    /// Responses that ended early.
    pub(super) truncated: u64,
    /// Requests that Outgrow sent again to another instance.
    pub(super) retried: u64,
    /// Requests that the client sent again, because its connection was closed just then.
    pub(super) resent: u64,
    /// WebSockets that could not be opened.
    pub(super) sockets_refused: u64,
    /// WebSockets that ended although nobody of the shoppers closed them.
    pub(super) sockets_broken: u64,
}

impl Counts {
    /// From what the shoppers counted, and what Outgrow says that it retried.
    pub(super) fn new(totals: &Totals, retried: u64) -> Self {
        let all = totals.all();
        Self {
            requests: all.requests,
            failed: all.failed,
            truncated: all.truncated,
            retried,
            resent: all.retried,
            sockets_refused: totals.web_sockets.refused,
            sockets_broken: totals.web_sockets.broken(),
        }
    }
}

impl Counts {
    fn with(self, other: Self, combine: fn(u64, u64) -> u64) -> Self {
        Self {
            requests: combine(self.requests, other.requests),
            failed: combine(self.failed, other.failed),
            truncated: combine(self.truncated, other.truncated),
            retried: combine(self.retried, other.retried),
            resent: combine(self.resent, other.resent),
            sockets_refused: combine(self.sockets_refused, other.sockets_refused),
            sockets_broken: combine(self.sockets_broken, other.sockets_broken),
        }
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        self.with(before, u64::saturating_sub)
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }
}

/// Adds up what data processes say, each of which begins at zero.
#[derive(Debug, Default)]
pub(super) struct Retries {
    by_generation: BTreeMap<u64, u64>,
}

impl Retries {
    /// Takes note of what this generation has come to.
    pub(super) fn note(&mut self, generation: u64, retries: u64) {
        let known = self.by_generation.entry(generation).or_default();
        *known = retries.max(*known);
    }

    pub(super) fn total(&self) -> u64 {
        self.by_generation.values().sum()
    }
}

/// A step that was begun.
#[derive(Clone, Debug)]
pub(super) struct Chapter {
    pub(super) cue: Cue,
    /// When it really began.
    pub(super) at: Duration,
    before: Counts,
    after: Option<Counts>,
    /// None while it goes on; the error says why it was not done.
    pub(super) outcome: Option<Result<Played, String>>,
}

impl Chapter {
    /// What went wrong from its begin to the begin of the next step, or up to now.
    pub(super) fn cost(&self, now: &Counts) -> Counts {
        self.after.unwrap_or(*now) - self.before
    }
}

/// All steps so far.
#[derive(Debug, Default)]
pub(super) struct Account {
    chapters: Vec<Chapter>,
}

impl Account {
    pub(super) fn chapters(&self) -> &[Chapter] {
        &self.chapters
    }

    /// A step begins.
    pub(super) fn begin(&mut self, cue: Cue, at: Duration, now: Counts) {
        if let Some(last) = self.chapters.last_mut() {
            last.after = Some(now);
        }
        self.chapters.push(Chapter {
            cue,
            at,
            before: now,
            after: None,
            outcome: None,
        });
    }

    /// The step that goes on has ended.
    pub(super) fn end(&mut self, outcome: Result<Played, String>) {
        if let Some(last) = self.chapters.last_mut() {
            last.outcome = Some(outcome);
        }
    }

    /// Instances killed so far.
    pub(super) fn kills(&self) -> usize {
        self.chapters
            .iter()
            .filter(|chapter| chapter.cue.step == Step::Kill)
            .count()
    }

    /// What steps of a kind cost together.
    pub(super) fn cost_of(&self, now: &Counts, of: impl Fn(Step) -> bool) -> Counts {
        let chapters = self.chapters.iter().filter(|chapter| of(chapter.cue.step));
        chapters.fold(Counts::default(), |sum, chapter| sum + chapter.cost(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sockets_broken: u64, failed: u64) -> Counts {
        Counts {
            failed,
            sockets_broken,
            ..Counts::default()
        }
    }

    #[test]
    fn costs_are_put_down_to_the_step_before() {
        let mut account = Account::default();
        let second = Duration::from_secs(1);
        let cue = |step| Cue { at: second, step };
        account.begin(cue(Step::Kill), second, counts(1, 0));
        account.end(Err("no".to_owned()));
        account.begin(cue(Step::Reload { round: 0 }), second * 2, counts(4, 0));
        account.begin(cue(Step::Kill), second * 3, counts(4, 1));
        let now = counts(9, 1);
        let costs: Vec<_> = account
            .chapters()
            .iter()
            .map(|one| one.cost(&now))
            .collect();
        assert_eq!(costs, [counts(3, 0), counts(0, 1), counts(5, 0)]);
        assert_eq!(account.kills(), 2);
        assert_eq!(
            account.cost_of(&now, |step| step == Step::Kill),
            counts(8, 0)
        );
        assert_eq!(
            account.cost_of(&now, |step| step != Step::Kill),
            counts(0, 1)
        );
    }

    #[test]
    fn a_new_data_process_begins_at_zero() {
        let mut retries = Retries::default();
        for (generation, count) in [(1, 2), (1, 5), (2, 0), (1, 4), (2, 3)] {
            retries.note(generation, count);
        }
        assert_eq!(retries.total(), 8);
    }
}
