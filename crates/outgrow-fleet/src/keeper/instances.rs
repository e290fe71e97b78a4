//! All instances: started, told to stop, noticed when they end, cleared away,
//! started again. Every change of state is kept as a report for the data
//! processes.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::instance::{Phase, Record, Wanted};
use super::launch::{Launcher, Spawned};
use super::lifecycle::{CLEAR_LIMIT, CLEAR_ROUND, SHIM_MARGIN};
use crate::cgroup::House;
use crate::log::Log;
use crate::moment::Moment;
use crate::protocol::channel::{Channel, Received};
use crate::protocol::shim::FromShim;
use crate::protocol::{
    Decoded, Exit, InstanceId, InstanceReport, InstanceSpec, RestartPolicy, decode,
};

/// The most instances.
const INSTANCES_LIMIT: usize = 4096;

/// What the table needs of the keeper to act.
pub(super) struct Context<'a> {
    pub(super) launcher: &'a mut Launcher,
    pub(super) log: &'a Log,
    pub(super) now: Moment,
    /// The data processes' pids: children that are no strays.
    pub(super) others: Vec<u32>,
    /// Whether every child that is not known can only be an orphan of an
    /// instance.
    pub(super) adopt: bool,
    /// Outgrow's control groups; made when the first limit is wanted.
    pub(super) house: &'a mut Option<House>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: Record,
    pub(super) shim: Option<Spawned>,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Instances {
    pub(super) entries: BTreeMap<InstanceId, Entry>,
    pub(super) reports: Vec<InstanceReport>,
    /// Counts starts over the keeper's life: each run has its own key.
    pub(super) runs: u64,
}

impl Instances {
    /// Starts a new instance; `false` if the id exists or there are too many.
    pub(super) fn start(&mut self, spec: InstanceSpec, context: &mut Context<'_>) -> bool {
        let id = spec.id;
        if self.entries.contains_key(&id) {
            return false;
        }
        if self.entries.len() >= INSTANCES_LIMIT {
            context.log.error(&format!(
                "{} is not started: there are {INSTANCES_LIMIT} instances already",
                spec.name
            ));
            return false;
        }
        let record = Record::new(spec, context.now);
        self.entries.insert(id, Entry { record, shim: None });
        self.launch(id, context);
        true
    }

