//! The instances: what the configuration wants, what the keeper reports and what the checks say,
//! brought together into what the keeper is told to do. What is known of one is in `known`, what
//! is wanted of it in `wanted`.

mod canary;
mod deploys;
mod known;
#[cfg(test)]
mod tests;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_fleet::diagnose::Diagnosis;
use outgrow_fleet::protocol::{
    DataMessage, InstanceId, InstanceReport, InstanceSpec, InstanceState,
};
use outgrow_fleet::supervise::reconcile::{Action, ExistingInstance, reconcile};
use outgrow_upstream::{Health, Registry, Subject};

pub(super) use self::deploys::{DeployView, Deploys};
pub(super) use self::known::Known;
use self::wanted::Wanted;
use super::handover::Handover;
use super::log;
use crate::config::Config;

/// How long an instance that ran before this process did is taken for one on which an earlier
/// process has requests, until that one has said so.
const PRESUMED: Duration = Duration::from_secs(2);

/// All instances.
#[derive(Debug)]
pub(super) struct Instances {
    known: BTreeMap<InstanceId, Known>,
    wanted: BTreeMap<String, Wanted>,
    next: u64,
    /// Those on which earlier data processes, which drain, still have requests.
    elsewhere: BTreeSet<InstanceId>,
    /// Whether something changed since it was last asked.
    changed: bool,
    deploys: Deploys,
    /// Whether the keeper has not been told of them yet.
    deploys_changed: bool,
}

/// An instance that is not ready for long: somebody should look why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Puzzle {
    pub(super) id: InstanceId,
    pub(super) name: String,
    pub(super) address: String,
    pub(super) shim: u32,
}

impl Instances {
    /// None yet. `generation` makes the ids of this data process its own; `deploys` is what is
    /// remembered of them.
    pub(super) fn new(generation: u64, deploys: Deploys) -> Self {
        Self {
            known: BTreeMap::new(),
            wanted: BTreeMap::new(),
            next: generation << 32,
            elsewhere: BTreeSet::new(),
            changed: true,
            deploys,
            deploys_changed: false,
        }
    }

    /// Takes over what a configuration wants. `cores` decides how many run when it does not say.
    pub(super) fn configure(&mut self, config: &Config, cores: usize) {
        let mut before = std::mem::take(&mut self.wanted);
        self.wanted = Wanted::all(config, cores, &self.deploys);
        for (name, wanted) in &mut self.wanted {
            if let Some(before) = before.remove(name) {
                wanted.go_on_from(before);
            }
        }
    }

    /// For the state.
    pub(super) fn all(&self) -> impl Iterator<Item = &Known> {
        self.known.values()
    }

    /// Whether there is something new to show.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The process of the instance of that name and address.
    pub(super) fn pid(&self, name: &str, address: &str) -> Option<u32> {
        let known = self.known.values().find(|known| known.is(name, address));
        known.and_then(|known| known.report.pid)
    }

    /// Takes note of what the keeper says.
    pub(super) fn note(&mut self, report: InstanceReport, registry: &Registry, now: Ticks) {
        self.note_as(report, Health::Starting, registry, now);
    }

    /// Takes over an instance that ran before this data process did, with what the one before knew
    /// of it: one that was never ready is not ready now. When that is not known, it is used until
    /// its first check.
    pub(super) fn inherit(
        &mut self,
        report: InstanceReport,
        handover: Option<&Handover>,
        registry: &Registry,
        now: Ticks,
    ) {
        let recollection = handover.and_then(|handover| handover.instance(&report));
        let (id, service) = (report.spec.id, report.spec.service.clone());
        let initial = match handover {
            Some(_) => Health::Starting,
            None => Health::Unknown,
        };
        self.note_as(report, initial, registry, now);
        let Some(known) = self.known.get_mut(&id) else {
            return;
        };
        known.needed_until = now + PRESUMED;
        known.inherited_shim = known.report.shim;
        if let (Some(recollection), Some(service)) = (recollection, registry.service(&service)) {
            service.recall(&recollection, now);
            known.was_ready = true;
            known.proven = true;
        }
        known.failures_before = known.report.restarts;
    }

