//! What control work does to a service: reload, instances that come and go, checks, ejection.
//!
//! Each of these changes the members under their lock and publishes the set that comes of it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use outgrow_core::settings::Address;
use outgrow_core::{Cause, Ticks};

use super::{EndpointOptions, Health, Member, Members, Service};
use crate::check::Plan;
use crate::endpoint::{Endpoint, EndpointId, Founding};
use crate::event::{EjectionCause, Event};
use crate::parting::Part;
use crate::permit::hand_over_own;
use crate::settings::{self, ServiceSettings};

/// What a change of the members leaves to do when the lock is gone.
#[derive(Default)]
pub(super) struct Aftermath {
    events: Vec<Event>,
    /// Endpoints whose pools are to be closed.
    closed: Vec<Arc<Endpoint>>,
    /// Whether checks and names are to be looked at anew.
    membership: bool,
    /// Whether the set is to be compiled anew.
    pub(super) publish: bool,
}

impl Aftermath {
    /// Closes the endpoint's pool: nothing is taken back from now on, and what is idle is closed
    /// when the lock is gone. A change that opens it in between costs only these.
    fn close(&mut self, endpoint: &Arc<Endpoint>) {
        endpoint.pool.shut();
        self.closed.push(Arc::clone(endpoint));
    }
}

/// Takes the endpoint out of the choice; those who stay at it leave over `window`.
fn drain(member: &mut Member, window: Duration, aftermath: &mut Aftermath, now: Ticks) {
    if member.drained {
        return;
    }
    member.drained = true;
    member.endpoint.set_drained(true);
    if window.is_zero() || member.failed {
        aftermath.close(&member.endpoint);
    } else {
        member.endpoint.set_leaving(Some((now, window)));
    }
}

fn undrain(member: &mut Member) {
    if member.drained && !member.failed {
        let part = member.endpoint.parting().part();
        if part.is_some_and(|part| part.stops) {
            return;
        }
        member.drained = false;
        member.drained_by_file = false;
        member.endpoint.set_drained(false);
        member.endpoint.set_leaving(None);
        if !member.leaving {
            member.endpoint.parting().take_back();
            member.endpoint.pool.open();
        }
    }
}

impl Service {
    /// Says whether an instance of the service is starting or about to: then requests wait for it
    /// while no endpoint is usable.
    pub fn expect_instance(&self, expected: bool) {
        self.change(|members, aftermath| {
            aftermath.publish = members.expected != expected;
            members.expected = expected;
        });
    }

    /// Says over which time users who stay at an endpoint leave it when it drains; zero: at once.
    pub fn set_leaving_over(&self, window: Duration) {
        self.lock().leaving_over = window;
    }

    /// Adds an endpoint that is not in the configuration, or changes its options. One that failed
    /// or drains at the same address is another process's and does not come back: it is forgotten
    /// when its last request ended.
    pub fn set_endpoint(
        &self,
        address: Address,
        options: EndpointOptions,
        now: Ticks,
    ) -> Arc<Endpoint> {
        self.change(|members, aftermath| {
            aftermath.publish = true;
            aftermath.membership = true;
            let mut current = members.current(&address);
            if let Some(member) = &mut current
                && !member.failed
                && !member.drained
                && !member.leaving
                && member.endpoint.instance() == options.instance.as_deref()
            {
                member.endpoint.set_weight(options.weight);
                member.priority = options.priority;
                member.zone = options.zone;
                member.live = options.live;
                return Arc::clone(&member.endpoint);
            }
            if let Some(member) = current {
                member.leaving = true;
                aftermath.close(&member.endpoint);
            }
            let member = self.found(members, address, options, now);
            Arc::clone(&member.endpoint)
        })
    }

    /// Why the last check of the endpoint failed, when it did.
    pub fn reason(&self, address: &Address) -> Option<String> {
        let mut members = self.lock();
        members.current(address)?.reason.clone()
    }

    /// Sends the endpoint no new request; those in flight go on. False when there is none at the
    /// address.
    ///
    /// Users who stay at it leave one after the other over the time of
    /// [`Service::set_leaving_over`], and are served meanwhile.
    pub fn drain_endpoint(&self, address: &Address, now: Ticks) -> bool {
        self.change(|members, aftermath| {
            let window = members.leaving_over;
            let Some(member) = members.current(address) else {
                return false;
            };
            drain(member, window, aftermath, now);
            aftermath.publish = true;
            true
        })
    }

    /// Has long connections to the endpoint end by `until`: its instance is to stop then.
    pub(crate) fn part_endpoint(&self, address: &Address, until: Ticks) {
        let mut members = self.lock();
        if let Some(member) = members.current(address) {
            member.endpoint.parting().begin(Part { until, stops: true });
        }
    }

