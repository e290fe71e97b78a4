//! Tests of the text format: exact text where people compare it, and a strict reader for the rest.

use super::parse::parse;
use super::*;
use crate::fake::three_times;

#[test]
fn numbers_as_text() {
    let check = |value: Number, expected: &str| {
        let family = MetricFamily::gauge("level", "A level.", [Sample::number(&[], value)]);
        let text = write(&[family]);
        assert_eq!(
            text,
            format!("# HELP level A level.\n# TYPE level gauge\nlevel {expected}\n")
        );
        parse(&text).unwrap();
    };
    check(true.into(), "1");
    check(7_u32.into(), "7");
    check(u64::MAX.into(), "18446744073709551615");
    check((-3_i64).into(), "-3");
    check(0.25.into(), "0.25");
    check(1e-9.into(), "0.000000001");
    check(f64::NAN.into(), "NaN");
    check(f64::INFINITY.into(), "+Inf");
    check(f64::NEG_INFINITY.into(), "-Inf");
}

#[test]
fn any_text_survives_in_labels_and_help() {
    let nasty = "a \"b\"\\n \\ \n{x=\"1\"} # TYPE é,}";
    let labels = [("one", nasty), ("two", "")];
    let sample = Sample::number(&labels, 1_u64);
    let family = MetricFamily::counter("a_total", "What \\ it\nis \"now\".", [sample]);
    let text = write(&[family]);
    let families = parse(&text).unwrap();
    let family = &families["a_total"];
    assert_eq!(family.help, "What \\ it\nis \"now\".");
    assert_eq!(family.samples[0].labels["one"], nasty);
    assert_eq!(family.samples[0].labels["two"], "");
}

#[test]
fn a_histogram_in_seconds() {
    let one = Sample::times(&[("route", "shop")], three_times());
    let none = Sample::times(&[("route", "idle")], HistogramTotal::default());
    let text = write(&[MetricFamily::histogram("t_seconds", "Times.", [one, none])]);
    let families = parse(&text).unwrap();
    let samples = &families["t_seconds"].samples;
    assert_eq!(samples.len(), 2 * (BOUNDS.len() + 3));
    let bucket = |bound: &str| {
        let mut found = samples.iter().filter(|sample| {
            sample.labels["route"] == "shop"
                && sample.labels.get("le").is_some_and(|le| le == bound)
        });
        found.next().unwrap().value as u64
    };
    assert_eq!(bucket("0.0001"), 1);
    assert_eq!(bucket("0.0025"), 1);
    assert_eq!(bucket("0.005"), 2);
    assert_eq!(bucket("60"), 2);
    assert_eq!(bucket("+Inf"), 3);
    assert!(text.contains("\nt_seconds_sum{route=\"shop\"} 90.003050\n"));
    assert!(text.contains("\nt_seconds_count{route=\"shop\"} 3\n"));
    assert!(text.contains("\nt_seconds_count{route=\"idle\"} 0\n"));
}

#[test]
fn bounds_are_told_as_what_they_are() {
    for (micros, text) in BOUNDS {
        let seconds: f64 = text.parse().unwrap();
        assert_eq!((seconds * 1e6).round() as u64, micros);
    }
    assert!(BOUNDS.is_sorted_by(|one, other| one.0 < other.0));
}

#[test]
fn an_empty_family_is_left_out() {
    let counter = MetricFamily::counter("a_total", "A.", []);
    let gauge = MetricFamily::gauge("b", "B.", []);
    let times = MetricFamily::histogram("c_seconds", "C.", []);
    assert_eq!(write(&[counter, gauge, times]), "");
}

#[test]
fn the_reader_of_these_tests_is_strict() {
    let head = "# HELP a A.\n# TYPE a gauge\n";
    let wrong = |lines: &str| {
        let text = format!("{head}{lines}");
        assert!(parse(&text).is_err(), "{text}");
    };
    parse(&format!("{head}a 1\n")).unwrap();
    wrong("");
    wrong("a 1");
    wrong("a one\n");
    wrong("a  1\n");
    wrong("b 1\n");
    wrong("a 1\na 2\n");
    wrong("a{x=\"1} 1\n");
    wrong("a{x=\"\\z\"} 1\n");
    wrong("a{9=\"1\"} 1\n");
    wrong("a{x=\"1\",x=\"2\"} 1\n");
    wrong("a{le=\"1\"} 1\n");
    wrong("a 1\n# HELP a A.\n");
    wrong("a 1\n# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 1\n");
}
