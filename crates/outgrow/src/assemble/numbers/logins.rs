//! Logins of Postgres clients that did not go as they should, in the metrics and the state.

use outgrow_admin::{MetricFamily, Sample};
use outgrow_core::metrics::{Counter, names};
use outgrow_postgres::Shared;
use outgrow_postgres::numbers::LoginNumbers;
use serde_json::{Value, json};

use super::Numbers;

/// What became of them.
fn held(numbers: &LoginNumbers) -> [(&'static str, &Counter); 4] {
    [
        ("failed", &numbers.failed),
        ("slowed", &numbers.slowed),
        ("refused", &numbers.refused),
        ("dropped", &numbers.dropped),
    ]
}

/// All metrics now.
pub(super) fn families(shared: &Shared) -> [MetricFamily; 2] {
    let count = shared.newcomers() as u64;
    let newcomers: Numbers = vec![Sample::number(&[], count)];
    let held = held(shared.login_numbers()).into_iter();
    let held: Numbers = held
        .map(|(what, count)| Sample::number(&[("what", what)], count.get()))
        .collect();
    [
        MetricFamily::gauge(
            names::POSTGRES_NEWCOMERS,
            "Clients that have not logged in yet.",
            newcomers,
        ),
        MetricFamily::counter(
            names::POSTGRES_LOGINS_HELD,
            "Logins that failed, were slowed down or refused for it, or took too long.",
            held,
        ),
    ]
}

/// For `/state`.
pub(super) fn state(shared: &Shared) -> Value {
    let mut told = json!({ "under_way": shared.newcomers() });
    for (what, count) in held(shared.login_numbers()) {
        told[what] = count.get().into();
    }
    told
}
