//! Who sits on a server's seats and who gets the next one: pure.
//!
//! A seat is the right to have one connection to a server. When there are fewer than are wanted they
//! are shared evenly: the pool with the fewest comes first, among equals the one that has waited
//! longest for its turn; a pool gives one up to another that has two fewer, or none. Where there are more pools than
//! seats, each has its turn.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Who has seats: a database, as clients call it, and a user on the server.
pub(crate) type Holder = (Arc<str>, Arc<str>);

/// For how long a pool may keep its only connection while another one has none, and an idle one
/// while another one with as many wants more: a login costs some milliseconds.
pub(super) const TURN: Duration = Duration::from_millis(200);
/// Seats before the server has said how many connections it takes.
const BEFORE_KNOWN: u32 = 16;
/// Without a limit.
pub(super) const UNLIMITED: u32 = u32::MAX;

/// How many connections there may be, by what is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Most connections to one server; 0: as many as it takes.
    pub most: u32,
    /// How many outgrows share them, each taking an equal part; 0 counts as 1.
    pub edges: u32,
    /// Whether the server is asked how many it takes, which then are the most.
    pub learns: bool,
}

/// How many connections a server takes (`max_connections`), and how many of them it keeps for
/// superusers and the like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// All.
    pub connections: u32,
    /// Kept for others than its usual users.
    pub reserved: u32,
}

/// What another data process of this outgrow has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Elsewhere {
    /// It has not said yet: it may have all.
    Unknown,
    /// So many.
    Known(u32),
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ticket: u64,
    pub(super) holder: Holder,
}

/// The seats of one server.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) terms: Terms,
    /// What the server says; none: it was not asked, or does not say.
    pub(super) capacity: Option<Capacity>,
    /// Whether it was asked, whatever it said.
    pub(super) was_asked: bool,
    pub(super) elsewhere: Elsewhere,
    /// The most that there may be while this process leaves: what it had when it last said so.
    leaving: Option<u32>,
    used: u32,
    /// Those of `used` that are for one purpose and never lent.
    apart: u32,
    /// Those of `used` whose connections are being closed for the sake of somebody who waits.
    closing: u32,
    /// Without those.
    held: HashMap<Holder, u32>,
    line: VecDeque<Waiting>,
    last_ticket: u64,
}

impl Ledger {
    /// With nobody on it.
    pub(super) fn new(elsewhere: Elsewhere) -> Self {
        Self {
            terms: Terms::default(),
            capacity: None,
            was_asked: false,
            elsewhere,
            leaving: None,
            used: 0,
            apart: 0,
            closing: 0,
            held: HashMap::new(),
            line: VecDeque::new(),
            last_ticket: 0,
        }
    }

    /// The seats that there are for this process; [`UNLIMITED`] where nothing limits them.
    pub(super) fn limit(&self) -> u32 {
        let leaving = self.leaving.unwrap_or(UNLIMITED);
        self.limit_in_service().min(leaving)
    }

    fn limit_in_service(&self) -> u32 {
        let learned = self.capacity.filter(|_| self.terms.learns);
        let takes = learned.map(|one| one.connections.saturating_sub(one.reserved).max(1));
        let most = Some(self.terms.most).filter(|most| *most > 0);
        let whole = takes.unwrap_or(UNLIMITED).min(most.unwrap_or(UNLIMITED));
        if whole == UNLIMITED && !self.terms.learns {
            return UNLIMITED;
        }
        let part = match whole {
            UNLIMITED => UNLIMITED,
            whole => (whole / self.terms.edges.max(1)).max(1),
        };
        let left = match (self.elsewhere, part) {
            (Elsewhere::Unknown, _) => 0,
            (Elsewhere::Known(_), UNLIMITED) => UNLIMITED,
            (Elsewhere::Known(used), part) => part.saturating_sub(used),
        };
        if self.terms.learns && !self.was_asked {
            left.min(BEFORE_KNOWN)
        } else {
            left
        }
    }

