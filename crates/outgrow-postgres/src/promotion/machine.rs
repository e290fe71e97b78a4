//! What happens from a primary that is silent, or a wish, to a new primary: pure. What is known, the
//! time, who leads and what became of the last step are arguments; the steps are the answer.
//!
//! What never happens: two promotions at once; a promotion before the old primary is fenced, unless
//! somebody said so; a second replica promoted while one that was to be promoted may be a primary.

use std::time::Duration;

use outgrow_core::Ticks;

use super::judge::{Moment, judge};
use super::operation::Operation;
use super::told::{Line, Problem, Told};
use super::{Fencing, Known, Seen, Sight, Terms};
use crate::events::Level;
use crate::standing::Role;

/// From what failed to the next attempt.
pub(super) const RETRY: Duration = Duration::from_secs(10);
/// A step that comes so long after the one before: this process stood still, and has to look again.
const GAP: Duration = Duration::from_secs(2);
/// Silence that is worth a line.
const SUSPICIOUS: Duration = Duration::from_secs(2);
/// How long a replica that was told to be the primary may take to begin with it: it replays all that
/// it has first.
const DOUBT: Duration = Duration::from_secs(600);
/// From one line about why nothing goes on to the next, if it is another.
const PROBLEM_EVERY: Duration = Duration::from_secs(10);

/// Whether this box may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leading {
    /// There is no lease: it is the only one.
    Alone,
    /// It holds the lease.
    Held,
    /// Another box holds the lease, or nobody.
    NotHeld,
}

/// What became of the last step that takes time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing is under way.
    None,
    /// It is under way.
    Running,
    /// It has ended; told once.
    Done(Result<(), String>),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Have a server write down what it has in memory, so that it stops fast. Takes time.
    Checkpoint {
        /// The primary.
        server: String,
    },
    /// Lend no connections to the servers of the service.
    Hold,
    /// Lend them again.
    Release,
    /// Run the fence command for a server. Takes time.
    Fence {
        /// The server that must take no more writes.
        server: String,
    },
    /// Promote a replica. Takes time.
    Promote {
        /// The replica.
        server: String,
        /// The primary before.
        old: Known,
        /// How far the replica is.
        lsn: crate::standing::Lsn,
    },
    /// End what is under way.
    Kill,
}

/// What somebody asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Which replica; none: the furthest.
    pub to: Option<String>,
    /// Promote although the old primary is not fenced.
    pub without_fence: bool,
    /// Promote although something that was acknowledged may be lost.
    pub accepts_loss: bool,
}

/// The state of a service's promotions.
#[derive(Debug, Default)]
pub struct Machine {
    /// The primary that is known, whether it answers or not.
    pub(super) known: Option<Known>,
    ended: u64,
    /// When somebody heard the primary last.
    pub(super) life: Option<Ticks>,
    stepped: Option<Ticks>,
    /// Since when the lease is held; none: it is not, or there is none.
    leads: Option<Ticks>,
    pub(super) is_suspect: bool,
    pub(super) operation: Option<Operation>,
    /// Replicas that were told to be the primary, with when, of whom nobody knows whether they are.
    pub(super) doubtful: Vec<(String, Ticks)>,
    /// When something was promoted last without being asked.
    pub(super) promoted: Option<Ticks>,
    pub(super) retry_at: Ticks,
    pub(super) problem: Option<Problem>,
    problem_said: Option<(Ticks, String)>,
    pub(super) last: Option<(bool, String)>,
    pub(super) lines: Vec<Line>,
    pub(super) begun: u64,
    pub(super) done: u64,
    pub(super) failed: u64,
}

impl Machine {
    /// With what the process before this one knew of the primary.
    pub fn recalled(known: Option<Known>) -> Self {
        Self {
            known,
            ..Self::default()
        }
    }

    /// The primary that is known, for the process after this one.
    pub fn known(&self) -> Option<&Known> {
        self.known.as_ref()
    }

    /// Whether a promotion is under way.
    pub fn is_busy(&self) -> bool {
        self.operation.is_some()
    }

