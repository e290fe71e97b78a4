//! What failovers of Postgres lost, in the metrics and the state.

use outgrow_admin::{MetricFamily, Number, Sample};
use outgrow_core::Ticks;
use outgrow_core::metrics::names;
use outgrow_postgres::Shared;
use outgrow_postgres::standing::Failover;
use serde_json::{Value, json};

use super::Numbers;

type Read = fn(&Failover) -> Option<u64>;

const GAUGES: [(&str, &str, Read); 2] = [
    (
        names::POSTGRES_FAILOVER_BYTES,
        "Bytes of the log that the last failover to a server certainly lost.",
        |failover| Some(failover.loss.bytes),
    ),
    (
        names::POSTGRES_FAILOVER_TRANSACTIONS,
        "Acknowledged transactions that the last failover to a server may have lost.",
        |failover| failover.loss.transactions,
    ),
];

/// All metrics now.
pub(super) fn families(shared: &Shared) -> Vec<MetricFamily> {
    let all = shared.failovers();
    let newest = |one: &&Failover| {
        let mut others = all.iter().filter(|other| other.new.0 == one.new.0);
        others.next_back() == Some(*one)
    };
    let gauge = |(name, help, read): (&'static str, &'static str, Read)| {
        let sample = |failover: &Failover| {
            let labels = [("server", failover.new.0.as_str())];
            let number: Number = read(failover)?.into();
            Some(Sample::number(&labels, number))
        };
        let numbers: Numbers = all.iter().filter(newest).filter_map(sample).collect();
        MetricFamily::gauge(name, help, numbers)
    };
    GAUGES.into_iter().map(gauge).collect()
}

/// For `/state`.
pub(super) fn state(shared: &Shared, now: Ticks) -> Value {
    let one = |failover: Failover| {
        json!({
            "age_ms": now.since(failover.at).as_millis() as u64,
            "old": failover.old.0,
            "old_timeline": failover.old.1,
            "new": failover.new.0,
            "new_timeline": failover.new.1,
            "known": failover.known.to_string(),
            "fork_at_least": failover.fork.map(|fork| fork.at_least.to_string()),
            "fork_at_most": failover.fork.map(|fork| fork.at_most.to_string()),
            "lost_bytes_at_least": failover.loss.bytes,
            "lost_transactions_at_most": failover.loss.transactions,
            "nothing_lost": failover.loss.is_nothing(),
        })
    };
    Value::Array(shared.failovers().into_iter().map(one).collect())
}
