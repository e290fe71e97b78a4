//! One promotion from its beginning until the old primary is fenced: the first phases of [`Machine`],
//! pure.

use outgrow_core::Ticks;

use super::judge::{FRESH, Moment, judge};
use super::machine::{Machine, Step, Wish, Work};
use super::told::Problem;
use super::{Fencing, Known, Seen, Sight, Terms};
use crate::events::Level;
use crate::standing::{Lsn, Role};

/// What is known at a moment.
pub(super) type Now<'n> = (Ticks, &'n Terms, &'n Sight);

/// A promotion under way.
#[derive(Debug)]
pub(super) struct Operation {
    /// What was asked for; none: nobody asked.
    pub(super) wish: Option<Wish>,
    pub(super) began: Ticks,
    /// The primary that is replaced; none: nobody knows it.
    pub(super) old: Option<Known>,
    /// Whether the old primary answered when it began: nothing is to be lost or to fail.
    pub(super) is_planned: bool,
    /// Servers that are still to be fenced, the next one last.
    fences: Vec<String>,
    /// When the last one was fenced.
    pub(super) fenced: Option<Ticks>,
    /// What the new primary must have.
    pub(super) upto: Option<Lsn>,
    pub(super) is_held: bool,
    pub(super) phase: Phase,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The old primary writes down what it has in memory.
    Checkpoint,
    /// Queries are held until nothing is under way at the old primary.
    Quieting { since: Ticks, quiet: Option<Ticks> },
    /// Until a replica has everything.
    Catching { since: Ticks },
    /// The fence command runs.
    Fencing { server: String },
    /// Until it is clear which replica is the furthest.
    Choosing { since: Ticks },
    /// A replica was told to be the primary.
    Promoting {
        to: String,
        since: Ticks,
        at: Ticks,
        ended: Option<(Ticks, Option<String>)>,
    },
}

impl Phase {
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Quieting { .. } => "holding",
            Self::Catching { .. } => "catching_up",
            Self::Fencing { .. } => "fencing",
            Self::Choosing { .. } => "choosing",
            Self::Promoting { .. } => "promoting",
        }
    }
}

impl Operation {
    pub(super) fn new(now: Ticks, old: Option<Known>, wish: Option<Wish>) -> Self {
        Self {
            wish,
            began: now,
            old,
            is_planned: false,
            fences: Vec::new(),
            fenced: None,
            upto: None,
            is_held: false,
            phase: Phase::Choosing { since: now },
        }
    }

    /// Whether the old primary is fenced already: somebody may decide anew what follows.
    pub(super) fn is_last(&self) -> bool {
        matches!(self.phase, Phase::Choosing { .. } | Phase::Promoting { .. })
    }

    /// Who gets the place, once that is known.
    pub(super) fn to(&self) -> Option<&str> {
        match &self.phase {
            Phase::Promoting { to, .. } => Some(to),
            _ => self.wish.as_ref()?.to.as_deref(),
        }
    }

    pub(super) fn moment(&self, now: Ticks, since: Ticks) -> Moment {
        Moment {
            now,
            since,
            is_planned: self.is_planned,
        }
    }

    pub(super) fn fences_nothing(&self, terms: &Terms) -> bool {
        let is_forced = self.wish.as_ref().is_some_and(|wish| wish.without_fence);
        is_forced || terms.fencing != Fencing::Command
    }
}

impl Machine {
    /// Begins with the fence.
    pub(super) fn fence(
        &mut self,
        mut operation: Operation,
        now: Ticks,
        terms: &Terms,
        sight: &Sight,
    ) -> Vec<Step> {
        if !operation.is_planned {
            self.begun += 1;
        }
        self.problem = None;
        if operation.fences_nothing(terms) {
            let text = "the old primary is not fenced, as it was said: if it still takes writes, \
                        they are lost";
            self.say(Level::Warning, text.to_owned());
            operation.fenced = Some(now);
            operation.phase = Phase::Choosing { since: now };
            self.operation = Some(operation);
            return Vec::new();
        }
        let answers = |seen: &Seen| {
            let is_fresh = seen.heard.is_some_and(|at| now.since(at) < FRESH);
            seen.role == Some(Role::Replica) && is_fresh && seen.failing.is_none()
        };
        let mut fences: Vec<String> = match &operation.old {
            Some(old) => vec![old.address.clone()],
            // Any that does not answer may be it.
            None => (sight.servers.iter().filter(|seen| !answers(seen)))
                .map(|seen| seen.address.clone())
                .collect(),
        };
        let doubtful = self.doubtful.iter().map(|(one, _)| one.clone());
        fences.extend(doubtful.filter(|one| operation.to() != Some(one.as_str())));
        fences.sort();
        fences.dedup();
        operation.fences = fences;
        self.fence_next(operation, now)
    }

