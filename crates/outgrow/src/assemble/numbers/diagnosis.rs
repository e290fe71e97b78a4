//! What is told of the diagnosis of the Postgres tier: its findings, and what statements cost.

use outgrow_admin::{MetricFamily, Sample};
use outgrow_core::Ticks;
use outgrow_core::metrics::names;
use outgrow_postgres::Shared;
use outgrow_postgres::diagnosis::statements::StatementState;
use outgrow_postgres::diagnosis::{Kind, Noted, Origin, Text};
use serde_json::{Value, json};

use super::Numbers;

/// Statements that `/state` shows: the costliest.
const MOST_STATEMENTS: usize = 100;

/// How many findings of each kind hold. No statement is a label: there is no bound on them that a
/// store of metrics would like.
pub(super) fn families(shared: &Shared) -> Vec<MetricFamily> {
    let number = |kind: Kind| {
        let count = shared.findings_of(kind) as u64;
        Sample::number(&[("kind", kind.as_str())], count)
    };
    let numbers: Numbers = Kind::ALL.into_iter().map(number).collect();
    let statements = shared.statements(0);
    let one = |number: u64| -> Numbers { vec![Sample::number(&[], number)] };
    let help = "Findings of the diagnosis that hold at present.";
    vec![
        MetricFamily::gauge(names::POSTGRES_FINDINGS, help, numbers),
        MetricFamily::gauge(
            names::POSTGRES_STATEMENTS,
            "Statements of which it is known what they cost.",
            one(statements.known as u64),
        ),
        MetricFamily::counter(
            names::POSTGRES_STATEMENTS_EVICTED,
            "Statements that made room for others.",
            one(statements.evicted),
        ),
    ]
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

/// What statements cost, for `/state`: the costliest ones.
pub(super) fn statements(shared: &Shared, now: Ticks) -> Value {
    let state = shared.statements(MOST_STATEMENTS);
    let costliest = state.statements.iter().map(|one| cost(one, now));
    json!({
        "known": state.known,
        "evicted": state.evicted,
        "costliest": costliest.collect::<Vec<_>>(),
    })
}

fn cost(state: &StatementState, now: Ticks) -> Value {
    json!({
        "fingerprint": state.text.name(),
        "text": &*state.text.normalised,
        "database": &*state.database,
        "user": &*state.user,
        "origin": state.origin.as_ref().map(origin),
        "calls": state.calls,
        "errors": state.errors,
        "rows": state.rows,
        "wait_us": state.wait_micros,
        "execute_us": state.execute_micros,
        "idle_in_transaction_us": state.idle_micros,
        "p50_us": state.p50_micros,
        "p95_us": state.p95_micros,
        "max_us": state.max_micros,
        "last_ms_ago": now.since(state.last).as_millis() as u64,
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
