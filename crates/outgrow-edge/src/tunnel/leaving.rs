//! When a WebSocket is told that it has to end, and how long it may take to do so: pure, the time
//! and the chance are arguments.
//!
//! A client that is told (Close, 1012) comes again, so all of them are not told at once: each at a
//! moment of its own within the drain. On a stop that is any moment of it. After an upgrade, where
//! nothing is lost by staying, only the last quarter of the time is used. An endpoint that has to be
//! left is as a stop when its instance stops, and as an upgrade otherwise: it may be back before.
//!
//! What ends is told at the border of two frames, answers with its own Close, and is ended when it
//! does not in time.

use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_upstream::Part;

use crate::worker::{Drain, Draining};

/// How long a client may take from our Close frame to its own.
const ANSWER: Duration = Duration::from_secs(5);

/// What has to end sooner: with the process's drain, or as its endpoint has to be left.
pub(crate) fn sooner(draining: Draining, part: Option<Part>) -> Draining {
    match part {
        Some(Part { until, stops }) if draining.how == Drain::No || until < draining.until => {
            let how = match stops || draining.how == Drain::Now {
                true => Drain::Now,
                false => Drain::Gently,
            };
            Draining { how, until }
        }
        _ => draining,
    }
}

/// How far the end of a WebSocket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Leaving {
    /// No end is in sight.
    #[default]
    No,
    /// It is to be told at that moment.
    At { moment: Ticks, answer: Duration },
    /// It is to be told as soon as a frame ends.
    Now { until: Ticks },
    /// It was told; its own Close is waited for.
    Told { until: Ticks },
}

impl Leaving {
    /// Takes note of a drain, or of the end of one, with a uniform number of 64 bits.
    pub(crate) fn drain(&mut self, draining: Draining, chance: u64, now: Ticks) {
        if matches!(self, Self::No | Self::At { .. }) {
            *self = schedule(draining, chance, now);
        }
    }

    /// It has to end for another reason.
    pub(crate) fn begin(&mut self, now: Ticks) {
        if matches!(self, Self::No | Self::At { .. }) {
            *self = Self::Now {
                until: now + ANSWER,
            };
        }
    }

    /// Time passes.
    pub(crate) fn step(&mut self, now: Ticks) {
        if let Self::At { moment, answer } = *self
            && moment <= now
        {
            *self = Self::Now {
                until: now + answer,
            };
        }
    }

    /// Its Close frame is with the client's connection.
    pub(crate) fn told(&mut self) {
        if let Self::Now { until } = *self {
            *self = Self::Told { until };
        }
    }

    /// Whether the client is to be told at the next border of frames.
    pub(crate) fn is_due(self) -> bool {
        matches!(self, Self::Now { .. })
    }

    /// Whether it has been told.
    pub(crate) fn is_told(self) -> bool {
        matches!(self, Self::Told { .. })
    }

    /// Whether it has had its time.
    pub(crate) fn is_over(self, now: Ticks) -> bool {
        matches!(self, Self::Now { until } | Self::Told { until } if until <= now)
    }

    /// When something is due.
    pub(crate) fn deadline(self) -> Option<Ticks> {
        match self {
            Self::No => None,
            Self::At { moment, .. } => Some(moment),
            Self::Now { until } | Self::Told { until } => Some(until),
        }
    }
}

fn schedule(draining: Draining, chance: u64, now: Ticks) -> Leaving {
    let left = draining.until.since(now);
    let answer = ANSWER.min(left / 4);
    let all = left.saturating_sub(answer);
    let first = match draining.how {
        Drain::No => return Leaving::No,
        Drain::Gently => all * 3 / 4,
        Drain::Now => Duration::ZERO,
    };
    // The upper 32 bits of it are a share of the time.
    let share = f64::from((chance >> 32) as u32) / f64::from(u32::MAX);
    let moment = now + first + all.saturating_sub(first).mul_f64(share);
    Leaving::At { moment, answer }
}

#[cfg(test)]
mod tests {
    use outgrow_core::Random;

    use super::*;