    /// Changes how its end is handled.
    pub(super) fn update(&mut self, id: InstanceId, stop_grace_ms: u64, restart: RestartPolicy) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.record.spec.stop_grace_ms = stop_grace_ms;
            entry.record.spec.restart = restart;
        }
    }

    /// Stops an instance for good. A `grace` shorter than its own may be given.
    pub(super) fn stop(
        &mut self,
        id: InstanceId,
        grace: Option<Duration>,
        context: &mut Context<'_>,
    ) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.record.wanted = Wanted::Stop;
        let own = entry.record.spec.stop_grace();
        let grace = grace.map_or(own, |grace| grace.min(own));
        self.end(id, grace, context);
    }

    /// Stops an instance and starts it anew; the more often, the later.
    pub(super) fn restart(
        &mut self,
        id: InstanceId,
        reason: &str,
        never_ready: bool,
        context: &mut Context<'_>,
    ) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        // One that waits is about to be started anyway.
        let waits = matches!(entry.record.phase, Phase::Waiting { .. });
        if entry.record.wanted == Wanted::Stop || waits {
            return;
        }
        entry.record.wanted = Wanted::Restart;
        entry.record.never_ready = never_ready;
        context.log.warn(&format!(
            "{} is restarted: {reason}",
            entry.record.spec.name
        ));
        let grace = entry.record.spec.stop_grace();
        self.end(id, grace, context);
    }

    pub(super) fn stop_all(&mut self, grace: Option<Duration>, context: &mut Context<'_>) {
        for id in self.ids() {
            self.stop(id, grace, context);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How long the end of all of them takes at most.
    pub(super) fn longest_end(&self) -> Duration {
        let graces = self.entries.values();
        let longest = graces.map(|entry| entry.record.spec.stop_grace()).max();
        longest.unwrap_or_default() + SHIM_MARGIN * 2
    }

    /// How many run, of how many.
    pub(super) fn running(&self) -> (usize, usize) {
        let runs = |entry: &&Entry| matches!(entry.record.phase, Phase::Running);
        (self.entries.values().filter(runs).count(), self.len())
    }

    /// What changed since the last call.
    pub(super) fn take_reports(&mut self) -> Vec<InstanceReport> {
        std::mem::take(&mut self.reports)
    }

    /// How every instance is.
    pub(super) fn reports(&self, now: Moment) -> Vec<InstanceReport> {
        self.entries
            .values()
            .map(|entry| entry.record.report(entry.shim.as_ref(), now))
            .collect()
    }

    /// The next moment at which [`Self::advance`] has something to do.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.entries
            .values()
            .filter_map(|entry| entry.record.deadline())
            .min()
    }

    /// The channels to the shims that are there.
    pub(super) fn channels(&self) -> impl Iterator<Item = (InstanceId, &Channel)> {
        self.entries
            .iter()
            .filter_map(|(id, entry)| entry.shim.as_ref().map(|shim| (*id, &shim.channel)))
    }

    /// Sends what waits and reads what a shim says.
    pub(super) fn converse(&mut self, id: InstanceId, context: &mut Context<'_>) {
        loop {
            let Some(entry) = self.entries.get_mut(&id) else {
                return;
            };
            let Some(shim) = &mut entry.shim else { return };
            let received = shim.channel.flush().and_then(|()| shim.channel.receive());
            match received {
                Ok(Received::Record(record)) => {
                    let unknown = |message: &FromShim| matches!(message, FromShim::Unknown);
                    match decode::<FromShim>(&record.bytes, unknown) {
                        Decoded::Message(message) => self.heard(id, message, context),
                        Decoded::Ignored(line) => {
                            let name = &entry.record.spec.name;
                            context.log.warn(&format!("the shim of {name} sent {line}"));
                        }
                    }
                }
                Ok(Received::Empty) => return,
                // It has exited or closed the channel, or is mad: in each case
                // its death makes an end of it.
                Ok(Received::Closed) | Err(_) => {
                    shim.kill();
                    return;
                }
            }
        }
    }

    /// Notes the death of a child; `false` if it was no shim.
    pub(super) fn died(&mut self, pid: u32, context: &mut Context<'_>) -> bool {
        let is_it = |entry: &&mut Entry| entry.shim.as_ref().is_some_and(|shim| shim.pid == pid);
        let Some(entry) = self.entries.values_mut().find(is_it) else {
            return false;
        };
        let id = entry.record.spec.id;
        if let Some(shim) = &mut entry.shim {
            shim.reaped = true;
        }
        // Its last words may still be unread.
        self.converse(id, context);
        let Some(entry) = self.entries.get_mut(&id) else {
            return true;
        };
        entry.shim = None;
        if entry.record.ended {
            self.finish(id, context);
            return true;
        }
        let name = &entry.record.spec.name;
        context.log.warn(&format!(
            "the shim of {name} was killed: what is left of it is killed"
        ));
        entry.record.exit.get_or_insert(Exit::ShimLost);
        entry.record.phase = Phase::Clearing {
            next: context.now.after(CLEAR_ROUND),
            give_up: context.now.after(CLEAR_LIMIT),
        };
        self.push_report(id, context.now);
        self.clear(id, context);
        true
    }

    /// Does what is due.
    pub(super) fn advance(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        let due = |entry: &Entry| {
            entry
                .record
                .deadline()
                .is_some_and(|deadline| deadline <= now)
        };
        let ids: Vec<InstanceId> = self
            .entries
            .iter()
            .filter(|(_, entry)| due(entry))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let Some(entry) = self.entries.get_mut(&id) else {
                continue;
            };
            match entry.record.phase {
                Phase::Running => {}
                Phase::Waiting { .. } => self.launch(id, context),
                Phase::Clearing { .. } => self.clear(id, context),
                Phase::Starting { .. } | Phase::Stopping { .. } | Phase::Exited { .. } => {
                    // The shim hangs: its death, noticed as any other, goes on
                    // from here.
                    let name = &entry.record.spec.name;
                    context
                        .log
                        .warn(&format!("the shim of {name} hangs: it is killed"));
                    if let Some(shim) = &entry.shim {
                        shim.kill();
                    }
                    entry.record.phase = Phase::Stopping {
                        kill_at: now.after(SHIM_MARGIN),
                    };
                }
            }
        }
    }

    /// Kills every shim; what they ran is cleared away as usual.
    pub(super) fn kill_shims(&self) {
        for shim in self
            .entries
            .values()
            .filter_map(|entry| entry.shim.as_ref())
        {
            shim.kill();
        }
    }

    fn ids(&self) -> Vec<InstanceId> {
        self.entries.keys().copied().collect()
    }

    fn heard(&mut self, id: InstanceId, message: FromShim, context: &mut Context<'_>) {
        let Some(Entry { record, .. }) = self.entries.get_mut(&id) else {
            return;
        };
        match message {
            FromShim::Started { pid } => {
                record.pid = Some(pid);
                if matches!(record.phase, Phase::Starting { .. }) {
                    record.phase = Phase::Running;
                }
                let address = record.address.as_deref().unwrap_or("");
                let name = &record.spec.name;
                context
                    .log
                    .info(&format!("{name} is started (pid {pid}, {address})"));
            }
            FromShim::Exited {
                exit,
                over_memory,
                said,
            } => {
                record.said = said;
                record.exit = Some(exit);
                record.over_memory = over_memory;
                record.pid = None;
                // While it is being stopped the others of its group still have
                // the grace.
                let kill_at = match record.phase {
                    Phase::Stopping { kill_at } => kill_at,
                    _ => context.now.after(SHIM_MARGIN),
                };
                record.phase = Phase::Exited { kill_at };
            }
            FromShim::Limited { in_force, problems } => {
                record.limited(in_force, problems, context.log);
            }
            FromShim::Ended {} => {
                record.ended = true;
                return;
            }
            FromShim::Unknown => return,
        }
        self.push_report(id, context.now);
    }

    pub(super) fn push_report(&mut self, id: InstanceId, now: Moment) {
        if let Some(entry) = self.entries.get(&id) {
            self.reports
                .push(entry.record.report(entry.shim.as_ref(), now));
        }
    }
}

