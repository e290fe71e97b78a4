//! What happens, for a log: the tier says it in one line each, the binary decides which lines are
//! written and where.

use std::fmt;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something does not work and will not by itself.
    Error,
    /// Somebody should look at it.
    Warning,
    /// It goes as it should.
    Log,
    /// For finding faults.
    Debug,
}

/// What a line is about, so that kinds can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Clients and servers that come.
    Connections,
    /// Those that go.
    Disconnections,
    /// Clients that are told an error of ours.
    Refusals,
    /// All else.
    Other,
}

/// Where lines go. Called on the workers' threads: it must not wait.
pub trait Outlet: Send + Sync + fmt::Debug {
    /// Whether such a line is written at all.
    fn wants(&self, level: Level, topic: Topic) -> bool;

    /// Writes one. `about` is who it is about, empty for the tier itself; `text` may hold what
    /// clients and servers said, control characters included.
    fn put(&self, level: Level, about: &dyn fmt::Display, text: &dyn fmt::Display);
}
