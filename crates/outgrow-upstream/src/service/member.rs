//! One endpoint as its service sees it: everything that decides whether it gets requests.

use std::sync::Arc;

use outgrow_balance::outlier::History;
use outgrow_balance::reported_load::Reported;
use outgrow_core::Ticks;
use outgrow_core::settings::Address;

#[cfg(doc)]
use super::Service;
use super::outliers::Counted;
use crate::check::{Live, Times};
use crate::endpoint::Endpoint;
use crate::event::{EjectionCause, Event, Subject};
use crate::settings;

/// What the checks say about an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Not checked yet: used while no other is healthy, and while its service is new. The first
    /// check decides.
    Unknown,
    /// An instance that was never ready: not used, not even in panic.
    Starting,
    /// Healthy, or not checked at all.
    #[default]
    Up,
    /// Its checks fail.
    Down,
}

/// What is known about an endpoint that is added by [`Service::set_endpoint`].
#[derive(Clone, Debug)]
pub struct EndpointOptions {
    /// The name of the instance that answers there, when outgrow runs it. An instance is always
    /// checked: by connecting to it when the service has no check of its own.
    pub instance: Option<String>,
    /// Its weight among the endpoints, 1 by default.
    pub weight: u32,
    /// Its priority, 0 by default: those of a higher number are used only as far as those below
    /// it are not healthy.
    pub priority: u32,
    /// The zone that it is in; empty, as by default, is none.
    pub zone: String,
    /// Connections in use at a time; 0, the default, is what the service's settings say.
    pub max_connections: u32,
    /// What is assumed before the first check, [`Health::Up`] by default.
    pub initial: Health,
    /// The check whose failure means that the instance is to be restarted, none by default.
    pub live: Option<Live>,
}

impl Default for EndpointOptions {
    fn default() -> Self {
        Self {
            instance: None,
            weight: 1,
            priority: 0,
            zone: String::new(),
            max_connections: 0,
            initial: Health::Up,
            live: None,
        }
    }
}

/// One endpoint as its service sees it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) endpoint: Arc<Endpoint>,
    /// Whether it is in the configuration.
    pub(crate) configured: bool,
    pub(crate) health: Health,
    /// Why the last check failed.
    pub(crate) reason: Option<String>,
    /// Drained by order: stays.
    pub(crate) drained: bool,
    /// Whether the order is the configuration's, which takes it back.
    pub(crate) drained_by_file: bool,
    /// Drained for good: forgotten when no request is in flight.
    pub(crate) leaving: bool,
    /// From when on those who stay at it are to go, when it leaves and may come back before.
    pub(super) parts_at: Option<Ticks>,
    /// Known to be dead.
    pub(crate) failed: bool,
    pub(crate) history: History,
    /// Why it is ejected; `None` when an earlier process that told no reason ejected it.
    pub(crate) ejected: Option<(EjectionCause, String)>,
    /// How long its checks took.
    pub(super) times: Times,
    /// Its counters at the end of the last interval.
    pub(super) counted: Counted,
    /// The load that it reported.
    pub(super) reported: Reported,
    /// Checks that passed since it was ejected.
    pub(super) passes: u32,
    pub(crate) live: Option<Live>,
    pub(crate) priority: u32,
    pub(crate) zone: String,
}

impl Member {
    /// A new one, of which nothing is known but what the options say.
    pub(crate) fn new(endpoint: Arc<Endpoint>, options: EndpointOptions) -> Self {
        Self {
            endpoint,
            configured: false,
            health: options.initial,
            reason: None,
            drained: false,
            drained_by_file: false,
            leaving: false,
            parts_at: None,
            failed: false,
            history: History::default(),
            ejected: None,
            times: Times::default(),
            counted: Counted::default(),
            reported: Reported::default(),
            passes: 0,
            live: options.live,
            priority: options.priority,
            zone: options.zone,
        }
    }

    pub(crate) fn is_at(&self, address: &Address) -> bool {
        self.endpoint.address() == address
    }

    /// Whether nothing is left to do with it.
    pub(crate) fn is_gone(&self) -> bool {
        self.leaving && self.endpoint.active() == 0
    }

    /// Whether it might get requests if it were healthy.
    pub(super) fn is_candidate(&self) -> bool {
        !self.drained && !self.leaving && !self.failed && self.health != Health::Starting
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.is_candidate() && self.health == Health::Up && self.history.until().is_none()
    }

    /// Whether it may be healthy, as far as anybody knows.
    pub(super) fn is_unasked(&self) -> bool {
        self.is_candidate() && self.health == Health::Unknown && self.history.until().is_none()
    }

    /// Takes over that it is in the configuration, with all that is known about it.
    pub(crate) fn keep(&mut self, configured: &settings::Endpoint) {
        self.configured = true;
        self.priority = configured.priority();
        self.zone.clone_from(&configured.zone);
        if self.leaving {
            self.leaving = false;
            self.parts_at = None;
            self.endpoint.parting().take_back();
            if !self.drained {
                self.endpoint.pool.open();
            }
        }
        self.endpoint.set_weight(configured.weight);
    }

    /// Whether checks that pass end its ejection: not one by a rule that was broken while they
    /// passed.
    pub(super) fn may_return_by_checks(&self) -> bool {
        let cause = self.ejected.as_ref().map(|(cause, _)| *cause);
        self.history.until().is_some()
            && cause.is_none_or(|cause| cause == EjectionCause::ConsecutiveFailures)
    }

    pub(crate) fn fail(&mut self, reason: &str) {
        self.endpoint.set_leaving(None);
        self.failed = true;
        self.health = Health::Down;
        self.reason = Some(reason.to_owned());
    }

    pub(crate) fn went_down(&self, service: &str, reason: &str) -> Event {
        Event::EndpointDown {
            subject: Subject::new(service, &self.endpoint),
            reason: reason.to_owned(),
        }
    }

    pub(crate) fn return_from_ejection(&mut self, service: &str, now: Ticks) -> Event {
        self.history.end(now);
        self.ejected = None;
        self.endpoint.forget_failures();
        Event::Returned(Subject::new(service, &self.endpoint))
    }
}
