//! What was compressed and decompressed, of routes that do.

use outgrow_admin::{MetricFamily, Sample};
use outgrow_core::metrics::names;
use outgrow_edge::metrics::{CompressedCells, DecompressedCells};
use outgrow_edge::settings::{ContentCoding, RequestCoding};

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
    let mut families = vec![
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
    ];
    families.extend(decompressed(view));
    families
}

fn decompressed(view: &View) -> Vec<MetricFamily> {
    let (mut requests, mut coded, mut plain) = (Numbers::new(), Numbers::new(), Numbers::new());
    for route in &view.shared.metrics.routes() {
        for coding in RequestCoding::ALL {
            let labels = [("route", route.name.as_str()), ("coding", coding.as_str())];
            let of = |counter: fn(&DecompressedCells) -> &outgrow_core::metrics::Counter| {
                over(route, |cells| counter(&cells.decompressed[coding as usize]))
            };
            let count = of(|cells| &cells.requests);
            if count > 0 {
                requests.push(Sample::number(&labels, count));
                coded.push(Sample::number(&labels, of(|cells| &cells.coded_bytes)));
                plain.push(Sample::number(&labels, of(|cells| &cells.plain_bytes)));
            }
        }
    }
    vec![
        MetricFamily::counter(
            names::DECOMPRESSED,
            "Requests whose bodies were decompressed.",
            requests,
        ),
        MetricFamily::counter(
            names::DECOMPRESSED_BYTES,
            "Bytes of requests before they were decompressed.",
            coded,
        ),
        MetricFamily::counter(
            names::DECOMPRESSED_PLAIN_BYTES,
            "Bytes of requests after they were decompressed.",
            plain,
        ),
    ]
}
