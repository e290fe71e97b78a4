//! A source for tests: fixed metrics and state, actions that are written down.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use outgrow_core::metrics::{Histogram, HistogramTotal, names};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::families::{MetricFamily, Sample};
use crate::source::{Action, ActionProblem, ActionReport, PromoteRequest, Readiness, Source};

/// The source of tests.
#[derive(Debug, Default)]
pub(crate) struct FakeSource {
    pub(crate) draining: AtomicBool,
    /// What was asked for, in order.
    pub(crate) done: Mutex<Vec<String>>,
    /// Told when a stop has begun.
    pub(crate) stopping: Notify,
    /// Lets a stop end.
    pub(crate) stopped: Notify,
    /// Letters of padding in the state.
    pub(crate) padding: usize,
    pub(crate) panics: AtomicBool,
}

impl FakeSource {
    fn note(&self, what: impl Into<String>) {
        self.done.lock().unwrap().push(what.into());
    }

    pub(crate) fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }
}

/// Durations of 50 us, 3 ms and 90 s.
pub(crate) fn three_times() -> HistogramTotal {
    let histogram = Histogram::default();
    for micros in [50, 3_000, 90_000_000] {
        histogram.record(micros);
    }
    let mut total = HistogramTotal::default();
    histogram.add_to(&mut total);
    total
}

impl Source for FakeSource {
    fn ready(&self) -> Readiness {
        if self.draining.load(Ordering::SeqCst) {
            return Readiness::NotReady {
                reason: "draining".to_owned(),
            };
        }
        Readiness::Ready
    }

    fn families(&self) -> Vec<MetricFamily> {
        let labels = [("route", "shop"), ("status", "2xx")];
        let route = [("route", "shop")];
        vec![
            MetricFamily::counter(
                names::REQUESTS,
                "Requests answered.",
                [Sample::number(&labels, 7_u64)],
            ),
            MetricFamily::gauge(
                names::LEDGER_BYTES,
                "Bytes in use.",
                [Sample::number(&[], 16_384_u64)],
            ),
            MetricFamily::histogram(
                names::REQUEST_SECONDS,
                "Time of requests.",
                [Sample::times(&route, three_times())],
            ),
        ]
    }

    fn state(&self) -> Value {
        assert!(!self.panics.load(Ordering::SeqCst), "as the test wants it");
        json!({ "services": [], "padding": "x".repeat(self.padding) })
    }

    fn endpoints(&self, service: &str) -> Option<Value> {
        (service == "shop").then(|| json!({ "service": "shop", "endpoints": [] }))
    }

    fn leader(&self) -> Option<(bool, Value)> {
        let is_held = !self.draining.load(Ordering::SeqCst);
        Some((is_held, json!({ "holder": "box" })))
    }

    fn reload(&self) -> Action<'_> {
        Box::pin(async {
            self.note("reload");
            Err(ActionProblem::Refused {
                message: "the configuration is not valid; the running one stays".to_owned(),
                details: vec!["outgrow.toml:3: unknown key".to_owned()],
            })
        })
    }

    fn upgrade(&self, binary: Option<PathBuf>) -> Action<'_> {
        Box::pin(async move {
            self.note(format!("upgrade {binary:?}"));
            Ok(ActionReport::new("upgraded").with_details(json!({ "pid": 7 })))
        })
    }

    fn promote(&self, request: PromoteRequest) -> Action<'_> {
        Box::pin(async move {
            self.note(format!("promote {request:?}"));
            Ok(ActionReport::new("promoting"))
        })
    }

    fn deploy(&self, service: String) -> Action<'_> {
        Box::pin(async move {
            self.note(format!("deploy {service}"));
            Ok(ActionReport::new("deploying"))
        })
    }

    fn stop(&self) -> Action<'_> {
        Box::pin(async {
            self.note("stop");
            self.stopping.notify_one();
            self.stopped.notified().await;
            Ok(ActionReport::new("stopping"))
        })
    }
}
