//! What a failover lost, as far as can be known: pure, but for the line in the log.
//!
//! A look at a primary says how far its log goes and how many transactions it had ended for our
//! clients before. Where the new primary's own log begins (its fork) lies behind a look, all of those
//! are in it; those that were acknowledged after the last such look may be lost. A server that is gone
//! says nothing more precise: a commit is acknowledged without its place in the log.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_upstream::Endpoint;

use super::{Lsn, Report};
use crate::events::{Level, Topic};
use crate::shared::Shared;

/// Looks that are remembered, and how far apart they are: a minute. The last one always is.
const REMEMBERED: usize = 240;
const REMEMBERED_EVERY: Duration = Duration::from_millis(250);
/// Failovers that are remembered.
const FAILOVERS: usize = 16;

/// What a primary said of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// How far its log goes.
    pub(super) lsn: Lsn,
    /// Transactions that it had ended for clients of ours when it was asked.
    pub(super) transactions: u64,
}

/// Looks at a primary, the newest last.
#[derive(Debug, Default)]
pub(super) struct Looks(VecDeque<(Ticks, Look)>);

impl Looks {
    /// One more, begun at this moment.
    pub(super) fn note(&mut self, at: Ticks, look: Look) {
        let mut newest = self.0.iter().rev();
        let (last, before) = (newest.next(), newest.next());
        let replaces = match (last, before) {
            (Some((_, last)), _) if *last == look => true,
            (Some((last, _)), Some((before, _))) => last.since(*before) < REMEMBERED_EVERY,
            _ => false,
        };
        if replaces {
            self.0.pop_back();
        } else if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((at, look));
    }

    /// How far the primary was known to be.
    fn furthest(&self) -> Lsn {
        self.0
            .iter()
            .map(|(_, look)| look.lsn)
            .max()
            .unwrap_or_default()
    }

    /// The last look at which the log was no longer than this.
    fn last_within(&self, lsn: Lsn) -> Option<Look> {
        let mut within = self.0.iter().rev().filter(|(_, look)| look.lsn <= lsn);
        within.next().map(|(_, look)| *look)
    }
}

/// Where a new primary's own log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// It has the old one's log at least up to here.
    pub at_least: Lsn,
    /// And at most.
    pub at_most: Lsn,
}

impl Fork {
    /// What follows from what a new primary says: how far it had `recovered` when it was promoted
    /// (none once it was started anew), how far it is now, and how far it was known to be as a
    /// replica.
    pub(super) fn of(recovered: Option<Lsn>, now: Lsn, as_replica: Option<Lsn>) -> Option<Self> {
        match (recovered, as_replica) {
            (Some(lsn), _) => Some(Self {
                at_least: lsn,
                at_most: lsn,
            }),
            (None, Some(at_least)) => Some(Self {
                at_least,
                at_most: now,
            }),
            (None, None) => None,
        }
    }
}

/// What is known to be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Bytes of the old primary's log that the new one certainly does not have.
    pub bytes: u64,
    /// Transactions that were acknowledged to clients of ours and may be lost, those that only read
    /// included; none: it is not known how many.
    pub transactions: Option<u64>,
}

impl Loss {
    /// Of a primary with these looks that has ended so many transactions in all.
    pub(super) fn judge(looks: &Looks, ended: u64, fork: Option<Fork>) -> Self {
        // Without a look that lies within it nothing is known of what others, the process before this
        // one among them, had done.
        let within = fork.and_then(|fork| looks.last_within(fork.at_least));
        Self {
            bytes: fork.map_or(0, |fork| looks.furthest().since(fork.at_most)),
            transactions: within.map(|look| ended.saturating_sub(look.transactions)),
        }
    }

    /// Whether it is certain that nothing is lost that was acknowledged to clients of ours.
    pub fn is_nothing(&self) -> bool {
        self.transactions == Some(0)
    }
}

/// A primary that took another one's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// When it was noticed.
    pub at: Ticks,
    /// The one before: its address and timeline.
    pub old: (String, u32),
    /// The new one.
    pub new: (String, u32),
    /// Where the new one's own log begins; none: it cannot be told.
    pub fork: Option<Fork>,
    /// How far the log of the old one was known to go.
    pub known: Lsn,
    /// What is lost.
    pub loss: Loss,
}

