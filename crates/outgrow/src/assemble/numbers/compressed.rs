//! What was compressed, of routes that compress.

use outgrow_admin::{MetricFamily, Sample};
use outgrow_core::metrics::names;
use outgrow_edge::metrics::CompressedCells;
use outgrow_edge::settings::ContentCoding;

use super::{Numbers, over};
use crate::assemble::view::View;

pub(super) fn families(view: &View) -> Vec<MetricFamily> {
    let (mut responses, mut plain, mut coded) = (Numbers::new(), Numbers::new(), Numbers::new());
    let mut uncompressed = Numbers::new();
    for route in &view.shared.metrics.routes() {
        let name = route.name.as_str();
        for coding in ContentCoding::ALL {
            let labels = [("route", name), ("coding", coding.as_str())];
            let of = |counter: fn(&CompressedCells) -> &outgrow_core::metrics::Counter| {
                over(route, |cells| counter(&cells.compressed[coding as usize]))
            };
            let count = of(|cells| &cells.responses);
            if count > 0 {
                responses.push(Sample::number(&labels, count));
                plain.push(Sample::number(&labels, of(|cells| &cells.plain_bytes)));
                coded.push(Sample::number(&labels, of(|cells| &cells.coded_bytes)));
            }
        }
        let lacking = over(route, |cells| &cells.uncompressed);
        if lacking > 0 {
            uncompressed.push(Sample::number(&[("route", name)], lacking));
        }
    }
    vec![
        MetricFamily::counter(names::COMPRESSED, "Responses compressed.", responses),
        MetricFamily::counter(
            names::COMPRESSED_PLAIN_BYTES,
            "Bytes of responses before they were compressed.",
            plain,
        ),
        MetricFamily::counter(
            names::COMPRESSED_BYTES,
            "Bytes of responses after they were compressed.",
            coded,
        ),
        MetricFamily::counter(
            names::UNCOMPRESSED,
            "Responses not compressed for want of memory.",
            uncompressed,
        ),
    ]
}
