//! Numbers and times for people.

use std::time::Duration;

/// `1,234,567`
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `0.42 ms`, `12.3 ms`, `412 ms`, `1.25 s`
pub(super) fn time(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    match millis {
        _ if millis < 9.995 => format!("{millis:.2} ms"),
        _ if millis < 99.95 => format!("{millis:.1} ms"),
        _ if millis < 999.5 => format!("{millis:.0} ms"),
        _ => format!("{:.2} s", millis / 1e3),
    }
}

/// `12.3 MB`
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Milliseconds with three places, for JSON.
pub(super) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// One character for each value, the largest as high as a line. Zero is the lowest.
pub(super) fn sparkline(values: impl Iterator<Item = f64> + Clone) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let largest = values.clone().fold(0.0, f64::max);
    let step = |value: f64| {
        let share = if largest > 0.0 { value / largest } else { 0.0 };
        STEPS[((share * 7.0).round() as usize).min(7)]
    };
    values.map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_easily() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(number), text);
        }
        for (micros, text) in [
            (420, "0.42 ms"),
            (9_999, "10.0 ms"),
            (12_340, "12.3 ms"),
            (99_970, "100 ms"),
            (412_000, "412 ms"),
            (999_800, "1.00 s"),
            (1_250_000, "1.25 s"),
        ] {
            assert_eq!(time(Duration::from_micros(micros)), text);
        }
        assert_eq!(megabytes(12_340_000), "12.3 MB");
        assert!((millis(Duration::from_nanos(1_234_567)) - 1.235).abs() < 1e-9);
    }

    #[test]
    fn sparklines_have_a_character_for_each() {
        assert_eq!(sparkline([0.0, 1.0, 2.0].into_iter()), "▁▅█");
        assert_eq!(sparkline([0.0, 0.0].into_iter()), "▁▁");
        assert_eq!(sparkline([].into_iter()), "");
    }
}
