//! The members of a service together: which of them get requests by health, ejection, drain and
//! the panic threshold. All of it under the service's one lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outgrow_balance::levels::Place;
use outgrow_balance::outlier::History;
use outgrow_balance::panic_threshold::panics;
use outgrow_core::Ticks;
use outgrow_core::settings::Address;

use super::advice::Advice;
use super::member::{EndpointOptions, Health, Member};
use super::set::Candidate;
use super::{EndpointSet, Recollection, Service};
use crate::check::Plan;
use crate::endpoint::{Endpoint, EndpointId};
use crate::event::{Event, Subject};
use crate::parting::Part;
use crate::settings::{self, CheckSettings, Role, ServiceSettings};

/// All endpoints of a service, and what is common to them.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) settings: Arc<ServiceSettings>,
    pub(crate) list: Vec<Member>,
    /// Whether an instance is starting or about to.
    pub(crate) expected: bool,
    pub(crate) panic: bool,
    /// The time over which those who stay at an endpoint leave it when it drains.
    pub(crate) leaving_over: Duration,
    /// Whether endpoints wait for their first check since the service is there. They are all used
    /// meanwhile: the first one that answers must not get everything.
    settling: bool,
    /// When the first endpoint came up: those that come within the time of a slow start after it
    /// are part of the service's own start and get their full share.
    first_up: Option<Ticks>,
    /// When the present interval of the outlier rules began.
    pub(super) counted_since: Option<Ticks>,
    /// What is advised about the check.
    pub(crate) advice: Advice,
    /// When the reported loads were looked at last.
    pub(super) weighed_at: Option<Ticks>,
}

impl Members {
    pub(crate) fn new(settings: Arc<ServiceSettings>) -> Self {
        Self {
            settings,
            list: Vec::new(),
            expected: false,
            panic: false,
            leaving_over: Duration::ZERO,
            settling: true,
            first_up: None,
            counted_since: None,
            advice: Advice::default(),
            weighed_at: None,
        }
    }

    /// The endpoint at the address: the one that stays if there is one, else one that leaves, in
    /// case it is to stay after all.
    pub(crate) fn current(&mut self, address: &Address) -> Option<&mut Member> {
        let staying = self
            .list
            .iter()
            .position(|member| member.is_at(address) && !member.leaving);
        let place = staying.or_else(|| {
            self.list
                .iter()
                .position(|member| member.is_at(address) && !member.failed)
        })?;
        self.list.get_mut(place)
    }

    pub(super) fn by_id(&mut self, id: EndpointId) -> Option<&mut Member> {
        self.list
            .iter_mut()
            .find(|member| member.endpoint.id() == id)
    }

    pub(crate) fn add(
        &mut self,
        endpoint: Arc<Endpoint>,
        options: EndpointOptions,
        now: Ticks,
    ) -> &mut Member {
        if options.initial == Health::Up {
            self.note_up(&endpoint, now);
        }
        let place = self.list.len();
        self.list.push(Member::new(endpoint, options));
        &mut self.list[place]
    }

    /// Takes over what an earlier process knew, where nothing is known here.
    pub(crate) fn recall(&mut self, known: &Recollection, now: Ticks) {
        let Some(place) = self
            .list
            .iter()
            .position(|member| member.is_at(&known.address) && !member.leaving && !member.failed)
        else {
            return;
        };
        let endpoint = Arc::clone(&self.list[place].endpoint);
        let is_new = matches!(self.list[place].health, Health::Unknown | Health::Starting);
        if is_new {
            // Down or up now, it was up before; and it did not come later than the others.
            self.note_up(&endpoint, now);
            let member = &mut self.list[place];
            member.health = known.health;
            member.reason.clone_from(&known.reason);
        }
        let member = &mut self.list[place];
        if let Some(left) = known.ejected_for
            && member.history.until().is_none()
        {
            member.history = History::resumed(known.ejections_in_a_row, now + left);
            member.ejected.clone_from(&known.ejected_because);
        }
    }

    /// Forgets endpoints that are drained for good.
    pub(crate) fn forget_gone(&mut self) {
        self.list.retain(|member| {
            let is_gone = member.is_gone();
            if is_gone {
                member.endpoint.usable.store(false, Ordering::SeqCst);
            }
            !is_gone
        });
    }

    /// Drains the endpoints that were in the configuration and are not in it now. Who stays at one of them
    /// is to go from `parts_at` on; where that was said before, it holds.
    pub(crate) fn leave_unless(
        &mut self,
        settings: &HashMap<&Address, &settings::Endpoint>,
        parts_at: Ticks,
        mut close: impl FnMut(&Arc<Endpoint>),
    ) {
        for member in self.list.iter_mut().filter(|member| member.configured) {
            if !settings.contains_key(member.endpoint.address()) {
                if !member.leaving {
                    member.parts_at = Some(parts_at);
                }
                member.leaving = true;
                close(&member.endpoint);
            }
        }
    }

    /// Tells those who stay at endpoints that are to be left by now to be gone `over` so long.
    pub(crate) fn part(&mut self, now: Ticks, over: Duration) {
        for member in &mut self.list {
            if member.parts_at.is_some_and(|at| now >= at) {
                member.parts_at = None;
                let part = Part {
                    until: now + over,
                    stops: false,
                };
                member.endpoint.parting().begin(part);
            }
        }
    }

