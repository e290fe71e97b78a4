//! The Prometheus text format, version 0.0.4.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::fmt::Write;

use outgrow_core::metrics::HistogramTotal;

use crate::families::{MetricFamily, Number, Sample, Samples};

/// Upper bounds of the buckets that are told: microseconds, and the same in seconds as text.
const BOUNDS: [(u64, &str); 18] = [
    (100, "0.0001"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
    (30_000_000, "30"),
    (60_000_000, "60"),
];

type Labels = [(&'static str, String)];

/// Writes all families. One without samples is left out.
pub(crate) fn write(families: &[MetricFamily]) -> String {
    let mut out = String::with_capacity(16 * 1024);
    for family in families {
        match &family.samples {
            Samples::Counter(samples) => numbers(family, "counter", samples, &mut out),
            Samples::Gauge(samples) => numbers(family, "gauge", samples, &mut out),
            Samples::Histogram(samples) => {
                if !samples.is_empty() {
                    head(family, "histogram", &mut out);
                }
                for sample in samples {
                    histogram(family.name, sample, &mut out);
                }
            }
        }
    }
    out
}

fn head(family: &MetricFamily, kind: &str, out: &mut String) {
    out.push_str("# HELP ");
    out.push_str(family.name);
    out.push(' ');
    for letter in family.help.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    out.push_str("\n# TYPE ");
    out.push_str(family.name);
    out.push(' ');
    out.push_str(kind);
    out.push('\n');
}

fn numbers(family: &MetricFamily, kind: &str, samples: &[Sample<Number>], out: &mut String) {
    if !samples.is_empty() {
        head(family, kind, out);
    }
    for sample in samples {
        out.push_str(family.name);
        labels(&sample.labels, None, out);
        out.push(' ');
        number(sample.value, out);
        out.push('\n');
    }
}

fn histogram(name: &str, sample: &Sample<HistogramTotal>, out: &mut String) {
    let mut bucket = |bound: &str, count: u64| {
        out.push_str(name);
        out.push_str("_bucket");
        labels(&sample.labels, Some(bound), out);
        push(out, format_args!(" {count}\n"));
    };
    for (micros, bound) in BOUNDS {
        bucket(bound, sample.value.at_most(micros));
    }
    let count = sample.value.count();
    bucket("+Inf", count);
    let sum = sample.value.sum_micros();
    out.push_str(name);
    out.push_str("_sum");
    labels(&sample.labels, None, out);
    push(
        out,
        format_args!(" {}.{:06}\n", sum / 1_000_000, sum % 1_000_000),
    );
    out.push_str(name);
    out.push_str("_count");
    labels(&sample.labels, None, out);
    push(out, format_args!(" {count}\n"));
}

fn labels(labels: &Labels, bound: Option<&str>, out: &mut String) {
    if labels.is_empty() && bound.is_none() {
        return;
    }
    out.push('{');
    let given = labels.iter().map(|(name, value)| (*name, value.as_str()));
    for (index, (name, value)) in given.chain(bound.map(|bound| ("le", bound))).enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        for letter in value.chars() {
            match letter {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                other => out.push(other),
            }
        }
        out.push('"');
    }
    out.push('}');
}

fn number(value: Number, out: &mut String) {
    match value {
        Number::Whole(whole) => push(out, format_args!("{whole}")),
        Number::Real(real) if real.is_nan() => out.push_str("NaN"),
        Number::Real(f64::INFINITY) => out.push_str("+Inf"),
        Number::Real(f64::NEG_INFINITY) => out.push_str("-Inf"),
        Number::Real(real) => push(out, format_args!("{real}")),
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
pub(crate) mod parse;
#[cfg(test)]
mod tests;
