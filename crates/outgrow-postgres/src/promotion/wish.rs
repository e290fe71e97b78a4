//! What somebody asks for: begun, or refused with the next step. Pure.

use outgrow_core::Ticks;

use super::judge::{FRESH, Moment, judge};
use super::machine::{Leading, Machine, Step, Wish, Work};
use super::operation::{Operation, Phase};
use super::told::Problem;
use super::{Fencing, Sight, Terms};
use crate::events::Level;
use crate::standing::Role;

impl Machine {
    /// Begins what somebody asks for.
    ///
    /// # Errors
    /// Why it is not begun, with the next step.
    pub fn ask(
        &mut self,
        now: Ticks,
        terms: &Terms,
        (sight, leading): (&Sight, Leading),
        (wish, work): (Wish, &Work),
    ) -> Result<Vec<Step>, Problem> {
        self.refusal(now, terms, (sight, leading), (&wish, work))?;
        let mut steps = match self.operation.take() {
            Some(before) => {
                self.failed += 1;
                Self::end(&before, work)
            }
            None => Vec::new(),
        };
        self.problem = None;
        let alive = Self::alive(now, sight);
        let mut operation = Operation::new(now, self.known.clone(), Some(wish));
        let Some(server) = alive else {
            self.say(Level::Warning, "a promotion is asked for".to_owned());
            steps.extend(self.fence(operation, now, terms, sight));
            return Ok(steps);
        };
        self.say(
            Level::Warning,
            format!("a switchover from {server} is asked for"),
        );
        operation.is_planned = true;
        operation.phase = Phase::Checkpoint;
        self.begun += 1;
        self.operation = Some(operation);
        steps.push(Step::Checkpoint { server });
        Ok(steps)
    }

    /// The primary, when it answers.
    pub(super) fn alive(now: Ticks, sight: &Sight) -> Option<String> {
        let seen = sight.primary()?;
        let is_fresh = seen.heard.is_some_and(|at| now.since(at) < FRESH);
        (is_fresh && seen.failing.is_none()).then(|| seen.address.clone())
    }

    /// Why a wish cannot be fulfilled; what would be promoted if it can.
    ///
    /// # Errors
    /// The reason with the next step.
    pub fn refusal(
        &self,
        now: Ticks,
        terms: &Terms,
        (sight, leading): (&Sight, Leading),
        (wish, work): (&Wish, &Work),
    ) -> Result<String, Problem> {
        if leading == Leading::NotHeld {
            let why = "this box does not hold the leader lease";
            return Err(Problem::new(
                why,
                "ask the box that does (GET /leader says which)",
            ));
        }
        let is_stuck =
            self.operation.as_ref().is_some_and(Operation::is_last) && self.problem.is_some();
        if self.is_busy() && !(is_stuck && *work != Work::Running) {
            let why = "a promotion is under way";
            return Err(Problem::new(why, "outgrow state shows how it stands"));
        }
        if terms.fencing == Fencing::Unsaid && !wish.without_fence {
            return Err(Problem::new(
                "there is no fence: the old primary could go on taking writes",
                "write `fence` into [service.NAME.promote], or make sure that it is stopped and \
                 stays so, and say --force-without-fence",
            ));
        }
        if let Some(to) = &wish.to {
            let Some(seen) = sight.at(to) else {
                let all: Vec<&str> = (sight.servers.iter())
                    .map(|seen| seen.address.as_str())
                    .collect();
                let why = format!("there is no server {to}");
                return Err(Problem::new(why, format!("there are: {}", all.join(", "))));
            };
            if seen.role == Some(Role::Primary) && Self::alive(now, sight).is_some() {
                let why = format!("{to} is the primary");
                return Err(Problem::new(why, "name a replica, or none"));
            }
        }
        let moment = Moment {
            now,
            since: Ticks::ZERO,
            is_planned: Self::alive(now, sight).is_some(),
        };
        let verdict = judge(terms, sight, self.known.as_ref(), moment, Some(wish));
        verdict.chosen().map(str::to_owned)
    }
}