    /// Endpoints whose check was taken from the configuration count as healthy.
    pub(crate) fn trust_unchecked(&mut self, service: &str, now: Ticks, events: &mut Vec<Event>) {
        for place in 0..self.list.len() {
            let member = &self.list[place];
            if self.check_of(member).is_none() && !member.failed && member.health != Health::Up {
                self.come_up(service, place, now, events);
            }
        }
    }

    fn check_of(&self, member: &Member) -> Option<CheckSettings> {
        let by_default = || member.endpoint.instance().map(|_| CheckSettings::default());
        self.settings.check.clone().or_else(by_default)
    }

    pub(crate) fn plan_of(&self, member: &Member, service: Arc<Service>) -> Plan {
        Plan {
            service,
            endpoint: Arc::clone(&member.endpoint),
            ready: self.check_of(member),
            live: member.live.clone(),
            health: member.health,
        }
    }

    fn note_up(&mut self, endpoint: &Endpoint, now: Ticks) {
        let first_up = *self.first_up.get_or_insert(now);
        let is_late = now.since(first_up) > self.settings.slow_start;
        endpoint.set_slow_since(is_late.then_some(now));
        endpoint.was_up.store(true, Ordering::Release);
    }

    fn come_up(&mut self, service: &str, place: usize, now: Ticks, events: &mut Vec<Event>) {
        let endpoint = Arc::clone(&self.list[place].endpoint);
        self.note_up(&endpoint, now);
        let member = &mut self.list[place];
        member.health = Health::Up;
        member.reason = None;
        events.push(Event::EndpointUp(Subject::new(service, &endpoint)));
    }

    /// Takes note of a check. Checks that pass as often in a row as `rise` says end an ejection,
    /// when they ask for an answer: who fails requests accepts connections all the same.
    pub(crate) fn checked(
        &mut self,
        service: &str,
        id: EndpointId,
        result: Result<Duration, &str>,
        verdict: Option<Health>,
        now: Ticks,
        events: &mut Vec<Event>,
    ) {
        let Some(place) = self
            .list
            .iter()
            .position(|member| member.endpoint.id() == id)
        else {
            return;
        };
        let ends_ejection = self
            .check_of(&self.list[place])
            .filter(CheckSettings::asks_for_answer)
            .map(|check| check.rise);
        let member = &mut self.list[place];
        if member.failed {
            return;
        }
        match result {
            Ok(took) => {
                member.times.note(took);
                member.passes = member.passes.saturating_add(1);
                if member.health == Health::Up {
                    member.reason = None;
                }
                if member.may_return_by_checks()
                    && ends_ejection.is_some_and(|rise| member.passes >= rise)
                {
                    events.push(member.return_from_ejection(service, now));
                }
            }
            Err(reason) => {
                member.passes = 0;
                member.reason = Some(reason.to_owned());
            }
        }
        match (verdict, result) {
            (Some(Health::Up), _) if member.health != Health::Up => {
                self.come_up(service, place, now, events);
            }
            (Some(Health::Down), Err(reason)) if member.health != Health::Starting => {
                member.health = Health::Down;
                events.push(member.went_down(service, reason));
            }
            _ => {}
        }
    }

    /// The set that workers choose from, with the flags of the endpoints. `zone` is our own.
    pub(crate) fn compile(
        &mut self,
        service: &str,
        zone: &str,
        events: &mut Vec<Event>,
    ) -> EndpointSet {
        self.weigh_the_new();
        let candidates: Vec<&Member> = self
            .list
            .iter()
            .filter(|member| member.is_candidate())
            .collect();
        let healthy = candidates
            .iter()
            .filter(|member| member.is_healthy())
            .count();
        let known = candidates
            .iter()
            .filter(|member| member.health != Health::Unknown)
            .count();
        self.settling &= candidates.is_empty() || known < candidates.len();
        // Who is not known to have a role may have another one: a write must not go to a replica.
        let check = self.settings.check.as_ref();
        let has_role = check.is_some_and(|check| check.role != Role::Any);
        let settling = self.settling && !candidates.is_empty() && !has_role;
        // While some have not been asked, few healthy ones say nothing about the check.
        let panic =
            !settling && !has_role && panics(healthy, known, self.settings.panic_threshold.get());
        let is_used = |member: &Member| {
            member.is_candidate()
                && (panic
                    || member.is_healthy()
                    || ((healthy == 0 || settling) && !has_role && member.is_unasked()))
        };
        let mut used = Vec::new();
        for member in &self.list {
            let is_used = is_used(member);
            if member.health == Health::Down {
                // Nobody stays at an endpoint that cannot serve.
                member.endpoint.set_leaving(None);
            }
            member.endpoint.usable.store(is_used, Ordering::SeqCst);
            let is_down = member.health == Health::Down || member.failed;
            member.endpoint.down.store(is_down, Ordering::Relaxed);
            if member.is_candidate() {
                let place = Place {
                    priority: member.priority,
                    is_near: !member.zone.is_empty() && member.zone == zone,
                    is_healthy: is_used,
                };
                used.push(Candidate {
                    endpoint: Arc::clone(&member.endpoint),
                    place,
                    is_used,
                });
            }
        }
        let all = self
            .list
            .iter()
            .map(|member| Arc::clone(&member.endpoint))
            .collect();
        let mut set = EndpointSet::new(Arc::clone(&self.settings), all, &used);
        set.panic = panic;
        set.expected = self.expected;
        if panic != self.panic {
            self.panic = panic;
            let service = service.to_owned();
            events.push(Event::Panic {
                service,
                on: panic,
                healthy,
                known,
            });
        }
        set
    }
}
