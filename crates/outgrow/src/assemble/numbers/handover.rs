//! Postgres clients that changed their data process in an upgrade, in the metrics and the state.

use outgrow_admin::{MetricFamily, Sample};
use outgrow_core::metrics::names;
use outgrow_postgres::Shared;
use outgrow_postgres::handover::Account;
use serde_json::{Value, json};

use super::Numbers;

/// The metric.
pub(super) fn family(shared: &Shared) -> MetricFamily {
    let numbers = shared.handover_numbers();
    let all = [
        ("taken", numbers.taken.get()),
        ("refused", numbers.refused.get()),
    ];
    let all: Numbers = all
        .into_iter()
        .map(|(what, count)| Sample::number(&[("what", what)], count))
        .collect();
    MetricFamily::counter(
        names::POSTGRES_HANDED_OVER,
        "Clients that the data process before this one offered in an upgrade.",
        all,
    )
}

/// For `/state`. `before`: what processes that leave, or have left, say of their clients.
pub(super) fn state(shared: &Shared) -> Value {
    let numbers = shared.handover_numbers();
    let before: Vec<Value> = shared.leaving_accounts().iter().map(account).collect();
    json!({
        "taken": numbers.taken.get(),
        "refused": numbers.refused.get(),
        "before": before,
    })
}

fn account(account: &Account) -> Value {
    json!({ "handed_over": account.given, "told_to_reconnect": account.told })
}
