//! The metrics and the state of the listeners of datagrams.

use std::sync::Arc;

use outgrow_admin::{MetricFamily, Sample};
use outgrow_core::metrics::{Counter, names};
use outgrow_stream::Shared;
use outgrow_stream::metrics::{Cells, ListenerMetrics};
use serde_json::{Value, json};

use super::Numbers;

type Count = fn(&Cells) -> &Counter;

/// What is counted of a listener: name, help, counter.
const COUNTERS: [(&str, &str, Count); 5] = [
    (names::UDP_SESSIONS, "UDP sessions begun.", |cells| {
        &cells.accepted
    }),
    (
        names::UDP_RECEIVED,
        "Datagrams that came from clients.",
        |cells| &cells.received_datagrams,
    ),
    (names::UDP_SENT, "Datagrams sent to clients.", |cells| {
        &cells.sent_datagrams
    }),
    (
        names::UDP_RECEIVED_BYTES,
        "Bytes of clients that endpoints were sent.",
        |cells| &cells.received_bytes,
    ),
    (
        names::UDP_SENT_BYTES,
        "Bytes of endpoints that clients were sent.",
        |cells| &cells.sent_bytes,
    ),
];

/// All metrics now; none while there is no such listener.
pub(super) fn families(shared: Option<&Shared>) -> Vec<MetricFamily> {
    let listeners = shared.map(|shared| shared.datagrams.listeners());
    let listeners = listeners.unwrap_or_default();
    if listeners.is_empty() {
        return Vec::new();
    }
    let mut families = Vec::new();
    for (name, help, counter) in COUNTERS {
        let sample = |listener: &Arc<ListenerMetrics>| {
            let labels = [("listener", listener.name.as_str())];
            Sample::number(&labels, listener.sum(counter))
        };
        let samples: Numbers = listeners.iter().map(sample).collect();
        families.push(MetricFamily::counter(name, help, samples));
    }
    let (mut open, mut ends) = (Numbers::new(), Numbers::new());
    let mut dropped = Numbers::new();
    for listener in &listeners {
        let label = ("listener", listener.name.as_str());
        open.push(Sample::number(&[label], listener.open.get()));
        for (reason, count) in listener.ends() {
            ends.push(Sample::number(&[label, ("reason", reason)], count));
        }
        for (reason, count) in listener.dropped() {
            dropped.push(Sample::number(&[label, ("reason", reason)], count));
        }
    }
    families.extend([
        MetricFamily::gauge(names::UDP_OPEN, "UDP sessions open now.", open),
        MetricFamily::counter(
            names::UDP_ENDS,
            "UDP sessions that have ended, by reason.",
            ends,
        ),
        MetricFamily::counter(
            names::UDP_DROPPED,
            "Datagrams that went nowhere, by reason.",
            dropped,
        ),
    ]);
    families
}

/// The listeners for `/state`.
pub(in super::super) fn state(shared: Option<&Shared>) -> Value {
    let listeners = shared.map(|shared| shared.datagrams.listeners());
    let told = |listener: &Arc<ListenerMetrics>| {
        json!({
            "name": listener.name,
            "open": listener.open.get(),
            "sessions": listener.sum(|cells| &cells.accepted),
            "received": listener.sum(|cells| &cells.received_datagrams),
            "sent": listener.sum(|cells| &cells.sent_datagrams),
            "received_bytes": listener.sum(|cells| &cells.received_bytes),
            "sent_bytes": listener.sum(|cells| &cells.sent_bytes),
            "ends": listener.ends(),
            "dropped": listener.dropped(),
        })
    };
    let all: Vec<Value> = listeners.iter().flatten().map(told).collect();
    all.into()
}
