//! What can be told about services and endpoints: plain values for the admin room.

use std::time::Duration;

use outgrow_balance::sticky::unevenness;
use outgrow_core::Ticks;

use crate::event::EjectionCause;
use crate::service::{Health, Member, Members};

/// A service at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceState {
    /// Its name.
    pub name: String,
    /// How endpoints are picked, as in the configuration.
    pub balance: &'static str,
    /// Whether all endpoints are used because too few are healthy.
    pub panic: bool,
    /// What the times of its checks say about the check, and what to change.
    pub advice: Option<String>,
    /// Requests that wait for a permit.
    pub queue: usize,
    /// Most requests that may wait.
    pub queue_limit: u32,
    /// Its endpoints, those that drain included.
    pub endpoints: Vec<EndpointState>,
}

/// An endpoint at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointState {
    /// Its number, never used twice in a process.
    pub id: u64,
    /// Its address.
    pub address: String,
    /// The instance that answers there, when outgrow runs it.
    pub instance: Option<String>,
    /// Its weight in the configuration.
    pub weight: u32,
    /// The weight that came of the load that it and the others reported, where that is looked at.
    pub reported_weight: Option<u32>,
    /// `up`, `down`, `unknown` (not checked yet), `starting` (an instance that was never ready),
    /// `failed` (an instance that is dead) or `draining`.
    pub health: &'static str,
    /// Why the last check failed, or how the instance died.
    pub reason: Option<String>,
    /// Whether it gets requests now.
    pub usable: bool,
    /// For how long it gets none because it is ejected.
    pub ejected_for: Option<Duration>,
    /// What it did to be ejected.
    pub ejected_because: Option<String>,
    /// Requests in flight.
    pub active: u32,
    /// Most requests in flight.
    pub limit: u32,
    /// Requests so far.
    pub requests: u64,
    /// Failures that counted against it so far.
    pub failures: u64,
    /// Ejections so far.
    pub ejections: u64,
    /// The same by cause.
    pub ejections_by_cause: [(EjectionCause, u64); EjectionCause::ALL.len()],
    /// Connections made so far.
    pub connects: u64,
    /// Idle connections.
    pub idle: usize,
}

impl ServiceState {
    pub(crate) fn new(name: &str, members: &Members, queue: usize, now: Ticks) -> Self {
        // An address is told once, even while an earlier endpoint there drains.
        let is_replaced = |member: &Member| {
            let address = member.endpoint.address();
            member.leaving
                && members
                    .list
                    .iter()
                    .any(|other| !other.leaving && other.is_at(address))
        };
        let told = members.list.iter().filter(|member| !is_replaced(member));
        Self {
            name: name.to_owned(),
            balance: members.settings.balance.as_str(),
            panic: members.panic,
            advice: members.advice.text.clone(),
            queue,
            queue_limit: members.settings.queue,
            endpoints: told.map(|member| EndpointState::new(member, now)).collect(),
        }
    }
}

impl ServiceState {
    /// How uneven the load is: the largest multiple of its due by weight that a usable endpoint has
    /// in flight; 1 is even (see `outgrow_balance::sticky::unevenness`).
    pub fn unevenness(&self) -> f64 {
        let usable = self.endpoints.iter().filter(|endpoint| endpoint.usable);
        unevenness(usable.map(|endpoint| {
            let weight = endpoint.reported_weight.unwrap_or(endpoint.weight);
            (u64::from(endpoint.active), weight)
        }))
    }
}

impl EndpointState {
    fn new(member: &Member, now: Ticks) -> Self {
        let endpoint = &member.endpoint;
        Self {
            id: endpoint.id().number(),
            address: endpoint.label().to_owned(),
            instance: endpoint.instance().map(str::to_owned),
            weight: endpoint.configured_weight(),
            reported_weight: endpoint.measures.reported_weight(),
            health: health_of(member),
            reason: member.reason.clone(),
            usable: endpoint.is_usable(),
            ejected_for: member.history.until().map(|until| until.since(now)),
            ejected_because: member.ejected.as_ref().map(|(_, why)| why.clone()),
            active: endpoint.active(),
            limit: endpoint.limit(),
            requests: endpoint.requests(),
            failures: endpoint.failures(),
            ejections: endpoint.ejections(),
            ejections_by_cause: endpoint.measures.ejections(),
            connects: endpoint.connects(),
            idle: endpoint.idle(),
        }
    }
}

fn health_of(member: &Member) -> &'static str {
    if member.failed {
        return "failed";
    }
    if member.drained || member.leaving {
        return "draining";
    }
    match member.health {
        Health::Unknown => "unknown",
        Health::Starting => "starting",
        Health::Up => "up",
        Health::Down => "down",
    }
}
