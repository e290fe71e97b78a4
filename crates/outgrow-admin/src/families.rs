//! Metrics as plain values, as they are handed over for exposition.
//!
//! Names are constants of `outgrow_core::metrics::names`; cells and their sums are core's too.

use outgrow_core::metrics::HistogramTotal;

/// All samples of one name.
#[derive(Clone, Debug)]
pub struct MetricFamily {
    /// The name: letters, digits and `_`, not beginning with a digit.
    pub name: &'static str,
    /// What it counts, one sentence.
    pub help: &'static str,
    /// The samples; their variant is the kind.
    pub samples: Samples,
}

/// The samples of a family by kind.
#[derive(Clone, Debug)]
pub enum Samples {
    /// Numbers that only grow; the name ends in `_total`.
    Counter(Vec<Sample<Number>>),
    /// Numbers that go up and down.
    Gauge(Vec<Sample<Number>>),
    /// Distributions of durations, told in seconds; the name ends in `_seconds`.
    Histogram(Vec<Sample<HistogramTotal>>),
}

/// One value with its labels.
#[derive(Clone, Debug)]
pub struct Sample<T> {
    /// Names (letters, digits and `_`; never `le`) and values (any text).
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: T,
}

/// A value of a counter or gauge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A whole number, told exactly.
    Whole(u64),
    /// Any other number.
    Real(f64),
}

impl MetricFamily {
    /// A counter.
    pub fn counter(
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = Sample<Number>>,
    ) -> Self {
        let samples = Samples::Counter(samples.into_iter().collect());
        Self {
            name,
            help,
            samples,
        }
    }

    /// A gauge.
    pub fn gauge(
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = Sample<Number>>,
    ) -> Self {
        let samples = Samples::Gauge(samples.into_iter().collect());
        Self {
            name,
            help,
            samples,
        }
    }

    /// A histogram of microseconds, told in seconds.
    pub fn histogram(
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = Sample<HistogramTotal>>,
    ) -> Self {
        let samples = Samples::Histogram(samples.into_iter().collect());
        Self {
            name,
            help,
            samples,
        }
    }
}

impl Sample<Number> {
    /// A number with its labels.
    pub fn number(labels: &[(&'static str, &str)], value: impl Into<Number>) -> Self {
        Self {
            labels: owned(labels),
            value: value.into(),
        }
    }
}

impl Sample<HistogramTotal> {
    /// A distribution with its labels.
    pub fn times(labels: &[(&'static str, &str)], value: HistogramTotal) -> Self {
        Self {
            labels: owned(labels),
            value,
        }
    }
}

fn owned(labels: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    labels
        .iter()
        .map(|&(name, value)| (name, value.to_owned()))
        .collect()
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<u32> for Number {
    fn from(value: u32) -> Self {
        Self::Whole(value.into())
    }
}

impl From<usize> for Number {
    fn from(value: usize) -> Self {
        Self::Whole(value as u64)
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        u64::try_from(value).map_or(Self::Real(value as f64), Self::Whole)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}
