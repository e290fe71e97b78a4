//! The metrics of datagrams of HTTP/3 on their way to who has their connection.

use outgrow_admin::{MetricFamily, Sample};
use outgrow_core::metrics::names;

use crate::assemble::view::View;

/// All metrics now; none while there was nothing to hand on.
pub(super) fn families(view: &View) -> Vec<MetricFamily> {
    let counts = view.http3.counts();
    if counts.iter().all(|(_, count)| *count == 0) {
        return Vec::new();
    }
    let samples = counts.map(|(way, count)| Sample::number(&[("way", way)], count));
    vec![MetricFamily::counter(
        names::QUIC_DATAGRAMS,
        "Groups of datagrams of HTTP/3 that came to another worker or data process than the one that \
         has their connection, by what became of them.",
        samples,
    )]
}
