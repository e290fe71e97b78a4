//! A read that a replica is tried with: what is kept of it until the replica begins to answer, and how it
//! is asked again elsewhere when that cannot.
//!
//! Nothing of an answer goes to the client before its first row or its end. So what comes before (that a
//! statement was prepared, what the columns are, notices) is the client's from one server only, and a
//! read that is asked again looks to it like one that took longer. Which failures are no answer is in
//! [`crate::retry`].
//!
//! A read costs a copy of its messages for this, into a buffer that stays with the server's connection.

use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_upstream::EndpointId;

use super::Client;
use super::relay::{End, Relay};
use crate::answers::Fate;
use crate::events::{Level, Topic};
use crate::flow::LARGEST;
use crate::lease::Lease;
use crate::plan::PoolPlan;
use crate::pool::Pool;
use crate::prepared::Statement;
use crate::problem::Refusal;
use crate::reads::Reads;
use crate::retry::{self, Reason};
use crate::shared::Drain;
use crate::wire::frame::{self, Frame, HEADER_BYTES, Header};
use crate::wire::{backend, frontend, read};

/// What the buffer for it keeps from one read to the next.
const KEPT: usize = 4 * 1024;
/// What may wait for an answer's first row, in bytes. More of it goes to the client at once, and the read
/// is not asked again.
const HELD: usize = 16 * 1024;

/// What the client calls a statement, and what it meant by it before.
type Before = (Box<[u8]>, Option<Arc<Statement>>);

/// A series that a replica is tried with.
#[derive(Debug)]
pub(super) struct Trial {
    series: Vec<u8>,
    /// What its names meant before, of those that it gives or takes.
    names: Vec<Before>,
    /// Whether it executes a statement that was prepared before.
    is_prepared: bool,
    began: Ticks,
    /// Whether the client has got something of the answer, or cannot be kept from it.
    is_answered: bool,
    /// Why it is asked again, once the replica has said all that it has to say.
    failed: Option<Reason>,
}

impl Trial {
    /// Its buffer, for the next one.
    pub(super) fn into_room(self) -> Vec<u8> {
        let mut room = self.series;
        room.clear();
        if room.capacity() > KEPT {
            room = Vec::new();
        }
        room
    }
}

/// What is to be known of a read that is asked again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repeat {
    reason: Reason,
    /// The replica that has not answered it.
    failed: EndpointId,
    /// When it was asked first.
    pub(super) began: Ticks,
}

impl Repeat {
    /// Whether only the primary can answer it.
    pub(super) fn needs_primary(self) -> bool {
        self.reason.is_of_all_replicas()
    }

    /// Whether a server is not to be asked again.
    pub(super) fn excludes(self, endpoint: EndpointId) -> bool {
        self.failed == endpoint
    }
}

/// Bytes of the series that `unread` begins with, if it is there as a whole.
fn length_of_series(unread: &[u8]) -> Option<usize> {
    let mut rest = unread;
    loop {
        let Ok(Frame::Whole(header)) = frame::look(rest) else {
            return None;
        };
        rest = &rest[header.whole()..];
        if matches!(header.tag, frontend::QUERY | frontend::SYNC) {
            return Some(unread.len() - rest.len());
        }
    }
}

/// The messages of a series: tags and bodies.
fn messages(series: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = series;
    std::iter::from_fn(move || {
        let Ok(Frame::Whole(header)) = frame::look(rest) else {
            return None;
        };
        let body = &rest[HEADER_BYTES..header.whole()];
        rest = &rest[header.whole()..];
        Some((header.tag, body))
    })
}