    /// Connections, those that are being closed included.
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.line.len()
    }

    /// Whether somebody may be owed something: what is looked at first.
    pub(super) fn is_pressed(&self) -> bool {
        self.lacks() || self.is_over_full()
    }

    /// More wait than there are connections that are being closed for them.
    fn lacks(&self) -> bool {
        self.line.len() > self.closing as usize
    }

    fn is_over_full(&self) -> bool {
        self.used.saturating_sub(self.closing) > self.limit()
    }

    fn of(&self, holder: &Holder) -> u32 {
        self.held.get(holder).copied().unwrap_or(0)
    }

    fn sit(&mut self, holder: &Holder) {
        self.used += 1;
        *self.held.entry(holder.clone()).or_default() += 1;
    }

    /// A seat for somebody who does not wait for one.
    pub(super) fn take(&mut self, holder: &Holder) -> bool {
        let is_free = self.line.is_empty() && self.used < self.limit();
        if is_free {
            self.sit(holder);
        }
        is_free
    }

    /// Joins the line.
    pub(super) fn enter(&mut self, holder: Holder) -> u64 {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        self.line.push_back(Waiting { ticket, holder });
        ticket
    }

    /// Leaves the line.
    pub(super) fn leave(&mut self, ticket: u64) {
        let place = self.line.iter().position(|one| one.ticket == ticket);
        if let Some(place) = place {
            self.line.remove(place);
        }
    }

    /// The place in the line of who is next, apart from `other`.
    fn first(&self, other: Option<&Holder>) -> Option<usize> {
        let line = self.line.iter().enumerate();
        let line = line.filter(|(_, one)| other != Some(&one.holder));
        line.min_by_key(|(place, one)| (self.of(&one.holder), *place))
            .map(|(place, _)| place)
    }

    /// Whether this one is next.
    pub(super) fn is_first(&self, ticket: u64) -> bool {
        let first = self.first(None);
        first.is_some_and(|place| self.line[place].ticket == ticket)
    }

    /// Gives a free seat to who is next.
    pub(super) fn grant(&mut self) -> Option<Waiting> {
        if self.used >= self.limit() {
            return None;
        }
        let first = self.line.remove(self.first(None)?)?;
        self.sit(&first.holder);
        // It had its turn: what it wants besides is behind all others.
        let (own, others): (VecDeque<_>, VecDeque<_>) = self
            .line
            .drain(..)
            .partition(|one| one.holder == first.holder);
        self.line = others;
        self.line.extend(own);
        Some(first)
    }

    /// A connection is gone; `was_closing`: it was given up by [`Ledger::give_up`].
    pub(super) fn free(&mut self, holder: &Holder, was_closing: bool) {
        self.used = self.used.saturating_sub(1);
        if was_closing {
            self.closing = self.closing.saturating_sub(1);
        } else {
            self.stand_up(holder);
        }
    }

    /// One of the connections is for one purpose and never lent, or is no more.
    pub(super) fn set_apart(&mut self, is_apart: bool) {
        self.apart = match is_apart {
            true => self.apart + 1,
            false => self.apart.saturating_sub(1),
        };
    }

    fn stand_up(&mut self, holder: &Holder) {
        if let Some(count) = self.held.get_mut(holder) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(holder);
            }
        }
    }

    /// Whether a pool is to give up a connection that no client has: one of age `age` for which
    /// somebody of its own waits, or, `is_idle`, nobody for that long.
    pub(super) fn owes(&self, holder: &Holder, is_idle: bool, age: Duration) -> bool {
        if self.is_over_full() {
            return true;
        }
        let others = self.line.iter().filter(|one| one.holder != *holder);
        if others.count() <= self.closing as usize {
            return false;
        }
        let Some(first) = self.first(Some(holder)) else {
            return false;
        };
        let (own, theirs) = (self.of(holder), self.of(&self.line[first].holder));
        own >= theirs + 2 || (theirs == 0 && is_idle) || ((theirs == 0 || is_idle) && age >= TURN)
    }

    /// Its connection is being closed for the sake of who waits.
    pub(super) fn give_up(&mut self, holder: &Holder) {
        self.closing += 1;
        self.stand_up(holder);
    }

    /// How many a pool has.
    pub(super) fn held(&self, holder: &Holder) -> u32 {
        self.of(holder)
    }

    /// This process leaves: it never has more than now, which another one is told. With
    /// `has_clients` it keeps one that can be lent, where there are several, for clients that it still
    /// has; the other one is left one as well, and as many as are kept apart here.
    pub(super) fn shrink(&mut self, has_clients: bool) -> u32 {
        let both = self.apart.saturating_mul(2).saturating_add(1);
        let keeps_one = has_clients && self.limit_in_service() > both;
        let kept = match keeps_one {
            true => self.used.max(self.apart + 1),
            false => self.used,
        };
        let most = self.leaving.unwrap_or(UNLIMITED).min(kept);
        self.leaving = Some(most);
        most
    }
}