/// For the successor.
impl Instances {
    /// Whether something still waits to be sent to a shim.
    pub(super) fn has_outgoing(&self) -> bool {
        self.channels().any(|(_, channel)| channel.has_outgoing())
    }

    /// Each record with its shim's pid; the channels of those that have one
    /// follow in the same order.
    pub(super) fn save(&self) -> (u64, Vec<(&Record, Option<u32>)>) {
        let each = |entry: &Entry| entry.shim.as_ref().map(|shim| shim.pid);
        (
            self.runs,
            self.entries
                .values()
                .map(|entry| (&entry.record, each(entry)))
                .collect(),
        )
    }

    /// Takes over what a predecessor saved; `None` if descriptors are missing.
    pub(super) fn restore(
        runs: u64,
        saved: Vec<(Record, Option<u32>)>,
        descriptors: &mut impl Iterator<Item = OwnedFd>,
    ) -> Option<Self> {
        let mut entries = BTreeMap::new();
        for (record, pid) in saved {
            let shim = match pid {
                Some(pid) => Some(Spawned {
                    pid,
                    channel: Channel::new(descriptors.next()?),
                    reaped: false,
                }),
                None => None,
            };
            entries.insert(record.spec.id, Entry { record, shim });
        }
        Some(Self {
            entries,
            reports: Vec::new(),
            runs,
        })
    }
}