impl Client {
    /// Keeps the series that is about to be judged for a replica, in `room`. It is there as a whole, or
    /// it would not go to a replica, and so no longer than a block.
    #[inline(never)]
    pub(super) fn try_series(&self, mut room: Vec<u8>, now: Ticks) -> Option<Trial> {
        let unread = self.up.unread();
        let length = length_of_series(unread)?;
        room.clear();
        room.extend_from_slice(&unread[..length]);
        let mut names: Vec<Before> = Vec::new();
        let mut is_prepared = false;
        for (tag, body) in messages(&unread[..length]) {
            let named = match tag {
                frontend::PARSE => read::text(body).map(|(name, _)| name),
                frontend::CLOSE => read::target(body)
                    .filter(|(kind, _)| *kind == b'S')
                    .map(|(_, name)| name),
                frontend::BIND => {
                    let name = read::bind(body).map(|(_, name, _)| name);
                    is_prepared |= name.is_some_and(|name| self.names.get(name).is_some());
                    None
                }
                _ => None,
            };
            if let Some(name) = named.filter(|name| !name.is_empty())
                && names.iter().all(|(known, _)| **known != *name)
            {
                names.push((name.into(), self.names.get(name).cloned()));
            }
        }
        Some(Trial {
            series: room,
            names,
            is_prepared,
            began: now,
            is_answered: false,
            failed: None,
        })
    }

    /// Sees to it that the series is judged again, from its beginning and for another server. False
    /// when there is no memory for it.
    pub(super) fn ask_again(&mut self, trial: &Trial, reason: Reason, failed: EndpointId) -> bool {
        if !self.up.restore(&trial.series, &self.worker.blocks) {
            return false;
        }
        self.pool.numbers.retries[reason as usize].add(1);
        self.identity.entry.say(Level::Debug, Topic::Other, || {
            format!("a read is asked again elsewhere: {}", reason.as_str())
        });
        for (name, before) in &trial.names {
            match before {
                Some(statement) => self.names.insert(name, Arc::clone(statement)),
                None => drop(self.names.remove(name)),
            }
        }
        self.repeat = Some(Box::new(Repeat {
            reason,
            failed,
            began: trial.began,
        }));
        true
    }

    /// Gets a connection to the replica, or to the primary when that has none to give. Then whether it
    /// is one to the replica. None: what the client wants was cancelled.
    pub(super) async fn lend_somewhere(
        &mut self,
        replica: Option<&Arc<Pool>>,
        plan: &Arc<PoolPlan>,
    ) -> Result<Option<(Lease, bool)>, Option<Refusal>> {
        if replica.is_some() {
            match self.lend(replica, plan, true).await {
                Ok(lease) => return Ok(lease.map(|lease| (lease, true))),
                Err(Some(_)) if self.worker.shared.drain() != Drain::NoMore => {}
                Err(refusal) => return Err(refusal),
            }
        }
        let lease = self.lend(None, plan, true).await?;
        Ok(lease.map(|lease| (lease, false)))
    }
}

/// Takes note that the replicas refuse what a series executes: of that which it executes first, or of all
/// of it when something was executed already.
fn learn(client: &Client, reads: &Reads, trial: &Trial) {
    let mut unnamed: Option<&[u8]> = None;
    let mut named: Vec<(&[u8], &[u8])> = Vec::new();
    let lexing = client.lexing;
    for (tag, body) in messages(&trial.series) {
        match tag {
            frontend::QUERY => reads.learn(body.strip_suffix(b"\0").unwrap_or(body), lexing),
            frontend::PARSE => {
                let Some(parse) = read::Parse::read(body) else {
                    return;
                };
                if parse.name.is_empty() {
                    unnamed = Some(parse.query);
                } else {
                    named.push((parse.name, parse.query));
                }
            }
            frontend::BIND => {
                let Some((_, name, _)) = read::bind(body) else {
                    return;
                };
                let here = named.iter().find(|(known, _)| *known == name);
                if name.is_empty() {
                    if let Some(text) = unnamed {
                        reads.learn(text, lexing);
                    }
                } else if let Some((_, text)) = here {
                    reads.learn(text, lexing);
                } else if let Some(statement) = client.names.get(name) {
                    reads.learn(&statement.query, lexing);
                }
                if !trial.is_answered {
                    return;
                }
            }
            _ => {}
        }
    }
}

