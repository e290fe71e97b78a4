//! Which statement each message of a client is about, for what statements cost.

use std::sync::{Arc, PoisonError};

use super::Client;
use super::relay::Relay;
use crate::diagnosis::repeats::Recent;
use crate::diagnosis::repeats::suspects::Ticket;
use crate::diagnosis::repeats::values::{Hashes, MOST_VALUES};
use crate::diagnosis::statements::{Class, MOST_TEXT, MOST_WHOLE, New, Record, Scope};
use crate::diagnosis::watch::Ended;
use crate::diagnosis::{Finding, look, origin};
use crate::pool::Pool;
use crate::prepared::{Found, Statement};
use crate::seen::ClientSeen;
use crate::server::Server;
use crate::sql::cache::Known;
use crate::sql::fingerprint::normalised;
use crate::wire::backend;
use crate::wire::frame::{HEADER_BYTES, Header};
use crate::wire::read;
use crate::worker::Worker;
use outgrow_core::Ticks;

/// Most named portals whose statements are known at a time.
const MOST_PORTALS: usize = 16;

/// The portals of a client that have names, with their statements.
type Portals = Vec<(Box<[u8]>, Arc<Record>)>;

/// What is known of a client's statements.
#[derive(Debug)]
pub(super) struct Watched {
    scope: Scope,
    /// The unnamed statement.
    unnamed: Option<Arc<Record>>,
    /// That of the unnamed portal.
    bound: Option<Arc<Record>>,
    portals: Option<Box<Portals>>,
    /// Whether the rows of the unnamed portal are to be looked at.
    samples_bound: bool,
    /// The result whose values are compared with what follows.
    sampling: Option<Ticket>,
    /// Executions for one result before that is told; 0: never.
    repeats: u32,
    recent: Recent,
}

/// A text, as far as statistics need it.
#[derive(Clone, Copy)]
pub(super) struct Watchable<'t> {
    text: &'t [u8],
    fingerprint: u64,
    class: Class,
}

impl<'t> Watchable<'t> {
    /// Of what was found out about a text.
    pub(super) fn new(text: &'t [u8], known: &Known) -> Self {
        Self {
            text,
            fingerprint: known.fingerprint,
            class: Class::of(&known.facts),
        }
    }

    /// Of a text that is prepared without a name.
    pub(super) fn found(text: &'t [u8], found: &Found) -> Self {
        Self {
            text,
            fingerprint: found.fingerprint,
            class: found.class,
        }
    }
}

impl<'t> From<&'t Statement> for Watchable<'t> {
    fn from(statement: &'t Statement) -> Self {
        Self {
            text: &statement.query,
            fingerprint: statement.fingerprint,
            class: statement.class,
        }
    }
}

impl Watched {
    /// Of a client of this pool.
    pub(super) fn new(worker: &Worker, pool: &Pool) -> Self {
        let limits = pool.plan().house.diagnosis.clone();
        let records = worker.records.lock();
        let mut records = records.unwrap_or_else(PoisonError::into_inner);
        // The worker may not have followed the newest plan yet.
        records.set_limit(limits.as_ref().map_or(0, |limits| limits.statements));
        Self {
            scope: records.scope(&pool.database, &pool.user),
            unnamed: None,
            bound: None,
            portals: None,
            samples_bound: false,
            sampling: None,
            repeats: limits.map_or(0, |limits| limits.repeats),
            recent: Recent::default(),
        }
    }

    /// A statement is about to be executed: compares its values with those of the result before it,
    /// where that is sampled. Whether its own result is to be sampled.
    #[inline]
    pub(super) fn follow(
        &mut self,
        worker: &Worker,
        seen: &ClientSeen,
        record: &Arc<Record>,
        text: &[u8],
        values: impl FnOnce() -> [Hashes; MOST_VALUES],
    ) -> bool {
        if self.sampling.is_none() && !record.is_suspected() {
            return false;
        }
        let now = worker.now();
        let suspects = worker.suspects.lock();
        let mut suspects = suspects.unwrap_or_else(PoisonError::into_inner);
        if let Some(ticket) = self.sampling {
            let is_over = self.recent.is_over(now);
            match suspects.sample(ticket) {
                Some(sample) if is_over || sample.parent == record.number => {
                    suspects.end(ticket);
                    self.sampling = None;
                }
                Some(sample) if sample.follows(record.number) => {
                    let number = record.number;
                    let shared = &worker.shared;
                    let routes = |since| shared.requests_since(seen, since);
                    let executed = (number, values());
                    let found = suspects.execute(ticket, executed, self.repeats, now, routes);
                    drop(suspects);
                    if let Some(found) = found {
                        let told = origin::read(text).or_else(|| found.finding.origin.clone());
                        let mut origin = look::origin(seen, told);
                        shared.locate_repeats(&mut origin, &found);
                        worker.shared.find(Finding {
                            origin: Some(origin),
                            ..found.finding
                        });
                    }
                    return false;
                }
                Some(_) => {}
                None => self.sampling = None,
            }
        }
        if self.sampling.is_none() && record.is_suspected() {
            self.sampling = suspects.begin(record.number, now);
            return self.sampling.is_some();
        }
        false
    }

