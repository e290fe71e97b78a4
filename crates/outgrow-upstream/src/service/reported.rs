//! Weights from the load that endpoints report with their answers: looked at each second. The rule
//! is in `outgrow_balance::reported_load`.

use std::time::Duration;

use outgrow_balance::reported_load::{LARGEST_WEIGHT, weights};
use outgrow_core::Ticks;

use super::Members;
use crate::settings::Weights;

/// From one look at the reports to the next, as Envoy's.
const PERIOD: Duration = Duration::from_secs(1);

impl Members {
    /// Takes what was reported; whether a weight is another now.
    pub(super) fn weigh(&mut self, now: Ticks) -> bool {
        if self.settings.weights != Weights::Reported
            || self.weighed_at.is_some_and(|at| now.since(at) < PERIOD)
        {
            return false;
        }
        self.weighed_at = Some(now);
        let rules = self.settings.load_report.rules();
        let mut known = Vec::with_capacity(self.list.len());
        for member in &mut self.list {
            if let Some(report) = member.endpoint.measures.take_report() {
                member.reported.observe(&report, &rules, now);
            }
            known.push(member.reported.weight(&rules, now));
        }
        let mut changed = false;
        for (member, weight) in self.list.iter().zip(weights(&known)) {
            changed |= member.endpoint.measures.set_reported_weight(Some(weight));
        }
        changed
    }

    /// Gives those that came since the last look the median of the others.
    pub(super) fn weigh_the_new(&self) {
        if self.settings.weights != Weights::Reported {
            return;
        }
        let weight = |member: &super::Member| member.endpoint.measures.reported_weight();
        let mut known: Vec<u32> = self.list.iter().filter_map(weight).collect();
        if known.len() == self.list.len() {
            return;
        }
        known.sort_unstable();
        let median = known.get(known.len() / 2).copied();
        for member in self.list.iter().filter(|member| weight(member).is_none()) {
            let measures = &member.endpoint.measures;
            measures.set_reported_weight(Some(median.unwrap_or(LARGEST_WEIGHT)));
        }
    }

    /// Back to the weights of the configuration, when the settings say so.
    pub(super) fn forget_reports(&self) {
        if self.settings.weights == Weights::Configured {
            for member in &self.list {
                member.endpoint.measures.set_reported_weight(None);
            }
        }
    }
}
