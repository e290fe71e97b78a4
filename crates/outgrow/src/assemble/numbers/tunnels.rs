//! Upgraded connections (WebSocket and its like) of routes, in numbers.

use outgrow_admin::{MetricFamily, Sample};
use outgrow_core::metrics::names;

use super::super::view::View;
use super::{Numbers, over};

/// Only of routes that have had one: the others would be three lines of zeros each.
pub(super) fn families(view: &View) -> Vec<MetricFamily> {
    let (mut open, mut begun, mut told) = (Numbers::new(), Numbers::new(), Numbers::new());
    for route in &view.shared.metrics.routes() {
        let labels = [("route", route.name.as_str())];
        let count = over(route, |cells| &cells.tunnels.begun);
        if count > 0 {
            let now: i64 = route
                .all()
                .iter()
                .map(|cells| cells.tunnels.open.get())
                .sum();
            open.push(Sample::number(&labels, now));
            begun.push(Sample::number(&labels, count));
            told.push(Sample::number(
                &labels,
                over(route, |cells| &cells.tunnels.told),
            ));
        }
    }
    vec![
        MetricFamily::gauge(
            names::TUNNELS_OPEN,
            "Upgraded connections (WebSocket and its like) that are open.",
            open,
        ),
        MetricFamily::counter(names::TUNNELS, "Connections that were upgraded.", begun),
        MetricFamily::counter(
            names::WEBSOCKETS_TOLD,
            "WebSockets that were told their end by a Close frame of ours.",
            told,
        ),
    ]
}