    fn fence_next(&mut self, mut operation: Operation, now: Ticks) -> Vec<Step> {
        let Some(server) = operation.fences.pop() else {
            operation.fenced = Some(now);
            operation.phase = Phase::Choosing { since: now };
            self.operation = Some(operation);
            return Vec::new();
        };
        self.say(Level::Warning, format!("fencing {server}"));
        operation.phase = Phase::Fencing {
            server: server.clone(),
        };
        self.operation = Some(operation);
        vec![Step::Fence { server }]
    }

    /// One step of a promotion under way.
    pub(super) fn go_on(&mut self, operation: Operation, at: Now<'_>, work: Work) -> Vec<Step> {
        match operation.phase.clone() {
            Phase::Checkpoint => self.checkpointed(operation, at.0, work),
            Phase::Quieting { since, quiet } => self.quiet(operation, at, since, quiet),
            Phase::Catching { since } => self.catch_up(operation, at, since),
            Phase::Fencing { server } => self.fenced(operation, at.0, &server, work),
            Phase::Choosing { since } => self.choose(operation, at, since),
            Phase::Promoting { .. } => self.promoting(operation, at, work),
        }
    }

    fn checkpointed(&mut self, mut operation: Operation, now: Ticks, work: Work) -> Vec<Step> {
        let Work::Done(result) = work else {
            self.operation = Some(operation);
            return Vec::new();
        };
        if let Err(problem) = result {
            let text = format!("no checkpoint before the switchover: {problem}; it takes longer");
            self.say(Level::Warning, text);
        }
        operation.is_held = true;
        operation.phase = Phase::Quieting {
            since: now,
            quiet: None,
        };
        self.operation = Some(operation);
        vec![Step::Hold]
    }

    /// Nobody has a connection, and the primary has said since how far it is.
    fn quiet(
        &mut self,
        mut operation: Operation,
        (now, terms, sight): Now<'_>,
        since: Ticks,
        quiet: Option<Ticks>,
    ) -> Vec<Step> {
        if now.since(since) >= terms.hold {
            let problem = Problem::new(
                format!(
                    "transactions are still open after {} s (hold), or clients keep their connections: \
                     nothing has changed",
                    terms.hold.as_secs()
                ),
                "ask again when they are over: outgrow postgres findings names long ones",
            );
            return self.fail(operation, now, problem);
        }
        let quiet = sight.is_quiet.then(|| quiet.unwrap_or(now));
        let old = operation
            .old
            .as_ref()
            .and_then(|old| sight.at(&old.address));
        let said = old.filter(|old| quiet.is_some() && old.heard >= quiet);
        operation.phase = Phase::Quieting { since, quiet };
        if let Some(old) = said {
            operation.upto = Some(old.received);
            operation.phase = Phase::Catching { since };
        }
        self.operation = Some(operation);
        Vec::new()
    }

    fn catch_up(
        &mut self,
        mut operation: Operation,
        (now, terms, sight): Now<'_>,
        since: Ticks,
    ) -> Vec<Step> {
        let known = operation.old.as_ref();
        let wish = operation.wish.as_ref();
        let verdict = judge(terms, sight, known, operation.moment(now, since), wish);
        let has_all = |to: &str| {
            let received = sight.at(to).map(|seen| seen.received);
            received >= operation.upto
        };
        let chosen = verdict.chosen().map(str::to_owned);
        if let Ok(to) = &chosen
            && has_all(to)
        {
            if let Some(wish) = &mut operation.wish {
                wish.to = Some(to.clone());
            }
            return self.fence(operation, now, terms, sight);
        }
        if now.since(since) >= terms.hold {
            let slow = |to| {
                format!(
                    "{to} has not received everything after {:?} (hold)",
                    terms.hold
                )
            };
            let why = chosen.map_or_else(|problem| problem.why, slow);
            let remedy = "nothing has changed: ask again when the replica has caught up";
            return self.fail(operation, now, Problem::new(why, remedy));
        }
        self.operation = Some(operation);
        Vec::new()
    }

    fn fenced(&mut self, operation: Operation, now: Ticks, server: &str, work: Work) -> Vec<Step> {
        match work {
            Work::Running => {
                self.operation = Some(operation);
                Vec::new()
            }
            Work::Done(Ok(())) => {
                self.say(Level::Log, format!("{server} is fenced"));
                self.doubtful.retain(|(one, _)| one != server);
                self.fence_next(operation, now)
            }
            // Nothing under way: it was killed.
            Work::Done(Err(_)) | Work::None => {
                let why = match work {
                    Work::Done(Err(why)) => why,
                    _ => "it was ended".to_owned(),
                };
                let problem = Problem::new(
                    format!("{server} could not be fenced ({why}): nothing is promoted"),
                    "find out why the fence command fails; or make sure that the server is down, \
                     and say outgrow postgres promote SERVICE --force-without-fence",
                );
                self.fail(operation, now, problem)
            }
        }
    }
}
