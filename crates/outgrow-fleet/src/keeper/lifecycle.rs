//! The life of one instance: launched, brought to its end, what is left of it
//! cleared away, and what comes after that.

use std::collections::HashSet;
use std::time::Duration;

use rustix::process::Signal;

use super::instance::{Phase, Wanted};
use super::instances::{Context, Entry, Instances};
use super::{limits, strays};
use crate::processes::{Processes, signal_process};
use crate::protocol::shim::ToShim;
use crate::protocol::{Exit, InstanceId, InstanceState, RestartPolicy};

/// How long a shim may take from its start to the command's.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long a shim may take longer than the instance's grace.
pub(super) const SHIM_MARGIN: Duration = Duration::from_secs(15);
/// Between two looks for what is left of an instance whose shim was lost.
pub(super) const CLEAR_ROUND: Duration = Duration::from_millis(20);
/// What is left after this hangs in the kernel; the instance goes on without it.
pub(super) const CLEAR_LIMIT: Duration = Duration::from_secs(5);

impl Instances {
    pub(super) fn launch(&mut self, id: InstanceId, context: &mut Context<'_>) {
        let taken = self.ports_in_use();
        self.runs += 1;
        let run = self.runs;
        let Some(Entry { record, shim }) = self.entries.get_mut(&id) else {
            return;
        };
        if record.run > 0 {
            record.restarts = record.restarts.saturating_add(1);
        }
        record.run = run;
        record.wanted = Wanted::Run;
        record.started = context.now;
        (record.pid, record.exit, record.ended) = (None, None, false);
        record.never_ready = false;
        (record.over_memory, record.limited, record.said) = (None, None, None);
        record.grant = limits::grant(record, context.house);
        record.phase = Phase::Starting {
            give_up: context.now.after(START_LIMIT),
        };
        let started = context
            .launcher
            .plan(&record.spec, run, &taken)
            .and_then(|mut plan| {
                plan.shim.limits = record.spec.limits;
                plan.shim.grant.clone_from(&record.grant);
                record.address = Some(plan.address);
                record.key = plan.key;
                let mut spawned = context
                    .launcher
                    .spawn_shim()
                    .map_err(|error| format!("its shim could not be started: {error}"))?;
                let orders = ToShim::Start(Box::new(plan.shim));
                // A shim that cannot be told is about to die: seen as its death.
                let _ = spawned.channel.send(&orders, &[]);
                Ok(spawned)
            });
        match started {
            Ok(spawned) => {
                *shim = Some(spawned);
                self.push_report(id, context.now);
            }
            Err(message) => {
                record.exit = Some(Exit::SpawnFailed { message });
                self.finish(id, context);
            }
        }
    }

    fn ports_in_use(&self) -> HashSet<u16> {
        let address = |entry: &Entry| entry.record.address.clone();
        self.entries
            .values()
            .filter_map(address)
            .filter_map(|address| address.rsplit_once(':')?.1.parse().ok())
            .collect()
    }

    /// Brings an instance to its end, whatever it is doing; `wanted` says what
    /// comes after that.
    pub(super) fn end(&mut self, id: InstanceId, grace: Duration, context: &mut Context<'_>) {
        let Some(Entry { record, shim }) = self.entries.get_mut(&id) else {
            return;
        };
        match record.phase {
            Phase::Waiting { .. } => return self.finish(id, context),
            Phase::Clearing { .. } => return,
            Phase::Exited { kill_at } | Phase::Stopping { kill_at } => {
                let kill_at = kill_at.min(context.now.after(grace + SHIM_MARGIN));
                record.phase = match record.phase {
                    Phase::Exited { .. } => Phase::Exited { kill_at },
                    _ => Phase::Stopping { kill_at },
                };
            }
            Phase::Starting { .. } | Phase::Running => {
                let kill_at = context.now.after(grace + SHIM_MARGIN);
                record.phase = Phase::Stopping { kill_at };
            }
        }
        if let Some(shim) = shim {
            let order = ToShim::Stop {
                grace_ms: grace.as_millis() as u64,
            };
            // If it cannot be told, it is dead or killed at `kill_at`.
            let _ = shim.channel.send(&order, &[]);
        }
        self.push_report(id, context.now);
    }

