//! Users who stay at an endpoint: whether it takes them, and those who leave one that drains.

use std::sync::Arc;

use outgrow_balance::algorithm::Bound;
use outgrow_balance::sticky::{is_overloaded, leaves};
use outgrow_core::Ticks;

use super::EndpointSet;
use crate::endpoint::{Endpoint, EndpointId};

/// The wish to stay at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// Where the user is.
    pub endpoint: EndpointId,
    /// The user's uniform number, which says when to leave an endpoint that drains.
    pub nonce: u16,
    /// The most that the endpoint may have in flight before the user is sent elsewhere.
    pub bound: Option<Bound>,
    /// Whether no other endpoint will do while this one is down.
    pub only: bool,
}

/// What becomes of the wish.
pub(super) enum Place<'s> {
    /// The endpoint takes the user.
    At(&'s Arc<Endpoint>),
    /// The user goes to another one.
    Elsewhere,
    /// The endpoint cannot serve, and no other will do.
    Nowhere,
}

impl EndpointSet {
    /// Where the user goes; `failed`: a request of the user has just failed there.
    pub(super) fn stay(&self, stay: Stay, failed: bool, now: Ticks) -> Place<'_> {
        let mut all = self.all.iter();
        let Some(endpoint) = all.find(|endpoint| endpoint.id() == stay.endpoint) else {
            return Place::Elsewhere;
        };
        let takes = if endpoint.is_usable() {
            !self.is_overloaded(endpoint, stay.bound)
        } else if let Some((since, window)) = endpoint.leaving() {
            !leaves(stay.nonce, now.since(since), window)
        } else if stay.only && !endpoint.is_drained() {
            return Place::Nowhere;
        } else {
            false
        };
        match (takes, failed) {
            (true, false) => Place::At(endpoint),
            (true, true) if stay.only => Place::Nowhere,
            _ => Place::Elsewhere,
        }
    }

    fn is_overloaded(&self, endpoint: &Endpoint, bound: Option<Bound>) -> bool {
        let active = u64::from(endpoint.active());
        if bound.is_none() || active == 0 {
            return false;
        }
        let sums = |(active, weight): (u64, u64), one: &Arc<Endpoint>| {
            (
                active + u64::from(one.active()),
                weight + u64::from(one.weight()),
            )
        };
        let (total_active, total_weight) = self.usable.iter().fold((0, 0), sums);
        let weight = endpoint.weight();
        is_overloaded(bound, active, total_active, weight, total_weight)
    }
}
