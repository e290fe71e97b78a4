//! How promotions of Postgres replicas stand, in the metrics and the state.

use std::collections::BTreeMap;

use outgrow_admin::{MetricFamily, Number, Sample};
use outgrow_core::metrics::names;
use outgrow_postgres::promotion::Told;
use serde_json::{Value, json};

use super::Numbers;

type All = BTreeMap<String, Told>;

fn numbers(all: &All, read: impl Fn(&Told) -> Number) -> Numbers {
    let all = all.iter();
    all.map(|(name, told)| Sample::number(&[("service", name)], read(told)))
        .collect()
}

/// All metrics now; none where nothing is promoted.
pub(super) fn families(all: &All) -> Vec<MetricFamily> {
    if all.is_empty() {
        return Vec::new();
    }
    let mut ended = Numbers::new();
    for (name, told) in all {
        for (result, count) in [("done", told.done), ("failed", told.failed)] {
            let labels = [("service", name.as_str()), ("result", result)];
            ended.push(Sample::number(&labels, count));
        }
    }
    vec![
        MetricFamily::gauge(
            names::POSTGRES_PRIMARY_SILENT,
            "Seconds since anybody heard a primary that does not answer; 0 while it does.",
            numbers(all, |told| {
                told.silent
                    .map_or(0.0, |silent| silent.as_secs_f64())
                    .into()
            }),
        ),
        MetricFamily::gauge(
            names::POSTGRES_PROMOTION_STUCK,
            "Whether the primary is gone and nothing takes its place, or a promotion came to nothing.",
            numbers(all, |told| u64::from(told.problem.is_some()).into()),
        ),
        MetricFamily::counter(
            names::POSTGRES_PROMOTIONS,
            "Promotions of replicas that are over, by result.",
            ended,
        ),
    ]
}

/// For `/state`.
pub(in crate::assemble) fn state(all: &All) -> Value {
    let one = |(name, told): (&String, &Told)| {
        json!({
            "service": name,
            "phase": told.phase,
            "primary": told.primary,
            "silent_ms": told.silent.map(|silent| silent.as_millis() as u64),
            "to": told.to,
            "problem": told.problem.as_ref().map(|problem| &problem.why),
            "next_step": told.problem.as_ref().map(|problem| &problem.remedy),
            "last": told.last.as_ref().map(|(is_done, text)| json!({
                "done": is_done,
                "text": text,
            })),
            "begun": told.begun,
            "done": told.done,
            "failed": told.failed,
        })
    };
    Value::Array(all.iter().map(one).collect())
}
