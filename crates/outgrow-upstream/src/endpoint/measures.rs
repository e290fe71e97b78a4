//! What is counted of an endpoint for the rules that compare endpoints: answers with their times,
//! reported load, ejections by cause. Written on a request's way, read by control work.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use outgrow_balance::reported_load::Report;
use outgrow_core::metrics::Counter;

use crate::event::EjectionCause;

/// Bits of [`Answers`] for the sum of the times, in microseconds; above them is the count.
const TIME_BITS: u32 = 40;

/// A longer time counts as this.
const LONGEST: Duration = Duration::from_secs(60);

/// The answers so far: how many and their times together, in one number, so that a request costs
/// one addition. Only the difference of two readings means something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers(u64);

impl Answers {
    fn one(time: Duration) -> u64 {
        (1 << TIME_BITS) + time.min(LONGEST).as_micros() as u64
    }

    /// The mean time of those since `before`; zero when there are none. Right for up to 16 million
    /// answers with 12 days of time in between, far beyond what an interval holds.
    pub(crate) fn mean_since(self, before: Self) -> Duration {
        let since = self.0.wrapping_sub(before.0);
        let micros = since & ((1 << TIME_BITS) - 1);
        Duration::from_micros(micros.checked_div(since >> TIME_BITS).unwrap_or(0))
    }
}

/// The counters of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Measures {
    answers: AtomicU64,
    /// The newest report that control work has not seen.
    report: Mutex<Option<Report>>,
    /// The weight that came of the reports; 0 is none.
    reported_weight: AtomicU32,
    ejections: [Counter; EjectionCause::ALL.len()],
}

impl Measures {
    #[inline]
    pub(super) fn note_answer(&self, time: Duration) {
        self.answers
            .fetch_add(Answers::one(time), Ordering::Relaxed);
    }

    pub(crate) fn answers(&self) -> Answers {
        Answers(self.answers.load(Ordering::Relaxed))
    }

    /// Keeps a report for control work; one that another thread is busy with is left out, the next
    /// answer has another.
    pub(super) fn note_report(&self, report: Report) {
        if let Ok(mut newest) = self.report.try_lock() {
            *newest = Some(report);
        }
    }

    pub(crate) fn take_report(&self) -> Option<Report> {
        self.report.try_lock().ok()?.take()
    }

    pub(crate) fn reported_weight(&self) -> Option<u32> {
        match self.reported_weight.load(Ordering::Relaxed) {
            0 => None,
            weight => Some(weight),
        }
    }

    /// Sets the weight that came of the reports; whether it is another than before.
    pub(crate) fn set_reported_weight(&self, weight: Option<u32>) -> bool {
        let weight = weight.unwrap_or(0);
        self.reported_weight.swap(weight, Ordering::Relaxed) != weight
    }

    pub(crate) fn count_ejection(&self, cause: EjectionCause) {
        self.ejections[cause as usize].add_shared(1);
    }

    /// Ejections so far, by cause.
    pub(crate) fn ejections(&self) -> [(EjectionCause, u64); EjectionCause::ALL.len()] {
        EjectionCause::ALL.map(|cause| (cause, self.ejections[cause as usize].get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_of_the_answers_in_between() {
        let measures = Measures::default();
        // Near the end of both parts: what carries over does not matter.
        measures.answers.store(u64::MAX - 5, Ordering::Relaxed);
        let before = measures.answers();
        assert_eq!(before.mean_since(before), Duration::ZERO);
        for millis in [10, 20, 60] {
            measures.note_answer(Duration::from_millis(millis));
        }
        let mean = measures.answers().mean_since(before);
        assert_eq!(mean, Duration::from_millis(30));
        let before = measures.answers();
        measures.note_answer(Duration::from_secs(100_000));
        assert_eq!(measures.answers().mean_since(before), LONGEST);
    }
}
