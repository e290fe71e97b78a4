//! What a pool's lock guards: its connections, its line, and what follows from both.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Ticks;
use tokio::sync::oneshot;

use crate::lanes::Wish;
use crate::login::Credential;
use crate::plan::PoolPlan;
use crate::problem::Refusal;
use crate::seen::ServerState;
use crate::sequences::Stay;
use crate::server::Server;
use crate::server::open::Failure;
use crate::standing::Role;
use crate::variables::Welcome;

use super::Lent;
use super::in_lanes::InLanes;

/// How long clients wait for the first connection to a replica.
const REPLICA_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) plan: Arc<PoolPlan>,
    pub(super) is_for_replica: bool,
    /// The longest idle in front.
    pub(super) idle: VecDeque<Box<Server>>,
    /// Connections that clients have.
    pub(super) lent: u32,
    /// Connections that are being made.
    pub(super) coming: u32,
    pub(super) line: VecDeque<Waiting>,
    pub(super) last_ticket: u64,
    /// The last attempt, if it failed.
    pub(super) failed: Option<(Ticks, Failure)>,
    pub(super) welcome: Option<Arc<Welcome>>,
    pub(super) credential: Option<Credential>,
    /// Connections of earlier ones are not lent again.
    pub(super) generation: u64,
    /// Which of several servers the next connection is made to.
    pub(super) host: usize,
    pub(super) paused: bool,
    /// The database is not in the configuration any more.
    pub(super) is_removed: bool,
    /// Clients that are logged in.
    pub(super) clients: u32,
    /// Since when it has none.
    pub(super) unused_since: Ticks,
    /// What it has told the pool's other lanes; none where there are none.
    pub(super) in_lanes: Option<Box<InLanes>>,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ticket: u64,
    pub(super) since: Ticks,
    pub(super) answer: oneshot::Sender<Lent>,
}

impl Inner {
    /// Whether there is no connection that could serve anybody who waits: none at all, or none that
    /// was made since the last ones were given up.
    pub(super) fn has_none(&self) -> bool {
        self.welcome.is_none() || self.whole().standing == 0
    }

    /// Everybody who waits is sent away.
    pub(super) fn refuse_all(&mut self, refusal: &Refusal) {
        for waiting in self.line.drain(..) {
            let _ = waiting.answer.send(Err(refusal.clone()));
        }
    }

    /// Keeps a connection that nobody has.
    #[inline]
    pub(super) fn keep(&mut self, server: Box<Server>) {
        server.entry.seen.set_state(ServerState::Idle);
        self.idle.push_back(server);
    }

    /// An idle connection that can be lent. Others are dropped.
    #[inline]
    pub(super) fn take_idle(&mut self, now: Ticks) -> Option<Box<Server>> {
        loop {
            let mut server = if self.plan.limits.round_robin {
                self.idle.pop_front()?
            } else {
                self.idle.pop_back()?
            };
            match self.why_not(&mut server, now) {
                None => return Some(server),
                Some(reason) => server.close(reason),
            }
        }
    }

    /// The idle connection that a client left with this stay and that nobody has had since.
    pub(super) fn take_own(&mut self, stay: Stay, now: Ticks) -> Option<Box<Server>> {
        let place = self.idle.iter().rposition(|one| one.values.is_of(stay))?;
        let mut server = self.idle.remove(place)?;
        match self.why_not(&mut server, now) {
            None => Some(server),
            Some(reason) => {
                server.close(reason);
                None
            }
        }
    }

    /// Why an idle connection cannot be lent, if so.
    #[inline]
    fn why_not(&self, server: &mut Server, now: Ticks) -> Option<&'static str> {
        if server.generation != self.generation {
            return Some("database configuration changed");
        }
        if self.is_over(server, now) {
            return Some("server lifetime over");
        }
        (!server.is_quiet()).then_some("server conn crashed?")
    }

    /// Whether a connection is not to be lent again.
    #[inline]
    pub(super) fn is_over(&self, server: &Server, now: Ticks) -> bool {
        let lifetime = self.plan.limits.server_lifetime;
        let wanted = if self.is_for_replica {
            Role::Replica
        } else {
            Role::Primary
        };
        let is_another = server.standing.role().is_some_and(|role| role != wanted);
        is_another
            || server.generation != self.generation
            || (!lifetime.is_zero() && now.since(server.created) >= lifetime)
            || !server.endpoint().is_usable()
            || !server.endpoint().is_at(&server.place)
    }

    /// Gives a connection to the first in line; gives it back when nobody is there.
    #[inline]
    pub(super) fn hand_over(&mut self, server: Box<Server>) -> Option<Box<Server>> {
        if self.paused {
            return Some(server);
        }
        let mut answer = Ok(server);
        while let Some(waiting) = self.line.pop_front() {
            match waiting.answer.send(answer) {
                Ok(()) => {
                    self.lent += 1;
                    return None;
                }
                Err(back) => answer = back,
            }
        }
        answer.ok()
    }

    /// Gives idle connections to those who wait: after a pause.
    pub(super) fn serve(&mut self, now: Ticks) {
        while !self.paused && !self.line.is_empty() {
            let Some(server) = self.take_idle(now) else {
                return;
            };
            if let Some(server) = self.hand_over(server) {
                self.keep(server);
                return;
            }
        }
    }

    /// Sends those away who wait for a replica that does not answer: others can serve them.
    pub(super) fn give_up_replica(&mut self, now: Ticks) {
        let first = self.line.front().map(|first| first.since);
        let is_over = first.is_some_and(|since| now.since(since) >= REPLICA_PATIENCE);
        if !(self.is_for_replica && is_over && self.has_none()) || self.paused {
            return;
        }
        let failure = Failure::Broken("the replica does not answer");
        self.refuse_all(&failure.refusal());
        self.failed = Some((now, failure));
    }

    /// How many connections to begin with now, which count as coming from now on.
    pub(super) fn claim(&mut self, now: Ticks) -> u32 {
        if self.is_removed || self.paused {
            return 0;
        }
        let limits = &self.plan.limits;
        if let Some((at, _)) = self.failed
            && now.since(at) < limits.connect_retry
        {
            return 0;
        }
        let waiting = self.line.len() as u32;
        let waits_long = self
            .line
            .front()
            .is_some_and(|first| now.since(first.since) >= limits.reserve_after);
        let is_kept =
            self.keeps_minimum() && (self.has_clients() || self.plan.database.user.is_some());
        let wish = Wish {
            lacking: waiting.saturating_sub(self.coming),
            minimum: if is_kept {
                limits.minimum.min(limits.size)
            } else {
                0
            },
            most: limits.size + if waits_long { limits.reserve } else { 0 },
            singly: self.plan.house.connects_singly,
            has_failed: self.failed.is_some(),
        };
        if wish.lacking == 0 && wish.minimum == 0 {
            return 0;
        }
        let granted = self.count(|ledger| ledger.grant(wish));
        self.coming += granted;
        granted
    }
}