    const fn at(seconds: u64) -> Ticks {
        Ticks(seconds * 1_000_000_000)
    }

    fn draining(how: Drain, until: u64) -> Draining {
        let until = at(until);
        Draining { how, until }
    }

    #[test]
    fn moments_are_spread_over_the_drain_and_leave_time_for_the_answer() {
        let check = |how, until: u64, first: f64, last: f64| {
            let mut random = Random::from_seed(7);
            let mut moments: Vec<f64> = (0..1000)
                .map(|_| {
                    let mut leaving = Leaving::No;
                    leaving.drain(draining(how, until), random.next_u64(), at(100));
                    leaving
                        .deadline()
                        .expect("a moment")
                        .since(at(100))
                        .as_secs_f64()
                })
                .collect();
            moments.sort_by(f64::total_cmp);
            assert!(moments[0] >= first && moments[0] < first + (last - first) / 50.0);
            assert!(moments[999] <= last && moments[999] > last - (last - first) / 50.0);
            // No tenth of the time has much more than a tenth of them.
            for tenth in 0..10 {
                let from = first + (last - first) * f64::from(tenth) / 10.0;
                let to = from + (last - first) / 10.0;
                let count = moments.iter().filter(|one| **one >= from && **one < to);
                assert!(count.count() < 150);
            }
        };
        check(Drain::Now, 130, 0.0, 25.0);
        // Of the 3595 s before the last answers, the last quarter.
        check(Drain::Gently, 3700, 2696.25, 3595.0);
        // Little time is shared out as well.
        check(Drain::Now, 104, 0.0, 3.0);
    }

    #[test]
    fn a_stop_overtakes_an_upgrade_and_what_has_begun_goes_on() {
        let mut leaving = Leaving::No;
        leaving.drain(draining(Drain::Gently, 3600), 0, at(0));
        assert_eq!(
            leaving.deadline(),
            Some(at(0) + Duration::from_millis(2_696_250))
        );
        leaving.drain(draining(Drain::Now, 30), 0, at(10));
        leaving.step(at(10));
        assert!(leaving.is_due() && !leaving.is_told());
        assert_eq!(leaving.deadline(), Some(at(15)));
        leaving.told();
        leaving.drain(draining(Drain::Now, 1000), u64::MAX, at(11));
        assert!(leaving.is_told() && !leaving.is_over(at(14)) && leaving.is_over(at(15)));
    }

    #[test]
    fn an_endpoint_that_has_to_be_left_is_as_a_stop_or_an_upgrade() {
        let no = draining(Drain::No, 0);
        assert_eq!(sooner(no, None), no);
        let (upgrade, stop) = (draining(Drain::Gently, 3_600), draining(Drain::Now, 20));
        for (stops, how) in [(true, Drain::Now), (false, Drain::Gently)] {
            let until = at(30);
            let part = Some(Part { until, stops });
            assert_eq!(sooner(no, part), draining(how, 30));
            assert_eq!(sooner(upgrade, part), draining(how, 30));
            assert_eq!(sooner(stop, part), stop);
            let later = draining(Drain::Now, 60);
            assert_eq!(sooner(later, part), draining(Drain::Now, 30));
        }
        // It is taken back before the moment has come, and after it.
        let mut leaving = Leaving::No;
        leaving.drain(draining(Drain::Now, 30), u64::MAX, at(0));
        leaving.drain(no, u64::MAX, at(1));
        assert_eq!(leaving, Leaving::No);
        leaving.drain(draining(Drain::Now, 30), 0, at(1));
        leaving.step(at(1));
        leaving.drain(no, 0, at(2));
        assert!(leaving.is_due());
    }

    #[test]
    fn no_time_at_all_is_now() {
        let mut leaving = Leaving::No;
        leaving.drain(draining(Drain::Now, 5), u64::MAX, at(9));
        leaving.step(at(9));
        assert!(leaving.is_due() && leaving.is_over(at(9)));
        let mut idle = Leaving::No;
        idle.begin(at(1));
        assert!(idle.is_due() && !idle.is_over(at(5)) && idle.is_over(at(6)));
    }
}
