//! When something that ended is started again. An exit sooner than the window
//! after its start is early; early exits in a row double the delay, and enough
//! of them are a crash loop. A run that outlives the window forgets them all.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::moment::Moment;
use crate::protocol::RestartPolicy;

/// Remembers early exits. The policy stays with whoever asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    early_exits: u32,
}

/// What to do after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How long to wait before the next start.
    pub delay: Duration,
    /// Whether this is a crash loop.
    pub crash_loop: bool,
}

impl Backoff {
    /// Notes an exit at `now` of a run that began at `started`.
    pub fn exited(&mut self, policy: &RestartPolicy, started: Moment, now: Moment) -> Verdict {
        let window = Duration::from_millis(policy.crash_loop_window_ms);
        if now.since(started) < window {
            self.early_exits = self.early_exits.saturating_add(1);
        } else {
            // The late exit itself still costs the first delay.
            self.early_exits = 1;
        }
        let crash_loop = policy.crash_loop > 0 && self.early_exits >= policy.crash_loop;
        let delay_ms = if crash_loop {
            policy.max_ms
        } else {
            delay_ms(policy, self.early_exits)
        };
        Verdict {
            delay: Duration::from_millis(delay_ms),
            crash_loop,
        }
    }

    /// Notes that a run that began at `started` is replaced in order at `now`: when it has lasted, what
    /// ended early before it is past, and is no reason to wait if its successor dies.
    pub fn replaced(&mut self, policy: &RestartPolicy, started: Moment, now: Moment) {
        let window = Duration::from_millis(policy.crash_loop_window_ms);
        if now.since(started) >= window {
            self.early_exits = 0;
        }
    }

    /// How many early exits in a row there were.
    pub fn early_exits(&self) -> u32 {
        self.early_exits
    }
}

fn delay_ms(policy: &RestartPolicy, early_exits: u32) -> u64 {
    let doublings = match (policy.first_at_once, early_exits) {
        (true, 0 | 1) => return 0,
        (true, exits) => exits - 2,
        (false, exits) => exits.saturating_sub(1),
    };
    let factor = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX);
    policy.first_ms.saturating_mul(factor).min(policy.max_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(policy: &RestartPolicy, lifetimes_ms: &[u64]) -> Vec<(u64, bool)> {
        let mut backoff = Backoff::default();
        let mut now = 1_000;
        lifetimes_ms
            .iter()
            .map(|lifetime| {
                let started = Moment::from_milliseconds(now);
                now += lifetime;
                let verdict = backoff.exited(policy, started, Moment::from_milliseconds(now));
                now += verdict.delay.as_millis() as u64;
                (verdict.delay.as_millis() as u64, verdict.crash_loop)
            })
            .collect()
    }

    #[test]
    fn early_exits_double_the_delay_and_become_a_crash_loop() {
        let policy = RestartPolicy::default();
        let expected = [
            (250, false),
            (500, false),
            (1_000, false),
            (2_000, false),
            (30_000, true),
            (30_000, true),
        ];
        assert_eq!(delays(&policy, &[10; 6]), expected);
    }

    #[test]
    fn a_long_run_forgets() {
        let policy = RestartPolicy::default();
        let delays = delays(&policy, &[1, 1, 1, 1, 1, 60_000, 1]);
        assert_eq!(delays[4..], [(30_000, true), (250, false), (500, false)]);
    }

    #[test]
    fn the_longest_delay_bounds_even_thousands_of_exits() {
        let policy = RestartPolicy {
            crash_loop: 0,
            ..RestartPolicy::default()
        };
        let delays = delays(&policy, &[0; 2_000]);
        assert!(
            delays
                .iter()
                .all(|(delay, crash_loop)| *delay <= 30_000 && !crash_loop)
        );
        assert_eq!(delays.last(), Some(&(30_000, false)));
    }

    #[test]
    fn a_run_that_lasted_and_was_replaced_ends_a_series() {
        let policy = RestartPolicy::default();
        let (mut lasted, mut brief) = (Backoff::default(), Backoff::default());
        let began = Moment::now();
        for backoff in [&mut lasted, &mut brief] {
            backoff.exited(&policy, began, began.after(Duration::from_millis(1)));
        }
        let window = Duration::from_millis(policy.crash_loop_window_ms);
        lasted.replaced(&policy, began, began.after(window));
        brief.replaced(&policy, began, began.after(window / 2));
        assert_eq!((lasted.early_exits(), brief.early_exits()), (0, 1));
    }

    #[test]
    fn the_first_restart_can_be_at_once() {
        let policy = RestartPolicy {
            first_ms: 100,
            max_ms: 5_000,
            crash_loop: 0,
            crash_loop_window_ms: 10_000,
            first_at_once: true,
        };
        let delays: Vec<u64> = delays(&policy, &[5; 9])
            .into_iter()
            .map(|(ms, _)| ms)
            .collect();
        assert_eq!(delays, [0, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
    }
}