impl Failover {
    pub(super) fn new(
        at: Ticks,
        old: (&str, u32),
        new: (&str, u32),
        fork: Option<Fork>,
        (looks, ended): (&Looks, u64),
    ) -> Self {
        // Of more than one promotion only the last one is told.
        let fork = fork.filter(|_| new.1 == old.1 + 1);
        Self {
            at,
            old: (old.0.to_owned(), old.1),
            new: (new.0.to_owned(), new.1),
            fork,
            known: looks.furthest(),
            loss: Loss::judge(looks, ended, fork),
        }
    }

    /// The old one is heard again and says how far its log goes; true when that is news.
    fn hear(&mut self, address: &str, timeline: u32, lsn: Lsn) -> bool {
        let is_it = self.old.0 == address && self.old.1 == timeline;
        let Some(fork) = self.fork.filter(|_| is_it && lsn > self.known) else {
            return false;
        };
        self.known = lsn;
        let bytes = lsn.since(fork.at_most);
        let is_more = bytes > self.loss.bytes;
        self.loss.bytes = bytes;
        is_more
    }
}

impl fmt::Display for Failover {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((old, before), (new, after)) = (&self.old, &self.new);
        write!(
            formatter,
            "failover: {new} (timeline {after}) is the primary in place of {old} (timeline {before}), \
             whose log was known up to {}",
            self.known
        )?;
        match self.fork {
            None => write!(formatter, "; how much of it the new one has cannot be told")?,
            Some(fork) if fork.at_least == fork.at_most => {
                write!(formatter, "; the new one has it up to {}", fork.at_most)?;
            }
            Some(fork) => {
                let Fork { at_least, at_most } = fork;
                write!(
                    formatter,
                    "; the new one has it up to somewhere from {at_least} to {at_most}"
                )?;
            }
        }
        match self.loss {
            loss if loss.is_nothing() => {
                write!(
                    formatter,
                    ": nothing that was acknowledged through this process is lost"
                )?;
            }
            Loss {
                transactions: Some(count),
                ..
            } => write!(
                formatter,
                ": up to {count} transactions that were acknowledged through this process, those that only \
                 read included, may be lost"
            )?,
            Loss {
                transactions: None, ..
            } => write!(formatter, ": what was acknowledged last may be lost")?,
        }
        if self.loss.bytes > 0 {
            let bytes = self.loss.bytes;
            write!(
                formatter,
                "; at least {bytes} bytes of the log are not there"
            )?;
        }
        Ok(())
    }
}

impl Shared {
    /// Takes note of what a server said of itself when it was `asked`; a failover is worth a line.
    pub(crate) fn note_report(
        &self,
        endpoint: &Endpoint,
        all: &[Arc<Endpoint>],
        report: Report,
        asked: Ticks,
    ) {
        let news = self.standings.note(endpoint, all, report, asked);
        if let Some(failover) = news {
            let about = endpoint.label();
            self.say(Level::Warning, Topic::Other, &about, || {
                failover.to_string()
            });
        }
    }

    /// The last failovers, the newest last.
    pub fn failovers(&self) -> Vec<Failover> {
        self.standings.failovers()
    }
}

/// The last failovers, the newest last.
#[derive(Debug, Default)]
pub(super) struct Failovers(VecDeque<Failover>);

impl Failovers {
    /// One more.
    pub(super) fn note(&mut self, failover: Failover) {
        if self.0.len() >= FAILOVERS {
            self.0.pop_front();
        }
        self.0.push_back(failover);
    }

    /// A server that was replaced is heard again; gives what is new of it.
    pub(super) fn hear(&mut self, address: &str, timeline: u32, lsn: Lsn) -> Option<Failover> {
        let mut all = self.0.iter_mut().rev();
        all.find_map(|one| one.hear(address, timeline, lsn).then(|| one.clone()))
    }

