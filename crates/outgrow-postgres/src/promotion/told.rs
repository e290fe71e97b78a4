//! What is said of promotions: lines for the log, and how one stands, for people and programs.

use std::time::Duration;

use crate::events::Level;

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How much it matters.
    pub level: Level,
    /// What happened.
    pub text: String,
}

/// Why nothing goes on, with what somebody can do about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub why: String,
    /// The next step.
    pub remedy: String,
}

impl Problem {
    pub(super) fn new(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            remedy: remedy.into(),
        }
    }
}

/// How it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// In one word: `watching`, `suspect`, `checkpoint`, `holding`, `catching_up`, `fencing`,
    /// `choosing`, `promoting`.
    pub phase: &'static str,
    /// The primary that is known, or the one that is replaced.
    pub primary: Option<String>,
    /// For how long nobody has heard it; none: it answers.
    pub silent: Option<Duration>,
    /// Who gets its place.
    pub to: Option<String>,
    /// Why nothing goes on.
    pub problem: Option<Problem>,
    /// What became of the promotion that was over last, in words; whether it was done.
    pub last: Option<(bool, String)>,
    /// Promotions that were begun; each has a number of its own.
    pub begun: u64,
    /// Those that were done.
    pub done: u64,
    /// Those that came to nothing.
    pub failed: u64,
}