impl Relay<'_> {
    /// Takes note that what the client wants now is under way since then.
    pub(super) fn has_begun(&mut self, began: Ticks) {
        self.query_began = Some(began);
        self.transaction_began = Some(began);
    }

    /// Whether what the server has said so far waits for what comes next.
    #[inline]
    pub(super) fn holds(&self) -> bool {
        self.trial.as_ref().is_some_and(|trial| !trial.is_answered)
    }

    /// Takes note of a message of a replica that would have the fate `fate`; then what becomes of it.
    #[inline(never)]
    pub(super) fn try_message(&mut self, header: Header, was_ours: bool, fate: Fate) -> Fate {
        let Some(trial) = &mut self.trial else {
            return fate;
        };
        if trial.failed.is_some() && fate == Fate::Pass {
            return Fate::LeaveOut;
        }
        if was_ours || fate == Fate::Nonsense {
            return fate;
        }
        match header.tag {
            backend::PARSE_COMPLETE
            | backend::BIND_COMPLETE
            | backend::CLOSE_COMPLETE
            | backend::PARAMETER_DESCRIPTION
            | backend::ROW_DESCRIPTION
            | backend::NO_DATA
            | backend::NOTICE_RESPONSE
            | backend::PARAMETER_STATUS
                if self.server.down.waiting() + header.whole() <= HELD => {}
            backend::ERROR_RESPONSE => return self.try_error(header, fate),
            _ => trial.is_answered = true,
        }
        fate
    }

    #[cold]
    fn try_error(&mut self, header: Header, fate: Fate) -> Fate {
        let Some(trial) = &mut self.trial else {
            return fate;
        };
        let unread = self.server.down.unread();
        let body = unread.get(HEADER_BYTES..header.whole()).unwrap_or_default();
        let ran = self.client.worker.now().since(trial.began);
        let problem = read::Problem::read(body);
        let reason = retry::reason(&problem, ran, trial.is_prepared);
        if let Some(reason) = reason
            && reason.is_learnt()
            && let Some(reads) = &self.client.reads
        {
            learn(self.client, reads, trial);
        }
        let Some(reason) = reason.filter(|_| self.may_ask_again()) else {
            self.answer();
            return fate;
        };
        if let Some(trial) = &mut self.trial {
            trial.failed = Some(reason);
        }
        self.server.down.take_back();
        Fate::LeaveOut
    }

    /// From now on the client gets what the server says.
    fn answer(&mut self) {
        if let Some(trial) = &mut self.trial {
            trial.is_answered = true;
        }
    }

    /// Whether the series could be asked again now.
    fn may_ask_again(&self) -> bool {
        let limit = self
            .plan
            .house
            .reads
            .map_or(Duration::ZERO, |plan| plan.retry_within);
        let now = self.client.worker.now();
        let unread = self.client.up.unread().len();
        self.trial.as_ref().is_some_and(|trial| {
            !trial.is_answered
                && now.since(trial.began) <= limit
                && trial.series.len() + unread <= LARGEST
        })
    }

    /// The replica is ready for what comes next: whether the series is to be asked again. It is over
    /// otherwise, and nothing is kept of it.
    #[inline(never)]
    pub(super) fn end_trial(&mut self) -> Option<End> {
        let trial = self.trial.as_ref()?;
        match trial.failed {
            Some(reason) => {
                self.server.answers.take_has_failed();
                Some(End::Again(reason))
            }
            None => {
                self.server.series = self.trial.take().map(Trial::into_room).unwrap_or_default();
                None
            }
        }
    }

    /// The connection is lost: whether the series is to be asked again.
    #[inline(never)]
    pub(super) fn lost_trial(&self) -> Option<End> {
        let failed = self.trial.as_ref()?.failed;
        let reason = failed.or_else(|| self.may_ask_again().then_some(Reason::Lost))?;
        Some(End::Again(reason))
    }
}
