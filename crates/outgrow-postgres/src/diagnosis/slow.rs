//! Statements that take long each time. Pure.

use std::time::Duration;

use super::Thresholds;
use super::finding::{Finding, Kind, Severity};
use super::holders::{Shown, shorten};
use super::statements::{Class, Record};

/// Executions of a statement before it counts as slow: once is no habit.
const AT_LEAST: u64 = 3;

/// A statement that was slow since the last look. `window` is how long ago that was.
pub(crate) fn slow(record: &Record, window: Duration, limits: &Thresholds) -> Option<Finding> {
    let (calls, micros) = record.since_last_look();
    let limit = limits.slow_statement;
    if limit.is_zero() || record.class == Class::Other || calls == 0 {
        return None;
    }
    let mean = Duration::from_micros(micros / calls);
    let state = record.state();
    let is_usual = state.execute_micros / state.calls.max(1) >= limit.as_micros() as u64;
    if mean < limit || !is_usual || state.calls < AT_LEAST {
        return None;
    }
    let micros = Duration::from_micros;
    let busy = micros(calls * mean.as_micros() as u64).as_secs_f64() / window.as_secs_f64();
    let evidence = vec![
        format!(
            "{calls} executions in {} took {} on average; {busy:.1} connections were busy with it",
            Shown(window),
            Shown(mean)
        ),
        format!(
            "of {} all together half took at most {}, 95 of 100 {}, the longest {}; {:.1} rows each",
            state.calls,
            Shown(micros(state.p50_micros)),
            Shown(micros(state.p95_micros)),
            Shown(micros(state.max_micros)),
            state.rows as f64 / state.calls as f64,
        ),
    ];
    Some(Finding {
        kind: Kind::SlowStatement,
        severity: Severity::Notice,
        database: state.database,
        user: Some(state.user),
        server: None,
        remedy: format!(
            "EXPLAIN (ANALYZE, BUFFERS) with usual values says where the time goes (a missing index \
             is told as missing_index): {}",
            shorten(&state.text.normalised)
        ),
        statement: Some(state.text),
        origin: state.origin,
        evidence,
    })
}

#[cfg(test)]
mod tests {
    use outgrow_core::Ticks;

    use super::super::statements::{New, Run, Table};
    use super::*;

    /// Each statement executed for so many milliseconds, with whether it is told.
    fn check(class: Class, millis: &[u64], expected: bool) {
        let mut table = Table::new(10);
        let scope = table.scope("d", "u");
        let new = || New {
            database: "d".into(),
            user: "u".into(),
            text: b"SELECT a",
            normalised: "SELECT a".to_owned(),
            class,
        };
        let record = table.of(scope, 1, new).expect("kept");
        for &millis in millis {
            let run = Run {
                execute_micros: millis * 1000,
                ..Run::default()
            };
            record.note(run, Ticks(0));
        }
        let limits = Thresholds {
            slow_statement: Duration::from_secs(1),
            ..Thresholds::default()
        };
        let found = slow(&record, Duration::from_secs(10), &limits);
        assert_eq!(found.is_some(), expected, "{millis:?}");
        let again = slow(&record, Duration::from_secs(10), &limits);
        assert_eq!(again, None, "nothing was executed since");
    }

    #[test]
    fn what_is_slow_each_time_is_told() {
        check(Class::Query, &[1500, 1200, 1300], true);
        check(Class::Change, &[1500, 1200, 1300], true);
        check(Class::Query, &[1500, 1200], false);
        check(Class::Other, &[1500, 1200, 1300], false);
        check(Class::Query, &[3, 2, 1, 2, 900], false);
        check(Class::Query, &[], false);
    }
}