    /// A message of a result that is sampled.
    #[cold]
    pub(super) fn sample(&mut self, worker: &Worker, tag: u8, body: &[u8]) {
        let suspects = worker.suspects.lock();
        let mut suspects = suspects.unwrap_or_else(PoisonError::into_inner);
        if let Some(sample) = self.sampling.and_then(|ticket| suspects.sample(ticket)) {
            match tag {
                backend::DATA_ROW => sample.row(body),
                _ => sample.describe(body),
            }
        }
    }

    /// A statement was executed, and returned so many rows.
    #[inline]
    pub(super) fn ended(&mut self, worker: &Worker, (record, rows): &Ended, now: Ticks) {
        if self.repeats == 0 || record.class != Class::Query {
            return;
        }
        let first = self.recent.note(record.number, *rows, self.repeats, now);
        if let Some(first) = first {
            let find = |number| {
                let records = worker.records.lock();
                let records = records.unwrap_or_else(PoisonError::into_inner);
                let found = records.all().find(|one| one.number as u32 == number);
                found.cloned()
            };
            let suspects = worker.suspects.lock();
            let mut suspects = suspects.unwrap_or_else(PoisonError::into_inner);
            suspects.suspect(record, first, find, now);
        }
    }

    /// The unnamed statement is this one from now on.
    pub(super) fn parse(&mut self, record: Option<Arc<Record>>) {
        self.unnamed = record;
    }

    /// The unnamed statement.
    pub(super) fn unnamed(&self) -> Option<Arc<Record>> {
        self.unnamed.clone()
    }

    /// A portal is made of a statement.
    #[inline]
    pub(super) fn bind(&mut self, portal: &[u8], record: Option<Arc<Record>>, is_sampled: bool) {
        if portal.is_empty() {
            self.bound = record;
            self.samples_bound = is_sampled;
            return;
        }
        let portals = self.portals.get_or_insert_default();
        portals.retain(|(name, _)| **name != *portal);
        if portals.len() >= MOST_PORTALS {
            portals.remove(0);
        }
        portals.extend(record.map(|record| (portal.into(), record)));
    }

    /// The statement of a portal.
    #[inline]
    pub(super) fn of_portal(&self, portal: &[u8]) -> Option<Arc<Record>> {
        if portal.is_empty() {
            return self.bound.clone();
        }
        let portals = self.portals.as_ref()?;
        let known = portals.iter().find(|(name, _)| **name == *portal);
        known.map(|(_, record)| Arc::clone(record))
    }
}

impl Client {
    /// The record of a text; none when nothing is kept.
    #[inline]
    pub(super) fn record_of(&self, what: Watchable<'_>) -> Option<Arc<Record>> {
        let records = self.worker.records.lock();
        let mut records = records.unwrap_or_else(PoisonError::into_inner);
        let record = records.of(self.watched.scope, what.fingerprint, || New {
            database: Arc::clone(&self.pool.database),
            user: Arc::clone(&self.pool.user),
            text: what.text,
            normalised: normalised(what.text, self.lexing, MOST_TEXT),
            class: what.class,
        })?;
        if record.wants_whole() {
            let whole = normalised(what.text, self.lexing, MOST_WHOLE);
            records.keep_whole(&record, whole);
        }
        drop(records);
        record.note_origin(what.text);
        Some(record)
    }

    /// Takes note that a portal is to be executed.
    #[inline]
    pub(super) fn watch_execute(&mut self, server: &mut Server, header: Header) {
        let body = self.up.unread().get(HEADER_BYTES..header.whole());
        let portal = body.and_then(read::text);
        if let Some((portal, _)) = portal
            && let Some(record) = self.watched.of_portal(portal)
        {
            let is_unnamed = portal.is_empty();
            let is_sampled = is_unnamed && std::mem::take(&mut self.watched.samples_bound);
            server.watch.ask(record, is_sampled);
        }
    }
}

impl Relay<'_> {
    /// Looks at a message of a result that is sampled.
    #[cold]
    #[inline(never)]
    pub(super) fn sample(&mut self, header: Header) {
        let body = &self.server.down.unread()[HEADER_BYTES..header.whole()];
        if matches!(header.tag, backend::DATA_ROW | backend::ROW_DESCRIPTION) {
            let worker = &self.client.worker;
            self.client.watched.sample(worker, header.tag, body);
        }
    }
}
