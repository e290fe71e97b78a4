//! How far a replica must have come for a read of this client: as far as the primary was after the
//! client's own last write, and, where reads follow HTTP requests, as far as its instance and the
//! users whose requests it is serving have written.

use std::sync::Arc;

use outgrow_core::Ticks;
use outgrow_core::serving::{Demand, Position, Store, Written};

use super::Client;
use crate::diagnosis::watch::Watch;
use crate::diagnosis::{self, Finding, Kind as FindingKind, Severity};
use crate::handover::state::Floor;
use crate::origin::{Origin, Place};
use crate::plan::{PoolPlan, ReadsPlan};
use crate::sql::facts::Kind;
use crate::standing::{Lsn, Standing};
use crate::wire::frame::{self, Frame, HEADER_BYTES};
use crate::wire::frontend;

/// Of so many reads one has it told that nobody knows which instance a client is.
const FIND_EVERY: u64 = 256;

/// What is known of a client for its floor.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// What the primary last ended for it that may have written.
    own: Option<Written>,
    /// Which instance it is, where reads follow requests or it is told which a statement is of.
    origin: Option<Arc<Origin>>,
    /// Whether reads follow requests.
    counts: bool,
    /// Whether what is under way is proven to only read, although the primary executes it.
    only_reads: bool,
    /// Whether what is executed was sent before the answer to what came before it.
    is_behind_another: bool,
}

impl Writes {
    /// What is to be known of it in another process, whose clock is another one.
    pub(super) fn floor(&self) -> Option<Floor> {
        let own = self.own?;
        Some(match own.position {
            Some(Position { timeline, lsn }) => Floor::At { timeline, lsn },
            None => Floor::Unknown,
        })
    }

    /// It was written elsewhere.
    pub(super) fn restore(&mut self, written: Written) {
        self.own = Some(written);
    }

    /// Whether what is under way is proven to only read, although the primary executes it.
    pub(super) fn only_reads(&self) -> bool {
        self.only_reads
    }
}

impl Client {
    /// Has the client placed among the instances, where reads follow their requests or it is told
    /// which requests a statement is part of.
    #[inline]
    pub(super) fn note_origin(&mut self, plan: &PoolPlan) {
        let house = &plan.house;
        let reads = house.reads.as_ref();
        self.writes.counts = reads.is_some_and(|reads| reads.follows_requests);
        let is_wanted = self.writes.counts || house.tells_requests;
        if is_wanted != self.writes.origin.is_some() {
            self.place_origin(is_wanted);
        }
    }

    #[inline(never)]
    fn place_origin(&mut self, is_wanted: bool) {
        let seen = &self.identity.entry.seen;
        self.writes.origin = is_wanted.then(|| {
            let origin = Origin::new(seen.far(), seen.near, seen.application());
            self.worker.shared.instances.place(&origin);
            origin
        });
        seen.set_origin(self.writes.origin.clone());
    }

    /// Takes note of the requests that its instance has in flight as statements are sent to the
    /// server, where it is time to.
    #[inline]
    pub(super) fn note_requests(&self, watch: &Watch, now: Ticks) {
        if let Some(origin) = &self.writes.origin {
            let instances = &self.worker.shared.instances;
            watch.sample(now, || {
                let servings = instances.servings();
                servings.map(|servings| origin.sample(servings))
            });
        }
    }

    pub(super) fn store(&self) -> Store {
        Store::of(self.pool.plan().database.service.name())
    }

    /// Takes note that the primary has answered a series whose first message came at `began`;
    /// whether there is more that was sent already.
    pub(super) fn note_end(&mut self, began: Option<Ticks>, has_more: bool, now: Ticks) {
        // Of what was sent along with the one before nobody knows when it began.
        let began = began.filter(|_| !self.writes.is_behind_another);
        self.writes.is_behind_another = has_more;
        self.note_write(began.unwrap_or(now), now);
    }

    /// Takes note that the primary has ended something that may have written, which `began` at the
    /// earliest then.
    pub(super) fn note_write(&mut self, began: Ticks, ended: Ticks) {
        if self.writes.only_reads || (self.reads.is_none() && !self.writes.counts) {
            return;
        }
        let written = Written {
            store: self.store(),
            ended,
            began,
            position: None,
        };
        self.writes.own = Some(written);
        if let Some(origin) = self.writes.origin.as_ref().filter(|_| self.writes.counts) {
            self.worker.shared.instances.note_write(origin, written);
        }
    }

    /// Whatever its instance has written up to now, in a process before this one, over this or other
    /// connections: its reads are to hold it.
    pub(super) fn note_elsewhere(&mut self, now: Ticks) {
        if let Some(origin) = &self.writes.origin {
            let written = Written {
                store: self.store(),
                ended: now,
                began: now,
                position: None,
            };
            self.worker.shared.instances.note_write(origin, written);
        }
    }

