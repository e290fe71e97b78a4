//! What is known of a service's slices, and the endpoints that follow: pure.

use std::collections::BTreeMap;

use super::settings::Family;
use crate::found::{Discovered, Found, LIMIT};

/// Most slices that are remembered.
const SLICES: usize = LIMIT;
/// Most endpoints that are remembered.
const ENDPOINTS: usize = 16 * LIMIT;

/// One slice as far as it matters.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slice {
    pub(super) name: String,
    /// `None` when none of its endpoints can be used, and `problem` says why.
    pub(super) family: Option<Family>,
    pub(super) told: Vec<Told>,
    /// Endpoints that are ready and cannot be used.
    pub(super) unusable: usize,
    pub(super) problem: Option<String>,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) found: Found,
    /// It terminates, and still serves.
    pub(super) is_leaving: bool,
}

/// All slices of a service.
#[derive(Debug, Default)]
pub(super) struct View {
    slices: BTreeMap<String, Slice>,
    /// Of all slices together.
    endpoints: usize,
    /// Slices that there are besides, at most.
    beyond: usize,
}

impl View {
    /// Takes a slice over as it is now.
    pub(super) fn put(&mut self, slice: Slice) {
        self.remove(&slice.name);
        if self.slices.len() >= SLICES || self.endpoints + slice.told.len() > ENDPOINTS {
            self.beyond += 1;
            return;
        }
        self.endpoints += slice.told.len();
        self.slices.insert(slice.name.clone(), slice);
    }

    /// Forgets a slice.
    pub(super) fn remove(&mut self, name: &str) {
        if let Some(slice) = self.slices.remove(name) {
            self.endpoints -= slice.told.len();
        }
    }

    /// Takes note of slices that were not read.
    pub(super) fn leave_out(&mut self, slices: usize) {
        self.beyond = self.beyond.saturating_add(slices);
    }

    /// Whether nothing was left out: with the rest there may be more than is known.
    pub(super) fn is_whole(&self) -> bool {
        self.beyond == 0
    }

    /// Whether no more can be remembered.
    pub(super) fn is_full(&self) -> bool {
        self.slices.len() >= SLICES || self.endpoints >= ENDPOINTS
    }

    /// The endpoints: those that are ready, or else those that terminate and still serve, as
    /// kube-proxy does it. An address in several slices is one endpoint.
    pub(super) fn discovered(&self, family: Option<Family>) -> Discovered {
        let family = family.unwrap_or_else(|| self.usual_family());
        let slices = self.slices.values();
        let told = slices
            .clone()
            .filter(|slice| slice.family == Some(family))
            .flat_map(|slice| &slice.told);
        let has_ready = told.clone().any(|one| !one.is_leaving);
        let found = told.filter(|one| one.is_leaving != has_ready);
        let unusable = slices
            .filter(|slice| slice.family.is_none_or(|its| its == family))
            .map(|slice| slice.unusable);
        Discovered::new(
            found.map(|one| one.found.clone()),
            unusable.sum::<usize>().saturating_add(self.beyond),
        )
    }

    /// Why endpoints are of no use, of one of the slices.
    pub(super) fn problem(&self) -> Option<&str> {
        let mut slices = self.slices.values().filter(|slice| slice.unusable > 0);
        slices.find_map(|slice| slice.problem.as_deref())
    }

    /// IPv4 unless there are endpoints of IPv6 only: a service with both has each pod twice.
    fn usual_family(&self) -> Family {
        let has = |family| {
            let mut slices = self.slices.values();
            slices.any(|slice| slice.family == Some(family) && !slice.told.is_empty())
        };
        match has(Family::Ipv6) && !has(Family::Ipv4) {
            true => Family::Ipv6,
            false => Family::Ipv4,
        }
    }
}
