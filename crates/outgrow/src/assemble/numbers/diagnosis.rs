//! What is told of the diagnosis of the Postgres tier: its findings.

use outgrow_admin::{MetricFamily, Sample};
use outgrow_core::Ticks;
use outgrow_core::metrics::names;
use outgrow_postgres::Shared;
use outgrow_postgres::diagnosis::{Kind, Noted, Origin, Text};
use serde_json::{Value, json};

use super::Numbers;

/// How many findings of each kind hold. No statement is a label: there is no bound on them that a
/// store of metrics would like.
pub(super) fn families(shared: &Shared, now: Ticks) -> Vec<MetricFamily> {
    let noted = shared.findings();
    let number = |kind: Kind| {
        let of_kind = |one: &&Noted| one.finding.kind == kind && one.holds(now);
        let count = noted.iter().filter(of_kind).count();
        Sample::number(&[("kind", kind.as_str())], count as u64)
    };
    let numbers: Numbers = Kind::ALL.into_iter().map(number).collect();
    let help = "Findings of the diagnosis that hold at present.";
    vec![MetricFamily::gauge(names::POSTGRES_FINDINGS, help, numbers)]
}

/// The findings for `/state`, what matters most first.
pub(super) fn findings(shared: &Shared, now: Ticks) -> Value {
    let noted = shared.findings();
    Value::Array(noted.iter().map(|one| finding(one, now)).collect())
}

fn finding(noted: &Noted, now: Ticks) -> Value {
    let finding = &noted.finding;
    let millis_since = |then: Ticks| now.since(then).as_millis() as u64;
    json!({
        "kind": finding.kind.as_str(),
        "severity": finding.severity.as_str(),
        "holds": noted.holds(now),
        "database": &*finding.database,
        "user": finding.user.as_deref(),
        "server": finding.server.as_deref(),
        "statement": finding.statement.as_ref().map(statement),
        "origin": finding.origin.as_ref().map(origin),
        "evidence": finding.evidence,
        "remedy": finding.remedy,
        "first_ms_ago": millis_since(noted.since),
        "last_ms_ago": millis_since(noted.last),
        "times": noted.times,
    })
}

fn statement(text: &Text) -> Value {
    json!({ "fingerprint": text.name(), "text": &*text.normalised })
}

fn origin(origin: &Origin) -> Value {
    json!({
        "route": origin.route.as_deref(),
        "action": origin.action.as_deref(),
        "trace": origin.trace.as_deref(),
        "application": origin.application.as_deref(),
        "client": origin.client.as_deref(),
    })
}
