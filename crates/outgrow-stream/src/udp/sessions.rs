//! Which sessions there are: by the source of their datagrams, bounded, each with an end. Pure: time
//! is an argument, what a session is to its driver is not looked at.
//!
//! A source can be forged, so a datagram proves nothing, and neither does a session. An answer of the
//! endpoint says that somebody spoke its protocol, and a source that goes on after it that it was answered
//! for. Where there is no room, the oldest session that was never answered gives way, then one that was
//! answered, said nothing since and is quiet; who went on stays.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_net::network_of;

/// For how long a session that was answered, and whose client says nothing to that, is left alone: what it
/// asked may have more answers to come.
const QUIET: Duration = Duration::from_secs(1);
/// How many of those are looked at to find one that is quiet.
const LOOKS: usize = 16;

/// What is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most sessions.
    pub sessions: usize,
    /// Most of one address (for IPv6: one network of /64); 0 is no limit.
    pub of_address: usize,
    /// Silence after which a session ends.
    pub idle: Duration,
    /// Answers that a datagram has; a session that has had all of them ends. 0: nobody knows.
    pub responses: u32,
}

/// A session's identity: never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is of this session.
    Known(SessionId),
    /// It begins this session. Another one ended to make room, if there is one.
    New(SessionId, Option<SessionId>),
    /// There are too many sessions, and all of them are at work.
    Full,
    /// Its address has too many.
    FullAddress,
}

#[derive(Debug)]
struct Session {
    source: SocketAddr,
    last: Ticks,
    /// Answers that are still to come, where that is known.
    owed: u64,
    is_answered: bool,
    /// Its source went on after an answer.
    is_proven: bool,
}

/// The sessions of a listener at one worker.
#[derive(Debug, Default)]
pub struct Sessions {
    by_source: HashMap<SocketAddr, SessionId>,
    all: HashMap<SessionId, Session>,
    of_address: HashMap<IpAddr, usize>,
    /// Those that were not answered when they were put in, oldest first. May hold others by now.
    unanswered: VecDeque<SessionId>,
    /// Those that were answered and not proven when they were put in.
    unproven: VecDeque<SessionId>,
    last_id: u64,
}

impl Sessions {
    /// Sessions that there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Datagrams have come from a source, `count` of them together.
    pub fn arrive(
        &mut self,
        source: SocketAddr,
        count: u32,
        limits: &Limits,
        now: Ticks,
    ) -> Arrival {
        let owed = u64::from(limits.responses) * u64::from(count);
        if let Some(&id) = self.by_source.get(&source)
            && let Some(session) = self.all.get_mut(&id)
        {
            session.last = now;
            session.is_proven |= session.is_answered;
            session.owed = session.owed.saturating_add(owed);
            return Arrival::Known(id);
        }
        let address = network_of(source.ip());
        let of_address = self.of_address.get(&address).copied().unwrap_or(0);
        if limits.of_address > 0 && of_address >= limits.of_address {
            return Arrival::FullAddress;
        }
        let mut gave_way = None;
        if self.all.len() >= limits.sessions {
            gave_way = self
                .oldest_unanswered()
                .or_else(|| self.quiet_unproven(now));
            let Some(oldest) = gave_way else {
                return Arrival::Full;
            };
            self.end(oldest);
        }
        self.last_id += 1;
        let id = SessionId(self.last_id);
        self.by_source.insert(source, id);
        *self.of_address.entry(address).or_insert(0) += 1;
        let session = Session {
            source,
            last: now,
            owed,
            is_answered: false,
            is_proven: false,
        };
        self.all.insert(id, session);
        self.unanswered.push_back(id);
        Arrival::New(id, gave_way)
    }

    /// There is no room elsewhere for a new session, which is `to`, if it is one of these: the oldest one
    /// that was never answered, and is older, ends.
    pub fn unanswered_gives_way(&mut self, to: Option<SessionId>) -> Option<SessionId> {
        let oldest = self.oldest_unanswered()?;
        if to.is_some_and(|to| to <= oldest) {
            self.unanswered.push_front(oldest);
            return None;
        }
        self.end(oldest);
        Some(oldest)
    }

    /// The same where all were answered, of all workers: one that said nothing since and is quiet ends.
    pub fn quiet_gives_way(&mut self, now: Ticks) -> Option<SessionId> {
        let quiet = self.quiet_unproven(now)?;
        self.end(quiet);
        Some(quiet)
    }

    /// The endpoint has answered with so many datagrams; whether that was all, so that the session
    /// has ended.
    pub fn answered(&mut self, id: SessionId, count: u32, limits: &Limits, now: Ticks) -> bool {
        let Some(session) = self.all.get_mut(&id) else {
            return false;
        };
        session.last = now;
        if !session.is_answered {
            session.is_answered = true;
            self.unproven.push_back(id);
        }
        session.owed = session.owed.saturating_sub(u64::from(count));
        let is_over = limits.responses > 0 && session.owed == 0;
        if is_over {
            self.end(id);
        }
        is_over
    }

    /// When a session ends unless something is said; none when it has ended.
    pub fn ends_at(&self, id: SessionId, limits: &Limits) -> Option<Ticks> {
        let session = self.all.get(&id)?;
        Some(session.last + limits.idle)
    }

    /// Ends a session whose time is over; whether its endpoint owes an answer and never gave one. None
    /// when its time is not over.
    pub fn expire(&mut self, id: SessionId, limits: &Limits, now: Ticks) -> Option<bool> {
        let session = self.all.get(&id)?;
        if session.last + limits.idle > now {
            return None;
        }
        let is_ignored = !session.is_answered && session.owed > 0;
        self.end(id);
        Some(is_ignored)
    }

    /// Forgets a session.
    pub fn end(&mut self, id: SessionId) {
        let Some(session) = self.all.remove(&id) else {
            return;
        };
        self.by_source.remove(&session.source);
        let address = network_of(session.source.ip());
        if let Some(count) = self.of_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.of_address.remove(&address);
            }
        }
        // What is left of it in the queue is passed over when its turn comes, but for a flood of short
        // ones, which would make it long.
        if self.unanswered.len() > 2 * self.all.len() + 64 {
            let all = &self.all;
            let is_new = |id: &SessionId| all.get(id).is_some_and(|session| !session.is_answered);
            self.unanswered.retain(is_new);
        }
        if self.unproven.len() > 2 * self.all.len() + 64 {
            let all = &self.all;
            let is_new = |id: &SessionId| all.get(id).is_some_and(|session| !session.is_proven);
            self.unproven.retain(is_new);
        }
    }

    fn oldest_unanswered(&mut self) -> Option<SessionId> {
        while let Some(id) = self.unanswered.pop_front() {
            let session = self.all.get(&id);
            if session.is_some_and(|session| !session.is_answered) {
                return Some(id);
            }
        }
        None
    }

    /// One that was answered, whose source did not go on, and that has been quiet since.
    fn quiet_unproven(&mut self, now: Ticks) -> Option<SessionId> {
        let mut looks = 0;
        while looks < LOOKS {
            let id = self.unproven.pop_front()?;
            match self.all.get(&id) {
                Some(session) if session.is_proven => {}
                Some(session) if session.last + QUIET <= now => return Some(id),
                Some(_) => {
                    self.unproven.push_back(id);
                    looks += 1;
                }
                None => {}
            }
        }
        None
    }
}
