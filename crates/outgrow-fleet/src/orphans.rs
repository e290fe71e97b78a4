//! The last resort when the keeper and the shims are killed together
//! (`kill -9` of all of them): the data process knows which commands run and
//! ends those whose shim is gone. What still has its shim is the shim's to end.
//!
//! A process is known by its pid and the time of its start, so that a number
//! that was given to somebody else meanwhile is left alone. When the data
//! processes are killed as well nobody is left to do this: then only what
//! surrounds us all can (a control group of systemd, a container).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::moment::Moment;
use crate::processes::{
    KEY, Processes, environment_entry, environment_has, signal_group, signal_process, start_of,
};
use crate::protocol::{InstanceId, InstanceReport, KeeperMessage};

/// Longer than a shim takes for its own end.
const LIMIT: Duration = Duration::from_secs(8);
/// Between two looks.
const ROUND: Duration = Duration::from_millis(20);

/// The commands that run, as the keeper reported them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orphans {
    known: Arc<Mutex<BTreeMap<InstanceId, Orphan>>>,
}

#[derive(Clone, Debug)]
struct Orphan {
    main: Identity,
    shim: Identity,
    /// What every process of this run has in its environment, unless it threw it away:
    /// `OUTGROW_KEY=value`.
    key: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    pid: u32,
    start: u64,
}

impl Identity {
    fn of(pid: u32) -> Option<Self> {
        let start = start_of(pid)?;
        Some(Self { pid, start })
    }

    fn lives(self, processes: &Processes) -> bool {
        processes
            .get(self.pid)
            .is_some_and(|process| process.start_ticks == self.start && !process.is_dead())
    }
}

impl Orphans {
    /// Takes note of what the keeper says.
    pub(crate) fn hear(&self, message: &KeeperMessage) {
        match message {
            KeeperMessage::Hello(hello) => hello.instances.iter().for_each(|one| self.note(one)),
            KeeperMessage::Instance(report) => self.note(report),
            _ => {}
        }
    }

    fn note(&self, report: &InstanceReport) {
        let told = report.key.as_ref();
        let told = told.map(|value| format!("{KEY}{value}"));
        let orphan = report.pid.zip(report.shim).and_then(|(main, shim)| {
            Some(Orphan {
                main: Identity::of(main)?,
                shim: Identity::of(shim)?,
                // A keeper of before tells none.
                key: told.or_else(|| environment_entry(main, KEY)),
            })
        });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let orphan = orphan.map(|mut orphan| {
            // What was read first stays: programs write their titles over their environment.
            let before = known.get(&report.spec.id);
            let before = before.filter(|before| before.main == orphan.main);
            orphan.key = orphan.key.or_else(|| before?.key.clone());
            orphan
        });
        match orphan {
            Some(orphan) => known.insert(report.spec.id, orphan),
            None => known.remove(&report.spec.id),
        };
    }

    /// Ends what has no shim any more and waits for the end of the rest. To be
    /// called when the keeper is gone.
    pub(crate) fn end(&self) {
        let known: Vec<Orphan> = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.values().cloned().collect()
        };
        let until = Moment::now().after(LIMIT);
        while let Ok(processes) = Processes::scan() {
            let mut left = false;
            let mut keys = BTreeSet::new();
            for orphan in &known {
                let lives = orphan.main.lives(&processes);
                left |= lives;
                if orphan.shim.lives(&processes) {
                    continue;
                }
                if lives {
                    kill(orphan.main.pid, &processes);
                }
                keys.extend(orphan.key.as_deref());
            }
            // Daemons: their parent was the shim.
            left |= !keys.is_empty() && kill_with(&keys, &processes);
            if !left || Moment::now() >= until {
                return;
            }
            std::thread::sleep(ROUND);
        }
    }
}

/// Every process with one of these entries in its environment; whether there was one.
fn kill_with(keys: &BTreeSet<&str>, processes: &Processes) -> bool {
    let alive = processes.all().filter(|process| !process.is_dead());
    let found: Vec<u32> = alive
        .map(|process| process.pid)
        .filter(|pid| environment_has(*pid, keys))
        .collect();
    for pid in &found {
        for process in processes.descendants(*pid) {
            signal_process(process.pid, Signal::KILL);
        }
        signal_process(*pid, Signal::KILL);
    }
    !found.is_empty()
}

/// The group, and what descends from it without being in it.
fn kill(main: u32, processes: &Processes) {
    for process in processes.descendants(main) {
        signal_process(process.pid, Signal::KILL);
    }
    signal_group(main, Signal::KILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(pid: u32, key: Option<&str>) -> InstanceReport {
        let report = serde_json::json!({
            "spec": { "id": 1, "name": "web.1", "service": "web", "command": "serve" },
            "state": { "state": "running" }, "restarts": 0, "pid": pid, "shim": pid, "key": key,
        });
        serde_json::from_value(report).expect("a report")
    }

    fn key(orphans: &Orphans) -> Option<String> {
        let known = orphans.known.lock().expect("nobody panicked");
        known.values().next().expect("it is known").key.clone()
    }

    /// Its environment has no key, as that of a program that has written its title over it.
    #[test]
    fn the_key_of_a_run_is_kept() {
        let orphans = Orphans::default();
        let ours = std::process::id();
        assert_eq!(environment_entry(ours, KEY), None, "the test needs none");
        orphans.note(&report(ours, Some("7-1")));
        assert_eq!(key(&orphans).as_deref(), Some("OUTGROW_KEY=7-1"));
        // A keeper of before tells none.
        orphans.note(&report(ours, None));
        assert_eq!(key(&orphans).as_deref(), Some("OUTGROW_KEY=7-1"));
        // It is that run's only.
        let parent = std::os::unix::process::parent_id();
        orphans.note(&report(parent, Some("7-2")));
        orphans.note(&report(ours, None));
        assert_eq!(key(&orphans), None);
    }
}
