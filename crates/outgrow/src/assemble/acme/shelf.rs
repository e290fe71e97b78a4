//! The certificates of the storage as they are served: which ones, to whom.
//!
//! A certificate that is not there yet has stand-ins: whatever the same authority gave for any of its
//! names before. So adding a name to a certificate takes none of its names out of service.

use std::collections::BTreeMap;

use outgrow_acme::schedule::Life;
use outgrow_core::WallTime;
use outgrow_tls::{CertificateFacts, CertificateText, facts, renewal_identity};

use super::Plan;
use super::storage::Storage;
use super::wanted::{self, Wanted};
use crate::assemble::log;

/// A certificate that can be served.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) text: CertificateText,
    pub(super) facts: CertificateFacts,
    /// What its authority calls it.
    pub(super) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Kept {
    /// From when until when it is valid.
    pub(super) fn life(&self) -> Option<Life> {
        let (from, until) = (self.facts.not_before?, self.facts.not_after?);
        Some(Life {
            from: from.seconds(),
            until: until.seconds(),
        })
    }

    fn is_valid(&self, now: WallTime) -> bool {
        self.facts.not_after.is_some_and(|until| now < until)
    }

    /// The name by which its renewal is asked after.
    pub(super) fn name(&self) -> String {
        let (issuer, serial) = self.identity.clone().unwrap_or_default();
        format!("{issuer:02x?}{serial:02x?}").replace([' ', ',', '[', ']'], "")
    }
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Shelf {
    /// By their name in the storage.
    pub(super) kept: BTreeMap<String, Kept>,
    /// Those that stand in for others, the one that is valid longest first.
    stand_ins: Vec<(String, Kept)>,
    /// What could not be read.
    pub(super) problems: BTreeMap<String, String>,
}

impl Shelf {
    /// Reads what is wanted. Blocks.
    pub(super) fn read(storage: &Storage, plan: &Plan, now: WallTime) -> Self {
        let mut shelf = Self::default();
        for wanted in &plan.wanted {
            match read(storage, &wanted.id, now) {
                Ok(Some(kept)) if covers(&kept.facts, &wanted.names) => {
                    shelf.kept.insert(wanted.id.clone(), kept);
                }
                Ok(Some(_)) => {
                    let problem = "it is not for the names that it should be for";
                    shelf.problems.insert(wanted.id.clone(), problem.to_owned());
                }
                Ok(None) => {}
                Err(problem) => {
                    shelf.problems.insert(wanted.id.clone(), problem);
                }
            }
        }
        shelf.find_stand_ins(storage, plan, now);
        shelf
    }

    fn find_stand_ins(&mut self, storage: &Storage, plan: &Plan, now: WallTime) {
        let Some(acme) = &plan.acme else { return };
        let is_missing = |wanted: &&Wanted| {
            let kept = self.kept.get(&wanted.id);
            kept.is_none_or(|kept| !kept.is_valid(now))
        };
        let missing: Vec<&Wanted> = plan.wanted.iter().filter(is_missing).collect();
        if missing.is_empty() {
            return;
        }
        let authority = wanted::account(&acme.settings);
        let mut found = Vec::new();
        for id in storage.certificates() {
            if self.kept.contains_key(&id) {
                continue;
            }
            let is_same = storage
                .record(&id)
                .is_ok_and(|record| record.authority == authority);
            let Ok(Some(kept)) = read(storage, &id, now) else {
                continue;
            };
            if is_same && kept.is_valid(now) {
                let stands_for = |wanted: &&&Wanted| {
                    wanted
                        .names
                        .iter()
                        .any(|name| kept.facts.names.contains(name))
                };
                for wanted in missing.iter().filter(stands_for) {
                    found.push((wanted.id.clone(), kept.clone()));
                }
            }
        }
        found.sort_by_key(|(_, kept)| std::cmp::Reverse(kept.facts.not_after));
        self.stand_ins = found;
    }

    /// Whether the same would be served.
    pub(super) fn serves_as(&self, other: &Self) -> bool {
        fn texts(shelf: &Shelf) -> impl Iterator<Item = (&String, &CertificateText)> {
            let kept = shelf.kept.iter().map(|(id, kept)| (id, &kept.text));
            let stand_ins = shelf.stand_ins.iter().map(|(id, kept)| (id, &kept.text));
            kept.chain(stand_ins)
        }
        texts(self).eq(texts(other))
    }

    /// Serves it.
    pub(super) fn publish(&self, plan: &Plan, now: WallTime) {
        for (listener, managed) in &plan.managed {
            let wanted = plan
                .wanted
                .iter()
                .filter(|wanted| wanted.listeners.contains(listener));
            let mut texts = Vec::new();
            for one in wanted {
                texts.extend(self.kept.get(&one.id).map(|kept| kept.text.clone()));
                let stand_ins = self.stand_ins.iter().filter(|(id, _)| *id == one.id);
                texts.extend(stand_ins.map(|(_, kept)| kept.text.clone()));
            }
            let (_, problems) = managed.publish(&texts, now);
            for problem in problems {
                log::warn(&format!("[listener.{listener}.tls] {problem}"));
            }
        }
    }
}

fn read(storage: &Storage, id: &str, now: WallTime) -> Result<Option<Kept>, String> {
    let Some(pem) = storage.certificate(id)? else {
        return Ok(None);
    };
    let name = storage.certificate_path(id).display().to_string();
    let text = CertificateText {
        certificate: pem.clone(),
        key: pem,
        certificate_name: name.clone(),
        key_name: name,
        staple: None,
    };
    let facts = facts(&text, now).map_err(|problem| problem.to_string())?;
    let identity = renewal_identity(&text.certificate);
    Ok(Some(Kept {
        text,
        facts,
        identity,
    }))
}

/// Whether a certificate is for all of the names.
pub(super) fn covers(facts: &CertificateFacts, names: &[String]) -> bool {
    let has = |name: &String| {
        let below = name
            .split_once('.')
            .map(|(_, parent)| format!("*.{parent}"));
        facts.names.contains(name) || below.is_some_and(|below| facts.names.contains(&below))
    };
    names.iter().all(has)
}