    /// All.
    pub(super) fn all(&self) -> Vec<Failover> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    fn looks(all: &[(u64, u64, u64)]) -> Looks {
        let mut looks = Looks::default();
        for (millis, lsn, transactions) in all.iter().copied() {
            let look = Look {
                lsn: Lsn(lsn),
                transactions,
            };
            looks.note(Ticks(millis * MILLI), look);
        }
        looks
    }

    fn exactly(lsn: u64) -> Option<Fork> {
        Fork::of(Some(Lsn(lsn)), Lsn(9_999), None)
    }

    #[test]
    fn what_may_be_lost_follows_from_the_last_look_that_the_new_one_holds() {
        let seen = looks(&[(0, 100, 0), (500, 200, 5), (1_000, 300, 8), (1_500, 400, 9)]);
        let check = |fork, ended, bytes, transactions| {
            let loss = Loss::judge(&seen, ended, fork);
            let expected = Loss {
                bytes,
                transactions,
            };
            assert_eq!(loss, expected, "{fork:?} {ended}");
        };
        // It has everything that was seen, and nothing was acknowledged since.
        check(exactly(400), 9, 0, Some(0));
        check(exactly(450), 9, 0, Some(0));
        // Something was.
        check(exactly(450), 12, 0, Some(3));
        // It lacks what was seen.
        check(exactly(399), 9, 1, Some(1));
        check(exactly(250), 9, 150, Some(4));
        // Before all that is remembered.
        check(exactly(50), 9, 350, None);
        // Where it begins is known only roughly.
        let roughly = Fork::of(None, Lsn(350), Some(Lsn(220)));
        check(roughly, 9, 50, Some(4));
        check(None, 9, 0, None);
        check(None, 0, 0, None);
    }

    #[test]
    fn looks_are_bounded_and_the_last_one_is_kept() {
        let all: Vec<_> = (0..10_000).map(|at| (at, at, at)).collect();
        let seen = looks(&all);
        assert!(seen.0.len() <= REMEMBERED);
        assert_eq!(seen.furthest(), Lsn(9_999));
        let within = seen.last_within(Lsn(9_000)).expect("one");
        assert!(within.lsn >= Lsn(8_700), "{within:?}");
        // That nothing has changed makes none more.
        let seen = looks(&[(0, 1, 1), (1_000, 1, 1), (2_000, 1, 1), (3_000, 2, 1)]);
        assert_eq!(seen.0.len(), 2);
    }

    #[test]
    fn a_failover_is_told_in_words() {
        let seen = looks(&[(0, 0x100, 3), (500, 0x200, 5)]);
        let told = |timeline, fork, ended| {
            let (old, new) = (("a:1", 1), ("b:1", timeline));
            Failover::new(Ticks(1), old, new, fork, (&seen, ended)).to_string()
        };
        let all = told(2, exactly(0x200), 5);
        assert!(
            all.ends_with("nothing that was acknowledged through this process is lost"),
            "{all}"
        );
        let some = told(2, exactly(0x180), 6);
        assert!(some.contains("up to 3 transactions"), "{some}");
        assert!(some.contains("at least 128 bytes"), "{some}");
        let unknown = told(3, exactly(0x180), 6);
        assert!(unknown.contains("cannot be told"), "{unknown}");
    }

    #[test]
    fn an_old_primary_that_is_heard_again_says_how_much_it_is() {
        let seen = looks(&[(0, 100, 0)]);
        let mut all = Failovers::default();
        let failover = Failover::new(Ticks(1), ("a", 1), ("b", 2), exactly(120), (&seen, 0));
        assert_eq!(failover.loss.bytes, 0);
        all.note(failover);
        assert!(all.hear("a", 2, Lsn(500)).is_none(), "it follows by now");
        assert!(all.hear("c", 1, Lsn(500)).is_none());
        assert!(all.hear("a", 1, Lsn(110)).is_none());
        let news = all.hear("a", 1, Lsn(150)).expect("more is known");
        assert_eq!((news.known, news.loss.bytes), (Lsn(150), 30));
        assert!(all.hear("a", 1, Lsn(150)).is_none(), "once");
    }
}
