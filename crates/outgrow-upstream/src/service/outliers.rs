//! Which endpoints are ejected, and why: for failures in a row as they happen, by comparison with
//! the others when an interval is over. The rules themselves are in `outgrow_balance::outlier`.
//!
//! The comparison reads counters that requests write anyway; times of answers are noted only
//! where a rule looks at them.

use std::time::Duration;

use outgrow_balance::outlier::Rules;
use outgrow_balance::outlier::statistics::Interval;
use outgrow_core::Ticks;

use super::Members;
use crate::endpoint::{Answers, Endpoint, EndpointId};
use crate::event::{EjectionCause, Event, Subject};

/// An endpoint's counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    ended: u64,
    failures: u64,
    answers: Answers,
}

impl Counted {
    fn now(endpoint: &Endpoint) -> Self {
        Self {
            ended: endpoint
                .requests()
                .saturating_sub(u64::from(endpoint.active())),
            failures: endpoint.failures(),
            answers: endpoint.measures.answers(),
        }
    }

    fn since(self, before: Self) -> Interval {
        Interval {
            requests: self.ended.saturating_sub(before.ended),
            failures: self.failures.saturating_sub(before.failures),
            latency: self.answers.mean_since(before.answers),
        }
    }
}

impl Members {
    /// Ejects an endpoint for a while, where the rules allow it.
    pub(crate) fn eject(
        &mut self,
        service: &str,
        id: EndpointId,
        cause: EjectionCause,
        why: String,
        now: Ticks,
    ) -> Option<Event> {
        let outlier = &self.settings.outlier;
        let rules = Rules {
            consecutive_failures: outlier.consecutive_failures,
            eject: outlier.eject,
            eject_max: outlier.eject_max,
            max_ejected_percent: outlier.max_ejected.get(),
        };
        let candidates = || self.list.iter().filter(|member| member.is_candidate());
        let all = candidates().count();
        let ejected = candidates()
            .filter(|member| member.history.until().is_some())
            .count();
        let healthy = candidates().filter(|member| member.is_healthy()).count();
        if !rules.may_eject(all, ejected, healthy) {
            return None;
        }
        let member = self.by_id(id)?;
        if !member.is_healthy() {
            return None;
        }
        let until = member.history.eject(&rules, now);
        member.passes = 0;
        member.endpoint.measures.count_ejection(cause);
        member.ejected = Some((cause, why.clone()));
        Some(Event::Ejected {
            subject: Subject::new(service, &member.endpoint),
            cause,
            why,
            time: until.since(now),
            in_a_row: member.history.in_a_row(),
        })
    }

    /// A change of the settings begins a new interval, and forgets what came of reports when they
    /// are not looked at any more.
    pub(super) fn forget_intervals(&mut self) {
        self.counted_since = None;
        self.forget_reports();
    }

    /// Compares the endpoints when an interval is over; the ejections that came of it.
    pub(super) fn eject_outliers(&mut self, service: &str, now: Ticks) -> Vec<Event> {
        let rules = &self.settings.outlier;
        if !rules.compares() {
            return Vec::new();
        }
        let interval = rules.interval;
        let begun = self.counted_since;
        if begun.is_some_and(|since| now.since(since) < interval) {
            return Vec::new();
        }
        self.counted_since = Some(now);
        let mut compared = Vec::new();
        for member in &mut self.list {
            let counted = Counted::now(&member.endpoint);
            let done = counted.since(member.counted);
            member.counted = counted;
            if member.is_healthy() {
                compared.push((member.endpoint.id(), done));
            }
        }
        if begun.is_none() {
            return Vec::new();
        }
        self.outliers(&compared, interval)
            .into_iter()
            .filter_map(|(id, cause, why)| self.eject(service, id, cause, why, now))
            .collect()
    }

    /// Who is to be ejected, the worst by each rule first.
    fn outliers(
        &self,
        compared: &[(EndpointId, Interval)],
        interval: Duration,
    ) -> Vec<(EndpointId, EjectionCause, String)> {
        let rules = &self.settings.outlier;
        let intervals: Vec<Interval> = compared.iter().map(|(_, done)| *done).collect();
        let mut found = Vec::new();
        let mut add = |cause, outliers: Option<Vec<usize>>| {
            for index in outliers.unwrap_or_default() {
                let (id, done) = compared[index];
                found.push((id, cause, why(cause, &done, interval)));
            }
        };
        let by_percentage = rules.failure_percentage.as_ref();
        add(
            EjectionCause::FailurePercentage,
            by_percentage.map(|it| it.rule().outliers(&intervals)),
        );
        let by_rate = rules.success_rate.as_ref();
        add(
            EjectionCause::SuccessRate,
            by_rate.map(|it| it.rule().outliers(&intervals)),
        );
        let by_time = rules.slow_responses.as_ref();
        add(
            EjectionCause::SlowResponses,
            by_time.map(|it| it.rule().outliers(&intervals)),
        );
        found
    }
}

fn why(cause: EjectionCause, done: &Interval, interval: Duration) -> String {
    let Interval {
        requests, failures, ..
    } = done;
    match cause {
        EjectionCause::SlowResponses => format!(
            "took {} ms to answer on average in {interval:?}, much longer than the others",
            done.latency.as_millis()
        ),
        EjectionCause::SuccessRate => {
            format!(
                "failed {failures} of {requests} requests in {interval:?}, more than the others"
            )
        }
        _ => format!("failed {failures} of {requests} requests in {interval:?}"),
    }
}
