//! Which statements' plans are looked at, one at a time, and what is remembered of it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use outgrow_core::Ticks;

use super::connection::Unanswered;
use super::explain;
use crate::diagnosis::Finding;
use crate::diagnosis::server::missing::{self, Candidate, Trial};
use crate::diagnosis::server::table::Table;
use crate::diagnosis::statements::Class;
use crate::server::Server;
use crate::shared::Shared;

/// Most statements of which it is remembered that they were looked at.
const MOST_REMEMBERED: usize = 2_000;
/// After how long a statement is looked at again: one that was found wanting, and others.
const FOUND_AGAIN: Duration = Duration::from_secs(60);
const OTHERS_AGAIN: Duration = Duration::from_secs(1_800);
/// For how long what was found holds without another look, at most: the statement may be gone.
const HOLDS: Duration = Duration::from_secs(150);
/// Most tables of a plan that are asked about.
const MOST_TABLES: usize = 8;

/// The looks at the plans of a database's statements.
#[derive(Debug)]
pub(super) struct Looks {
    /// By user and fingerprint.
    seen: HashMap<(Arc<str>, u64), Look>,
    /// Since when statements are counted.
    since: Ticks,
}

/// A look at a plan.
#[derive(Debug)]
struct Look {
    at: Ticks,
    /// Calls until then.
    calls: u64,
    found: Option<Finding>,
}

impl Looks {
    pub(super) fn new(now: Ticks) -> Self {
        Self {
            seen: HashMap::new(),
            since: now,
        }
    }

    /// What was found and holds.
    pub(super) fn found(&self, now: Ticks) -> impl Iterator<Item = &Finding> {
        let looks = self.seen.values();
        let looks = looks.filter(move |look| now.since(look.at) < HOLDS);
        looks.filter_map(|look| look.found.as_ref())
    }

    /// The statement that is to be looked at next: of those that are due the one that takes most
    /// time in all.
    pub(super) fn next(
        &self,
        shared: &Shared,
        database: &Arc<str>,
        now: Ticks,
    ) -> Option<Candidate> {
        let is_due = |candidate: &Candidate| {
            let look = self.seen.get(&key(candidate));
            look.is_none_or(|look| {
                let again = match look.found {
                    Some(_) => FOUND_AGAIN,
                    None => OTHERS_AGAIN,
                };
                now.since(look.at) >= again && candidate.calls != look.calls
            })
        };
        let due = candidates(shared, database).into_iter();
        let due = due.filter(|one| one.is_whole() && is_due(one));
        due.max_by_key(|one| one.execute_micros)
    }

    /// Looks at the plan of a statement. Where the server refuses (a table that its user may not
    /// read, a name that only its client's settings lead to) it is not asked again soon;
    /// nor is one at which the connection broke.
    pub(super) async fn look(
        &mut self,
        server: &mut Server,
        database: &Arc<str>,
        candidate: Candidate,
        now: Ticks,
    ) -> Result<Option<Finding>, Unanswered> {
        let window = now.since(self.since);
        let label: Arc<str> = server.endpoint().label().into();
        let found = examine(server, database, &label, &candidate, window).await;
        let is_broken = found == Err(Unanswered::Broken);
        let found = found.unwrap_or_default();
        if self.seen.len() >= MOST_REMEMBERED {
            self.seen
                .retain(|_, look| now.since(look.at) < OTHERS_AGAIN);
        }
        if self.seen.len() < MOST_REMEMBERED {
            let look = Look {
                at: now,
                calls: candidate.calls,
                found: found.clone(),
            };
            self.seen.insert(key(&candidate), look);
        }
        if is_broken {
            return Err(Unanswered::Broken);
        }
        Ok(found)
    }
}

fn key(candidate: &Candidate) -> (Arc<str>, u64) {
    (Arc::clone(&candidate.user), candidate.text.fingerprint)
}

async fn examine(
    server: &mut Server,
    database: &Arc<str>,
    label: &Arc<str>,
    candidate: &Candidate,
    window: Duration,
) -> Result<Option<Finding>, Unanswered> {
    let sql = &candidate.sql;
    let Some(plan) = explain::plan(server, sql).await? else {
        return Ok(None);
    };
    let mut tables: Vec<Table> = Vec::new();
    for scan in plan.scans.iter().take(MOST_TABLES) {
        tables.push(explain::table(server, scan).await?);
    }
    let Some(found) = missing::find(&plan, &tables, candidate.rows_each()) else {
        return Ok(None);
    };
    let trial = match &found.advice.create {
        Some(create) => explain::try_index(server, sql, create).await?,
        None => Trial::Untried,
    };
    // How many rows are wanted of a sort is not known from a plan for any values.
    if trial == Trial::Unused && found.scan.sort.is_none() {
        return Ok(None);
    }
    Ok(Some(missing::finding(
        database,
        Some(label),
        candidate,
        &found,
        trial,
        window,
    )))
}

/// The statements of a database that read or change rows and take time.
fn candidates(shared: &Shared, database: &Arc<str>) -> Vec<Candidate> {
    let mut candidates: HashMap<(Arc<str>, u64), Candidate> = HashMap::new();
    for worker in shared.workers.get().into_iter().flatten() {
        let records = worker.records.lock();
        let records = records.unwrap_or_else(PoisonError::into_inner);
        for record in records.all() {
            let is_one = record.database == *database && record.class != Class::Other;
            let (calls, micros) = (record.calls.get(), record.execute_micros.get());
            if !is_one || !missing::is_worth(calls, micros) {
                continue;
            }
            let candidate = Candidate {
                text: record.shown(),
                sql: Arc::clone(record.sql()),
                user: Arc::clone(&record.user),
                origin: shared.locate(record.origin(), record),
                calls,
                execute_micros: micros,
                rows: record.rows.get(),
            };
            let known = candidates.entry(key(&candidate));
            known
                .and_modify(|known| {
                    if !known.is_whole() {
                        known.sql = Arc::clone(&candidate.sql);
                        known.text = candidate.text.clone();
                    }
                    known.calls += candidate.calls;
                    known.execute_micros += candidate.execute_micros;
                    known.rows += candidate.rows;
                })
                .or_insert(candidate);
        }
    }
    candidates.into_values().collect()
}