    fn note_as(
        &mut self,
        report: InstanceReport,
        initial: Health,
        registry: &Registry,
        now: Ticks,
    ) {
        self.changed = true;
        let id = report.spec.id;
        let gone = report.state == InstanceState::Stopped;
        let wanted = self.wanted.get(&report.spec.service);
        let known = self
            .known
            .entry(id)
            .or_insert_with(|| Known::new(report.clone(), now));
        known.note(report, initial, wanted, registry, now);
        if gone {
            self.known.remove(&id);
        }
    }

    /// The liveness check of an instance failed: what to tell the keeper. Nothing when the check
    /// itself may be wrong (a mistyped path fails everywhere, and after each restart again), or
    /// when another instance of the service is being restarted for the same reason: what they
    /// have in common, such as a database, must not end them all.
    pub(super) fn restart(
        &mut self,
        subject: &Subject,
        reason: &str,
        doubtful: bool,
    ) -> Option<DataMessage> {
        let id = self.id_of(subject)?;
        let service = self.known.get(&id)?.report.spec.service.clone();
        let other = self.known.values().find(|other| {
            let same = other.report.spec.service == service && other.report.spec.id != id;
            same && other.hung && !other.is_leaving()
        });
        let other = other.map(|other| other.report.spec.name.clone());
        let known = self.known.get_mut(&id)?;
        if known.stopping || known.is_leaving() {
            return None;
        }
        let name = &known.report.spec.name;
        let held = match other {
            _ if doubtful => Some(format!(
                "its liveness check has never passed since it became ready, so it is not \
                 restarted: is [service.{service}.live] right?"
            )),
            Some(other) => Some(format!("it is restarted when {other} is ready again")),
            None => None,
        };
        if let Some(held) = held {
            // The check goes on failing; once is enough.
            if !std::mem::replace(&mut known.held, true) {
                self.changed = true;
                log::warn(&format!("{name} does not answer ({reason}): {held}"));
            }
            return None;
        }
        (known.hung, known.held) = (true, false);
        self.changed = true;
        log::warn(&format!("{name} hangs ({reason}): it is restarted"));
        let reason = format!("not live: {reason}");
        Some(DataMessage::RestartInstance {
            id,
            reason,
            never_ready: false,
        })
    }

    fn id_of(&self, subject: &Subject) -> Option<InstanceId> {
        let is_it = |known: &&Known| {
            let name = subject.instance.as_deref();
            name.is_some_and(|name| known.is(name, &subject.address))
        };
        Some(self.known.values().find(is_it)?.report.spec.id)
    }

    /// Brings what a reload changed about the liveness check to instances that run.
    pub(super) fn refresh(&mut self, registry: &Registry, now: Ticks) {
        for known in self.known.values_mut() {
            known.refresh(self.wanted.get(&known.report.spec.service), registry, now);
        }
    }

    /// The next steps from what is to what should be. To be asked after every change and a few
    /// times a second.
    pub(super) fn steps(&mut self, registry: &Registry, now: Ticks) -> Vec<DataMessage> {
        for known in self.known.values_mut() {
            self.changed |= known.look(registry, now);
        }
        self.settle(now);
        self.judge();
        self.compare(registry, now);
        let wanted: Vec<_> = self.wanted.values().map(Wanted::desired).collect();
        let existing: Vec<ExistingInstance> = self
            .known
            .values()
            .map(|known| self.existing(known))
            .collect();
        let mut messages = Vec::new();
        for action in reconcile(&wanted, &existing) {
            self.changed = true;
            match action {
                Action::Start { service, slot } => {
                    if let Some(wanted) = self.wanted.get(&service) {
                        self.next += 1;
                        let spec = wanted.template.instance(InstanceId(self.next), slot);
                        messages.push(self.start(spec, now));
                    }
                }
                Action::DrainAndStop { id } => self.drain(id, registry, now),
            }
        }
        messages.extend(self.updates());
        messages.extend(self.finished_drains(registry, now));
        messages.extend(self.never_ready(now));
        self.expect(registry, now);
        messages
    }

