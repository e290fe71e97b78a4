//! The metrics of certificates: of files, and of those that are got from an authority.

use std::collections::{BTreeMap, BTreeSet};

use outgrow_admin::{MetricFamily, Sample};
use outgrow_core::WallTime;
use outgrow_core::metrics::names;
use outgrow_tls::OcspStatus;

use super::super::view::View;
use super::Numbers;

/// All of them now; those of an authority only where there is one.
pub(super) fn families(view: &View) -> Vec<MetricFamily> {
    let mut ends = Ends::default();
    for (listener, facts) in view.files() {
        if let (Some(until), Some(name)) = (facts.not_after, facts.names.first()) {
            ends.note(listener.as_str(), name, facts.key_kind, until.seconds());
        }
    }
    let (mut valid, mut success) = (Numbers::new(), Numbers::new());
    let (mut next, mut failures) = (Numbers::new(), Numbers::new());
    let all = view.acme();
    for one in &all {
        let name = one.names.first().map_or("", String::as_str);
        if let Some(until) = one.not_after {
            for listener in &one.listeners {
                ends.note(listener, name, one.key_kind.unwrap_or_default(), until);
            }
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
        ends.numbers(),
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
    families.extend(staples(view));
    families
}

/// When certificates end, by listener, name and kind of key: a name may have one of each kind, and two of
/// a kind are told as one, by the first that ends.
#[derive(Debug, Default)]
struct Ends(BTreeMap<[String; 3], u64>);

impl Ends {
    fn note(&mut self, listener: &str, name: &str, key: &str, until: u64) {
        let place = [listener, name, key].map(str::to_owned);
        let end = self.0.entry(place).or_insert(until);
        *end = until.min(*end);
    }

    fn numbers(&self) -> Numbers {
        let numbers = self.0.iter().map(|([listener, name, key], until)| {
            let labels = [
                ("listener", listener.as_str()),
                ("name", name),
                ("key", key),
            ];
            Sample::number(&labels, *until)
        });
        numbers.collect()
    }
}

/// Those of what is stapled; none where nothing is to be.
fn staples(view: &View) -> Vec<MetricFamily> {
    let now = WallTime::now();
    let (mut stapled, mut revoked) = (Numbers::new(), Numbers::new());
    let (mut end, mut responses) = (Numbers::new(), Numbers::new());
    let all = view.staples();
    // Over the one that is there twice, from a responder and from a file.
    let mut seen = BTreeSet::new();
    for staple in &all {
        let (facts, serial) = (staple.facts(now), staple.serial());
        if !seen.insert((staple.host(), serial.clone())) {
            continue;
        }
        let labels = [("name", staple.host()), ("serial", serial.as_str())];
        let response = facts.response;
        let is_revoked = response.is_some_and(|response| response.status != OcspStatus::Good);
        stapled.push(Sample::number(&labels, response.is_some()));
        revoked.push(Sample::number(&labels, is_revoked));
        if let Some(response) = response {
            let seconds = response.next_update.seconds();
            end.push(Sample::number(&labels, seconds));
        }
        for (outcome, count) in [("taken", facts.succeeded), ("failed", facts.failed)] {
            let [name, serial] = labels;
            let labels = [name, serial, ("outcome", outcome)];
            responses.push(Sample::number(&labels, count));
        }
    }
    if all.is_empty() {
        return Vec::new();
    }
    vec![
        MetricFamily::gauge(
            names::OCSP_STAPLED,
            "1 while an OCSP response is stapled to the certificate.",
            stapled,
        ),
        MetricFamily::gauge(
            names::OCSP_REVOKED,
            "1 while its issuer says that the certificate is revoked.",
            revoked,
        ),
        MetricFamily::gauge(names::OCSP_END, "When what is stapled ends.", end),
        MetricFamily::counter(
            names::OCSP_RESPONSES,
            "OCSP responses by outcome: taken or failed.",
            responses,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_numbers_have_the_same_labels() {
        let mut ends = Ends::default();
        for (key, until) in [("rsa", 5), ("ecdsa", 7), ("ecdsa", 6), ("ecdsa", 9)] {
            ends.note("public", "a.example", key, until);
        }
        let told: Vec<_> = ends.0.values().copied().collect();
        assert_eq!(told, [6, 5]);
        assert_eq!(ends.numbers().len(), 2);
    }
}
