//! How far a box is with what follows from the lease, and what comes next: pure.

use serde::{Deserialize, Serialize};

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Phase {
    /// What was done last is not known, or not whether to its end.
    #[default]
    Unknown,
    /// `gained` runs.
    Gaining,
    /// It has run.
    Gained,
    /// `lost` runs.
    Losing,
    /// It has run.
    Lost,
}

/// How it is at this moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    /// Whether the lease is held.
    pub(super) is_held: bool,
    /// Whether it may be acted upon that it is not: an earlier process may have renewed it since.
    pub(super) is_known: bool,
    /// Whether the registry was asked at all.
    pub(super) is_asked: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Run `gained`.
    Gain,
    /// Run `lost`, instead of `gained` if that is under way.
    Lose,
}

impl Phase {
    /// What an earlier process told.
    pub(super) fn recalled(self) -> Self {
        match self {
            Self::Gaining | Self::Losing => Self::Unknown,
            done => done,
        }
    }

    /// What was under way has ended.
    pub(super) fn done(self) -> Self {
        match self {
            Self::Gaining => Self::Gained,
            Self::Losing => Self::Lost,
            other => other,
        }
    }

    pub(super) fn step(self, now: Situation) -> Option<Step> {
        match (self, now.is_held) {
            (Self::Unknown | Self::Lost, true) => Some(Step::Gain),
            (Self::Unknown, false) if now.is_asked && now.is_known => Some(Step::Lose),
            (Self::Gained, false) if now.is_known => Some(Step::Lose),
            (Self::Gaining, false) => Some(Step::Lose),
            // `lost` comes to its end, also when the lease is held again meanwhile.
            _ => None,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Gaining => "gaining",
            Self::Gained => "gained",
            Self::Losing => "losing",
            Self::Lost => "lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_follow_from_who_holds() {
        let check = |phase: Phase, is_held, is_known, is_asked, expected| {
            let situation = Situation {
                is_held,
                is_known,
                is_asked,
            };
            assert_eq!(phase.step(situation), expected, "{phase:?} {situation:?}");
        };
        let (gain, lose) = (Some(Step::Gain), Some(Step::Lose));
        // At the start of everything: nothing before the first answer, then one of the two.
        check(Phase::Unknown, false, true, false, None);
        check(Phase::Unknown, false, true, true, lose);
        check(Phase::Unknown, true, true, true, gain);
        check(Phase::Lost, false, true, true, None);
        check(Phase::Lost, true, true, true, gain);
        check(Phase::Gaining, true, true, true, None);
        check(Phase::Gaining, false, true, true, lose);
        check(Phase::Gained, true, true, true, None);
        check(Phase::Gained, false, true, true, lose);
        // Taken over: by time at once, after an upgrade not before it is known.
        check(Phase::Gained, false, true, false, lose);
        check(Phase::Gained, false, false, false, None);
        check(Phase::Losing, true, true, true, None);
        check(Phase::Losing, false, true, true, None);
    }

    #[test]
    fn what_was_under_way_is_begun_anew_by_the_next() {
        assert_eq!(Phase::Gaining.recalled(), Phase::Unknown);
        assert_eq!(Phase::Losing.recalled(), Phase::Unknown);
        assert_eq!(Phase::Gained.recalled(), Phase::Gained);
        assert_eq!(Phase::Lost.recalled(), Phase::Lost);
    }
}
