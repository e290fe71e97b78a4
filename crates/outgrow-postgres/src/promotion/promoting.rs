//! The last phases of a promotion: which replica, told to be the primary, until it is, or until it
//! comes to nothing. Pure.

use std::time::Duration;

use outgrow_core::Ticks;

use super::judge::{FRESH, judge};
use super::machine::{Machine, RETRY, Step, Work};
use super::operation::{Now, Operation, Phase};
use super::told::Problem;
use super::{Seen, Sight, Terms};
use crate::events::Level;
use crate::standing::Role;

/// How long what is on its way from a primary that was fenced may take to be received.
const SETTLE: Duration = Duration::from_secs(1);

impl Machine {
    /// Whether somebody has heard the old primary since it was fenced.
    fn still_lives(operation: &Operation, terms: &Terms, sight: &Sight) -> Option<Problem> {
        let (old, fenced) = (operation.old.as_ref()?, operation.fenced?);
        let is_forced = operation
            .wish
            .as_ref()
            .is_some_and(|wish| wish.without_fence);
        if is_forced || (operation.fences_nothing(terms) && operation.is_planned) {
            return None;
        }
        let said = |by: &str| {
            let why = match operation.fences_nothing(terms) {
                true => format!("{} is heard again {by}", old.address),
                false => format!(
                    "the fence command succeeded, but {} is heard {by}",
                    old.address
                ),
            };
            let remedy = "nothing is promoted: the command must not succeed before the server takes \
                          no more writes";
            Some(Problem::new(why, remedy))
        };
        let seen = sight.at(&old.address)?;
        let is_primary = !matches!(seen.role, Some(Role::Replica));
        if is_primary && seen.heard.is_some_and(|at| at > fenced) {
            return said("by us");
        }
        let (at, witness) = sight.witnessed(&old.address)?;
        let silent = witness
            .upstream
            .as_ref()
            .and_then(|upstream| upstream.silent);
        // One that is still connected proves nothing; one to whom something came since does.
        let came = silent.map(|silent| witness.heard.unwrap_or(at) - silent);
        let is_since = came.is_some_and(|came| came > fenced + SETTLE);
        is_since.then(|| said(&format!("by {}", witness.address)))?
    }

    pub(super) fn choose(
        &mut self,
        mut operation: Operation,
        at: Now<'_>,
        since: Ticks,
    ) -> Vec<Step> {
        let (now, terms, sight) = at;
        if let Some(problem) = Self::still_lives(&operation, terms, sight) {
            return self.fail(operation, now, problem);
        }
        let old = operation.old.as_ref().map(|old| old.address.as_str());
        let is_settled = |seen: &Seen| {
            let is_away = seen.failing.is_some() || seen.role != Some(Role::Replica);
            let is_cut = seen.upstream.is_none() || now.since(since) >= SETTLE;
            is_away || (seen.heard >= Some(since) && is_cut)
        };
        let is_late = now.since(since) >= FRESH;
        if !is_late && !sight.others(old).all(is_settled) {
            self.operation = Some(operation);
            return Vec::new();
        }
        let known = operation.old.as_ref();
        let verdict = judge(
            terms,
            sight,
            known,
            operation.moment(now, since),
            operation.wish.as_ref(),
        );
        let chosen = verdict.chosen().and_then(|to| {
            let Some(seen) = sight.at(to).filter(|_| operation.is_planned) else {
                return Ok(to.to_owned());
            };
            let has_all = Some(seen.received) >= operation.upto && seen.replayed >= seen.received;
            let why = || format!("{to} has not replayed everything yet");
            has_all
                .then(|| to.to_owned())
                .ok_or_else(|| Problem::new(why(), "wait"))
        });
        match chosen {
            Ok(to) => self.promote(operation, at, to),
            Err(problem) => {
                let mut steps = Vec::new();
                if is_late {
                    self.tell_problem(now, problem);
                }
                if now.since(since) >= terms.promote_timeout && operation.is_held {
                    operation.is_held = false;
                    steps.push(Step::Release);
                }
                self.operation = Some(operation);
                steps
            }
        }
    }

    fn promote(
        &mut self,
        mut operation: Operation,
        (now, _, sight): Now<'_>,
        to: String,
    ) -> Vec<Step> {
        self.problem = None;
        self.say(Level::Warning, format!("promoting {to}"));
        if operation.wish.is_none() {
            self.promoted = Some(now);
        }
        self.doubtful.retain(|(one, _)| *one != to);
        self.doubtful.push((to.clone(), now));
        let step = Step::Promote {
            server: to.clone(),
            old: operation.old.clone().unwrap_or_default(),
            lsn: sight.at(&to).map(|seen| seen.received).unwrap_or_default(),
        };
        operation.phase = Phase::Promoting {
            to,
            since: now,
            at: now,
            ended: None,
        };
        self.operation = Some(operation);
        vec![step]
    }

