//! What a sequence of checks makes of an endpoint: pure counting.

use crate::service::Health;

/// The checks of one endpoint so far.
#[derive(Clone, Debug)]
pub(super) struct Streak {
    rise: u32,
    fall: u32,
    health: Health,
    /// Results in a row that speak against `health`.
    against: u32,
}

impl Streak {
    /// Of an endpoint whose health is known from before, or not.
    pub(super) fn new(health: Health, rise: u32, fall: u32) -> Self {
        Self {
            rise: rise.max(1),
            fall: fall.max(1),
            health,
            against: 0,
        }
    }

    /// Counts a check; tells the health when it changes. At the start the first result decides,
    /// but an instance that is starting cannot fail: it is not there yet.
    pub(super) fn note(&mut self, passed: bool) -> Option<Health> {
        let (needed, becomes) = match (self.health, passed) {
            (Health::Unknown | Health::Starting, true) => (1, Health::Up),
            (Health::Unknown, false) => (1, Health::Down),
            (Health::Up, false) => (self.fall, Health::Down),
            (Health::Down, true) => (self.rise, Health::Up),
            (Health::Starting | Health::Down, false) | (Health::Up, true) => {
                self.against = 0;
                return None;
            }
        };
        self.against += 1;
        if self.against < needed {
            return None;
        }
        self.against = 0;
        self.health = becomes;
        Some(becomes)
    }

    /// Whether it is up and nothing speaks against it: then it is asked less often.
    pub(super) fn is_steady(&self) -> bool {
        self.health == Health::Up && self.against == 0
    }

    /// Whether it is down and nothing speaks for it.
    pub(super) fn is_down_for_good(&self) -> bool {
        self.health == Health::Down && self.against == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` and `-` are checks; the verdicts are `U`, `D` and `.`.
    fn check(health: Health, checks: &str, expected: &str) {
        let mut streak = Streak::new(health, 2, 3);
        let verdict = |passed| match streak.note(passed) {
            Some(Health::Up) => 'U',
            Some(Health::Down) => 'D',
            None => '.',
            other => panic!("{other:?} is no verdict"),
        };
        let got: String = checks
            .chars()
            .map(|result| result == '+')
            .map(verdict)
            .collect();
        assert_eq!(got, expected, "{health:?} {checks}");
    }

    #[test]
    fn verdicts_follow_rise_and_fall() {
        check(Health::Unknown, "+---++", "U..D.U");
        check(Health::Unknown, "-+++", "D.U.");
        check(Health::Starting, "------+", "......U");
        check(Health::Starting, "+--+---", "U.....D");
        check(Health::Up, "--+--+---", "........D");
        check(Health::Down, "+-+-++", ".....U");
    }

    #[test]
    fn only_an_undisputed_up_is_steady() {
        let mut streak = Streak::new(Health::Starting, 2, 2);
        assert!(!streak.is_steady());
        streak.note(true);
        assert!(streak.is_steady());
        streak.note(false);
        assert!(!streak.is_steady());
        streak.note(true);
        assert!(streak.is_steady());
        streak.note(false);
        assert!(!streak.is_down_for_good());
        streak.note(false);
        assert!(!streak.is_steady() && streak.is_down_for_good());
        streak.note(true);
        assert!(!streak.is_down_for_good());
    }
}
