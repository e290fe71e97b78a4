//! Connections that go from one lane to another: one that nobody needs where it is goes to the lane
//! where somebody has waited for longest, and so does one that is given back where others came much
//! later.
//!
//! Nothing is missed between two threads: a lane counts here that somebody waits in it before it looks
//! whether another one has a connection to spare, and that it has one before it looks whether somebody
//! waits, both in one order for all ([`Ordering::SeqCst`]).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use outgrow_core::Ticks;

use super::{Lanes, ledger};
use crate::pool::Pool;
use crate::server::Server;

/// How many are moved at once; who is left is served with the next change of a lane, or at its next
/// turn.
const AT_ONCE: usize = 1_024;

/// What a lane shows to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Since when the first in its line waits.
    pub(crate) first: Option<Ticks>,
    /// Whether it has an idle connection.
    pub(crate) is_spare: bool,
}

impl Lanes {
    /// A worker's lane showed `before` and shows `now`.
    pub(crate) fn show(&self, worker: usize, before: Shown, now: Shown) {
        if before.first != now.first {
            let first = now.first.unwrap_or(Ticks::NEVER);
            self.firsts[worker].store(first.0, Ordering::Release);
            match (before.first, now.first) {
                (None, Some(_)) => {
                    self.waiting.fetch_add(1, Ordering::SeqCst);
                }
                (Some(_), None) => {
                    self.waiting.fetch_sub(1, Ordering::SeqCst);
                }
                _ => {}
            }
        }
        match (before.is_spare, now.is_spare) {
            (false, true) => {
                self.spare.fetch_add(1, Ordering::SeqCst);
            }
            (true, false) => {
                self.spare.fetch_sub(1, Ordering::SeqCst);
            }
            _ => {}
        }
    }

    /// Whether a lane that shows this has something for another one, or another one for it.
    pub(crate) fn is_due(&self, shown: Shown) -> bool {
        (shown.first.is_some() && self.spare.load(Ordering::SeqCst) > 0)
            || (shown.is_spare && self.waiting.load(Ordering::SeqCst) > 0)
    }

    /// Whether somebody waits in a lane, apart from one that shows this.
    pub(crate) fn others_wait(&self, shown: Shown) -> bool {
        self.waiting.load(Ordering::SeqCst) > u32::from(shown.first.is_some())
    }

    /// Which worker's lane is to have a connection that was given back to this one; none: its own. Its
    /// own line is as it showed it.
    pub(crate) fn next(&self, own: usize) -> Option<usize> {
        let firsts = self.firsts.iter().map(|first| {
            let first = Ticks(first.load(Ordering::Acquire));
            (first != Ticks::NEVER).then_some(first)
        });
        ledger::next(own, firsts)
    }

    /// Gives what is idle to those who wait.
    #[cold]
    pub(crate) fn settle(&self) {
        let now = self.clock.now();
        let all = self.all();
        for _ in 0..AT_ONCE {
            if self.waiting.load(Ordering::SeqCst) == 0 || self.spare.load(Ordering::SeqCst) == 0 {
                return;
            }
            // As if nobody waited where nothing is.
            let Some(to) = self.next(usize::MAX).and_then(|worker| of(&all, worker)) else {
                return;
            };
            let mut others = all.iter().filter(|lane| lane.worker != to.worker);
            let spare = others.find_map(|lane| Some((lane, lane.take_spare(now)?)));
            let Some((from, server)) = spare else {
                return;
            };
            // Who waited may have left meanwhile: others are looked for.
            self.deliver(server, from, to);
        }
    }

    /// Gives a connection that counts as lent in one lane to the first who waits in a worker's lane.
    #[cold]
    pub(crate) fn hand_to(&self, server: Box<Server>, from: &Pool, worker: usize) {
        let all = self.all();
        let is_taken = match of(&all, worker) {
            Some(to) => self.deliver(server, from, to),
            None => {
                from.take_back(server);
                false
            }
        };
        if !is_taken {
            self.settle();
        }
    }

    /// Whether somebody took it; else it is back.
    fn deliver(&self, server: Box<Server>, from: &Pool, to: &Pool) -> bool {
        // Counted there before it is not any more here: who asks whether anything is lent sees it.
        match to.take_over(server) {
            None => {
                from.let_go();
                self.moved_connections.add_shared(1);
                true
            }
            Some(server) => {
                from.take_back(server);
                false
            }
        }
    }
}

fn of(all: &[Arc<Pool>], worker: usize) -> Option<&Arc<Pool>> {
    all.iter().find(|lane| lane.worker == worker)
}