    pub(super) fn promoting(
        &mut self,
        mut operation: Operation,
        at: Now<'_>,
        work: Work,
    ) -> Vec<Step> {
        let (now, terms, sight) = at;
        let Phase::Promoting {
            to,
            since,
            at: told,
            ended,
        } = &mut operation.phase
        else {
            return Vec::new();
        };
        if let Work::Done(result) = &work {
            *ended = Some((now, result.clone().err()));
        }
        let (to, since, told, ended) = (to.clone(), *since, *told, ended.clone());
        let seen = sight.at(&to);
        let timeline = operation.old.as_ref().map_or(0, |old| old.timeline);
        let is_new = |seen: &&Seen| {
            seen.role == Some(Role::Primary) && seen.heard > Some(since) && seen.timeline > timeline
        };
        if let Some(seen) = seen.filter(is_new) {
            return self.finish(operation, now, seen, &work);
        }
        if let Some(other) = sight.servers.iter().find(is_new) {
            let why = format!("{} is the primary by now", other.address);
            let problem = Problem::new(why, "nothing: somebody else has promoted it");
            return self.fail(operation, now, problem);
        }
        let is_replica = seen.is_some_and(|seen| {
            seen.role == Some(Role::Replica)
                && seen.failing.is_none()
                && ended
                    .as_ref()
                    .is_some_and(|(end, _)| seen.heard > Some(*end))
        });
        let mut steps = Vec::new();
        if now.since(since) >= terms.promote_timeout && operation.is_held {
            operation.is_held = false;
            steps.push(Step::Release);
        }
        if let Some(problem) = hindrance(&to, seen, ended.as_ref(), now.since(told), terms) {
            self.tell_problem(now, problem);
        }
        let pause = match &ended {
            Some((_, Some(_))) => RETRY,
            _ => terms.promote_timeout,
        };
        // The same one again, and never another: it may be a primary.
        if is_replica && ended.is_some_and(|(end, _)| now.since(end) >= pause) {
            steps.extend(self.promote(operation, at, to));
            if let Some(Phase::Promoting { since: first, .. }) = self
                .operation
                .as_mut()
                .map(|operation| &mut operation.phase)
            {
                *first = since;
            }
            return steps;
        }
        self.operation = Some(operation);
        steps
    }

    fn finish(&mut self, operation: Operation, now: Ticks, seen: &Seen, work: &Work) -> Vec<Step> {
        let took = now.since(operation.began).as_secs_f64();
        let old = match &operation.old {
            Some(old) => format!(" in place of {} (timeline {})", old.address, old.timeline),
            None => String::new(),
        };
        let silent = match operation.is_planned {
            true => String::new(),
            false => format!(
                ", {:.1} s after the old one was heard last",
                self.silent(now).as_secs_f64()
            ),
        };
        let text = format!(
            "{} (timeline {}) is the primary{old}: {took:.1} s after the promotion began{silent}",
            seen.address, seen.timeline
        );
        self.say(Level::Warning, text.clone());
        self.done += 1;
        self.doubtful.clear();
        self.is_suspect = false;
        self.problem = None;
        self.last = Some((true, text));
        Self::end(&operation, work)
    }

    /// It comes to nothing.
    pub(super) fn fail(&mut self, operation: Operation, now: Ticks, problem: Problem) -> Vec<Step> {
        self.failed += 1;
        self.retry_at = now + RETRY;
        self.last = Some((
            false,
            format!("{}; next step: {}", problem.why, problem.remedy),
        ));
        self.tell_problem(now, problem);
        Self::end(&operation, &Work::None)
    }

    /// It is not this box's any more.
    pub(super) fn give_up(&mut self, operation: Operation, why: &str, work: &Work) -> Vec<Step> {
        self.failed += 1;
        let text = format!(
            "the promotion is given up ({}): {why}",
            operation.phase.word()
        );
        self.say(Level::Error, text.clone());
        self.last = Some((false, text));
        Self::end(&operation, work)
    }

    /// What is left to be done of one that goes on no more.
    pub(super) fn end(operation: &Operation, work: &Work) -> Vec<Step> {
        let mut steps = Vec::new();
        if *work == Work::Running {
            steps.push(Step::Kill);
        }
        if operation.is_held {
            steps.push(Step::Release);
        }
        steps
    }
}

/// Why a replica that was told to is not the primary yet, when that is worth telling.
fn hindrance(
    to: &str,
    seen: Option<&Seen>,
    ended: Option<&(Ticks, Option<String>)>,
    waited: Duration,
    terms: &Terms,
) -> Option<Problem> {
    if let Some((_, Some(why))) = ended {
        return Some(Problem::new(
            format!("{to} could not be promoted: {why}"),
            "it is tried again; pg_promote() needs GRANT EXECUTE ON FUNCTION pg_promote TO the user \
             of [service.NAME.promote], and a `command` must end with 0",
        ));
    }
    if waited < terms.promote_timeout {
        return None;
    }
    let is_away = seen.is_none_or(|seen| seen.failing.is_some());
    Some(match is_away {
        true => Problem::new(
            format!("{to} does not answer since it was to be promoted: it may be a primary"),
            format!(
                "make sure that {to} is down; then outgrow postgres promote SERVICE --to ANOTHER, \
                 which fences it"
            ),
        ),
        false => Problem::new(
            format!("{to} was told to be the primary, and is still in recovery"),
            "look into its log; it is told again",
        ),
    })
}
