//! A client changes its lane: it goes to another worker that has a part of the same pool, with all that
//! it is. It does so when it is at rest, as one that leaves for another process ([`super::depart`]), but
//! nothing of it has to be written down: what is in its connection's way stays in the kernel, and what
//! it listens on, what it is cancelled by and what it has prepared stay the same.

use std::sync::Arc;

use outgrow_core::Clock;

use super::listen::Listening;
use super::session::Session;
use super::unnamed::Unnamed;
use super::watch::Watchable;
use super::{Arrival, Bytes, Client, Moved, MovedClient, accept, floor};
use crate::answers::Effect;
use crate::cancel::Registered;
use crate::pool::Pool;
use crate::prepared::OfClient;
use crate::sequences::{Stay, Uses};
use crate::shared::Drain;
use crate::socket::Socket;
use crate::sql::Lexing;
use crate::variables::Variables;

/// Counts a client in its lane until it is dropped.
#[derive(Debug)]
pub(crate) struct Member {
    pool: Arc<Pool>,
    clock: Clock,
}

impl Member {
    pub(super) fn new(pool: &Arc<Pool>, clock: Clock) -> Self {
        pool.count_client(true, clock.now());
        Self {
            pool: Arc::clone(pool),
            clock,
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.pool.count_client(false, self.clock.now());
    }
}

/// What a client keeps when it changes its lane.
#[derive(Debug)]
pub(crate) struct Kept {
    /// In the lane that it goes to.
    pub(super) member: Member,
    pub(super) cancel: Registered,
    pub(super) session: KeptSession,
}

/// Its session.
#[derive(Debug)]
pub(super) struct KeptSession {
    variables: Variables,
    names: OfClient,
    session: Session,
    listening: Option<Box<Listening>>,
    writes: floor::Writes,
    lexing: Lexing,
    unnamed_statement: Unnamed,
    unnamed: Option<Arc<Effect>>,
    unnamed_uses: Uses,
    stay: Stay,
    portals: Vec<(Box<[u8]>, Arc<Effect>)>,
}

impl Client {
    /// Whether it changes its lane at this moment; then [`Client::change_lane`] is what follows.
    #[inline]
    pub(super) fn changes_lane(&mut self) -> bool {
        match self.identity.entry.seen.lane.wanted() {
            Some(worker) => self.can_go_to(worker),
            None => false,
        }
    }

    #[cold]
    fn can_go_to(&mut self, worker: usize) -> bool {
        let shared = &self.worker.shared;
        let is_at_rest = self.is_at_rest() && self.up.unread().is_empty();
        let stays = worker == self.worker.index || self.identity.is_replicating;
        if stays || shared.drain() != Drain::No {
            self.identity.entry.seen.lane.want(None);
            return false;
        }
        if !is_at_rest {
            return false;
        }
        let workers = shared.workers.get();
        let there = workers.and_then(|workers| workers.get(worker));
        self.goes_to = there.and_then(|there| there.pool(&self.pool.database, &self.pool.user));
        self.goes_to.is_some()
    }

    /// Goes to the lane that it is to be in.
    pub(super) fn change_lane(self, to: &Arc<Pool>) {
        let numbers = &self.pool.numbers;
        numbers.received_bytes.add(self.up.bytes);
        numbers.sent_bytes.add(self.tail.bytes);
        let Self {
            worker,
            socket,
            identity,
            cancel,
            variables,
            names,
            session,
            listening,
            writes,
            lexing,
            unnamed_statement,
            unnamed,
            unnamed_uses,
            stay,
            portals,
            ..
        } = self;
        let bytes = match socket {
            Socket::Plain(stream) => match stream.into_std() {
                Ok(stream) => Bytes::Plain(stream),
                Err(_) => return,
            },
            Socket::Tls(stream) => Bytes::Tls(stream),
            Socket::Server(_) => return,
        };
        let session = KeptSession {
            variables,
            names,
            session,
            listening,
            writes,
            lexing,
            unnamed_statement,
            unnamed,
            unnamed_uses,
            stay,
            portals,
        };
        let kept = Kept {
            member: Member::new(to, worker.shared.clock),
            cancel,
            session,
        };
        to.lanes.moved_clients.add_shared(1);
        let moved = Moved::Client(MovedClient {
            identity,
            bytes,
            input: Vec::new(),
            arrival: Arrival::Lane(Box::new(kept)),
        });
        accept::hand_on(&worker, to.worker, moved);
    }

    /// Goes on in this lane.
    pub(super) fn go_on(&mut self, session: KeptSession) {
        self.variables = session.variables;
        self.names = session.names;
        let statements = &self.worker.statements;
        self.names.replace(|statement| statements.adopt(statement));
        self.session = session.session;
        self.listening = session.listening;
        if let Some(listening) = &mut self.listening {
            listening.move_to(&self.pool);
        }
        self.writes = session.writes;
        self.lexing = session.lexing;
        self.unnamed_statement = session.unnamed_statement;
        self.unnamed = session.unnamed;
        self.unnamed_uses = session.unnamed_uses;
        self.stay = session.stay;
        self.portals = session.portals;
        let text = self.unnamed_statement.text();
        if let Some((query, _)) = text
            && self.pool.plan().house.diagnosis.is_some()
        {
            let found = self.find(query);
            let record = self.record_of(Watchable::found(query, &found));
            self.watched.parse(record);
        }
    }
}
