//! Which HTTP requests something is part of: asks what is in flight at instances, and has it judged
//! ([`routes`]). Where the text's own comment tells the route, that counts.

use std::sync::{Arc, PoisonError};

use outgrow_core::Ticks;
use outgrow_core::serving::Sample;

use super::finding::{Finding, Origin, Text};
use super::repeats::suspects::Found;
use super::routes::{self, Judged, Requests, Shares};
use super::statements::Record;
use crate::seen::{ClientSeen, ServerSeen};
use crate::shared::Shared;
use crate::worker::worker_of;

impl Shared {
    /// Adds the requests that a statement is part of to where it comes from.
    pub(crate) fn locate(&self, told: Option<Origin>, record: &Record) -> Option<Origin> {
        let requests = match &told {
            Some(Origin { route: Some(_), .. }) => None,
            _ => self.requests(|| self.judge(record, &record.samples(), None)),
        };
        let mut origin = told.or(requests.is_some().then(Origin::default))?;
        origin.requests = requests;
        Some(origin)
    }

    /// The same of a finding that was made earlier.
    pub(crate) fn locate_again(&self, finding: &mut Finding) {
        let (Some(user), Some(statement)) = (&finding.user, &finding.statement) else {
            return;
        };
        // Each lane of a pool has a record of its own; any of them tells.
        let mut workers = self.workers.get().into_iter().flatten();
        let record = workers.find_map(|worker| {
            let records = worker.records.lock();
            let records = records.unwrap_or_else(PoisonError::into_inner);
            let is_it = |record: &&Arc<Record>| {
                let of = (&record.database, &record.user);
                record.fingerprint == statement.fingerprint && of == (&finding.database, user)
            };
            records.all().find(is_it).cloned()
        });
        if let Some(record) = record {
            let origin = self.locate(record.origin(), &record);
            finding.origin = origin.or(finding.origin.take());
        }
    }

    /// The same of what a client has been doing with a connection since then, a transaction for
    /// instance.
    pub(crate) fn locate_since(
        &self,
        origin: &mut Origin,
        client: &ClientSeen,
        record: Option<&Record>,
        since: Ticks,
    ) {
        let Some(among) = self.requests_since(client, since) else {
            return;
        };
        if origin.route.is_none() {
            let samples = record.map(Record::samples).unwrap_or_default();
            let shares = record.map(|record| self.shares(record)).unwrap_or_default();
            let share = |number| shares.of(number);
            origin.requests = self.requests(|| routes::judge_among(&samples, share, &among));
        }
    }

    /// The same of a query that is executed for each row of another one's result: of the routes that
    /// were in flight for all that time those that the two are of.
    pub(crate) fn locate_repeats(&self, origin: &mut Origin, found: &Found) {
        if origin.route.is_some() {
            return;
        }
        let [parent, _] = &found.records;
        origin.requests = self.requests(|| {
            let mut judged = self.judge(parent, &found.routes, None)?;
            for record in &found.records {
                if !judged.is_open() {
                    break;
                }
                let among = Sample::of(judged.routes.iter().copied());
                let closer = self.judge(record, &record.samples(), Some(&among));
                judged = closer.unwrap_or(judged);
            }
            Some(judged)
        });
    }

    /// The routes of a client's instance whose requests have been in flight since then; none where
    /// that is not known.
    pub(crate) fn requests_since(&self, client: &ClientSeen, since: Ticks) -> Option<Sample> {
        let servings = self.instances.servings()?;
        Some(client.origin()?.sample_since(servings, since))
    }

    /// The statement that a connection executes, or executed last, and where its transaction comes
    /// from.
    pub(crate) fn doing(&self, server: &ServerSeen, client: &ClientSeen) -> (Option<Text>, Origin) {
        let done = server.doing.read();
        let record = self.record(done.record);
        let since = done.transaction.unwrap_or(done.since);
        let told = record.as_ref().and_then(|record| record.origin());
        let mut origin = told.unwrap_or_default();
        self.locate_since(&mut origin, client, record.as_deref(), since);
        (record.map(|record| record.shown()), origin)
    }

    /// The record of a statement, by its number.
    pub(crate) fn record(&self, number: u64) -> Option<Arc<Record>> {
        let workers = self.workers.get()?;
        let records = workers.get(worker_of(number))?.records.lock();
        let records = records.unwrap_or_else(PoisonError::into_inner);
        records.by_number(number).cloned()
    }

    fn requests(&self, judge: impl FnOnce() -> Option<Judged>) -> Option<Requests> {
        let servings = self.instances.servings()?;
        judge()?.named(servings)
    }

    fn judge(&self, record: &Record, samples: &[Sample], among: Option<&Sample>) -> Option<Judged> {
        let shares = self.shares(record);
        routes::judge(samples, |number| shares.of(number), among)
    }

    /// How often routes are in flight at the statements of a record's worker.
    fn shares(&self, record: &Record) -> Arc<Shares> {
        let owner = worker_of(record.number);
        let worker = self.workers.get().and_then(|all| all.get(owner));
        let shares = worker.map(|worker| {
            let shares = worker.shares.lock();
            Arc::clone(&shares.unwrap_or_else(PoisonError::into_inner))
        });
        shares.unwrap_or_default()
    }
}
