//! A look at the storage: what is there is served, what is asked is answered, and the lock is held
//! where this process may order.

use std::collections::BTreeMap;
use std::sync::Arc;

use outgrow_acme::settings::Challenge;
use outgrow_acme::{Answer, Failure, challenge_certificate};
use outgrow_core::WallTime;
use outgrow_tls::CertificateText;

use super::super::attempt::blocking;
use super::super::shelf::Shelf;
use super::super::storage::Storage;
use super::Driver;
use crate::assemble::log;

/// How long it is waited after the storage could not be written.
const STORAGE_WAIT: u64 = 60;

impl Driver {
    /// Reads what changed, and serves it.
    pub(super) async fn look(&mut self, storage: &Storage) {
        let (storage, plan, marks) = (storage.clone(), Arc::clone(&self.current.plan), self.marks);
        let looked = blocking(move || {
            let now = storage.marks();
            let is_same = |at: usize| now[at].is_some() && now[at] == marks[at];
            let shelf = (!is_same(0)).then(|| {
                let shelf = Shelf::read(&storage, &plan, WallTime::now());
                let records = plan.wanted.iter().map(|one| {
                    let record = storage.record(&one.id).unwrap_or_default();
                    (one.id.clone(), record)
                });
                (shelf, records.collect::<BTreeMap<_, _>>())
            });
            let answers = (!is_same(1)).then(|| storage.answers());
            Ok((now, shelf, answers))
        });
        let Ok((marks, shelf, answers)) = looked.await else {
            return;
        };
        self.marks = marks;
        if let Some((shelf, records)) = shelf {
            for (id, problem) in &shelf.problems {
                if self.shelf.problems.get(id) != Some(problem) {
                    log::warn(&format!(
                        "acme: the certificate {id} cannot be served: {problem}"
                    ));
                }
            }
            let is_same = self.served == self.current.version && self.shelf.serves_as(&shelf);
            self.shelf = shelf;
            self.records = records;
            if !is_same {
                self.shelf.publish(&self.current.plan, WallTime::now());
                self.served = self.current.version;
            }
        }
        if let Some(answers) = answers
            && answers != self.answers
        {
            self.answer(answers);
        }
    }

    /// Answers these challenges from now on, and no others.
    fn answer(&mut self, answers: Vec<Answer>) {
        self.shared.answers.publish(&answers);
        let by_tls = answers
            .iter()
            .filter(|answer| answer.challenge == Challenge::TlsAlpn01);
        let mut certificates = Vec::new();
        for answer in by_tls {
            match challenge_certificate(&answer.name, &answer.value) {
                Ok(pem) => certificates.push((answer.name.clone(), text(pem.into_bytes()))),
                Err(failure) => log::warn(&format!("acme: {}: {failure}", answer.name)),
            }
        }
        if let Err(problem) = self.challenges.publish(&certificates) {
            log::warn(&format!("acme: tls-alpn-01 cannot be answered: {problem}"));
        }
        self.answers = answers;
    }

    /// Holds the lock while this process may order, and only then.
    pub(super) async fn take_lock(&mut self, storage: &Storage) {
        if !self.current.may_order || self.current.plan.wanted.is_empty() {
            self.lock = None;
            return;
        }
        if let Some(lock) = &self.lock {
            if storage.is_locked_by(lock) {
                return;
            }
            self.give_up().await;
            self.lock = None;
        }
        let storage = storage.clone();
        let locked = blocking(move || {
            let lock = storage.lock()?;
            if lock.is_some() {
                storage.sweep();
            }
            Ok(lock)
        });
        match locked.await {
            Ok(Some(lock)) => {
                self.lock = Some(lock);
                // The one before may have written since it was looked at.
                self.marks = [None; 2];
                if let Some(storage) = self.current.plan.storage.clone() {
                    self.look(&storage).await;
                }
            }
            Ok(None) => {}
            Err(failure) => self.tell_storage(Some(&failure)),
        }
    }

    /// Says what is wrong with the storage, once. Nothing is ordered that could not be kept.
    pub(super) fn tell_storage(&mut self, failure: Option<&Failure>) {
        let problem = failure.map(|failure| failure.text.clone());
        if let Some(problem) = &problem {
            self.storage_hold = WallTime::now().seconds() + STORAGE_WAIT;
            if self.storage_problem.as_ref() != Some(problem) {
                log::warn(&format!("acme: nothing is ordered: {problem}"));
            }
        }
        self.storage_problem = problem;
    }
}

fn text(pem: Vec<u8>) -> CertificateText {
    CertificateText {
        certificate: pem.clone(),
        key: pem,
        certificate_name: "the answer".to_owned(),
        key_name: "the answer".to_owned(),
        staple: None,
    }
}