    /// Lines for the log since the last call.
    pub fn take_lines(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.lines)
    }

    /// What follows, a few times a second.
    pub fn step(
        &mut self,
        now: Ticks,
        terms: &Terms,
        sight: &Sight,
        leading: Leading,
        work: Work,
    ) -> Vec<Step> {
        self.learn(now, sight);
        self.leads = match leading {
            Leading::Held => self.leads.or(Some(now)),
            Leading::Alone | Leading::NotHeld => None,
        };
        if leading == Leading::NotHeld {
            self.problem = None;
            let why = "this box does not hold the leader lease any more";
            return match self.operation.take() {
                Some(operation) => self.give_up(operation, why, &work),
                None => Vec::new(),
            };
        }
        match self.operation.take() {
            Some(operation) => self.go_on(operation, (now, terms, sight), work),
            None => self.watch(now, terms, sight),
        }
    }

    /// Takes note of who the primary is, and when somebody heard it.
    fn learn(&mut self, now: Ticks, sight: &Sight) {
        let stood_still = self.stepped.is_some_and(|at| now.since(at) > GAP);
        self.stepped = Some(now);
        // A new one is known by its answer; that of an operation under way is taken up by that.
        if let Some(seen) = sight.primary().filter(|_| self.operation.is_none()) {
            let is_same = (self.known.as_ref()).is_some_and(|known| known.address == seen.address);
            self.known = Some(Known {
                address: seen.address.clone(),
                timeline: seen.timeline,
                lsn: seen.received,
                synchronous: seen.synchronous,
            });
            if !is_same {
                self.life = Some(now);
                self.ended = seen.ended;
            }
        }
        let doubtful = &mut self.doubtful;
        doubtful.retain(|(one, told)| {
            let seen = sight
                .at(one)
                .filter(|seen| seen.role == Some(Role::Replica));
            seen.and_then(|seen| seen.heard)
                .is_none_or(|at| at < *told + DOUBT)
        });
        let Some(known) = &self.known else { return };
        let seen = sight.at(&known.address);
        let is_primary = |seen: &&Seen| seen.role != Some(Role::Replica);
        let own = seen.filter(is_primary).and_then(|seen| seen.heard);
        let ended = seen.map_or(self.ended, |seen| seen.ended);
        // Who executes for clients lives, whether it lets us in or not.
        let working = (ended != std::mem::replace(&mut self.ended, ended)).then_some(now);
        let witnessed = sight.witnessed(&known.address).map(|(at, _)| at);
        let first = (self.life.is_none() || stood_still).then_some(now);
        self.life = [self.life, own, working, witnessed, first]
            .into_iter()
            .flatten()
            .max();
    }

    /// For how long nobody has heard the primary.
    pub(super) fn silent(&self, now: Ticks) -> Duration {
        self.life.map_or(Duration::ZERO, |life| now.since(life))
    }

    fn watch(&mut self, now: Ticks, terms: &Terms, sight: &Sight) -> Vec<Step> {
        let Some(known) = self.known.clone() else {
            self.problem = None;
            return Vec::new();
        };
        let seen = sight.at(&known.address);
        if seen.is_none() && self.silent(now) >= terms.after {
            let why = format!(
                "{} was the primary, and is none of the service's endpoints any more: whether it \
                 lives nobody knows",
                known.address
            );
            let remedy = "list it again; or, when it is down, outgrow postgres promote SERVICE";
            self.tell_problem(now, Problem::new(why, remedy));
            return Vec::new();
        }
        let Some(failing) = seen.and_then(|seen| seen.failing) else {
            self.problem = None;
            if std::mem::take(&mut self.is_suspect) {
                let text = format!("{} answers again", known.address);
                self.say(Level::Log, text);
            }
            return Vec::new();
        };
        let failing = now.since(failing);
        if failing < SUSPICIOUS.min(terms.after) {
            return Vec::new();
        }
        if !std::mem::replace(&mut self.is_suspect, true) {
            let text = format!("the primary {} does not answer", known.address);
            self.say(Level::Warning, text);
        }
        if failing < terms.after {
            return Vec::new();
        }
        if let Some(problem) = self.heard_by(now, terms, sight, &known) {
            self.tell_problem(now, problem);
            return Vec::new();
        }
        // What the box before this one has begun must be seen first.
        let patience = terms.after + RETRY;
        let is_new = self.leads.is_some_and(|at| now.since(at) < patience);
        // What came to nothing is told already.
        let is_early = now < self.retry_at;
        if is_new || is_early || self.silent(now) < terms.after {
            return Vec::new();
        }
        if let Err(problem) = self.may_begin(now, terms, sight, &known) {
            self.tell_problem(now, problem);
            return Vec::new();
        }
        let text = format!(
            "the primary {} was heard last {:.1} s ago: a replica takes its place",
            known.address,
            self.silent(now).as_secs_f64()
        );
        self.say(Level::Warning, text);
        let operation = Operation::new(now, Some(known), None);
        self.fence(operation, now, terms, sight)
    }

    /// Whether a primary that does not answer us is to be replaced without being asked.
    fn may_begin(
        &self,
        now: Ticks,
        terms: &Terms,
        sight: &Sight,
        known: &Known,
    ) -> Result<(), Problem> {
        let ask = "outgrow postgres promote SERVICE";
        if !terms.is_automatic {
            let why = format!(
                "the primary {} is gone, and mode is \"manual\"",
                known.address
            );
            return Err(Problem::new(why, ask));
        }
        if terms.fencing == Fencing::Unsaid {
            let why = "there is no fence: nothing is promoted";
            return Err(Problem::new(
                why,
                "write `fence` into [service.NAME.promote]",
            ));
        }
        if let Some(at) = self
            .promoted
            .filter(|at| now.since(*at) < terms.min_interval)
        {
            let why = format!(
                "the last promotion was {} s ago, and the next one may follow after {} s \
                 (min_interval)",
                now.since(at).as_secs(),
                terms.min_interval.as_secs()
            );
            return Err(Problem::new(
                why,
                format!("find out why it flaps, or {ask}"),
            ));
        }
        let moment = Moment {
            now,
            since: Ticks::ZERO,
            is_planned: false,
        };
        let verdict = judge(terms, sight, Some(known), moment, None);
        verdict.chosen().map(|_| ())
    }

    /// Why the primary is not gone, as far as can be known, although it does not answer us.
    fn heard_by(&self, now: Ticks, terms: &Terms, sight: &Sight, known: &Known) -> Option<Problem> {
        if self.silent(now) >= terms.after {
            return None;
        }
        let (_, witness) = sight.witnessed(&known.address)?;
        let upstream = witness.upstream.as_ref()?;
        let (old, witness) = (&known.address, &witness.address);
        Some(match upstream.silent {
            None => Problem::new(
                format!("{old} does not answer us, and {witness} is connected to it"),
                format!(
                    "look at the network between here and {old}; GRANT pg_monitor to the user of \
                     [service.NAME.promote], and it is seen sooner when {witness} hears nothing"
                ),
            ),
            Some(silent) if silent < terms.after => Problem::new(
                format!("{old} does not answer us, and {witness} hears it: nothing is promoted"),
                format!("look at the network between here and {old}"),
            ),
            Some(_) => Problem::new(
                format!(
                    "{old} does not answer us, and {witness} is still connected to it: half of its \
                     wal_receiver_timeout ({} s) has to be over to know",
                    upstream.timeout.as_secs()
                ),
                "wait; a smaller wal_receiver_timeout of the replicas shortens it",
            ),
        })
    }

    pub(super) fn say(&mut self, level: Level, text: String) {
        self.lines.push(Line { level, text });
    }

    /// Says why nothing goes on, if that is new.
    pub(super) fn tell_problem(&mut self, now: Ticks, problem: Problem) {
        let is_new = self
            .problem_said
            .as_ref()
            .is_none_or(|(at, said)| *said != problem.why && now.since(*at) >= PROBLEM_EVERY);
        let is_begun = self.problem.is_none();
        if is_new || is_begun {
            self.problem_said = Some((now, problem.why.clone()));
            let text = format!("{}; next step: {}", problem.why, problem.remedy);
            self.say(Level::Error, text);
        }
        self.problem = Some(problem);
    }

    /// How it stands.
    pub fn told(&self, now: Ticks) -> Told {
        let phase = match &self.operation {
            Some(operation) => operation.phase.word(),
            None if self.is_suspect => "suspect",
            None => "watching",
        };
        let old = (self.operation.as_ref()).and_then(|operation| operation.old.as_ref());
        let primary = old.or(self.known.as_ref());
        Told {
            phase,
            primary: primary.map(|known| known.address.clone()),
            silent: self.is_suspect.then(|| self.silent(now)),
            to: (self.operation.as_ref()).and_then(|operation| operation.to().map(str::to_owned)),
            problem: self.problem.clone(),
            last: self.last.clone(),
            begun: self.begun,
            done: self.done,
            failed: self.failed,
        }
    }
}
