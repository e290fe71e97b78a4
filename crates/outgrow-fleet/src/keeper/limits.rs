//! The limits of instances as the keeper has a part in them: it says where they are written, hands
//! them to the shims, which write them, and removes the groups of instances that have ended. Why
//! the shims write: making room below a smaller memory limit can take the kernel long, and the
//! keeper never waits.

use super::instance::{Phase, Record};
use super::instances::{Context, Entry, Instances};
use crate::cgroup::{House, group, people_bytes};
use crate::log::Log;
use crate::protocol::InstanceId;
use crate::protocol::limits::{Grant, Limits, LimitsReport};
use crate::protocol::shim::ToShim;

/// The groups for this run of an instance, if it has limits.
pub(super) fn grant(record: &Record, house: &mut Option<House>) -> Option<Grant> {
    if !record.spec.limits.is_any() {
        return None;
    }
    if house.as_ref().is_none_or(House::is_void) {
        *house = Some(House::build());
    }
    let house = house.as_ref()?;
    Some(house.grant(&record.spec.name, record.run))
}

/// No process of it is left: its groups go.
pub(super) fn end(record: &mut Record) {
    if let Some(grant) = record.grant.take() {
        group::remove(&grant);
    }
    // What is shown of an instance that waits is what will hold: nothing is known of that.
    record.limited = None;
}

/// Why an instance that was killed for its memory has ended.
pub(super) fn killed_for_memory(limit: u64) -> String {
    format!(
        "killed: it used more than its memory limit of {} (resources.memory)",
        people_bytes(limit)
    )
}

impl Record {
    /// Takes note of what came of its limits.
    pub(super) fn limited(&mut self, in_force: Limits, problems: Vec<String>, log: &Log) {
        let name = &self.spec.name;
        for problem in &problems {
            log.warn(&format!("{name} is not limited as wanted: {problem}"));
        }
        if problems.is_empty() {
            log.info(&format!("{name} is limited: {}", words(&in_force)));
        }
        self.limited = Some(LimitsReport {
            in_force,
            problems,
            // Added where it is told, so that a successor is not handed it twice.
            grant: None,
        });
    }
}

fn words(limits: &Limits) -> String {
    let cpu = limits.cpu_thousandths.map(|cpu| {
        let cores = outgrow_core::settings::Decimal::thousandths(cpu);
        format!("cpu {cores}")
    });
    let memory = limits.memory_bytes;
    let memory = memory.map(|memory| format!("memory {}", people_bytes(memory)));
    let processes = limits.processes.map(|count| format!("processes {count}"));
    let words: Vec<String> = [cpu, memory, processes].into_iter().flatten().collect();
    if words.is_empty() {
        return "no more".to_owned();
    }
    words.join(", ")
}

impl Instances {
    /// Changes what an instance may use, now and after each start.
    pub(super) fn limit(&mut self, id: InstanceId, limits: Limits, context: &mut Context<'_>) {
        let Some(Entry { record, shim }) = self.entries.get_mut(&id) else {
            return;
        };
        record.spec.limits = limits;
        // One that does not run gets them with its next start.
        if !matches!(record.phase, Phase::Starting { .. } | Phase::Running) {
            return;
        }
        if record.grant.is_none() {
            record.grant = grant(record, context.house);
        }
        if let (Some(shim), Some(grant)) = (shim, record.grant.clone()) {
            let order = ToShim::Limit { limits, grant };
            // A shim that cannot be told is about to die: seen as its death.
            let _ = shim.channel.send(&order, &[]);
        }
        self.push_report(id, context.now);
    }
}
