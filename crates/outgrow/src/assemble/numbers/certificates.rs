//! The metrics of certificates: of files, and of those that are got from an authority.

use outgrow_admin::{MetricFamily, Sample};
use outgrow_core::metrics::names;

use super::super::view::View;
use super::Numbers;

/// All of them now; those of an authority only where there is one.
pub(super) fn families(view: &View) -> Vec<MetricFamily> {
    let mut expiry = Numbers::new();
    for (listener, facts) in view.files() {
        let (Some(until), Some(name)) = (facts.not_after, facts.names.first()) else {
            continue;
        };
        let labels = [("listener", listener.as_str()), ("name", name.as_str())];
        expiry.push(Sample::number(&labels, until.seconds()));
    }
    let (mut valid, mut success) = (Numbers::new(), Numbers::new());
    let (mut next, mut failures) = (Numbers::new(), Numbers::new());
    let all = view.acme();
    for one in &all {
        let name = one.names.first().map_or("", String::as_str);
        for (listener, until) in one.listeners.iter().zip(one.not_after.iter().cycle()) {
            let labels = [("listener", listener.as_str()), ("name", name)];
            expiry.push(Sample::number(&labels, *until));
        }
        let labels = [("name", name)];
        valid.push(Sample::number(&labels, one.state == "valid"));
        if let Some(at) = one.succeeded {
            success.push(Sample::number(&labels, at));
        }
        if let Some(at) = one.next_attempt {
            next.push(Sample::number(&labels, at));
        }
        failures.push(Sample::number(&labels, one.all_failures));
    }
    let mut families = vec![MetricFamily::gauge(
        names::CERTIFICATE_EXPIRY,
        "When a certificate ends.",
        expiry,
    )];
    if !all.is_empty() {
        families.extend([
            MetricFamily::gauge(
                names::ACME_VALID,
                "1 while the certificate is there and valid.",
                valid,
            ),
            MetricFamily::gauge(
                names::ACME_SUCCESS,
                "When the certificate was last got.",
                success,
            ),
            MetricFamily::gauge(names::ACME_NEXT, "When it is ordered next.", next),
            MetricFamily::counter(names::ACME_FAILURES, "Attempts that failed.", failures),
        ]);
    }
    families
}
