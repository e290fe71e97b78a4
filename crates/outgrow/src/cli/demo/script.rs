//! What is done to the running Outgrow, and when. Pure; how it is done is in `play`.

use std::time::Duration;

/// One round does everything once; a long demo has several.
const ROUND: Duration = Duration::from_secs(30);

/// Rounds at most: each leaves a data process that drains until its WebSockets end.
const MOST_ROUNDS: u32 = 10;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// kill -9 of one instance.
    Kill,
    /// The file is changed and read again. The first reload adds an instance; each changes a
    /// header, which holds `round`.
    Reload { round: u32 },
    /// The running binary is replaced by itself.
    Upgrade,
}

/// A step and its time since the load began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cue {
    pub(super) at: Duration,
    pub(super) step: Step,
}

/// The whole script for a demo of this length.
pub(super) fn script(length: Duration) -> Vec<Cue> {
    let rounds = (length.as_secs_f64() / ROUND.as_secs_f64()).round() as u32;
    let rounds = rounds.clamp(1, MOST_ROUNDS);
    let round_length = length / rounds;
    let mut cues = Vec::new();
    for round in 0..rounds {
        let begin = round_length * round;
        for (share, step) in [
            (0.15, Step::Kill),
            (0.35, Step::Reload { round }),
            (0.55, Step::Upgrade),
            (0.80, Step::Kill),
        ] {
            let at = begin + round_length.mul_f64(share);
            cues.push(Cue { at, step });
        }
    }
    cues
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_has_everything_in_order_and_in_time() {
        for (seconds, rounds) in [(4, 1), (20, 1), (44, 1), (46, 2), (300, 10), (3600, 10)] {
            let length = Duration::from_secs(seconds);
            let cues = script(length);
            assert_eq!(cues.len(), rounds * 4, "{seconds} s");
            assert!(cues.is_sorted_by_key(|cue| cue.at));
            assert!(cues.iter().all(|cue| cue.at < length));
            assert!(cues.iter().any(|cue| cue.step == Step::Upgrade));
            assert!(cues.iter().any(|cue| cue.step == Step::Reload { round: 0 }));
        }
    }
}
