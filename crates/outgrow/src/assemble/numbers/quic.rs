//! The metrics of datagrams of HTTP/3 on their way to who has their connection.

use outgrow_admin::{MetricFamily, Sample};
use outgrow_core::metrics::names;

use crate::assemble::view::View;

/// All metrics now; none while there was nothing to tell.
pub(super) fn families(view: &View) -> Vec<MetricFamily> {
    let mut families = Vec::new();
    let counts = view.http3.counts();
    if counts.iter().any(|(_, count)| *count > 0) {
        let samples = counts.map(|(way, count)| Sample::number(&[("way", way)], count));
        families.push(MetricFamily::counter(
            names::QUIC_DATAGRAMS,
            "Groups of datagrams of HTTP/3 that came to another worker or data process than the one \
             that has their connection, by what became of them.",
            samples,
        ));
    }
    let errors = view.http3.socket_errors();
    if errors > 0 {
        families.push(MetricFamily::counter(
            names::QUIC_SOCKET_ERRORS,
            "How often a socket of HTTP/3 gave nothing but errors and was left alone for a while.",
            [Sample::number(&[], errors)],
        ));
    }
    families
}
