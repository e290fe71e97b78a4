//! What was compressed and decompressed, of routes that do.

use std::fmt::Display;

use outgrow_admin::{MetricFamily, Sample};
use outgrow_core::metrics::{Counter, names};
use outgrow_edge::metrics::RouteCells;
use outgrow_edge::settings::{ContentCoding, RequestCoding};

use super::{Numbers, over};
use crate::assemble::view::View;

pub(super) fn families(view: &View) -> Vec<MetricFamily> {
    let [responses, plain, coded] = by_coding(view, &ContentCoding::ALL, |cells, coding| {
        let cells = &cells.compressed[coding as usize];
        [&cells.responses, &cells.plain_bytes, &cells.coded_bytes]
    });
    let [requests, sent, became] = by_coding(view, &RequestCoding::ALL, |cells, coding| {
        let cells = &cells.decompressed[coding as usize];
        [&cells.requests, &cells.coded_bytes, &cells.plain_bytes]
    });
    let mut uncompressed = Numbers::new();
    for route in &view.shared.metrics.routes() {
        let lacking = over(route, |cells| &cells.uncompressed);
        if lacking > 0 {
            let labels = [("route", route.name.as_str())];
            uncompressed.push(Sample::number(&labels, lacking));
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
        MetricFamily::counter(
            names::DECOMPRESSED,
            "Requests whose bodies were decompressed.",
            requests,
        ),
        MetricFamily::counter(
            names::DECOMPRESSED_BYTES,
            "Bytes of requests before they were decompressed.",
            sent,
        ),
        MetricFamily::counter(
            names::DECOMPRESSED_PLAIN_BYTES,
            "Bytes of requests after they were decompressed.",
            became,
        ),
    ]
}

/// Three counters of each coding, for the routes and codings of which the first has counted anything.
fn by_coding<C: Copy + Display>(
    view: &View,
    codings: &[C],
    counters: fn(&RouteCells, C) -> [&Counter; 3],
) -> [Numbers; 3] {
    let mut numbers = [Numbers::new(), Numbers::new(), Numbers::new()];
    for route in &view.shared.metrics.routes() {
        for &coding in codings {
            let name = coding.to_string();
            let labels = [("route", route.name.as_str()), ("coding", name.as_str())];
            let counts = [0, 1, 2].map(|at| over(route, |cells| counters(cells, coding)[at]));
            if counts[0] > 0 {
                for (numbers, count) in numbers.iter_mut().zip(counts) {
                    numbers.push(Sample::number(&labels, count));
                }
            }
        }
    }
    numbers
}
