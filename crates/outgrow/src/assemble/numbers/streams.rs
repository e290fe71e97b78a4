//! The metrics and the state of the stream tier.

use std::sync::Arc;

use outgrow_admin::{MetricFamily, Sample};
use outgrow_core::metrics::{Counter, Histogram, HistogramTotal, names};
use outgrow_stream::Shared;
use outgrow_stream::metrics::{Cells, ListenerMetrics};
use serde_json::{Value, json};

use super::Numbers;

type Count = fn(&Cells) -> &Counter;
type Times = fn(&Cells) -> &Histogram;

/// What is counted of a listener: name, help, counter.
const COUNTERS: [(&str, &str, Count); 4] = [
    (
        names::TCP_CONNECTIONS,
        "TCP connections accepted.",
        |cells| &cells.accepted,
    ),
    (
        names::TCP_RECEIVED_BYTES,
        "Bytes of clients that endpoints were given.",
        |cells| &cells.received_bytes,
    ),
    (
        names::TCP_SENT_BYTES,
        "Bytes of endpoints that clients were given.",
        |cells| &cells.sent_bytes,
    ),
    (
        names::TCP_RETRIES,
        "Endpoints that did not take a connection.",
        |cells| &cells.retries,
    ),
];

/// What takes time.
const TIMES: [(&str, &str, Times); 2] = [
    (
        names::TCP_SECONDS,
        "How long TCP connections were open.",
        |cells| &cells.duration,
    ),
    (
        names::TCP_CONNECT_SECONDS,
        "From an endpoint chosen to its having taken the connection.",
        |cells| &cells.connect,
    ),
];

fn total(listener: &ListenerMetrics, times: Times) -> HistogramTotal {
    let mut total = HistogramTotal::default();
    for cells in listener.all() {
        times(cells).add_to(&mut total);
    }
    total
}

/// All metrics now; none while there is no such tier.
pub(super) fn families(shared: Option<&Shared>) -> Vec<MetricFamily> {
    let Some(shared) = shared else {
        return Vec::new();
    };
    let listeners = shared.metrics.listeners();
    let mut families = Vec::new();
    for (name, help, counter) in COUNTERS {
        let sample = |listener: &Arc<ListenerMetrics>| {
            let labels = [("listener", listener.name.as_str())];
            Sample::number(&labels, listener.sum(counter))
        };
        let samples: Numbers = listeners.iter().map(sample).collect();
        families.push(MetricFamily::counter(name, help, samples));
    }
    for (name, help, times) in TIMES {
        let sample = |listener: &Arc<ListenerMetrics>| {
            Sample::times(
                &[("listener", listener.name.as_str())],
                total(listener, times),
            )
        };
        let samples: Vec<_> = listeners.iter().map(sample).collect();
        families.push(MetricFamily::histogram(name, help, samples));
    }
    let (mut open, mut ends) = (Numbers::new(), Numbers::new());
    for listener in &listeners {
        let label = ("listener", listener.name.as_str());
        open.push(Sample::number(&[label], listener.open.get()));
        for (reason, count) in listener.ends() {
            ends.push(Sample::number(&[label, ("reason", reason)], count));
        }
    }
    families.push(MetricFamily::gauge(
        names::TCP_OPEN,
        "TCP connections open now.",
        open,
    ));
    families.push(MetricFamily::counter(
        names::TCP_ENDS,
        "TCP connections that have ended, by reason.",
        ends,
    ));
    families.push(MetricFamily::counter(
        names::TCP_PANICS,
        "Tasks of TCP connections that panicked.",
        [Sample::number(&[], shared.metrics.panics.get())],
    ));
    families
}

/// The listeners for `/state`.
pub(in super::super) fn state(shared: Option<&Shared>) -> Value {
    let listeners = shared.map(|shared| shared.metrics.listeners());
    let told = |listener: &Arc<ListenerMetrics>| {
        let duration = total(listener, |cells| &cells.duration);
        json!({
            "name": listener.name,
            "open": listener.open.get(),
            "accepted": listener.sum(|cells| &cells.accepted),
            "received_bytes": listener.sum(|cells| &cells.received_bytes),
            "sent_bytes": listener.sum(|cells| &cells.sent_bytes),
            "retries": listener.sum(|cells| &cells.retries),
            "ends": listener.ends(),
            "p50_us": duration.quantile(0.5),
            "p99_us": duration.quantile(0.99),
        })
    };
    let all: Vec<Value> = listeners.iter().flatten().map(told).collect();
    all.into()
}
