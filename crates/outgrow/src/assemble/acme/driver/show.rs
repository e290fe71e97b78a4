//! What is told of the certificates.

use std::sync::PoisonError;

use outgrow_acme::schedule;

use super::super::shelf::Kept;
use super::super::view::CertificateView;
use super::Driver;

impl Driver {
    /// Tells how everything is now.
    pub(super) fn show(&self, now: u64) {
        let plan = &self.current.plan;
        let views = plan.wanted.iter().filter_map(|wanted| {
            let settings = &plan.acme.as_ref()?.settings;
            let record = self.record_of(wanted, settings);
            let kept = self.shelf.kept.get(&wanted.id);
            let life = kept.and_then(Kept::life);
            let problem = self.storage_problem.clone().or(record.problem.clone());
            Some(CertificateView {
                id: wanted.id.clone(),
                names: wanted.names.clone(),
                listeners: wanted.listeners.iter().map(ToString::to_string).collect(),
                challenge: wanted.challenge.as_str(),
                directory: settings.directory.url(),
                state: match life {
                    None => "missing",
                    Some(life) if life.until <= now => "expired",
                    Some(_) => "valid",
                },
                is_under_way: self.attempt.as_ref().is_some_and(|one| one.id == wanted.id),
                orders: self.lock.is_some(),
                not_before: life.map(|life| life.from),
                not_after: life.map(|life| life.until),
                key_kind: kept.map(|kept| kept.facts.key_kind),
                next_attempt: Some(schedule::next_attempt(&record, life, now, wanted.chance())),
                succeeded: record.succeeded,
                failed: record.failed,
                failures: record.failures,
                all_failures: record.all_failures,
                problem: problem.or(self.shelf.problems.get(&wanted.id).cloned()),
                renewal_explanation: record.renewal.explanation.clone(),
            })
        });
        let views: Vec<CertificateView> = views.collect();
        *self.views.lock().unwrap_or_else(PoisonError::into_inner) = views;
    }
}
