//! Canaries: a few new instances beside the old ones, compared by what both answer in the same time.
//!
//! The tests are the fleet's (`outgrow_fleet::supervise::canary`), the samples the upstream room's;
//! here is when they are taken and what follows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_fleet::protocol::InstanceId;
use outgrow_fleet::supervise::canary::{Observed, Verdict, compare};
use outgrow_fleet::supervise::rollout::Standing;
use outgrow_upstream::sample::Reading;
use outgrow_upstream::{Endpoint, Registry};

use super::super::log;
use super::{Instances, Known};

/// How many times `observe` may pass without enough requests to judge by.
const PATIENCE: u32 = 5;

/// How far the canary of a replacement is.
#[derive(Debug, Default)]
pub(super) enum Trial {
    /// It is to come, or its instances are not ready yet.
    #[default]
    Due,
    /// Both versions are watched.
    Watching {
        since: Ticks,
        /// What was counted before.
        before: BTreeMap<InstanceId, Reading>,
    },
    /// The replacement may go on.
    Passed,
}

/// A canary's settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// New instances beside the old ones; 0 is none.
    pub(super) count: u32,
    pub(super) observe: Duration,
}

impl Instances {
    /// Begins and ends the comparisons that are due.
    pub(super) fn compare(&mut self, registry: &Registry, now: Ticks) {
        let names: Vec<String> = self
            .wanted
            .iter()
            .filter(|(_, wanted)| wanted.is_trying())
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let Some(wanted) = self.wanted.get_mut(&name) else {
                continue;
            };
            let rolling = matches!(wanted.standing, Some(Standing::Rolling { old: 1.., .. }));
            match (&wanted.trial, rolling) {
                (Trial::Due, true) => self.begin_to_watch(&name, registry, now),
                (Trial::Watching { since, .. }, true) => {
                    let watched = now.since(*since);
                    if watched >= wanted.canary.observe {
                        self.conclude(&name, watched, registry);
                    }
                }
                // Given up for another reason, or nothing is replaced any more.
                (Trial::Watching { .. }, false) => {
                    wanted.trial = Trial::Due;
                    self.switch(&name, registry, false);
                }
                _ => {}
            }
        }
    }

    fn begin_to_watch(&mut self, name: &str, registry: &Registry, now: Ticks) {
        let Some(wanted) = self.wanted.get(name) else {
            return;
        };
        let hash = wanted.template.hash();
        let is_new = |known: &&Known| known.report.spec.hash == hash && known.settled;
        let ready = self.staying(name).filter(is_new).count();
        if ready < wanted.canary.count as usize {
            return;
        }
        self.switch(name, registry, true);
        let readings = self.staying(name).filter_map(|known| {
            let endpoint = endpoint_of(known, registry)?;
            Some((known.report.spec.id, endpoint.sample().read()))
        });
        let before = readings.collect();
        self.changed = true;
        if let Some(wanted) = self.wanted.get_mut(name) {
            let observe = wanted.canary.observe;
            log::info(&format!(
                "{name}: {ready} new instances are compared with the old ones for {observe:?}"
            ));
            wanted.trial = Trial::Watching { since: now, before };
        }
    }

    fn conclude(&mut self, name: &str, watched: Duration, registry: &Registry) {
        let (old, new) = self.observed(name, registry);
        let Some(wanted) = self.wanted.get_mut(name) else {
            return;
        };
        let verdict = compare(&old, &new);
        let numbers = format!(
            "{} requests to the new, {} to the old",
            new.requests, old.requests
        );
        match verdict {
            Verdict::Unclear if watched < wanted.canary.observe * PATIENCE => return,
            Verdict::Unclear => log::warn(&format!(
                "{name}: too few requests to judge the new version by ({numbers}): it goes on"
            )),
            Verdict::Good => log::info(&format!(
                "{name}: the new version is not worse ({numbers}): it goes on"
            )),
            Verdict::Bad(why) => {
                wanted.trial = Trial::Due;
                self.switch(name, registry, false);
                self.give_up(name, &format!("the new version is worse: {why}"));
                return;
            }
        }
        wanted.trial = Trial::Passed;
        self.changed = true;
        self.switch(name, registry, false);
    }

    /// What the old and the new instances answered since they are watched.
    fn observed(&self, name: &str, registry: &Registry) -> (Observed, Observed) {
        let (mut old, mut new) = (Observed::default(), Observed::default());
        let Some(wanted) = self.wanted.get(name) else {
            return (old, new);
        };
        let Trial::Watching { before, .. } = &wanted.trial else {
            return (old, new);
        };
        for known in self.staying(name) {
            let Some(endpoint) = endpoint_of(known, registry) else {
                continue;
            };
            let before = before.get(&known.report.spec.id).cloned();
            let since = endpoint.sample().read().since(&before.unwrap_or_default());
            let observed = Observed {
                requests: since.requests,
                errors: since.errors,
                times: since.times.counts().to_vec(),
            };
            let is_new = known.report.spec.hash == wanted.template.hash();
            if is_new { &mut new } else { &mut old }.add(&observed);
        }
        (old, new)
    }

    fn switch(&self, name: &str, registry: &Registry, on: bool) {
        for known in self.staying(name) {
            if let Some(endpoint) = endpoint_of(known, registry) {
                endpoint.sample().switch(on);
            }
        }
    }

    fn staying<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Known> {
        let of_service = move |known: &&Known| known.report.spec.service == name;
        let all = self.known.values().filter(of_service);
        all.filter(|known| !known.is_leaving())
    }
}

fn endpoint_of(known: &Known, registry: &Registry) -> Option<Arc<Endpoint>> {
    let address = known.address.as_ref()?;
    let service = registry.service(&known.report.spec.service)?;
    let set = service.endpoints().load();
    let mut all = set.all.iter().rev();
    all.find(|endpoint| endpoint.address() == address).cloned()
}