    /// Takes back [`Service::drain_endpoint`].
    pub fn undrain_endpoint(&self, address: &Address) -> bool {
        self.change_endpoint(address, |member, _| undrain(member))
    }

    /// Drains the endpoint and forgets it when its last request ended.
    pub fn remove_endpoint(&self, address: &Address) -> bool {
        self.change_endpoint(address, |member, aftermath| {
            member.leaving = true;
            aftermath.close(&member.endpoint);
            aftermath.membership = true;
        })
    }

    /// Whether the endpoint at the address is healthy and not ejected.
    pub fn is_ready(&self, address: &Address) -> bool {
        let mut members = self.lock();
        members
            .current(address)
            .is_some_and(|member| member.is_healthy())
    }

    /// Takes out an endpoint that is known to be dead (its instance exited): at once, whatever the
    /// panic threshold says, and with all its idle connections.
    pub fn fail_endpoint(&self, address: &Address, reason: &str) -> bool {
        self.change(|members, aftermath| {
            let mut found = false;
            for member in members
                .list
                .iter_mut()
                .filter(|member| member.is_at(address))
            {
                found = true;
                if !member.failed {
                    member.fail(reason);
                    let event = member.went_down(&self.name, reason);
                    aftermath.events.push(event);
                    aftermath.close(&member.endpoint);
                }
            }
            aftermath.publish = found;
            aftermath.membership = found;
            found
        })
    }

    /// Takes over another list of endpoints with the settings as they are, as a reload would: those
    /// that stay keep everything, those that are gone drain. For services whose endpoints are
    /// discovered. Long connections to one that is gone are to end only when it was gone for `hold`: some
    /// sources tell a part of the endpoints at a time.
    pub fn set_endpoints(&self, endpoints: Vec<settings::Endpoint>, hold: Duration, now: Ticks) {
        let settings = ServiceSettings {
            endpoints,
            ..ServiceSettings::clone(&self.settings())
        };
        self.take_over(Arc::new(settings), hold, now);
    }

    /// Takes over new settings: endpoints that stay keep everything, those that are gone drain.
    pub(crate) fn apply(&self, settings: Arc<ServiceSettings>, now: Ticks) {
        self.take_over(settings, Duration::ZERO, now);
    }

    fn take_over(&self, settings: Arc<ServiceSettings>, hold: Duration, now: Ticks) {
        self.change(|members, aftermath| {
            aftermath.publish = true;
            aftermath.membership = true;
            if members.settings.check != settings.check {
                members.forget_times();
            }
            let other_rules = members.settings.outlier != settings.outlier
                || members.settings.weights != settings.weights;
            members.settings = Arc::clone(&settings);
            // Not when only endpoints come and go, as discovery lets them.
            if other_rules {
                members.forget_intervals();
            }
            let by_address: HashMap<&Address, &settings::Endpoint> = settings
                .endpoints
                .iter()
                .map(|one| (&one.address, one))
                .collect();
            for member in &members.list {
                let configured = by_address.get(member.endpoint.address());
                let own_limit = configured.map_or(0, |configured| configured.max_connections);
                member.endpoint.configure(&settings, own_limit);
            }
            for configured in &settings.endpoints {
                let window = members.leaving_over;
                if let Some(member) = members.current(&configured.address) {
                    member.keep(configured);
                    if configured.drain && !member.drained {
                        member.drained_by_file = true;
                        drain(member, window, aftermath, now);
                    } else if !configured.drain && member.drained_by_file {
                        undrain(member);
                    }
                } else {
                    let health = if settings.check.is_some() {
                        Health::Unknown
                    } else {
                        Health::Up
                    };
                    let options = EndpointOptions {
                        weight: configured.weight,
                        priority: configured.priority(),
                        zone: configured.zone.clone(),
                        max_connections: configured.max_connections,
                        initial: health,
                        ..EndpointOptions::default()
                    };
                    let address = configured.address.clone();
                    let member = self.found(members, address, options, now);
                    member.configured = true;
                    member.drained = configured.drain;
                    member.drained_by_file = configured.drain;
                    member.endpoint.set_drained(configured.drain);
                }
            }
            members.leave_unless(&by_address, now + hold, |endpoint| {
                aftermath.close(endpoint);
            });
            members.part(now, self.shared.parting_over());
            members.trust_unchecked(&self.name, now, &mut aftermath.events);
        });
    }

