//! The instances: what the configuration wants, what the keeper reports and what the checks say,
//! brought together into what the keeper is told to do.

use std::collections::BTreeMap;
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_core::settings::Address;
use outgrow_fleet::protocol::{
    DataMessage, InstanceId, InstanceReport, InstanceSpec, InstanceState,
};
use outgrow_fleet::settings::InstanceSettings;
use outgrow_fleet::supervise::reconcile::{Action, ExistingInstance, reconcile};
use outgrow_fleet::supervise::template::Template;
use outgrow_upstream::check::Live;
use outgrow_upstream::{EndpointOptions, Health, Registry, Subject};

use super::log;
use crate::config::Config;

/// How long an instance that is to go may take to finish its requests.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// One instance as it is known here.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// What the keeper said last.
    pub(super) report: InstanceReport,
    /// Its endpoint's address, while it is in the registry.
    address: Option<Address>,
    /// Whether its checks pass.
    pub(super) ready: bool,
    /// Since when it runs.
    since: Ticks,
    /// When it began to leave.
    leaving: Option<Ticks>,
    /// Whether the keeper was told to stop it.
    stopping: bool,
    /// Whether it is being restarted since it hung.
    hung: bool,
    /// Whether its liveness check fails and it is not restarted for now.
    pub(super) held: bool,
}

/// All instances.
#[derive(Debug)]
pub(super) struct Instances {
    known: BTreeMap<InstanceId, Known>,
    next: u64,
}

impl Instances {
    /// What the keeper runs already. `generation` makes the ids of this data process its own.
    pub(super) fn new(generation: u64) -> Self {
        Self {
            known: BTreeMap::new(),
            next: generation << 32,
        }
    }

    /// For the state.
    pub(super) fn all(&self) -> impl Iterator<Item = &Known> {
        self.known.values()
    }

    /// Takes note of what the keeper says. `inherited`: it ran before this data process did, so
    /// it is taken for ready until a check says otherwise.
    pub(super) fn note(
        &mut self,
        report: InstanceReport,
        inherited: bool,
        config: &Config,
        registry: &Registry,
        now: Ticks,
    ) {
        let id = report.spec.id;
        let known = self.known.entry(id).or_insert_with(|| Known {
            report: report.clone(),
            address: None,
            ready: false,
            since: now,
            leaving: None,
            stopping: false,
            hung: false,
            held: false,
        });
        let was_running = known.report.state == InstanceState::Running && known.address.is_some();
        let runs = report.state == InstanceState::Running;
        let address = report
            .address
            .as_deref()
            .and_then(|text| text.parse::<Address>().ok());
        if was_running && (!runs || known.address != address) {
            known.leave_registry(&report, registry);
        }
        if runs && known.address.is_none() && known.leaving.is_none() {
            known.since = now;
            known.ready = inherited;
            if let Some(address) = address {
                known.enter_registry(&report, address, inherited, config, registry, now);
            }
        }
        if matches!(report.state, InstanceState::CrashLoop { .. }) {
            // It may never come back: the others need not wait for it.
            known.hung = false;
        }
        let gone = report.state == InstanceState::Stopped;
        known.report = report;
        if gone {
            self.known.remove(&id);
        }
    }

