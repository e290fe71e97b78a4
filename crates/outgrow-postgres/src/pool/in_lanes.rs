//! A pool as one lane of several: what it shows to the others and takes from them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use outgrow_core::Ticks;

use super::inner::Inner;
use super::{NoRoom, Pool};
use crate::lanes::{Lanes, Ledger, Shown};
use crate::problem::Refusal;
use crate::server::Server;
use crate::server::open::Failure;
use crate::variables::Welcome;

/// What a lane has told the others; none of it while the pool has no other.
#[derive(Debug)]
pub(super) struct InLanes {
    lanes: Arc<Lanes>,
    worker: usize,
    counted: Ledger,
    shown: Shown,
}

impl Inner {
    /// Its own connections.
    pub(super) fn own(&self) -> Ledger {
        Ledger {
            standing: self.idle.len() as u32 + self.lent,
            coming: self.coming,
        }
    }

    /// The connections of the whole pool.
    pub(super) fn whole(&self) -> Ledger {
        match &self.in_lanes {
            None => self.own(),
            // What has changed since the lock was taken is not counted there yet.
            Some(own) => {
                let mut ledger = *own.lanes.ledger();
                ledger.change(own.counted, self.own());
                ledger
            }
        }
    }

    /// Changes the counts of the whole pool by what a rule says; the lane's own are the caller's.
    pub(super) fn count<T>(&mut self, rule: impl FnOnce(&mut Ledger) -> T) -> T {
        let now = self.own();
        let Some(own) = &mut self.in_lanes else {
            let mut ledger = now;
            return rule(&mut ledger);
        };
        let mut ledger = own.lanes.ledger();
        ledger.change(own.counted, now);
        let before = *ledger;
        let said = rule(&mut ledger);
        own.counted = Ledger {
            standing: now.standing + ledger.standing.saturating_sub(before.standing),
            coming: now.coming + ledger.coming.saturating_sub(before.coming),
        };
        said
    }

    /// Shows the others how it is; whether something follows from that.
    pub(super) fn show(&mut self) -> bool {
        let now = self.own();
        let shown = Shown {
            first: self.line.front().map(|first| first.since),
            is_spare: !self.idle.is_empty(),
        };
        let is_open = !self.paused && !self.is_removed;
        let Some(own) = &mut self.in_lanes else {
            return false;
        };
        if own.counted != now {
            own.lanes.ledger().change(own.counted, now);
            own.counted = now;
        }
        if own.shown != shown {
            own.lanes.show(own.worker, own.shown, shown);
            own.shown = shown;
        }
        is_open && own.lanes.is_due(shown)
    }

    /// The worker whose lane is to have a connection that was given back here, where others have waited
    /// for longer than those who wait here.
    #[cold]
    pub(super) fn others_turn(&self) -> Option<usize> {
        let own = self.in_lanes.as_ref().filter(|_| !self.paused)?;
        if !own.lanes.others_wait(own.shown) {
            return None;
        }
        own.lanes.next(own.worker)
    }

    /// Whether somebody waits in another lane.
    pub(super) fn others_wait(&self) -> bool {
        let own = self.in_lanes.as_ref();
        own.is_some_and(|own| own.lanes.others_wait(own.shown))
    }

    /// Whether the pool has clients.
    pub(super) fn has_clients(&self) -> bool {
        let own = self.in_lanes.as_ref();
        self.clients > 0 || own.is_some_and(|own| own.lanes.clients.load(Ordering::Relaxed) > 0)
    }

    /// Whether this lane sees to it that the pool has as many connections as it should have at least.
    pub(super) fn keeps_minimum(&self) -> bool {
        let own = self.in_lanes.as_ref();
        own.is_none_or(|own| own.lanes.keeper() == own.worker)
    }
}

impl Pool {
    /// The other lanes of the pool, if there are any.
    fn others(&self) -> Vec<Arc<Self>> {
        let mut all = self.lanes.all();
        all.retain(|lane| lane.worker != self.worker);
        all
    }

