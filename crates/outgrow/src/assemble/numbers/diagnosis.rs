//! What is told of the diagnosis of the Postgres tier: its findings, and what statements cost.

use outgrow_admin::{MetricFamily, Sample};
use outgrow_core::Ticks;
use outgrow_core::metrics::names;
use outgrow_postgres::Shared;
use outgrow_postgres::diagnosis::statements::StatementState;
use outgrow_postgres::diagnosis::{Kind, Noted, Origin, Requests, Text};
use serde_json::{Value, json};

use super::Numbers;

/// Findings that are metrics of their own.
const MOST_FINDINGS: usize = 64;
/// Statements that `/state` shows: the costliest.
const MOST_STATEMENTS: usize = 100;

/// How many findings of each kind hold, and those that matter most. No other statement is a label:
/// there is no bound on them that a store of metrics would like.
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
        holding(shared),
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

/// The findings that hold, what matters most first, with their statements by fingerprint.
fn holding(shared: &Shared) -> MetricFamily {
    let now = shared.clock.now();
    let noted = shared.findings();
    let holding = noted.iter().filter(|one| one.holds(now));
    let one = |noted: &Noted| {
        let finding = &noted.finding;
        let statement = finding.statement.as_ref().map(Text::name);
        let route = finding.origin.as_ref().and_then(route);
        let labels = [
            ("kind", finding.kind.as_str()),
            ("database", &*finding.database),
            ("fingerprint", statement.as_deref().unwrap_or_default()),
            ("route", route.unwrap_or_default()),
        ];
        Sample::number(&labels, 1_u32)
    };
    let mut samples: Numbers = holding.map(one).take(MOST_FINDINGS).collect();
    // Two users may have the same one.
    samples.sort_by(|one, other| one.labels.cmp(&other.labels));
    samples.dedup_by(|one, other| one.labels == other.labels);
    let help = "Findings of the diagnosis that hold at present, each of them.";
    MetricFamily::gauge(names::POSTGRES_FINDING, help, samples)
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

/// The route, where it is a single one that is known for certain enough.
fn route(origin: &Origin) -> Option<&str> {
    let requests = || origin.requests.as_ref().and_then(Requests::only);
    origin
        .route
        .as_ref()
        .or_else(requests)
        .map(|route| &**route)
}

fn origin(origin: &Origin) -> Value {
    json!({
        "route": route(origin),
        "routes": origin.requests.as_ref().map(|requests| {
            requests.routes.iter().map(|route| &**route).collect::<Vec<_>>()
        }),
        "route_by": match (&origin.route, &origin.requests) {
            (Some(_), _) => Some("comment"),
            (None, requests) => requests.as_ref().map(|requests| requests.ground.as_str()),
        },
        "action": origin.action.as_deref(),
        "trace": origin.trace.as_deref(),
        "application": origin.application.as_deref(),
        "client": origin.client.as_deref(),
    })
}
