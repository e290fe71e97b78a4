//! One instance as it is known here: what the keeper says of it and what its checks say.

use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_core::settings::Address;
use outgrow_fleet::diagnose::Diagnosis;
use outgrow_fleet::protocol::{InstanceReport, InstanceState};
use outgrow_upstream::{EndpointOptions, Health, Registry};

use super::super::log;
use super::wanted::Wanted;

/// How long an instance may run without being ready before it is looked at why. Each next look
/// takes twice as long to come.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// One instance.
#[derive(Clone, Debug)]
pub(in super::super) struct Known {
    /// What the keeper said last.
    pub(in super::super) report: InstanceReport,
    /// When it said so.
    reported: Ticks,
    /// Its endpoint's address, while it is in the registry.
    pub(super) address: Option<Address>,
    /// Whether it is healthy and not ejected, as of the last step.
    pub(in super::super) ready: bool,
    /// Since when it is ready.
    ready_since: Ticks,
    /// Whether it was ready since it was started.
    pub(super) was_ready: bool,
    /// Since when it runs.
    pub(super) since: Ticks,
    /// Why it is not ready, once somebody has looked.
    pub(super) diagnosis: Option<Diagnosis>,
    /// How long after its start it is looked at next.
    look_after: Duration,
    /// Until when an earlier data process may have requests on it and not have said so.
    pub(super) needed_until: Ticks,
    /// When it began to leave.
    pub(super) leaving: Option<Ticks>,
    /// How long it may finish its requests then.
    pub(super) drain_timeout: Duration,
    /// Whether the keeper was told to stop it.
    pub(super) stopping: bool,
    /// Whether it is being restarted since it hung.
    pub(super) hung: bool,
    /// Whether its liveness check fails and it is not restarted for now.
    pub(in super::super) held: bool,
    /// Whether it has been ready for long enough to be relied upon.
    pub(super) settled: bool,
    /// Whether it ever was.
    pub(super) proven: bool,
    /// How often it was ready and then not any more, while it ran and before it was `proven`.
    lapses: u32,
    /// Restarts before this process knew it.
    pub(super) failures_before: u32,
    /// The shim of the run that was there before this process was.
    pub(in super::super) inherited_shim: Option<u32>,
}

impl Known {
    pub(super) fn new(report: InstanceReport, now: Ticks) -> Self {
        Self {
            report,
            reported: now,
            address: None,
            ready: false,
            ready_since: now,
            was_ready: false,
            since: now,
            diagnosis: None,
            look_after: FIRST_LOOK,
            needed_until: Ticks::ZERO,
            leaving: None,
            drain_timeout: Duration::ZERO,
            stopping: false,
            hung: false,
            held: false,
            settled: false,
            proven: false,
            lapses: 0,
            failures_before: 0,
            inherited_shim: None,
        }
    }

