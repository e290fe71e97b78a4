//! The last resort when the keeper and the shims are killed together
//! (`kill -9` of all of them): the data process knows which commands run and
//! ends those whose shim is gone. What still has its shim is the shim's to end.
//!
//! A process is known by its pid and the time of its start, so that a number
//! that was given to somebody else meanwhile is left alone. When the data
//! processes are killed as well nobody is left to do this: then only what
//! surrounds us all can (a control group of systemd, a container).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::moment::Moment;
use crate::processes::{
    Processes, environment_entry, environment_has, signal_group, signal_process, start_of,
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
    /// What every process of this run has in its environment, unless it threw it away.
    key: Option<String>,
}

#[derive(Clone, Copy, Debug)]
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
        let orphan = report.pid.zip(report.shim).and_then(|(main, shim)| {
            Some(Orphan {
                main: Identity::of(main)?,
                shim: Identity::of(shim)?,
                key: environment_entry(main, "OUTGROW_KEY="),
            })
        });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
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
            for orphan in &known {
                let lives = orphan.main.lives(&processes);
                left |= lives;
                if orphan.shim.lives(&processes) {
                    continue;
                }
                if lives {
                    kill(orphan.main.pid, &processes);
                }
                // Daemons: their parent was the shim.
                if let Some(key) = &orphan.key {
                    left |= kill_with(key, &processes);
                }
            }
            if !left || Moment::now() >= until {
                return;
            }
            std::thread::sleep(ROUND);
        }
    }
}

/// Every process with this entry in its environment; whether there was one.
fn kill_with(key: &str, processes: &Processes) -> bool {
    let alive = processes.all().filter(|process| !process.is_dead());
    let found: Vec<u32> = alive
        .map(|process| process.pid)
        .filter(|pid| environment_has(*pid, key))
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