    /// The checks of an instance pass now.
    pub(super) fn note_ready(&mut self, name: &str, address: &str, now: Ticks) {
        for known in self.known.values_mut() {
            let same = known
                .address
                .as_ref()
                .is_some_and(|one| one.to_string() == address);
            if known.report.spec.name == name && same && !known.ready {
                known.ready = true;
                known.hung = false;
                let took = now.since(known.since).as_millis();
                log::info(&format!("{name} is ready at {address} after {took} ms"));
            }
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
                log::warn(&format!("{name} does not answer ({reason}): {held}"));
            }
            return None;
        }
        (known.hung, known.held) = (true, false);
        log::warn(&format!("{name} hangs ({reason}): it is restarted"));
        let reason = format!("not live: {reason}");
        Some(DataMessage::RestartInstance { id, reason })
    }

    fn id_of(&self, subject: &Subject) -> Option<InstanceId> {
        let is_it = |known: &&Known| {
            subject.instance.as_ref() == Some(&known.report.spec.name)
                && known
                    .address
                    .as_ref()
                    .is_some_and(|address| address.to_string() == subject.address)
        };
        Some(self.known.values().find(is_it)?.report.spec.id)
    }

    /// Brings what a reload changed about the liveness check to instances that run.
    pub(super) fn refresh(&mut self, config: &Config, registry: &Registry, now: Ticks) {
        for known in self.known.values_mut() {
            if let Some(address) = known.address.clone()
                && !known.is_leaving()
            {
                let report = known.report.clone();
                known.enter_registry(&report, address, known.ready, config, registry, now);
            }
        }
    }

    /// The next steps from what is to what should be. To be asked after every change and a few
    /// times a second.
    pub(super) fn steps(
        &mut self,
        config: &Config,
        registry: &Registry,
        cores: usize,
        now: Ticks,
    ) -> Vec<DataMessage> {
        let templates = templates(config, cores);
        let wanted: Vec<_> = templates.values().map(Template::desired).collect();
        let existing: Vec<ExistingInstance> = self
            .known
            .values()
            .map(|known| ExistingInstance {
                id: known.report.spec.id,
                service: known.report.spec.service.clone(),
                slot: known.report.spec.slot,
                hash: known.report.spec.hash,
                ready: known.ready,
                leaving: known.leaving.is_some(),
            })
            .collect();
        let mut messages = Vec::new();
        for action in reconcile(&wanted, &existing) {
            match action {
                Action::Start { service, slot } => {
                    if let Some(template) = templates.get(&service) {
                        self.next += 1;
                        let spec = template.instance(InstanceId(self.next), slot);
                        messages.push(self.start(spec, now));
                    }
                }
                Action::DrainAndStop { id } => self.drain(id, registry, now),
            }
        }
        messages.extend(self.updates(&templates));
        messages.extend(self.finished_drains(registry, now));
        messages.extend(self.never_ready(config, now));
        messages
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
        };
        let known = Known {
            report,
            address: None,
            ready: false,
            since: now,
            leaving: None,
            stopping: false,
            hung: false,
            held: false,
        };
        self.known.insert(spec.id, known);
        DataMessage::StartInstance { spec }
    }

    /// Instances that go on, but are to end or to be started again in another way.
    fn updates(&mut self, templates: &BTreeMap<String, Template>) -> Vec<DataMessage> {
        let mut messages = Vec::new();
        for (id, known) in &mut self.known {
            let spec = &mut known.report.spec;
            let Some(template) = templates.get(&spec.service) else {
                continue;
            };
            if template.should_update(spec) {
                *spec = template.instance(*id, spec.slot);
                messages.push(DataMessage::UpdateInstance {
                    id: *id,
                    stop_grace_ms: spec.stop_grace_ms,
                    restart: spec.restart,
                });
            }
        }
        messages
    }

    fn drain(&mut self, id: InstanceId, registry: &Registry, now: Ticks) {
        let Some(known) = self.known.get_mut(&id) else {
            return;
        };
        known.leaving = Some(now);
        if let (Some(address), Some(service)) =
            (&known.address, registry.service(&known.report.spec.service))
        {
            service.drain_endpoint(address);
        }
    }

    /// Instances that have finished their requests, or were given long enough.
    fn finished_drains(&mut self, registry: &Registry, now: Ticks) -> Vec<DataMessage> {
        let mut messages = Vec::new();
        for (id, known) in &mut self.known {
            let Some(since) = known.leaving else { continue };
            let service = registry.service(&known.report.spec.service);
            let active = match (&known.address, service) {
                (Some(address), Some(service)) => service.active(address),
                _ => 0,
            };
            if !known.stopping && (active == 0 || now.since(since) >= DRAIN_LIMIT) {
                known.stopping = true;
                messages.push(DataMessage::StopInstance { id: *id });
            }
        }
        messages
    }

    /// Instances that run for too long without becoming ready, with what can be said about why.
    fn never_ready(&mut self, config: &Config, now: Ticks) -> Vec<DataMessage> {
        let mut messages = Vec::new();
        for (id, known) in &mut self.known {
            let spec = &known.report.spec;
            let limit = config
                .service
                .iter()
                .find(|(name, _)| name.as_str() == spec.service)
                .and_then(|(_, service)| service.instances.as_ref())
                .map(|settings| settings.start_timeout);
            let runs = known.report.state == InstanceState::Running;
            let Some(limit) = limit else { continue };
            if !runs || known.ready || known.leaving.is_some() || now.since(known.since) < limit {
                continue;
            }
            let why = known
                .report
                .shim
                .zip(known.report.address.as_deref())
                .and_then(|(shim, address)| {
                    outgrow_fleet::diagnose::explain(&spec.name, address, shim)
                        .ok()
                        .flatten()
                });
            let reason = match why {
                Some(why) => format!("not ready after {limit:?}: {why}"),
                None => format!("not ready after {limit:?} (start_timeout)"),
            };
            log::warn(&format!("{}: {reason}: it is restarted", spec.name));
            (known.since, known.hung) = (now, false);
            messages.push(DataMessage::RestartInstance { id: *id, reason });
        }
        messages
    }
}

impl Known {
    /// Whether it is to go.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    fn enter_registry(
        &mut self,
        report: &InstanceReport,
        address: Address,
        inherited: bool,
        config: &Config,
        registry: &Registry,
        now: Ticks,
    ) {
        let Some(service) = registry.service(&report.spec.service) else {
            return;
        };
        let settings = config
            .service
            .iter()
            .find(|(name, _)| name.as_str() == report.spec.service)
            .and_then(|(_, service)| service.instances.as_ref());
        let options = EndpointOptions {
            instance: Some(report.spec.name.clone()),
            weight: 1,
            initial: if inherited {
                Health::Up
            } else {
                Health::Starting
            },
            live: settings.and_then(live),
        };
        service.set_endpoint(address.clone(), options, now);
        self.address = Some(address);
    }

    fn leave_registry(&mut self, report: &InstanceReport, registry: &Registry) {
        let Some(address) = self.address.take() else {
            return;
        };
        self.ready = false;
        self.held = false;
        if let Some(service) = registry.service(&report.spec.service) {
            let reason = report
                .last_exit
                .as_deref()
                .unwrap_or("it is being restarted");
            service.fail_endpoint(&address, reason);
            service.remove_endpoint(&address);
        }
    }
}

fn live(settings: &InstanceSettings) -> Option<Live> {
    let live = settings.live.as_ref()?;
    (live.path.is_some() || live.hang).then(|| Live {
        path: live.path.clone(),
        interval: live.interval,
        timeout: live.timeout,
        fall: live.fall,
    })
}

/// What the services with a command want, by service.
fn templates(config: &Config, cores: usize) -> BTreeMap<String, Template> {
    let supervised = config.service.iter().filter_map(|(name, service)| {
        let template = Template::new(name.as_str(), service.instances.as_ref()?, cores)?;
        Some((name.as_str().to_owned(), template))
    });
    supervised.collect()
}