    /// Those of them in which somebody waits.
    pub(crate) fn others_in_need(&self) -> Vec<Arc<Self>> {
        if !self.lock_quietly().others_wait() {
            return Vec::new();
        }
        let mut others = self.others();
        others.retain(|lane| lane.load().waiting > 0);
        others
    }

    pub(super) fn is_split(&self) -> bool {
        self.lock_quietly().in_lanes.is_some()
    }

    /// Counts with the other lanes from now on.
    pub(crate) fn count_in_lanes(&self) {
        let mut inner = self.lock_quietly();
        if inner.in_lanes.is_none() {
            inner.in_lanes = Some(Box::new(InLanes {
                lanes: Arc::clone(&self.lanes),
                worker: self.worker,
                counted: Ledger::default(),
                shown: Shown::default(),
            }));
        }
    }

    /// Takes over what another lane knows of servers.
    pub(crate) fn learn_from(&self, known: &Self) {
        let (welcome, failed, credential) = {
            let known = known.lock_quietly();
            let credential = known.credential.clone();
            (known.welcome.clone(), known.failed.clone(), credential)
        };
        let mut inner = self.lock_quietly();
        inner.welcome = welcome;
        inner.failed = failed;
        inner.credential = credential;
    }

    /// No connection of another generation is lent again.
    pub(crate) fn set_generation(&self, generation: u64) {
        let mut inner = self.lock_quietly();
        if inner.generation != generation {
            inner.generation = generation;
            inner.welcome = None;
            inner.failed = None;
        }
    }

    /// A server was reached from one lane.
    pub(super) fn tell_reached(&self, welcome: &Arc<Welcome>) {
        for lane in self.others() {
            let mut inner = lane.lock();
            inner.failed = None;
            if inner.welcome.is_none() {
                inner.welcome = Some(Arc::clone(welcome));
            }
        }
    }

    /// An attempt failed in one lane; with `told` nobody can be served in any.
    pub(super) fn tell_failed(&self, now: Ticks, failure: &Failure, told: Option<&Refusal>) {
        for lane in self.others() {
            let mut inner = lane.lock();
            inner.failed = Some((now, failure.clone()));
            if let Some(told) = told {
                inner.refuse_all(told);
            }
        }
    }

    /// An idle connection that nobody here waits for, for another lane; it counts as lent until
    /// [`Pool::let_go`] or [`Pool::take_back`].
    pub(crate) fn take_spare(&self, now: Ticks) -> Option<Box<Server>> {
        let mut inner = self.lock_quietly();
        if inner.paused || inner.is_removed || !inner.line.is_empty() {
            return None;
        }
        let server = inner.take_idle(now)?;
        inner.lent += 1;
        Some(server)
    }

    /// A connection of another lane goes to the first who waits here; back if nobody does.
    pub(crate) fn take_over(&self, server: Box<Server>) -> Option<Box<Server>> {
        let mut inner = self.lock_quietly();
        let back = inner.hand_over(server);
        if back.is_none()
            && let Some(own) = &mut inner.in_lanes
        {
            // It was counted in the other lane, and the sum stays.
            own.counted.standing += 1;
        }
        back
    }

    /// A connection that counts as lent here is another lane's now.
    pub(crate) fn let_go(&self) {
        let mut inner = self.lock_quietly();
        inner.lent -= 1;
        if let Some(own) = &mut inner.in_lanes {
            own.counted.standing -= 1;
        }
    }

    /// A connection that counts as lent here was wanted nowhere else.
    pub(crate) fn take_back(&self, server: Box<Server>) {
        let mut inner = self.lock_quietly();
        inner.lent -= 1;
        if let Some(server) = inner.hand_over(server) {
            inner.keep(server);
        }
    }

    /// An idle connection of another lane, to be closed for one that is made here in its place.
    pub(super) fn evict_elsewhere(&self) -> Result<Box<Server>, NoRoom> {
        let mut all = self.others().into_iter();
        all.find_map(|lane| lane.evict()).ok_or(NoRoom)
    }
}