    /// Takes note of who has been ready for long enough.
    fn settle(&mut self, now: Ticks) {
        for known in self.known.values_mut() {
            let wanted = self.wanted.get(&known.report.spec.service);
            known.settle(wanted.map(|wanted| wanted.settle), now);
        }
    }

    fn existing(&self, known: &Known) -> ExistingInstance {
        let spec = &known.report.spec;
        // Old ones have nothing to prove: one that serves is missed.
        let wanted = self.wanted.get(&spec.service);
        let is_new = wanted.is_some_and(|wanted| wanted.template.hash() == spec.hash);
        ExistingInstance {
            id: spec.id,
            service: spec.service.clone(),
            slot: spec.slot,
            hash: spec.hash,
            ready: if is_new { known.settled } else { known.ready },
            leaving: known.is_leaving(),
        }
    }

    fn start(&mut self, spec: InstanceSpec, now: Ticks) -> DataMessage {
        let report = InstanceReport {
            spec: spec.clone(),
            state: InstanceState::Starting,
            restarts: 0,
            pid: None,
            shim: None,
            address: None,
            last_exit: None,
            limits: None,
            key: None,
        };
        self.known.insert(spec.id, Known::new(report, now));
        DataMessage::StartInstance { spec }
    }

    /// Instances that go on, but are to end or to be started again in another way.
    fn updates(&mut self) -> Vec<DataMessage> {
        let mut messages = Vec::new();
        for (id, known) in &mut self.known {
            let spec = &mut known.report.spec;
            let Some(Wanted { template, .. }) = self.wanted.get(&spec.service) else {
                continue;
            };
            if template.should_update(spec) {
                *spec = InstanceSpec {
                    limits: spec.limits,
                    ..template.instance(*id, spec.slot)
                };
                messages.push(DataMessage::UpdateInstance {
                    id: *id,
                    stop_grace_ms: spec.stop_grace_ms,
                    restart: spec.restart,
                });
            }
            if let Some(limits) = template.limits_for(spec) {
                spec.limits = limits;
                self.changed = true;
                messages.push(DataMessage::LimitInstance { id: *id, limits });
            }
        }
        messages
    }

    fn drain(&mut self, id: InstanceId, registry: &Registry, now: Ticks) {
        let Some(known) = self.known.get_mut(&id) else {
            return;
        };
        known.leaving = Some(now);
        let spec = &known.report.spec;
        // A service that is gone has told nothing else.
        known.drain_timeout = self.wanted.get(&spec.service).map_or_else(
            || outgrow_fleet::settings::InstanceSettings::default().drain_timeout,
            |wanted| wanted.drain_timeout,
        );
        let Some(address) = &known.address else {
            return;
        };
        if let Some(service) = registry.service(&spec.service) {
            service.drain_endpoint(address, now);
        }
        registry.part_endpoint(&spec.service, address, now + known.drain_timeout);
    }

    /// Instances that have finished their requests, or were given long enough.
    fn finished_drains(&mut self, registry: &Registry, now: Ticks) -> Vec<DataMessage> {
        let mut messages = Vec::new();
        for (id, known) in &mut self.known {
            let Some(since) = known.leaving else { continue };
            let address = known.address.as_ref();
            let active = address.map_or(0, |at| registry.active(&known.report.spec.service, at));
            let is_left =
                address.is_none_or(|at| !registry.is_being_left(&known.report.spec.service, at));
            let is_idle =
                active == 0 && is_left && !self.elsewhere.contains(id) && now >= known.needed_until;
            let is_over = now.since(since) >= known.drain_timeout;
            if !known.stopping && (is_idle || is_over) {
                known.stopping = true;
                messages.push(DataMessage::StopInstance { id: *id });
            }
        }
        messages
    }