    /// Whether it is to go.
    pub(in super::super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    pub(super) fn runs(&self) -> bool {
        self.report.state == InstanceState::Running
    }

    pub(super) fn is(&self, name: &str, address: &str) -> bool {
        let at = self.address.as_ref().map(ToString::to_string);
        self.report.spec.name == name && at.as_deref() == Some(address)
    }

    /// Takes note of what the keeper says. `initial`: what is assumed of one that runs now.
    pub(super) fn note(
        &mut self,
        report: InstanceReport,
        initial: Health,
        wanted: Option<&Wanted>,
        registry: &Registry,
        now: Ticks,
    ) {
        let was_running = self.runs() && self.address.is_some();
        let address: Option<Address> = report.address.as_deref().and_then(|text| text.parse().ok());
        let runs = report.state == InstanceState::Running;
        if was_running && (!runs || self.address != address) {
            self.leave_registry(&report, registry);
        }
        if matches!(report.state, InstanceState::CrashLoop { .. }) {
            // It may never come back: the others need not wait for it.
            self.hung = false;
        }
        self.report = report;
        self.reported = now;
        if runs && self.address.is_none() && self.leaving.is_none() {
            self.since = now;
            self.was_ready = false;
            self.diagnosis = None;
            let limit = wanted.map_or(FIRST_LOOK, |wanted| wanted.start_timeout / 2);
            self.look_after = FIRST_LOOK.min(limit);
            if let Some(address) = address {
                self.enter_registry(address, initial, wanted, registry, now);
            }
        }
    }

    fn enter_registry(
        &mut self,
        address: Address,
        initial: Health,
        wanted: Option<&Wanted>,
        registry: &Registry,
        now: Ticks,
    ) {
        let spec = &self.report.spec;
        let Some(service) = registry.service(&spec.service) else {
            return;
        };
        let options = EndpointOptions {
            instance: Some(spec.name.clone()),
            weight: 1,
            initial,
            live: wanted.and_then(|wanted| wanted.live.clone()),
            ..EndpointOptions::default()
        };
        service.set_endpoint(address.clone(), options, now);
        self.address = Some(address);
    }

    /// Brings what a reload changed to an instance that runs.
    pub(super) fn refresh(&mut self, wanted: Option<&Wanted>, registry: &Registry, now: Ticks) {
        if let Some(address) = self.address.clone()
            && !self.is_leaving()
        {
            self.enter_registry(address, Health::Starting, wanted, registry, now);
        }
    }

    fn leave_registry(&mut self, report: &InstanceReport, registry: &Registry) {
        let Some(address) = self.address.take() else {
            return;
        };
        self.ready = false;
        self.held = false;
        let Some(service) = registry.service(&report.spec.service) else {
            return;
        };
        // That one which is not wanted any more has ended is no news.
        if !self.is_leaving() {
            let reason = report
                .last_exit
                .as_deref()
                .unwrap_or("it is being restarted");
            service.fail_endpoint(&address, reason);
        }
        service.remove_endpoint(&address);
    }

    /// Takes from the registry whether it is ready; whether that changed.
    pub(super) fn look(&mut self, registry: &Registry, now: Ticks) -> bool {
        let service = registry.service(&self.report.spec.service);
        let ready = match (&self.address, service) {
            (Some(address), Some(service)) => service.is_ready(address),
            _ => false,
        };
        if ready == self.ready {
            return false;
        }
        self.ready = ready;
        if ready {
            self.ready_since = now;
            self.hung = false;
            if !self.was_ready {
                self.was_ready = true;
                self.diagnosis = None;
                let took = now.since(self.since).as_millis();
                let name = &self.report.spec.name;
                let address = self.report.address.as_deref().unwrap_or_default();
                log::info(&format!("{name} is ready at {address} after {took} ms"));
            }
        } else if !self.proven {
            self.lapses = self.lapses.saturating_add(1);
        }
        true
    }

    /// Takes note of whether it has been ready for `settle`, without which being ready is enough.
    pub(super) fn settle(&mut self, settle: Option<Duration>, now: Ticks) {
        let settle = settle.unwrap_or_default();
        self.settled = self.ready && now.since(self.ready_since) >= settle;
        self.proven |= self.settled;
    }

    /// How often it ended, was restarted or stopped being ready, without ever having been ready for
    /// long enough. One that fails its requests is ejected as soon as it gets some, again and again.
    pub(super) fn failures(&self) -> u32 {
        if self.proven {
            return 0;
        }
        let fails_now = matches!(
            self.report.state,
            InstanceState::Exited { .. }
                | InstanceState::Backoff { .. }
                | InstanceState::CrashLoop { .. }
        );
        let restarts = self.report.restarts.saturating_sub(self.failures_before);
        restarts + u32::from(fails_now) + self.lapses
    }

    /// Whether it may take requests within `patience`.
    pub(super) fn is_about_to_come(&self, patience: Duration, now: Ticks) -> bool {
        match &self.report.state {
            InstanceState::Starting | InstanceState::Stopping | InstanceState::Exited { .. } => {
                true
            }
            InstanceState::Running => {
                let elsewhere = self.diagnosis.as_ref().is_some_and(|why| why.elsewhere);
                !self.was_ready && !elsewhere
            }
            InstanceState::Backoff { delay_ms } => {
                self.reported + Duration::from_millis(*delay_ms) <= now + patience
            }
            // It has not lived for long enough too often.
            InstanceState::CrashLoop { .. } | InstanceState::Stopped | InstanceState::Unknown => {
                false
            }
        }
    }

    /// Whether it should be looked at why it is not ready. Asked once for each time.
    pub(super) fn wants_look(&mut self, now: Ticks) -> bool {
        let wants = self.runs()
            && !self.was_ready
            && self.leaving.is_none()
            && now.since(self.since) >= self.look_after;
        if wants {
            self.look_after *= 2;
        }
        wants
    }
}