    /// Has what it reads from now on hold all that anybody had written by `ended`.
    pub(super) fn see_until(&mut self, ended: Ticks) {
        if self.writes.own.is_none_or(|own| own.ended < ended) {
            self.writes.own = Some(Written {
                store: self.store(),
                ended,
                began: ended,
                position: None,
            });
        }
    }

    /// Takes note of whether what the primary is about to execute is proven to only read: such a
    /// read is no write that others would have to wait for. A transaction that says so may still
    /// change its mind.
    #[inline]
    pub(super) fn note_only_reads(&mut self, is_proven: bool) {
        self.writes.only_reads = is_proven && !self.begins_transaction();
    }

    fn begins_transaction(&self) -> bool {
        let unread = self.up.unread();
        let Ok(Frame::Whole(header)) = frame::look(unread) else {
            return true;
        };
        if header.tag != frontend::QUERY {
            return false;
        }
        let text = unread[HEADER_BYTES..header.whole()].strip_suffix(b"\0");
        text.is_none_or(|text| self.worker.know(text, self.lexing).facts.kind == Kind::Begin)
    }

    /// How far a replica must have come for this client; none when only the primary will do, or
    /// when it does not say in time how far it is.
    pub(super) async fn floor(&mut self, primary: &Standing, plan: &ReadsPlan) -> Option<Lsn> {
        let demand = self.demand();
        if demand.only_primary {
            if self.is_unplaced() {
                self.note_unplaced();
            }
            return None;
        }
        let mut needed = demand.position;
        if demand.wrote > Ticks::ZERO {
            let is_after = |primary: &Standing| primary.asked() >= Some(demand.wrote);
            if !is_after(primary) && !primary.wait_until(plan.wait, is_after).await {
                return None;
            }
            let asked = primary.asked()?;
            let position = primary.position();
            self.settle(asked, position);
            needed.raise(position);
        }
        // Somebody knows of a promotion that is not known here.
        (needed.timeline <= primary.timeline()).then_some(Lsn(needed.lsn))
    }

    /// Whether nobody knows of which instance the client is, although that matters.
    pub(super) fn is_unplaced(&self) -> bool {
        let is_placed = |origin: &Arc<Origin>| matches!(origin.place(), Place::Of(_));
        let origin = self.writes.origin.as_ref();
        self.pool.plan().follows_requests && origin.is_some_and(|origin| !is_placed(origin))
    }

    /// Counts a read that the primary executes because nobody knows which instance the client is.
    #[cold]
    fn note_unplaced(&self) {
        let count = &self.pool.numbers.reads_unplaced;
        let before = count.get();
        count.add(1);
        let Some(origin) = &self.writes.origin else {
            return;
        };
        if let Place::Nowhere(reason) = origin.place()
            && before.is_multiple_of(FIND_EVERY)
        {
            let finding = unplaced(origin, reason, (&self.pool.database, &self.pool.user));
            self.worker.shared.find(finding);
        }
    }

    fn demand(&self) -> Demand {
        let mut demand = Demand::default();
        if let Some(origin) = &self.writes.origin
            && self.pool.plan().follows_requests
        {
            let now = self.worker.now();
            let instances = &self.worker.shared.instances;
            demand = instances.demand(origin, self.store(), now);
        }
        match self.writes.own {
            Some(Written {
                position: Some(position),
                ..
            }) => demand.position.raise(position),
            Some(written) => demand.wrote = demand.wrote.max(written.ended),
            None => {}
        }
        demand
    }

    fn settle(&mut self, asked: Ticks, position: Position) {
        if let Some(written) = &mut self.writes.own
            && written.position.is_none()
        {
            written.position = Some(position);
        }
        if let Some(origin) = &self.writes.origin {
            let store = self.store();
            let instances = &self.worker.shared.instances;
            instances.settle(origin, store, asked, position);
        }
    }
}

/// What is told of a client that reads from the primary because nobody knows which instance it is.
fn unplaced(origin: &Origin, reason: &str, (database, user): (&Arc<str>, &Arc<str>)) -> Finding {
    let client: Arc<str> = origin.far.to_string().into();
    Finding {
        kind: FindingKind::UnplacedClient,
        severity: Severity::Warning,
        database: Arc::clone(database),
        user: Some(Arc::clone(user)),
        server: None,
        statement: None,
        origin: Some(diagnosis::Origin {
            application: Some(Arc::clone(&origin.application)),
            client: Some(Arc::clone(&client)),
            ..diagnosis::Origin::default()
        }),
        evidence: vec![
            format!("reads of {client} go to the primary: {reason}"),
            "nobody knows for which users' requests it reads".to_owned(),
        ],
        remedy: "For a client that serves no HTTP requests, such as reports: a user of its own with \
                 [postgres.user.NAME] reads_your_writes = \"session\". For an instance whose \
                 source does not say which one it is: [postgres.replicas] application_names = true, \
                 and an application_name that is the instance's name or address."
            .to_owned(),
    }
}