    /// One round of killing what a lost shim has left.
    pub(super) fn clear(&mut self, id: InstanceId, context: &mut Context<'_>) {
        let mut known: HashSet<u32> = context.others.iter().copied().collect();
        known.extend(
            self.entries
                .values()
                .filter_map(|entry| Some(entry.shim.as_ref()?.pid)),
        );
        let Some(Entry { record, .. }) = self.entries.get_mut(&id) else {
            return;
        };
        let Phase::Clearing { give_up, .. } = record.phase else {
            return;
        };
        let wanted = strays::Wanted {
            keeper: std::process::id(),
            known: &known,
            adopt: context.adopt,
            group: record.pid,
            key: &record.key,
        };
        let left = match Processes::scan() {
            Ok(processes) => strays::find(&processes, &wanted),
            Err(error) => {
                context
                    .log
                    .error(&format!("/proc cannot be read to clear strays: {error}"));
                Vec::new()
            }
        };
        for pid in &left {
            signal_process(*pid, Signal::KILL);
        }
        if left.is_empty() || context.now >= give_up {
            if !left.is_empty() {
                let name = &record.spec.name;
                context
                    .log
                    .error(&format!("{name}: {left:?} cannot be killed"));
            }
            return self.finish(id, context);
        }
        record.phase = Phase::Clearing {
            next: context.now.after(CLEAR_ROUND),
            give_up,
        };
    }

    /// No process of it is left.
    pub(super) fn finish(&mut self, id: InstanceId, context: &mut Context<'_>) {
        let now = context.now;
        let Some(Entry { record, .. }) = self.entries.get_mut(&id) else {
            return;
        };
        record.pid = None;
        limits::end(record);
        if let Some(how) = record.how_it_ended() {
            record.last_exit = Some(how);
        }
        let no_start = record.exit.take().is_some_and(|exit| exit.is_no_start());
        let name = record.spec.name.clone();
        match record.wanted {
            Wanted::Stop => {
                let mut report = record.report(None, now);
                report.state = InstanceState::Stopped;
                self.entries.remove(&id);
                self.reports.push(report);
                context.log.info(&format!("{name} is stopped"));
            }
            wanted => {
                // A restart that was asked for, since it hangs or never got
                // ready, is no better than an exit: what is the same after each
                // start must not be started for ever without a pause.
                // What is not there will not be there at once: that is told first of all.
                let policy = RestartPolicy {
                    first_at_once: record.spec.restart.first_at_once && !no_start,
                    ..record.spec.restart
                };
                // What never got ready is no better for having been waited for until then.
                let started = match record.never_ready {
                    true => now,
                    false => record.started,
                };
                let verdict = record.backoff.exited(&policy, started, now);
                if wanted == Wanted::Restart && verdict.delay.is_zero() {
                    return self.launch(id, context);
                }
                let until = now.after(verdict.delay);
                record.phase = Phase::Waiting {
                    until,
                    crash_loop: verdict.crash_loop,
                };
                let reason = record.last_exit.as_deref().unwrap_or("unknown");
                let delay = verdict.delay.as_millis();
                let exits = record.backoff.early_exits();
                let line = if verdict.crash_loop {
                    format!(
                        "{name} is in a crash loop ({exits} early exits in a row), the last: \
                         {reason}; next try in {delay} ms"
                    )
                } else {
                    let what = if no_start { "cannot run" } else { "ended" };
                    match delay {
                        0 => format!("{name} {what}: {reason}; started again"),
                        _ => format!("{name} {what}: {reason}; started again in {delay} ms"),
                    }
                };
                context.log.warn(&line);
                self.push_report(id, now);
            }
        }
    }
}