    /// Whether nothing is left of a service that drained.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().list.is_empty()
    }

    /// Drains everything: the service is not in the configuration any more.
    pub(crate) fn retire(&self, now: Ticks) {
        let part = Part {
            until: now + self.shared.parting_over(),
            stops: false,
        };
        self.change(|members, aftermath| {
            members.expected = false;
            for member in &mut members.list {
                member.leaving = true;
                member.endpoint.parting().begin(part);
                aftermath.close(&member.endpoint);
            }
            aftermath.publish = true;
            aftermath.membership = true;
        });
    }

    /// What time alone changes: ends ejections whose time is over, compares the endpoints when an
    /// interval is over, weighs them by their reports, and forgets those that are drained.
    pub(crate) fn tick(&self, now: Ticks) {
        self.change(|members, aftermath| {
            let ejected = members.eject_outliers(&self.name, now);
            aftermath.publish = !ejected.is_empty();
            aftermath.events.extend(ejected);
            aftermath.publish |= members.weigh(now);
            members.part(now, self.shared.parting_over());
            aftermath.events.extend(members.advise(&self.name, now));
            for member in &mut members.list {
                if member.history.is_over(now) {
                    let event = member.return_from_ejection(&self.name, now);
                    aftermath.events.push(event);
                    aftermath.publish = true;
                }
            }
            for member in &members.list {
                if let Some((since, over)) = member.endpoint.leaving()
                    && now.since(since) >= over
                {
                    member.endpoint.set_leaving(None);
                    aftermath.close(&member.endpoint);
                    aftermath.publish = true;
                }
            }
            if members.list.iter().any(Member::is_gone) {
                aftermath.publish = true;
                aftermath.membership = true;
            }
        });
    }

    /// Ejects the endpoint for failures in a row, where the rules allow it.
    pub(crate) fn eject(&self, id: EndpointId, now: Ticks) {
        self.change(|members, aftermath| {
            let cause = EjectionCause::ConsecutiveFailures;
            let why = "failed too many requests in a row".to_owned();
            if let Some(event) = members.eject(&self.name, id, cause, why, now) {
                aftermath.events.push(event);
                aftermath.publish = true;
            }
        });
    }

    /// Takes note of a check: how long it took to pass or why it failed, and what it makes of the endpoint.
    pub(crate) fn checked(
        &self,
        id: EndpointId,
        result: Result<Duration, &str>,
        verdict: Option<Health>,
        now: Ticks,
    ) {
        self.change(|members, aftermath| {
            let before = aftermath.events.len();
            members.checked(&self.name, id, result, verdict, now, &mut aftermath.events);
            aftermath.publish = aftermath.events.len() > before;
        });
    }

    /// The checks that are to run, one entry per endpoint.
    pub(crate) fn plans(&self) -> Vec<Plan> {
        let service = self.this.upgrade();
        let members = self.lock();
        let present = members
            .list
            .iter()
            .filter(|member| !member.leaving && !member.failed);
        present
            .filter_map(|member| Some(members.plan_of(member, Arc::clone(service.as_ref()?))))
            .collect()
    }

    /// A new endpoint among the members.
    fn found<'a>(
        &self,
        members: &'a mut Members,
        address: Address,
        options: EndpointOptions,
        now: Ticks,
    ) -> &'a mut Member {
        let founding = Founding {
            id: self.shared.next_id(),
            address,
            instance: options.instance.clone(),
            weight: options.weight,
            max_connections: options.max_connections,
            workers: self.shared.workers,
            queue: Arc::clone(&self.queue),
            service: Weak::clone(&self.this),
        };
        let endpoint = Arc::new(Endpoint::new(founding, &members.settings));
        let seal = self.seal().map_or(0, |seal| seal.number());
        endpoint.pool.set_seal(seal);
        members.add(endpoint, options, now)
    }

    fn change_endpoint(
        &self,
        address: &Address,
        change: impl FnOnce(&mut Member, &mut Aftermath),
    ) -> bool {
        self.change(|members, aftermath| {
            let Some(member) = members.current(address) else {
                return false;
            };
            change(member, aftermath);
            aftermath.publish = true;
            true
        })
    }

    /// Changes the members, publishes what came of it, and does the rest without the lock.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Members, &mut Aftermath) -> R) -> R {
        let mut aftermath = Aftermath::default();
        let mut members = self.lock();
        let result = change(&mut members, &mut aftermath);
        if aftermath.publish {
            members.forget_gone();
            let zone = self.shared.zone();
            let set = members.compile(&self.name, &zone, &mut aftermath.events);
            self.endpoints.publish(Arc::new(set));
            for endpoint in &self.endpoints.load().all {
                if endpoint.own_queue.has_waiters() && !endpoint.is_kept() {
                    endpoint.own_queue.refuse_all(Cause::NoEndpoint);
                }
                // Its limit may be another one.
                hand_over_own(endpoint);
            }
        }
        // Before the lock is gone, so that they are told in the order in which they happened.
        for event in aftermath.events {
            self.shared.events.emit(event);
        }
        drop(members);
        for endpoint in aftermath.closed {
            endpoint.pool.clear();
        }
        if aftermath.publish {
            self.serve_waiters();
        }
        if aftermath.membership {
            self.shared.changed();
        }
        result
    }
}