    /// The instances on which this process has requests.
    pub(super) fn in_flight(&self, registry: &Registry) -> Vec<InstanceId> {
        let has_requests = |known: &Known| {
            let service = &known.report.spec.service;
            let address = known.address.as_ref();
            address.is_some_and(|at| registry.active(service, at) > 0)
        };
        let busy = self.known.iter().filter(|(_, known)| has_requests(known));
        busy.map(|(id, _)| *id).collect()
    }

    /// Takes note of the instances on which earlier processes still have requests.
    pub(super) fn note_elsewhere(&mut self, instances: Vec<InstanceId>) {
        self.elsewhere = instances.into_iter().collect();
    }

    /// Instances that run for too long without becoming ready, with what can be said about why.
    fn never_ready(&mut self, now: Ticks) -> Vec<DataMessage> {
        let mut messages = Vec::new();
        for (id, known) in &mut self.known {
            let spec = &known.report.spec;
            let Some(limit) = self.wanted.get(&spec.service).map(|it| it.start_timeout) else {
                continue;
            };
            let waits = known.runs() && !known.was_ready && !known.is_leaving();
            if !waits || now.since(known.since) < limit {
                continue;
            }
            let reason = match &known.diagnosis {
                Some(why) => format!("not ready after {limit:?}: {}", why.sentence),
                None => format!("not ready after {limit:?} (start_timeout)"),
            };
            log::warn(&format!("{}: {reason}: it is restarted", spec.name));
            (known.since, known.hung) = (now, false);
            messages.push(DataMessage::RestartInstance {
                id: *id,
                reason,
                never_ready: true,
            });
        }
        messages
    }

    /// Lets requests wait for instances that are about to come, and for no others.
    fn expect(&self, registry: &Registry, now: Ticks) {
        for (name, wanted) in &self.wanted {
            let Some(service) = registry.service(name) else {
                continue;
            };
            let staying = || {
                let all = self.known.values();
                all.filter(|known| known.report.spec.service == *name && !known.is_leaving())
            };
            // With a fixed port the next one is started when the last one is gone.
            let is_due = staying().count() < wanted.template.desired().count as usize;
            let comes = staying().any(|known| known.is_about_to_come(wanted.queue, now));
            service.expect_instance(is_due || comes);
        }
    }

    /// Instances that run for so long without becoming ready that somebody should look why; each
    /// is told now and then.
    pub(super) fn puzzles(&mut self, now: Ticks) -> Vec<Puzzle> {
        let waiting = self.known.iter_mut();
        let puzzles = waiting.filter_map(|(id, known)| {
            known.wants_look(now).then_some(Puzzle {
                id: *id,
                name: known.report.spec.name.clone(),
                address: known.report.address.clone()?,
                shim: known.report.shim?,
            })
        });
        puzzles.collect()
    }

    /// What somebody who looked found out.
    pub(super) fn solve(&mut self, puzzle: &Puzzle, found: Option<Diagnosis>, registry: &Registry) {
        let Some(known) = self.known.get_mut(&puzzle.id) else {
            return;
        };
        let is_same = known.report.shim == Some(puzzle.shim) && known.runs();
        // Where it listens is as it should be: then its check says more.
        let found = found.or_else(|| {
            let service = registry.service(&known.report.spec.service)?;
            let reason = service.reason(known.address.as_ref()?)?;
            Some(Diagnosis {
                sentence: format!("its check fails: {reason}"),
                elsewhere: false,
            })
        });
        if !is_same || known.was_ready || known.diagnosis == found {
            return;
        }
        if let Some(why) = &found {
            log::warn(&format!(
                "{} is not ready yet: {}",
                puzzle.name, why.sentence
            ));
        }
        known.diagnosis = found;
    }
}
