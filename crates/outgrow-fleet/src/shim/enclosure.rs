//! The limits of the instance: written before its command is started, changed while it runs, and
//! what the kernel counts when it has ended. How they are written is in `cgroup`.

use rustix::process::WaitStatus;

use super::command::{self, Running};
use crate::cgroup::group::{self, Outcome};
use crate::processes::Processes;
use crate::protocol::limits::{Controller, Grant, Limits};
use crate::protocol::shim::{FromShim, ShimSpec};

/// The exit code of a shell whose command was ended by SIGKILL.
const KILLED_CODE: i32 = 128 + 9;

/// The limits of one instance.
#[derive(Debug, Default)]
pub(super) struct Enclosure {
    grant: Option<Grant>,
    in_force: Limits,
}

impl Enclosure {
    /// Starts the command within its limits. What came of them is told by the message, if there is
    /// something to tell.
    pub(super) fn start(spec: &ShimSpec) -> (Result<Running, String>, Self, Option<FromShim>) {
        let Some(grant) = spec.grant.as_ref().filter(|_| spec.limits.is_any()) else {
            return (command::spawn(spec), Self::default(), None);
        };
        // The shim itself counts while it is inside.
        let roomy = Limits {
            processes: spec.limits.processes.map(|count| count.saturating_add(1)),
            ..spec.limits
        };
        let mut outcome = group::apply(grant, roomy, Limits::default());
        let refuse = |problems: &[String]| {
            (spec.limits.required && !problems.is_empty()).then(|| {
                format!(
                    "its limits cannot be enforced, and resources.required = true: {}",
                    problems.join("; ")
                )
            })
        };
        let started = if let Some(refusal) = refuse(&outcome.problems) {
            Err(refusal)
        } else {
            let (started, problems) = group::within(grant, |problems| match refuse(problems) {
                Some(refusal) => Err(refusal),
                None => command::spawn(spec),
            });
            if spec.limits.processes.is_some() {
                outcome = group::apply(grant, spec.limits, outcome.in_force);
            }
            if !problems.is_empty() {
                outcome.in_force = Limits::default();
                outcome.problems.extend(problems);
            }
            started
        };
        let enclosure = Self {
            grant: Some(grant.clone()),
            in_force: outcome.in_force,
        };
        (started, enclosure, Some(told(outcome)))
    }

    /// Changes the limits of the command that runs.
    pub(super) fn change(&mut self, wanted: Limits, grant: Grant) -> FromShim {
        let mut outcome = group::apply(&grant, wanted, self.in_force);
        let own = || {
            let all = Processes::scan()?;
            let below = all.descendants(std::process::id());
            let alive = below.into_iter().filter(|process| !process.is_dead());
            Ok(alive.map(|process| process.pid).collect())
        };
        let problems = group::adopt(&grant, &own);
        if !problems.is_empty() {
            outcome.in_force = Limits::default();
            outcome.problems.extend(problems);
        }
        self.grant = Some(grant);
        self.in_force = outcome.in_force;
        told(outcome)
    }

    /// The memory limit, if a process that ended in this way was killed at it.
    pub(super) fn over_memory(&self, status: WaitStatus) -> Option<u64> {
        let killed =
            status.terminating_signal() == Some(9) || status.exit_status() == Some(KILLED_CODE);
        let place = self.grant.as_ref()?.of(Controller::Memory).as_ref().ok()?;
        let kills = group::oom_kills(place).unwrap_or(0);
        self.in_force.memory_bytes.filter(|_| killed && kills > 0)
    }

    /// Removes the groups when the keeper, which else does it, is gone.
    pub(super) fn remove(&self) {
        if let Some(grant) = &self.grant {
            group::remove_with_parents(grant);
        }
    }
}

fn told(outcome: Outcome) -> FromShim {
    FromShim::Limited {
        in_force: outcome.in_force,
        problems: outcome.problems,
    }
}
