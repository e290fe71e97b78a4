//! Where the client's next series of messages goes: to the primary, or, when every statement of it
//! is proven to only read, to a replica that has everything the client wrote.

use std::sync::Arc;

use outgrow_core::Ticks;
use outgrow_upstream::Endpoint;

use super::Client;
use crate::plan::ReadsPlan;
use crate::pool::Pool;
use crate::reads::Reads;
use crate::sql::facts::{Isolation, Kind, Statements};
use crate::standing::{Role, Standing};
use crate::wire::frame::{self, Frame, HEADER_BYTES};
use crate::wire::{frontend, read};

/// Where a series goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// To the primary.
    Primary,
    /// To any server that has what the client wrote.
    Anywhere,
}

impl Client {
    /// Where the series goes that has come. What is not there as a whole goes to the primary.
    pub(super) fn route(&self, reads: &Reads) -> Route {
        if !self.session.pins().is_empty() || self.session.settings().decide_transactions() {
            return Route::Primary;
        }
        let mut rest = self.up.unread();
        let mut prepared: &[u8] = b"";
        let mut has_unnamed = false;
        loop {
            let Ok(Frame::Whole(header)) = frame::look(rest) else {
                return Route::Primary;
            };
            let body = &rest[HEADER_BYTES..header.whole()];
            let is_good = match header.tag {
                frontend::QUERY if prepared.is_empty() && !has_unnamed => {
                    return self.route_query(reads, body);
                }
                frontend::SYNC => return Route::Anywhere,
                frontend::PARSE => {
                    let Some(parse) = read::Parse::read(body) else {
                        return Route::Primary;
                    };
                    has_unnamed |= parse.name.is_empty();
                    if !parse.name.is_empty() {
                        prepared = parse.name;
                    }
                    self.only_reads(reads, parse.query)
                }
                frontend::BIND => {
                    read::bind(body).is_some_and(|(_, name, _)| match self.names.get(name) {
                        Some(statement) => self.only_reads(reads, &statement.query),
                        None if name.is_empty() => has_unnamed,
                        None => name == prepared,
                    })
                }
                frontend::DESCRIBE | frontend::EXECUTE | frontend::CLOSE => true,
                _ => false,
            };
            if !is_good {
                return Route::Primary;
            }
            rest = &rest[header.whole()..];
        }
    }

    fn route_query(&self, reads: &Reads, body: &[u8]) -> Route {
        let Some(text) = body.strip_suffix(b"\0") else {
            return Route::Primary;
        };
        let known = reads.know(text, self.lexing);
        let facts = &known.facts;
        if facts.kind == Kind::Begin && facts.statements == 1 && facts.hints.is_empty() {
            let begin = Statements::new(text, self.lexing).next();
            let is_reading = begin.is_some_and(|begin| {
                begin.modes.read_only == Some(true)
                    && begin.modes.isolation != Some(Isolation::Serializable)
            });
            return if is_reading {
                Route::Anywhere
            } else {
                Route::Primary
            };
        }
        if !facts.needs_reading() && known.verdict.allows_replica() && facts.statements > 0 {
            Route::Anywhere
        } else {
            Route::Primary
        }
    }

    fn only_reads(&self, reads: &Reads, text: &[u8]) -> bool {
        let known = reads.know(text, self.lexing);
        known.verdict.allows_replica() && !known.facts.needs_reading()
    }

    /// The pool of a replica that has everything that the client wrote, the least busy one. None
    /// when there is none that will have it in time.
    pub(super) async fn replica(&mut self, plan: &ReadsPlan) -> Option<Arc<Pool>> {
        let service = Arc::clone(&self.pool.plan().database.service);
        let set = service.endpoints().load();
        let shared = Arc::clone(&self.worker.shared);
        let standings = &shared.standings;
        let primary = set.all.iter().map(|endpoint| standings.of(endpoint));
        let primary = primary
            .into_iter()
            .find(|one| one.role() == Some(Role::Primary))?;
        let floor = self.floor(&primary, plan).await?;
        let now = self.worker.now();
        let replicas: Vec<(Arc<Endpoint>, Arc<Standing>)> = set
            .usable
            .iter()
            .map(|endpoint| (Arc::clone(endpoint), standings.of(endpoint)))
            .filter(|(_, standing)| is_good(standing, &primary, plan, now))
            .collect();
        let ready = replicas
            .iter()
            .filter(|(_, standing)| standing.lsn() >= floor);
        let pools = ready.filter_map(|(endpoint, _)| self.pool_at(endpoint));
        if let Some(pool) = pools.min_by_key(busy) {
            return Some(pool);
        }
        // None has it yet: the one that is furthest is waited for.
        let (endpoint, standing) = replicas.iter().max_by_key(|(_, standing)| standing.lsn())?;
        let has_it = |standing: &Standing| standing.lsn() >= floor;
        if !standing.wait_until(plan.wait, has_it).await {
            return None;
        }
        self.pool_at(endpoint)
    }

    /// The pool of a replica; none while that has no connections to give, or has failed the client.
    fn pool_at(&self, endpoint: &Arc<Endpoint>) -> Option<Arc<Pool>> {
        if self
            .repeat
            .as_ref()
            .is_some_and(|one| one.excludes(endpoint.id()))
        {
            return None;
        }
        let pool = self
            .worker
            .pool_at(&self.pool.database, &self.pool.user, endpoint.id())?;
        if let Some(credential) = self.pool.credential()
            && pool.credential().is_none()
        {
            pool.set_credential(credential);
        }
        if pool.is_failing() {
            self.worker.try_again(&pool);
            return None;
        }
        Some(pool)
    }
}

/// Whether reads may go there at all.
fn is_good(standing: &Standing, primary: &Standing, plan: &ReadsPlan, now: Ticks) -> bool {
    // One that follows another timeline follows another primary, or none.
    standing.role() == Some(Role::Replica)
        && standing.timeline() == primary.timeline()
        && (plan.max_lag.is_zero() || primary.lag_of(standing.lsn(), now) <= plan.max_lag)
        && (plan.max_lag_bytes == 0 || primary.lsn().since(standing.lsn()) <= plan.max_lag_bytes)
}

fn busy(pool: &Arc<Pool>) -> u32 {
    let load = pool.load();
    load.lent + load.waiting
}
