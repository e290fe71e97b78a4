//! The metrics of what this box tells others, and of whether it is the one of them.

use outgrow_admin::{MetricFamily, Sample};
use outgrow_core::metrics::names;

use super::super::boxes::boot_clock;
use super::super::view::View;
use super::Numbers;

/// All of them now; those of the lease only where there is one.
pub(super) fn families(view: &View) -> Vec<MetricFamily> {
    let (mut age, mut failing) = (Numbers::new(), Numbers::new());
    let (mut entries, mut failures) = (Numbers::new(), Numbers::new());
    for (service, state) in view.registrations() {
        let labels = [("service", service.as_str())];
        if let Some(since) = state.age {
            age.push(Sample::number(&labels, since.as_secs_f64()));
        }
        failing.push(Sample::number(&labels, state.problem.is_some()));
        entries.push(Sample::number(&labels, state.entries));
        failures.push(Sample::number(&labels, state.failures));
    }
    let mut families = vec![
        MetricFamily::gauge(
            names::REGISTRATION_AGE,
            "Seconds since the registry last confirmed what is registered of a service.",
            age,
        ),
        MetricFamily::gauge(
            names::REGISTRATION_FAILING,
            "1 while the registry fails; it is tried again.",
            failing,
        ),
        MetricFamily::gauge(
            names::REGISTRATION_ENTRIES,
            "Entries that are registered.",
            entries,
        ),
        MetricFamily::counter(
            names::REGISTRATION_FAILURES,
            "Answers of the registry that failed.",
            failures,
        ),
    ];
    if let Some(leader) = view.leader_view() {
        let is_held = leader.is_held(boot_clock());
        families.push(MetricFamily::gauge(
            names::LEADER,
            "1 while this box holds the leader lease.",
            [Sample::number(&[], is_held)],
        ));
        families.push(MetricFamily::counter(
            names::LEADER_CHANGES,
            "How often this box gained or lost the leader lease.",
            [Sample::number(&[], leader.changes)],
        ));
    }
    families
}
